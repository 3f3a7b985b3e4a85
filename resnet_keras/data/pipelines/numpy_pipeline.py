"""The batches of tf_pipeline without TensorFlow; every one is a function of (seed, step) alone."""

import math
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from PIL import Image

from resnet_keras.data.augmentation import (
    Augmentation,
    PadAndCrop,
    RandomResizedCrop,
    ScaleJitterCrop,
)
from resnet_keras.data.epochs import WHOLE, Share, steps_per_epoch
from resnet_keras.data.splits import ArraySplit, Split
from resnet_keras.errors import InputError
from resnet_keras.view import View

ORDER, AUGMENTATION, WINDOW = range(3)  # what random numbers are for; no two uses share them

UNSUPPORTED = ("randaugment", "color", "erasing", "mixup", "cutmix", "label_smoothing")

Box = tuple[int, int, int, int]  # left, top, right and bottom, in pixels of the whole image


def training_batches(
    split: Split,
    augmentation: Augmentation,
    *,
    image_size: int,
    classes: int,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    share: Share = WHOLE,
) -> keras.utils.PyDataset:
    """Shuffled, augmented batches of the steps from `first_step` up to, not with, `last_step`.

    The arguments are those of tf_pipeline. The order and the augmentation are others than there:
    the random numbers are NumPy's. Pillow decodes and resizes, in a few threads.

    Args:
        classes: not used: labels stay numbers.
        share: which rows of every batch to load, the same ones as without it.

    Returns:
        By index from zero, images (batch, image_size, image_size, 3) uint8 and labels (batch,)
        int64.

    Raises:
        InputError: the crop does not fit the image size, or `check` refuses the augmentation.
    """
    augmentation.check_image_size(image_size)
    check(augmentation)
    images = len(split.labels)
    batch_size = min(batch_size, images)
    steps = steps_per_epoch(images, batch_size)

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(step, steps)
        order = _random(seed, ORDER, epoch).permutation(images)
        first = place * batch_size
        rows = share.rows(batch_size)
        chosen = order[first : first + batch_size][rows]

        def window(row: int, height: int, width: int) -> Box:
            random = _random(seed, WINDOW, step, rows.start + row)
            return draw_window(height, width, random, augmentation, image_size)

        shown = _load(split, chosen, image_size, window)
        random = _random(seed, AUGMENTATION, step)
        return augment(shown, random, augmentation, share), split.labels[chosen]

    return _Batches(batch, range(first_step, last_step), _workers(split))


def check(augmentation: Augmentation) -> None:
    """Raises InputError if the augmentation is of a kind that needs TensorFlow."""
    if asked := [name for name in UNSUPPORTED if getattr(augmentation, name)]:
        raise InputError(
            "this augmentation needs TensorFlow",
            received=", ".join(asked),
            accepted="crops and flips, or pip install 'resnet-keras[tensorflow]'",
        )


def evaluation_batches(split: Split, *, view: View, batch_size: int) -> keras.utils.PyDataset:
    """All images once, in order, as tf_pipeline gives them; the last batch may be smaller."""

    def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.arange(len(split.labels))[number * batch_size : (number + 1) * batch_size]
        return _shown(split, chosen, view), split.labels[chosen]

    batches = math.ceil(len(split.labels) / batch_size)
    return _Batches(batch, range(batches), _workers(split))


def shared_evaluation_batches(
    split: Split, *, view: View, batch_size: int, share: Share
) -> keras.utils.PyDataset:
    """A process's rows of batches that are all of one size, as several devices need them.

    Where the images do not fill the last batch, it shows the first ones again, at a weight of zero.

    Args:
        batch_size: of all processes together.
        share: which rows to load.

    Returns:
        By index from zero, images, labels and weights. With these, Keras's mean over all rows is
        the mean over the images.
    """
    images = len(split.labels)
    batches = math.ceil(images / batch_size)
    weight = batches * batch_size / images

    def batch(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.arange(number * batch_size, (number + 1) * batch_size)[share.rows(batch_size)]
        chosen = rows % images
        weights = np.where(rows < images, np.float32(weight), np.float32(0))
        return _shown(split, chosen, view), split.labels[chosen], weights

    return _Batches(batch, range(batches), _workers(split))


def _workers(split: Split) -> int:
    """Threads that load batches: arrays need no decoding."""
    return 1 if isinstance(split, ArraySplit) else min(os.cpu_count() or 1, 8)


class _Batches(keras.utils.PyDataset):
    """The batches of a range of steps, as `fit` takes them."""

    def __init__(self, batch: Callable[[int], Any], steps: range, workers: int) -> None:
        super().__init__(workers=workers)
        self.batch = batch
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.batch(self.steps[index])


def _random(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *numbers)))


