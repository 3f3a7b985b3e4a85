"""The batches of tf_pipeline without TensorFlow; every one is a function of (seed, step) alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from resnet_keras.data.sources import Split

ORDER, AUGMENTATION = range(2)  # what random numbers are for; no two uses share them


def training_batches(
    split: Split,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    shift: float = 0.0,
    flip: bool = False,
    first_epoch: int = 0,
) -> keras.utils.PyDataset:
    """Shuffled, augmented batches of all epochs, one after another.

    As in tf_pipeline, each epoch has an order of its own and no batch depends on the ones before
    it. The order and the augmentation are others than there: the random numbers are NumPy's.

    Args:
        split: the training images.
        shift, flip: the augmentation, as `Recipe` tells.

    Returns:
        By index from zero, images (batch, size, size, 3) uint8 and labels (batch,) int64.
    """
    batch_size = min(batch_size, len(split))
    steps = split.steps_per_epoch(batch_size)

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(step, steps)
        order = _random(seed, ORDER, epoch).permutation(len(split))
        chosen = order[place * batch_size : (place + 1) * batch_size]
        random = _random(seed, AUGMENTATION, step)
        return augment(split.images[chosen], random, shift=shift, flip=flip), split.labels[chosen]

    return _Batches(batch, range(first_epoch * steps, epochs * steps))


class _Batches(keras.utils.PyDataset):
    """The batches of a range of steps, as `fit` takes them."""

    def __init__(self, batch: Callable[[int], Any], steps: range) -> None:
        super().__init__()
        self.batch = batch
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.batch(self.steps[index])


def _random(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, number)))


def augment(
    images: np.ndarray, random: np.random.Generator, *, shift: float = 0.0, flip: bool = False
) -> np.ndarray:
    """Shifts every image on a black ground, and mirrors half of them.

    Args:
        images: (batch, size, size, 3).
        shift: largest translation, as a fraction of the side.
        flip: whether to mirror.
    """
    if margin := round(shift * images.shape[1]):
        images = _shift(images, random, margin)
    if flip:
        mirrored = random.random((len(images), 1, 1, 1)) < 0.5
        images = np.where(mirrored, images[:, :, ::-1], images)
    return images


def _shift(images: np.ndarray, random: np.random.Generator, margin: int) -> np.ndarray:
    batch, height, width, _ = images.shape
    corners = random.integers(0, 2 * margin + 1, (batch, 2, 1))
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    rows = corners[:, 0] + np.arange(height)
    columns = corners[:, 1] + np.arange(width)
    return padded[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]
