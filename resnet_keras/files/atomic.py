"""Files that are there whole or not at all."""

import ctypes
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from resnet_keras.errors import InputError, did_you_mean_beside, first_line

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None

PARTIAL = ".partial-"  # what a killed process may leave behind
LONGEST_NAME = 120  # bytes of a text in a file's name, which may have 255 with all around it


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a file beside `path`, then renames it into place.

    The name beside it keeps its ending, which tells Keras the format.
    """
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:  # which may not tell the file, as when a disk is full
        number = error.errno or errno.EIO
        raise OSError(number, error.strerror or str(error), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Removes what killed processes have left half written, in a folder and the folders in it."""
    for partial in list(folder.rglob(f"{PARTIAL}*")):
        if partial.is_dir() and not partial.is_symlink():  # of an export
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all.

    Bytes of file names that are not UTF-8 are lone surrogates in Python, and are escaped here.
    """
    write_file(path, lambda partial: partial.write_text(text, "utf-8", "backslashreplace"))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file, after a look at its checksums.

    NumPy looks at the checksum of what it reads to its end alone, which a damaged shape shortens.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"the checksum of {damaged} is wrong")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except MemoryError:
            raise
        except Exception as error:  # zipfile, zlib, lzma, struct and NumPy have theirs
            raise ValueError(str(error) or type(error).__name__) from error


def file_name(text: str) -> str:
    """A text as a part of a file's name, without spaces and slashes: another one for every text."""
    plain = re.sub(r"[^\w.-]", "_", text)
    encoding = sys.getfilesystemencoding()  # ASCII in the C locale, on some systems
    fitting = plain.encode(encoding, "ignore")[:LONGEST_NAME].decode(encoding, "ignore").lstrip(".")
    if text and fitting == text:
        return text
    checksum = zlib.crc32(text.encode("utf-8", "surrogateescape"))
    return f"{fitting}-{checksum:08x}"


def make_folder(folder: Path, what: str) -> None:
    """Makes a folder and those above it, if there are none.

    Args:
        folder: which.
        what: it is, such as "the run folder", for the message.

    Raises:
        InputError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, what, error.strerror) from error
    check_writable(folder, what)


def check_writable(folder: Path, what: str) -> None:
    """Finds out whether a folder can be written, or made and written, and leaves nothing there.

    What works for an hour and then writes asks first. Only a file can tell: the rights of a folder
    say nothing of a file system that is read-only, nor anything to root.

    Args:
        folder, what: see `make_folder`.

    Raises:
        InputError: it cannot.
    """
    there = folder
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(prefix=PARTIAL, dir=there):
            pass
    except OSError as error:
        raise unwritable(folder, what, error.strerror) from error


def unwritable(folder: Path, what: str, reason: str | None) -> InputError:
    """The error that `make_folder` raises, for what fails later for the same reason."""
    return InputError(
        f"{what} cannot be written",
        received=f"{folder} ({reason})",
        accepted="a writable folder on a disk with free space",
    )


def replace_folder(new: Path, place: Path) -> None:
    """Renames a folder into place; what was there goes, whole.

    Linux exchanges the two at once. Elsewhere there is nothing in the place for a moment.
    """
    if not place.exists():
        new.rename(place)
    elif _exchange(new, place):
        shutil.rmtree(new)
    else:
        old = place.with_name(f"{PARTIAL}old-{place.name}")
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
        new.rename(place)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # no Linux, or an old one
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Keeps other processes from doing the same to a folder while inside.

    The lock is the folder's own, and leaves no file: the kernel lifts it when the process ends,
    however it ends. A folder that is renamed stays locked.

    Args:
        folder: which exists.
        doing: such as "training into", for the message.

    Raises:
        InputError: another process has it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is {doing} this folder",
                received=folder,
                accepted="another folder, or this one after the other process ends "
                "(wait for it or stop it)",
            ) from error
        except OSError:
            pass  # some network file systems have no locks
        yield
    finally:
        os.close(descriptor)


def check_is_file(path: Path, what: str, accepted: str) -> None:
    """Refuses a path that cannot be opened and read as a file.

    Args:
        path: of the file.
        what: is in the file, such as "weights".
        accepted: kind of file, such as "an existing .keras file".

    Raises:
        InputError: nothing is there, or a folder, a pipe, a device, or a file without permission.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return
    except FileNotFoundError as error:
        raise InputError(
            f"no such {what} file", received=path, accepted=accepted + did_you_mean_beside(path)
        ) from error
    except (OSError, ValueError) as error:  # ValueError of a null character in the path
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(
            f"this {what} file cannot be opened",
            received=f"{str(path)[:200]!r} ({reason})",
            accepted=accepted,
        ) from error
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
    raise InputError(f"this is {kind}, no {what} file", received=path, accepted=accepted)
