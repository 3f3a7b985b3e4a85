"""Labelled images with random access: arrays of one size, or image files that are still encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resnet_keras.data.images import decode


class Split(Protocol):
    """Labelled images.

    Attributes:
        labels: (n,) int64, indices into the source's class names.
    """

    @property
    def labels(self) -> np.ndarray: ...

    def image(self, index: int) -> np.ndarray:
        """Gives one image, (height, width, 3) uint8, RGB pixels 0..255."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """Images of one size, in memory.

    Attributes:
        images: (n, height, width, 3) uint8, RGB pixels 0..255.
        labels: (n,) int64.
    """

    images: np.ndarray
    labels: np.ndarray

    def image(self, index: int) -> np.ndarray:
        return self.images[index]


@dataclass(frozen=True)
class EncodedSplit:
    """Images of any sizes as JPEG, PNG or other files, decoded when they are needed.

    Attributes:
        read: the bytes of the image of an index; may be called from several threads at once.
        labels: (n,) int64.
        paths: where every image is a file of its own, so that a pipeline can read it by itself.
    """

    read: Callable[[int], bytes]
    labels: np.ndarray
    paths: Sequence[str] | None = None

    def image(self, index: int) -> np.ndarray:
        return decode(self.read(index))
