"""Where labelled images come from. A source yields NumPy arrays, one split at a time."""

import os
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.data import idx
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.cache import found_out
from resnet_keras.data.folder import Folder
from resnet_keras.data.hdf5 import Hdf5, files_in
from resnet_keras.data.idx import Idx
from resnet_keras.data.keras_datasets import PUBLISHED, KerasDataset
from resnet_keras.data.splits import SPLIT_NAMES, ArraySplit, Source, Split, SplitName
from resnet_keras.data.subset import OPTION, Subset, smallest_class
from resnet_keras.data.tfds_source import Tfds
from resnet_keras.errors import InputError, did_you_mean, did_you_mean_beside

__all__ = [
    "Arrays",
    "Digits",
    "Folder",
    "Hdf5",
    "Idx",
    "KerasDataset",
    "Source",
    "Split",
    "SplitName",
    "Tfds",
    "find",
]


class Digits:
    """1,797 handwritten digits of the UCI repository, 8x8 pixels, that ship inside scikit-learn.

    They are split once, stratified by class: 1,257 to train, 180 to choose the best model by, 360
    to test.
    """

    name = "digits"
    class_names = tuple("0123456789")
    image_size = 64

    test_images = 360
    validation_images = 180

    def load(self, split: SplitName) -> ArraySplit:
        # Kept, because scikit-learn takes longer to import than all else of an answer.
        key = f"digits of scikit-learn {version('scikit-learn')}"
        names = [f"{one}_{what}" for one in SPLIT_NAMES for what in ("images", "labels")]
        arrays = found_out(key, names, self._read)
        return ArraySplit(arrays[f"{split}_images"], arrays[f"{split}_labels"])

    def _read(self) -> dict[str, np.ndarray]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        arrays = {}
        for split, chosen in self._indices(bunch.target).items():
            grey = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
            arrays[f"{split}_images"] = np.repeat(grey[..., None], 3, axis=-1)
            arrays[f"{split}_labels"] = bunch.target[chosen].astype(np.int64)
        return arrays

    def _indices(self, labels: np.ndarray) -> dict[SplitName, np.ndarray]:
        from sklearn.model_selection import train_test_split

        rest, test = train_test_split(
            np.arange(len(labels)), test_size=self.test_images, stratify=labels, random_state=0
        )
        train, validation = train_test_split(
            rest, test_size=self.validation_images, stratify=labels[rest], random_state=0
        )
        return {"train": train, "validation": validation, "test": test}


SPELLINGS = (
    "digits, mnist, fashion-mnist, cifar10, cifar100[,per_class=NUMBER], imagenet2012, "
    "tfds:NAME[/CONFIG][:VERSION][,SPLIT=PART…], "
    "a folder of class folders[,validation=FRACTION][,test=FRACTION][,seed=NUMBER], "
    "an .h5 file or a folder of two, a folder of IDX files[,per_class=NUMBER]"
)
OF_TFDS = ("imagenet2012",)  # go by their bare names
KNOWN = ("digits", *PUBLISHED, *OF_TFDS)


