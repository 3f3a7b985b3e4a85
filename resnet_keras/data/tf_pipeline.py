"""tf.data over a source's NumPy arrays; every batch is a function of (seed, step) alone."""

from typing import Any

import tensorflow as tf

from resnet_keras.data.sources import Split


def training_batches(
    split: Split,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    shift: float = 0.0,
    flip: bool = False,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Shuffled, augmented batches of all epochs, one after another.

    Each epoch visits the images in an order of its own, and no batch depends on the ones before it,
    so a run that starts at `first_epoch` sees what an uninterrupted one would have seen.

    Args:
        split: the training images.
        shift, flip: the augmentation, as `Recipe` tells.

    Returns:
        Pairs of images (batch, size, size, 3) uint8 and labels (batch,) int64.
    """
    batch_size = min(batch_size, len(split))
    steps = split.steps_per_epoch(batch_size)
    images, labels = tf.constant(split.images), tf.constant(split.labels)

    def batch(step: Any) -> tuple[Any, Any]:
        epoch, place = step // steps, step % steps
        positions = place * batch_size + tf.range(batch_size, dtype=tf.int64)
        chosen = tf.random.experimental.index_shuffle(  # pyright: ignore[reportAttributeAccessIssue]
            positions, tf.stack([tf.constant(seed, tf.int64), epoch]), max_index=len(split) - 1
        )
        batch_seed = tf.stack([tf.constant(seed, tf.int64), step])
        augmented = augment(tf.gather(images, chosen), batch_seed, shift=shift, flip=flip)
        return augmented, tf.gather(labels, chosen)

    every_step = tf.data.Dataset.range(first_epoch * steps, epochs * steps)
    return every_step.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def augment(images: Any, seed: Any, *, shift: float = 0.0, flip: bool = False) -> Any:
    """Shifts every image on a black ground, and mirrors half of them; stateless in `seed`.

    Args:
        images: (batch, size, size, 3).
        seed: (2,) integers.
        shift: largest translation, as a fraction of the side.
        flip: whether to mirror.
    """
    shift_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    if margin := round(shift * images.shape[1]):
        images = _shift(images, shift_seed, margin)
    if flip:
        mirrored = tf.random.stateless_uniform([images.shape[0], 1, 1, 1], flip_seed) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1], images)
    return images


def _shift(images: Any, seed: Any, margin: int) -> Any:
    batch, height, width, _ = images.shape
    corners = tf.random.stateless_uniform(
        [batch, 2, 1], seed, maxval=2 * margin + 1, dtype=tf.int32
    )
    padded = tf.pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    rows = tf.gather(padded, corners[:, 0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, corners[:, 1] + tf.range(width), axis=2, batch_dims=1)
