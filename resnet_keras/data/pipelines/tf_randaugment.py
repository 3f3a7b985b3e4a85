"""RandAugment (Cubuk et al. 2020) on TensorFlow; stateless, and as Pillow computes it.

An operation takes an image, (height, width, 3) uint8, and a level, a float32 from -1 to 1 whose
size is the magnitude / 10. Operations that go one way only take its size.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from resnet_keras.data.augmentation import RandAugment
from resnet_keras.data.pipelines.tf_operations import to_uint8

Operation = Callable[[Any, Any], Any]

GROUND = 128.0  # grey, that comes in from beyond the image's border
GREY = (0.299, 0.587, 0.114)  # ITU-R 601


def rand_augment(image: Any, seed: Any, randaugment: RandAugment) -> Any:
    """Applies operations that are drawn for this image.

    Args:
        image: (height, width, 3) uint8, of a static shape.
        seed: (2,) integers.

    Returns:
        The same shape and type.
    """
    kinds, signs, sizes = tf.unstack(tf.random.split(seed, 3))
    count = [randaugment.layers]
    drawn = tf.random.stateless_uniform(count, kinds, maxval=len(OPERATIONS), dtype=tf.int32)
    sign = tf.where(tf.random.stateless_uniform(count, signs) < 0.5, -1.0, 1.0)
    size = tf.random.stateless_normal(
        count, sizes, randaugment.magnitude, randaugment.magnitude_std
    )
    levels = sign * tf.clip_by_value(size, 0.0, 10.0) / 10
    for layer in range(randaugment.layers):
        branches = [partial(operation, image, levels[layer]) for operation in OPERATIONS.values()]
        image = tf.switch_case(drawn[layer], branches)
    return image


def _identity(image: Any, level: Any) -> Any:
    return tf.identity(image)


def _autocontrast(image: Any, level: Any) -> Any:
    """Stretches every channel to 0..255."""
    pixels = tf.cast(image, tf.float32)
    low = tf.reduce_min(pixels, [0, 1])
    high = tf.reduce_max(pixels, [0, 1])
    stretched = (pixels - low) * tf.math.divide_no_nan(255.0, high - low)
    return tf.where(high > low, to_uint8(stretched), image)


def _equalize(image: Any, level: Any) -> Any:
    """Makes every channel's histogram flat."""
    values = tf.cast(image, tf.int32)
    by_channel = tf.reshape(values + 256 * tf.range(3), [-1])
    counts = tf.reshape(tf.math.bincount(by_channel, minlength=768, maxlength=768), [3, 256])
    brightest = tf.reduce_max(values, [0, 1])
    # As in Pillow, the brightest value's pixels do not count.
    step = (tf.reduce_sum(counts, 1) - tf.gather(counts, brightest, batch_dims=1)) // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    levels = tf.minimum((below + step[:, None] // 2) // tf.maximum(step, 1)[:, None], 255)
    table = tf.where(step[:, None] > 0, levels, tf.range(256))
    equalized = tf.gather(tf.reshape(table, [-1]), values + 256 * tf.range(3))
    return tf.cast(equalized, tf.uint8)


def _posterize(image: Any, level: Any) -> Any:
    """Keeps 4 bits a channel at the lowest level, 1 at the highest."""
    dropped = 4 + tf.minimum(tf.cast(4 * tf.abs(level), tf.int32), 3)
    dropped = tf.cast(dropped, tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def _solarize(image: Any, level: Any) -> Any:
    """Inverts what is brighter than a threshold, from none to all."""
    threshold = 256 - tf.cast(256 * tf.abs(level), tf.int32)
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def _enhance(image: Any, plain: Any, level: Any) -> Any:
    """Goes from the plain image to the one given, or beyond it."""
    factor = 1 + 0.9 * level
    pixels = tf.cast(image, tf.float32)
    return to_uint8(tf.clip_by_value(plain + factor * (pixels - plain), 0.0, 255.0))


def _grey(image: Any) -> Any:
    grey = tf.reduce_sum(tf.cast(image, tf.float32) * GREY, axis=-1, keepdims=True)
    return tf.round(grey)


def _brightness(image: Any, level: Any) -> Any:
    return _enhance(image, tf.zeros([]), level)


def _contrast(image: Any, level: Any) -> Any:
    return _enhance(image, tf.round(tf.reduce_mean(_grey(image))), level)


def _color(image: Any, level: Any) -> Any:
    return _enhance(image, _grey(image), level)


def _sharpness(image: Any, level: Any) -> Any:
    """Less or more of what a 3x3 smoothing takes away; the border stays."""
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
    kernels = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    pixels = tf.cast(image, tf.float32)
    smooth = tf.nn.depthwise_conv2d(pixels[None], kernels, [1, 1, 1, 1], "SAME")[0]
    height, width, _ = image.shape
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    border = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    return _enhance(image, tf.where(border, pixels, tf.round(smooth)), level)


def _transform(image: Any, rows: tuple[Any, Any, Any, Any, Any, Any]) -> Any:
    """Takes pixel (x, y) from (a x + b y + c, d x + e y + f); (a, b, c, d, e, f) are `rows`."""
    height, width, _ = image.shape
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([*rows, 0.0, 0.0])[None],
        output_shape=[height, width],
        fill_value=GROUND,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return to_uint8(moved[0])


def _rotate(image: Any, level: Any) -> Any:
    """By up to 30 degrees, around the centre."""
    angle = level * (30 * math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    rows = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    return _transform(image, rows)


def _shear_x(image: Any, level: Any) -> Any:
    """Shifts rows by up to 0.3 of their distance from the centre."""
    shear = 0.3 * level
    return _transform(image, (1.0, shear, -shear * (image.shape[0] - 1) / 2, 0.0, 1.0, 0.0))


def _shear_y(image: Any, level: Any) -> Any:
    """Shifts columns by up to 0.3 of their distance from the centre."""
    shear = 0.3 * level
    return _transform(image, (1.0, 0.0, 0.0, shear, 1.0, -shear * (image.shape[1] - 1) / 2))


def _translate_x(image: Any, level: Any) -> Any:
    """By up to 0.45 of the width."""
    return _transform(image, (1.0, 0.0, -0.45 * level * image.shape[1], 0.0, 1.0, 0.0))


def _translate_y(image: Any, level: Any) -> Any:
    """By up to 0.45 of the height."""
    return _transform(image, (1.0, 0.0, 0.0, 0.0, 1.0, -0.45 * level * image.shape[0]))


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
}
"""The paper's list (table 6)."""
