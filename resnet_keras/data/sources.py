"""Where labelled images come from. A source yields NumPy arrays, one split at a time."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from resnet_keras.data.images import resize
from resnet_keras.errors import InputError

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes:
        images: (n, size, size, 3) uint8, RGB pixels 0..255.
        labels: (n,) int64, indices into the source's class names.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Source(Protocol):
    """A data set by name.

    Attributes:
        name: as the command line's --data spells it.
        class_names: in the order of the labels.
        image_size: side in pixels beyond which its images gain nothing by enlarging.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int

    def load(self, split: SplitName, image_size: int) -> Split:
        """Gives one split, the images resized to image_size x image_size pixels."""
        ...


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

    def load(self, split: SplitName, image_size: int) -> Split:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        chosen = self._indices(bunch.target)[split]
        grey = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
        images = np.stack([resize(np.repeat(g[..., None], 3, axis=-1), image_size) for g in grey])
        return Split(images, bunch.target[chosen].astype(np.int64))

    def _indices(self, labels: np.ndarray) -> dict[SplitName, np.ndarray]:
        from sklearn.model_selection import train_test_split

        rest, test = train_test_split(
            np.arange(len(labels)), test_size=self.test_images, stratify=labels, random_state=0
        )
        train, validation = train_test_split(
            rest, test_size=self.validation_images, stratify=labels[rest], random_state=0
        )
        return {"train": train, "validation": validation, "test": test}


SOURCES: dict[str, Source] = {"digits": Digits()}


def find(data: str) -> Source:
    """The source of a name.

    Raises:
        InputError: there is no such source.
    """
    if data not in SOURCES:
        raise InputError(f"unknown data. Received: {data!r}; accepted: {', '.join(SOURCES)}")
    return SOURCES[data]
