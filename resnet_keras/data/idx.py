"""The IDX files of MNIST and of the datasets that have its format, such as Fashion-MNIST."""

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from resnet_keras.data.arrays import Arrays
from resnet_keras.errors import InputError

NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
FILES = tuple(f"{split}-{what}" for split in ("train", "t10k") for what in ("images", "labels"))

VALIDATION_FRACTION = 1 / 12

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_LABELS = 0x2ED6E46A  # CRC-32 of the training labels


class Idx(Arrays):
    """Images of a folder with four IDX files, each of which may be compressed with gzip.

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same of t10k.

    A twelfth of the training images, 5,000 of MNIST's 60,000, is the validation set. Classes
    have numbers as names, except Fashion-MNIST's, which are recognised by the labels.

    Args:
        folder: that holds the files.

    Raises:
        InputError: a file is missing, damaged, or has another shape.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        place = Path(os.path.abspath(os.path.expanduser(folder)))
        files = files_in(place)
        if missing := [name for name in FILES if name not in files]:
            raise InputError(
                f"{place} lacks IDX files",
                received=", ".join(files[name].name for name in FILES if name in files) or "none",
                accepted=f"the missing files beside them: {', '.join(missing)}",
            )
        images, labels, test_images, test_labels = (read(files[name]) for name in FILES)
        is_fashion = zlib.crc32(labels.tobytes()) == FASHION_LABELS
        try:
            super().__init__(
                (images, labels),
                (test_images, test_labels),
                class_names=FASHION_CLASSES if is_fashion else None,
                validation_fraction=VALIDATION_FRACTION,
            )
        except InputError as error:
            raise error.within(place) from error
        self.name = str(place)


def files_in(folder: Path) -> dict[str, Path]:
    """The IDX files of a folder by their plain names, such as "train-images"."""
    found = {}
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if name := NAME.fullmatch(file.name.lower()):
                found.setdefault(f"{name[1]}-{name[2]}", file)
    return found


def read(file: Path) -> np.ndarray:
    """Reads an IDX file of bytes, whose header gives the shape.

    Returns:
        uint8, of the shape that the header gives.

    Raises:
        InputError: the file is damaged, or holds numbers that are not bytes.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        dimensions = content[3]
        shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        whole = content[:3] == b"\0\0\x08" and len(values) == math.prod(shape)
    except (EOFError, OSError, IndexError, ValueError, zlib.error) as error:
        raise _damaged(file, str(error)) from error
    if not whole:
        raise _damaged(file, f"{len(values):,} values where the header gives {tuple(shape)}")
    return values.reshape(shape)


def _damaged(file: Path, reason: str) -> InputError:
    return InputError(
        "the IDX file cannot be read",
        received=f"{file} ({reason})",
        accepted="a whole IDX file of unsigned bytes, as it is or compressed with gzip",
    )
