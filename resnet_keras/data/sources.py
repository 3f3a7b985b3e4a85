"""Where labelled images come from. A source yields NumPy arrays, one split at a time."""

import numpy as np

from resnet_keras.data.arrays import Arrays
from resnet_keras.data.splits import ArraySplit, Source, Split, SplitName
from resnet_keras.errors import InputError

__all__ = ["Arrays", "Digits", "Source", "Split", "SplitName", "find"]


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
        from sklearn.datasets import load_digits

        bunch = load_digits()
        chosen = self._indices(bunch.target)[split]
        grey = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
        images = np.repeat(grey[..., None], 3, axis=-1)
        return ArraySplit(images, bunch.target[chosen].astype(np.int64))

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
