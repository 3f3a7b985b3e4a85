"""The first training images of every class, for work that has minutes."""

import numpy as np

from resnet_keras.data.splits import Source, Split, SplitName
from resnet_keras.errors import InputError

OPTION = "per_class"  # as --data spells it


class Subset:
    """A dataset with fewer training images: as many of each class, and the same ones every time.

    The training images of the datasets that take this option are in random order, so the first of
    each class are a random sample. A smaller sample is part of every larger one. Validation and
    test images stay as they are.

    Args:
        source: a dataset in memory, whose training images are in random order.
        per_class: training images of each class.
    """

    def __init__(self, source: Source, per_class: int) -> None:
        self._source = source
        self._per_class = per_class
        self.name = f"{source.name},{OPTION}={per_class}"
        self.class_names = source.class_names
        self.image_size = source.image_size

    def load(self, split: SplitName) -> Split:
        """Gives one split.

        Raises:
            InputError: a class has fewer training images than `per_class`, or that is below 1.
        """
        images = self._source.load(split)
        return self._first(images) if split == "train" else images

    def _first(self, split: Split) -> Split:
        least = smallest_class(split)
        if not 0 < self._per_class <= least:
            raise InputError(
                f"{OPTION} is out of range",
                received=self._per_class,
                accepted=f"a whole number from 1 to {least:,}, the training images of the "
                "smallest class",
            )
        chosen = [
            np.flatnonzero(split.labels == label)[: self._per_class]
            for label in np.unique(split.labels)
        ]
        return split.take(np.sort(np.concatenate(chosen)))


def smallest_class(split: Split) -> int:
    """How many images the smallest class has."""
    return int(np.unique(split.labels, return_counts=True)[1].min())
