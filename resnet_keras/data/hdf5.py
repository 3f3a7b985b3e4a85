"""The HDF5 files of the course's exercises."""

import os
from pathlib import Path

import h5py
import numpy as np

from resnet_keras.data.arrays import Arrays
from resnet_keras.errors import InputError
from resnet_keras.files.hdf5 import check_self_contained

EXTENSIONS = (".h5", ".hdf5")


class Hdf5(Arrays):
    """Images of the course: train_set_x, train_set_y, test_set_x, test_set_y and list_classes.

    They lie in one file, or in a train_*.h5 and a test_*.h5 beside it. Images are uint8 of shape
    (n, height, width, 3), labels integers (n,) or (1, n). Class names may be bytes or numbers;
    where there are none, the labels are. A tenth of the training images is set aside to choose the
    best epoch by.

    Args:
        path: the file, or the folder with the two files.

    Raises:
        InputError: a file is missing or no HDF5, it takes data from other files, it lacks one of
            these arrays, or they are of another kind.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        place = Path(os.path.abspath(os.path.expanduser(path)))
        arrays: dict[str, np.ndarray] = {}
        for file in files_in(place) if place.is_dir() else [place]:
            arrays.update(_read(file))
        lacking = [name for name in NEEDED if name not in arrays]
        if lacking:
            raise InputError(
                f"{place} lacks {', '.join(lacking)}",
                received=", ".join(sorted(arrays)) or "none",
                accepted=f"a file with {', '.join(NEEDED)}, "
                "or the folder of the two files with them",
            )
        names = arrays.get("list_classes")
        try:
            super().__init__(
                (arrays["train_set_x"], arrays["train_set_y"].reshape(-1)),
                (arrays["test_set_x"], arrays["test_set_y"].reshape(-1)),
                class_names=None if names is None else [_text(name) for name in np.ravel(names)],
            )
        except InputError as error:
            raise error.within(place) from error
        self.name = str(place)


NEEDED = ("train_set_x", "train_set_y", "test_set_x", "test_set_y")


def files_in(folder: Path) -> list[Path]:
    """The train_*.h5 and the test_*.h5 of a folder; none if it has neither.

    Raises:
        InputError: it has several, or but one of the two.
    """
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in EXTENSIONS and file.is_file()
    ]
    found = [[file for file in files if file.name.startswith(kind)] for kind in ("train", "test")]
    for several in found:
        if len(several) > 1:
            raise InputError(
                "the folder holds several sets",
                received=f"{', '.join(f.name for f in several)} in {folder}",
                accepted="one train_*.h5 and one test_*.h5",
            )
    train, test = found
    if bool(train) != bool(test):
        (there,) = train or test
        missing = "test_*.h5" if train else "train_*.h5"
        raise InputError(
            "one of the two HDF5 files is missing",
            received=f"{there.name} in {folder}, no {missing}",
            accepted=f"both in one folder, or a file with {', '.join(NEEDED)}",
        )
    return train + test


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with h5py.File(file, "r") as content:
            check_self_contained(content, file)
            return {
                name: content[name][()]
                for name in (*NEEDED, "list_classes")
                if isinstance(content.get(name), h5py.Dataset)
            }
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(
            "the HDF5 file cannot be read",
            received=f"{file} ({error})",
            accepted=f".h5 files with {', '.join(NEEDED)}",
        ) from error


def _text(name: object) -> str:
    try:
        return name.decode() if isinstance(name, bytes) else str(name)
    except UnicodeDecodeError as error:
        raise InputError(
            "a class name is not UTF-8",
            received=repr(name),
            accepted="list_classes as text in UTF-8",
        ) from error
