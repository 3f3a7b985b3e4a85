"""How large the arrays in a file may be: asked before any of them is read."""

import zipfile
from pathlib import Path

from resnet_keras.errors import InputError, first_sentence

LARGEST = 1 << 34
"""Bytes. The largest ResNeXt has 3.3 GB of weights, and Adam's state is twice as large."""

INFLATION = 100
"""Times that arrays may be larger than their file. Compressed weights are some tenths larger."""

SMALL = 1 << 28
"""Bytes that may be inflated however much, as those of a network with zeros in all weights."""


def check_size(path: Path, declared: int) -> None:
    """Refuses arrays that no ResNet has, whose reading would take all memory.

    Args:
        path: of the file.
        declared: bytes of all arrays together, as the file states them.

    Raises:
        InputError: they are more than `LARGEST`, or more than `INFLATION` times the file's.
    """
    stored = path.stat().st_size
    if declared <= min(LARGEST, max(SMALL, INFLATION * stored)):
        return
    raise InputError(
        "the arrays in this file are larger than those of any network",
        received=f"{path} (arrays of {declared:,} bytes, in a file of {stored:,})",
        accepted=f"arrays of at most {LARGEST:,} bytes, and at most {INFLATION} times the file",
    )


def check_file(path: Path) -> None:
    """`check_size` of a whole file: of the members together where it is a zip file.

    A member gives no more bytes than it declares, since all readers stop there; its checksum is
    then wrong.

    Raises:
        InputError: as `check_size`, or the zip file's directory is damaged.
    """
    declared = path.stat().st_size
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                declared = sum(member.file_size for member in archive.infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise unreadable(path, error) from error
    check_size(path, declared)


def unreadable(path: Path, error: BaseException) -> InputError:
    """The refusal of a file that its own reader cannot read."""
    return InputError(
        "these weights cannot be read",
        received=f"{path} ({first_sentence(error)})",
        accepted=f"an undamaged {path.suffix} file of weights",
    )
