"""The image datasets that Keras downloads: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100."""

import os
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from resnet_keras.data import idx
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.splits import ArraySplit, SplitName
from resnet_keras.errors import InputError, NotDownloadedError, first_sentence

DEBIAN = Path("/usr/share/datasets")  # of the package dataset-fashion-mnist


CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Published:
    """A dataset as Keras publishes it.

    Attributes:
        cached: its file or folder in Keras's cache.
        megabytes: to download.
        image_size: side of the images in pixels.
        class_names: in the order of the labels.
        validation_fraction: of the training images; it makes 5,000 images.
    """

    cached: str
    megabytes: int
    image_size: int
    class_names: tuple[str, ...]
    validation_fraction: float


PUBLISHED = {
    "mnist": Published("mnist.npz", 11, 28, tuple("0123456789"), idx.VALIDATION_FRACTION),
    "fashion-mnist": Published(
        "fashion-mnist", 30, 28, idx.FASHION_CLASSES, idx.VALIDATION_FRACTION
    ),
    "cifar10": Published(
        "cifar-10-batches-py-target", 163, 32, tuple(CIFAR10_CLASSES.split()), 1 / 10
    ),
    "cifar100": Published(
        "cifar-100-python-target", 161, 32, tuple(CIFAR100_CLASSES.split()), 1 / 10
    ),
}


class KerasDataset:
    """A dataset of keras.datasets that is in Keras's cache (~/.keras, or KERAS_HOME).

    Fashion-MNIST is also found where Debian's package installs it. 5,000 of the training images,
    stratified by class, are the validation set: the same images every time. The 10,000 test images
    are the published ones.

    Args:
        name: "mnist", "fashion-mnist", "cifar10" or "cifar100".

    Raises:
        NotDownloadedError: the dataset is not on this machine.
    """

    def __init__(self, name: str) -> None:
        published = PUBLISHED[name]
        self.name = name
        self.class_names = published.class_names
        self.image_size = published.image_size
        self._validation_fraction = published.validation_fraction
        cached = keras_home() / "datasets" / published.cached
        places = [DEBIAN / name, cached] if name == "fashion-mnist" else [cached]
        there = [place for place in places if _is_whole(place)]
        if not there:
            raise NotDownloadedError(
                received=f"{name}, which is not in {' or '.join(map(str, places))}",
                accepted=f"--download, which fetches {published.megabytes} MB; in Python "
                f"{_module(name)}.load_data()",
                download=partial(_load_data, name),
            )
        self._place = there[0]

    def load(self, split: SplitName) -> ArraySplit:
        return self._arrays.load(split)

    @cached_property
    def _arrays(self) -> Arrays:
        if idx.files_in(self._place):
            return idx.Idx(self._place)
        return Arrays(
            *_load_data(self.name),
            class_names=self.class_names,
            validation_fraction=self._validation_fraction,
        )


def keras_home() -> Path:
    """The folder of Keras's cache."""
    return Path(os.environ.get("KERAS_HOME") or Path("~").expanduser() / ".keras")


def _is_whole(place: Path) -> bool:
    """Whether a dataset is there: a download that was stopped may have left some of its files."""
    return place.exists() and (place.name != "fashion-mnist" or len(idx.files_in(place)) == 4)


def _module(name: str) -> str:
    return f"keras.datasets.{name.replace('-', '_')}"


def _load_data(name: str) -> Any:
    """The training and the test arrays, downloaded if they are not in Keras's cache.

    Raises:
        InputError: the dataset cannot be downloaded, or its files are damaged.
    """
    dataset = import_module(_module(name))
    try:
        return dataset.load_data()
    except Exception as error:  # Keras raises nothing more special when it cannot connect
        raise InputError(
            "the dataset cannot be downloaded",
            received=f"{_module(name)} ({first_sentence(error)})",
            accepted=f"a connection, or the dataset in {keras_home() / 'datasets'}",
        ) from error