def _shown(split: Split, chosen: np.ndarray, view: View) -> np.ndarray:
    return np.stack([view.show(split.image(index)) for index in chosen])


def _load(
    split: Split, chosen: np.ndarray, image_size: int, window: Callable[[int, int, int], Box]
) -> np.ndarray:
    """The windows of some images, (n, image_size, image_size, 3) uint8."""
    shown = np.empty((len(chosen), image_size, image_size, 3), np.uint8)
    for place, index in enumerate(chosen):
        image = split.image(index)
        box = window(place, *image.shape[:2])
        if box == (0, 0, image_size, image_size) and image.shape[:2] == (image_size, image_size):
            shown[place] = image
        else:
            square = (image_size, image_size)
            resized = Image.fromarray(image).resize(square, Image.Resampling.BILINEAR, box=box)
            shown[place] = np.asarray(resized)
    return shown


def draw_window(
    height: int,
    width: int,
    random: np.random.Generator,
    augmentation: Augmentation,
    image_size: int,
) -> Box:
    """Draws the part of an image that is shown, see tf_operations.window."""
    crop = augmentation.crop
    if isinstance(crop, ScaleJitterCrop):
        length = random.integers(crop.shortest, crop.longest + 1)
        side = max(round(min(height, width) * image_size / length), 1)
        return _place(height, width, side, side, random)
    if isinstance(crop, RandomResizedCrop):
        return _resized_window(height, width, random, crop)
    top, left, height, width = View(image_size, image_size).window(height, width)
    return left, top, left + width, top + height


def _resized_window(
    height: int, width: int, random: np.random.Generator, crop: RandomResizedCrop
) -> Box:
    narrowest, widest = crop.aspect_ratio
    for _ in range(10):
        area = random.uniform(*crop.area) * height * width
        ratio = random.uniform(narrowest, widest)
        window_height, window_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < window_height <= height and 0 < window_width <= width:
            return _place(height, width, window_height, window_width, random)
    # None fits, as in a very wide image: what is in the middle.
    window_height = min(height, math.ceil(width / narrowest))
    window_width = min(width, math.ceil(height * widest))
    top, left = (height - window_height) // 2, (width - window_width) // 2
    return left, top, left + window_width, top + window_height


def _place(
    height: int, width: int, window_height: int, window_width: int, random: np.random.Generator
) -> Box:
    top = int(random.integers(height - window_height + 1))
    left = int(random.integers(width - window_width + 1))
    return left, top, left + window_width, top + window_height


def augment(
    images: np.ndarray,
    random: np.random.Generator,
    augmentation: Augmentation,
    share: Share = WHOLE,
) -> np.ndarray:
    """Shifts every image on a black ground, and mirrors half of them, if that is asked for.

    Args:
        images: (batch, size, size, 3).
        share: which rows of a batch they are; the random numbers are drawn for all of it.
    """
    crop = augmentation.crop
    if isinstance(crop, PadAndCrop) and (pad := crop.pixels(images.shape[1])):
        images = _pad_and_crop(images, random, pad, share)
    if augmentation.flip:
        batch = len(images) * share.count
        mirrored = random.random((batch, 1, 1, 1))[share.rows(batch)] < 0.5
        images = np.where(mirrored, images[:, :, ::-1], images)
    return images


def _pad_and_crop(
    images: np.ndarray, random: np.random.Generator, pad: int, share: Share
) -> np.ndarray:
    shown, height, width, _ = images.shape
    batch = shown * share.count
    corners = random.integers(0, 2 * pad + 1, (batch, 2, 1))[share.rows(batch)]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = corners[:, 0] + np.arange(height)
    columns = corners[:, 1] + np.arange(width)
    return padded[np.arange(shown)[:, None, None], rows[:, :, None], columns[:, None, :]]