def find(data: str) -> Source:
    """The source that --data spells.

    - "digits"
    - "mnist", "fashion-mnist", "cifar10", "cifar100"
    - "fashion-mnist,per_class=1000", which these, the digits and IDX files take: fewer training
      images, see `Subset`
    - "imagenet2012", "tfds:food101", "tfds:imagenet_resized/32x32", and with splits as TFDS spells
      them: "tfds:cifar10,train=train[:80%],validation=train[80%:]"
    - a folder with a folder for every class, "photos" or "photos,validation=0.2,seed=1"
    - the course's HDF5 files: a file, or the folder with a train_*.h5 and a test_*.h5
    - a folder of IDX files, as MNIST is published

    A folder that is called like a data set is meant by "./digits".

    Raises:
        InputError: there is no such source, or it cannot be used; the source's class tells more.
        NotDownloadedError: a public dataset is not on this machine yet.
    """
    name, *options = data.split(",")
    if name == "digits":
        return _subset(Digits(), _per_class(options, data))
    if name in PUBLISHED:
        per_class = _per_class(options, data, of_tfds=name.startswith("cifar"))
        return _subset(KerasDataset(name), per_class)
    if name in OF_TFDS or name.startswith("tfds:"):
        return Tfds(name.removeprefix("tfds:"), _splits(options))
    if os.path.exists(os.path.expanduser(data)):  # commas and all
        name, options = data, []
    path = Path(os.path.expanduser(name))
    there = bool(name) and os.path.exists(path)
    if not there and os.sep not in name:
        raise InputError(
            "unknown data",
            received=f"{data!r}, and there is no such file or folder here",
            accepted=f"{SPELLINGS}{did_you_mean(name, [*KNOWN, *_beside(path)])}",
        )
    if not there:
        raise InputError(
            "no such file or folder",
            received=repr(data),
            accepted=f"{SPELLINGS}{did_you_mean_beside(path)}",
        )
    try:
        of_hdf5 = path.is_file() or bool(files_in(path))
        of_idx = bool(idx.files_in(path))
    except OSError as error:
        raise InputError(
            "the folder cannot be read",
            received=f"{path} ({error.strerror})",
            accepted="a folder of class folders, of two .h5 files, or of IDX files",
        ) from error
    if not (of_hdf5 or of_idx):
        return Folder(path, **_fractions(options))
    if of_idx:
        per_class = _per_class(options, data)
        return _subset(Idx(path), per_class)
    if options:
        raise InputError("HDF5 files take no options", received=repr(data), accepted=f"{name!r}")
    return Hdf5(path)


def slug(data: str) -> str:
    """What --data spells, as a part of a folder's name."""
    return re.sub(r"[^\w.-]+", "-", data).strip("-.")


def at_most(data: str, per_class: int) -> str:
    """Adds the option that limits the training images of each class, where the limit is below.

    Data that does not take the option, or has it already, stays as it is.

    Args:
        data: as for `find`.
        per_class: the limit.
    """
    source = find(data)
    takes_option = isinstance(source, Digits | KerasDataset | Idx)
    if takes_option and smallest_class(source.load("train")) > per_class:
        return f"{data},{OPTION}={per_class}"
    return data


def _subset(source: Source, per_class: int | None) -> Source:
    return source if per_class is None else Subset(source, per_class)


def _per_class(options: Sequence[str], data: str, of_tfds: bool = False) -> int | None:
    """The one option of datasets whose splits are fixed; None if it is not given."""
    if not options:
        return None
    name, _, number = ",".join(options).partition("=")
    if name != OPTION or not number.isdecimal():
        by_tfds = f", or 'tfds:{data}' for the splits of TFDS" if of_tfds else ""
        raise InputError(
            "unknown option of this dataset",
            received=repr(data),
            accepted=f"{OPTION}=1000, training images of each class{by_tfds}",
        )
    return int(number)


def _splits(options: Sequence[str]) -> dict[SplitName, str]:
    known: dict[str, SplitName] = {split: split for split in SPLIT_NAMES}
    splits: dict[SplitName, str] = {}
    for option in options:
        name, _, part = option.partition("=")
        if name not in known or not part:
            raise InputError(
                "unknown choice of a split",
                received=repr(option),
                accepted=f"{', '.join(f'{split}=PART' for split in known)}, "
                "such as train=train[:80%]",
            )
        splits[known[name]] = part
    return splits


def _fractions(options: Sequence[str]) -> dict[str, Any]:
    kinds = {"validation": float, "test": float, "seed": int}
    values = {}
    for option in options:
        name, _, value = option.partition("=")
        try:
            values[name] = kinds[name](value)
        except (KeyError, ValueError) as error:
            raise InputError(
                "unknown option of a folder",
                received=repr(option),
                accepted="validation=0.1, test=0.1, seed=0",
            ) from error
    return values


def _beside(path: Path) -> list[str]:
    """What there is that a mistyped path may mean."""
    return [child.name for child in path.parent.iterdir() if child.is_dir()]
