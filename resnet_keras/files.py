"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"  # what a killed process may leave behind


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
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
    for partial in folder.rglob(f"{PARTIAL}*"):
        partial.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_file(path, lambda partial: partial.write_text(text))
