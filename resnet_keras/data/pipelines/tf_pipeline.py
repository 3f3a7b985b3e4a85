"""tf.data over a split's images; every batch is a function of (seed, step) alone.

Images of one size in memory are taken, shifted and mirrored a batch at a time. All others come one
by one: read, decoded no further than their window, resized, in as many threads as the machine has.
"""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras.data.augmentation import Augmentation, PadAndCrop
from resnet_keras.data.epochs import WHOLE, Share, steps_per_epoch
from resnet_keras.data.pipelines import tf_operations as operations
from resnet_keras.data.pipelines.tf_operations import Rows
from resnet_keras.data.pipelines.tf_randaugment import rand_augment
from resnet_keras.data.splits import ArraySplit, EncodedSplit, Split
from resnet_keras.view import View, tf_view

# What random numbers are for; no two uses share them.
WINDOW, RANDAUGMENT, PAD_AND_CROP, FLIP, COLOR, ERASING, MIXTURE, MIXUP, CUTMIX = range(9)

JPEG_ENDINGS = (".jpg", ".jpeg")

Window = Callable[[Any], Any]  # from an image's shape to the window to show


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
) -> tf.data.Dataset:
    """Shuffled, augmented batches of the steps from `first_step` up to, not with, `last_step`.

    Each epoch visits the images in an order of its own, and no batch depends on the ones before it,
    so a run that starts at any step sees what an uninterrupted one would have seen. Epochs have
    `epochs.steps_per_epoch` steps.

    Args:
        split: the training images.
        augmentation: what is done to them.
        image_size: side of the images that come out, in pixels.
        classes: how many there are; probabilities need to know.
        batch_size: images a step; not more than there are.
        seed: not negative.
        first_step, last_step: counted from the beginning of the training.
        share: which rows of every batch to make; they are the same as without it.

    Returns:
        Pairs of images and labels. Images are (batch, image_size, image_size, 3), pixels 0..255,
        uint8, or float32 where `color` or `mixup` makes them so. Labels are (batch,) int64, or
        (batch, classes) float32 where `label_smoothing`, `mixup` or `cutmix` makes them
        probabilities.

    Raises:
        InputError: the crop does not fit the image size.
    """
    augmentation.check_image_size(image_size)
    batch_size = min(batch_size, len(split.labels))
    rows = Rows(batch_size, share, mixes=bool(augmentation.mixup or augmentation.cutmix))
    by_batch = _fits(split, image_size) and not _works_on_single_images(augmentation)
    chosen_batches = _whole_batches if by_batch else _single_images
    batches = chosen_batches(
        split, augmentation, image_size, rows, seed, range(first_step, last_step)
    )

    def augment(step: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        seed_of = partial(_seed, seed, number=step)
        return augment_batch(images, labels, augmentation, classes, rows, seed_of)

    return _in_parallel(batches, augment).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(split: Split, *, view: View, batch_size: int) -> tf.data.Dataset:
    """All images once, in order; the last batch may be smaller.

    Args:
        split: images of any size.
        view: what is shown of them.
        batch_size: images a batch.

    Returns:
        Pairs of images (batch, height, width, channels) uint8 and labels (batch,) int64.
    """
    examples = _in_parallel(tf.data.Dataset.range(len(split.labels)), _example(split, view))
    return examples.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def check(augmentation: Augmentation) -> None:
    """Does nothing: there is every augmentation."""


def shared_evaluation_batches(
    split: Split, *, view: View, batch_size: int, share: Share
) -> tf.data.Dataset:
    """A process's rows of batches that are all of one size, as several devices need them.

    Where the images do not fill the last batch, it shows the first ones again, at a weight of zero.

    Args:
        batch_size: of all processes together.
        share: which rows to load.

    Returns:
        Images, labels and weights. With these, Keras's mean over all rows is the mean over the
        images.
    """
    images = len(split.labels)
    batches = math.ceil(images / batch_size)
    weight = batches * batch_size / images
    own = range(batch_size)[share.rows(batch_size)]
    example = _example(split, view)

    def weighted(number: Any) -> tuple[Any, Any, Any]:
        row = number // len(own) * batch_size + own.start + number % len(own)
        return *example(row % images), tf.where(row < images, np.float32(weight), np.float32(0))

    examples = _in_parallel(tf.data.Dataset.range(batches * len(own)), weighted)
    return examples.batch(len(own), drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _example(split: Split, view: View) -> Callable[[Any], tuple[Any, Any]]:
    """A function from an image's index to what a network sees of it, and its label."""
    load = _loader(split, partial(tf_view.resize, view=view))
    labels = tf.constant(split.labels)

    def example(index: Any) -> tuple[Any, Any]:
        image = load(index, lambda shape: tf_view.window(shape, view))
        return image, tf.gather(labels, index)

    return example


def augment_batch(
    images: Any,
    labels: Any,
    augmentation: Augmentation,
    classes: int,
    rows: Rows,
    seed_of: Callable[[int], Any],
) -> tuple[Any, Any]:
    """The augmentation of a whole batch: all but windows, RandAugment and flips.

    Args:
        images: (rows made, size, size, 3) uint8.
        labels: (rows made,) int64.
        augmentation: what is done.
        classes: how many there are.
        rows: of the batch.
        seed_of: the seed of each use in the batch's step.

    Returns:
        The same of the rows that are kept.
    """
    if isinstance(augmentation.crop, PadAndCrop) and (
        pad := augmentation.crop.pixels(images.shape[1])
    ):
        images = operations.pad_and_crop(images, seed_of(PAD_AND_CROP), pad, rows)
    if augmentation.color:
        images = operations.pca_color(images, seed_of(COLOR), augmentation.color.std, rows)
    if augmentation.erasing:
        images = operations.erase(images, seed_of(ERASING), augmentation.erasing, rows)
    if augmentation.makes_probabilities:
        labels = operations.smooth_labels(labels, classes, augmentation.label_smoothing)
        images, labels = _mix(images, labels, augmentation, rows, seed_of)
    return images, labels


def _mix(
    images: Any,
    labels: Any,
    augmentation: Augmentation,
    rows: Rows,
    seed_of: Callable[[int], Any],
) -> tuple[Any, Any]:
    ways: list[Callable[[Any, Any], tuple[Any, Any]]] = []
    if mixup := augmentation.mixup:
        ways.append(partial(operations.mixup, seed=seed_of(MIXUP), alpha=mixup.alpha, rows=rows))
    if cutmix := augmentation.cutmix:
        ways.append(partial(operations.cutmix, seed=seed_of(CUTMIX), alpha=cutmix.alpha, rows=rows))
    if len(ways) == 2:
        images = tf.cast(images, tf.float32)  # so that both give one type
        drawn = tf.random.stateless_uniform([], seed_of(MIXTURE))
        first, second = (partial(way, images, labels) for way in ways)
        return tf.cond(drawn < 0.5, first, second)
    return ways[0](images, labels) if ways else (images, labels)


def _works_on_single_images(augmentation: Augmentation) -> bool:
    has_window = not isinstance(augmentation.crop, PadAndCrop | None)
    return has_window or augmentation.randaugment is not None


def _fits(split: Split, image_size: int) -> bool:
    """Whether the images are in memory, of the size that is asked for."""
    return isinstance(split, ArraySplit) and split.images.shape[1:3] == (image_size, image_size)


def _whole_batches(
    split: Any,
    augmentation: Augmentation,
    image_size: int,
    rows: Rows,
    seed: int,
    steps: range,
) -> tf.data.Dataset:
    """Triples of step, images and labels, taken from an array a batch at a time."""
    images, labels = tf.constant(split.images), tf.constant(split.labels)

    def batch(step: Any) -> tuple[Any, Any, Any]:
        chosen = _shuffled(step, rows.made, len(split.labels), rows.batch, seed)
        shown = tf.gather(images, chosen)
        if augmentation.flip:
            shown = operations.flip(shown, _seed(seed, FLIP, step), rows)
        return step, shown, tf.gather(labels, chosen)

    return _in_parallel(tf.data.Dataset.range(steps.start, steps.stop), batch)


def _single_images(
    split: Split,
    augmentation: Augmentation,
    image_size: int,
    rows: Rows,
    seed: int,
    steps: range,
) -> tf.data.Dataset:
    """Triples of step, images and labels, loaded one by one."""
    load = _loader(split, partial(operations.resize, image_size=image_size), image_size)
    labels = tf.constant(split.labels)

    made = tf.constant(rows.made)
    count = len(rows.made)

    def example(number: Any) -> tuple[Any, Any, Any]:
        step, row = number // count, tf.gather(made, number % count)
        position = step * rows.batch + row
        index = _shuffled(step, row, len(split.labels), rows.batch, seed)
        window_seed = _seed(seed, WINDOW, position)
        image = load(
            index,
            lambda shape: operations.window(shape, window_seed, augmentation.crop, image_size),
        )
        if augmentation.randaugment:
            image_seed = _seed(seed, RANDAUGMENT, position)
            image = rand_augment(image, image_seed, augmentation.randaugment)
        if augmentation.flip:
            image = operations.flip_one(image, _seed(seed, FLIP, position))
        return step, image, tf.gather(labels, index)

    numbers = tf.data.Dataset.range(steps.start * count, steps.stop * count)
    batches = _in_parallel(numbers, example).batch(count, drop_remainder=True)
    return batches.map(lambda step, images, labels: (step[0], images, labels))


def _shuffled(step: Any, rows: Any, images: int, batch_size: int, seed: int) -> Any:
    """Which images a step's rows show: each epoch is a permutation of all of them."""
    steps = steps_per_epoch(images, batch_size)
    epoch, place = step // steps, step % steps
    return tf.random.experimental.index_shuffle(  # pyright: ignore[reportAttributeAccessIssue]
        place * batch_size + rows,
        tf.stack([tf.constant(seed, tf.int64), epoch]),
        max_index=images - 1,
    )


def _seed(seed: int, purpose: int, number: Any) -> Any:
    """The seed of one use in one step, or at one position; (2,) int64."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1, np.uint64)[0]
    return tf.stack([tf.constant(key >> np.uint64(1), tf.int64), number])


def _loader(
    split: Split, resize: Callable[[Any], Any], image_size: int | None = None
) -> Callable[[Any, Window], Any]:
    """A function from an image's index and what draws its window to the image, resized.

    Args:
        split: the images.
        resize: of a window that was cut out.
        image_size: lets JPEGs be decoded faster and less exactly, see `decode_jpeg_window`.
    """

    def show(image: Any, window: Window) -> Any:
        return resize(operations.cut(image, window(tf.shape(image))))

    if isinstance(split, ArraySplit):
        array = tf.constant(split.images)
        return lambda index, window: show(tf.gather(array, index), window)

    def decoded(index: Any, window: Window) -> Any:
        image = tf.numpy_function(split.image, [index], tf.uint8)
        return show(tf.ensure_shape(image, [None, None, 3]), window)

    if not isinstance(split, EncodedSplit) or not (plain := _is_plain(split)).any():
        return decoded
    read = _reader(split)

    def fused(index: Any, window: Window) -> Any:
        content = read(index)

        def jpeg() -> Any:
            part = window(tf.image.extract_jpeg_shape(content))
            return operations.decode_jpeg_window(content, part, image_size)

        def other() -> Any:
            image = tf.io.decode_image(content, channels=3, expand_animations=False)
            return operations.cut(image, window(tf.shape(image)))

        part = tf.cond(tf.io.is_jpeg(content), jpeg, other)
        return resize(part)

    if plain.all():
        return fused
    is_plain = tf.constant(plain)
    return lambda index, window: tf.cond(
        tf.gather(is_plain, index), lambda: fused(index, window), lambda: decoded(index, window)
    )


def _is_plain(split: EncodedSplit) -> np.ndarray:
    """Which images TensorFlow decodes as Pillow does, (n,) bool: no rotation, no CMYK and the like.

    Where the split does not tell, a file's name does.
    """
    if split.plain is not None:
        return split.plain
    if split.paths is None:
        return np.zeros(len(split.labels), bool)
    return np.array([str(path).lower().endswith(JPEG_ENDINGS) for path in split.paths])


def _reader(split: EncodedSplit) -> Callable[[Any], Any]:
    """A function from an image's index to its bytes."""
    if split.paths is None:
        return lambda index: tf.ensure_shape(tf.numpy_function(split.read, [index], tf.string), [])
    paths = tf.constant([os.fsencode(path) for path in split.paths])  # not always UTF-8
    return lambda index: tf.io.read_file(tf.gather(paths, index))


def _in_parallel(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """Maps in several threads; the order is that of one."""
    traced = tf.autograph.experimental.do_not_convert(function)  # has no Python to convert
    return dataset.map(traced, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
