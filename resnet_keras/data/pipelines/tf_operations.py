"""Augmentation on TensorFlow, every operation a stateless function of its seed.

Keras's layers draw from a state of their own, and inside a parallel map from whichever image comes
first. Here a seed is (2,) integers, and what is drawn from it is drawn from nothing else.

A crop is a window, (4,) int32: top, left, height and width in pixels of the whole image. It is
drawn from the image's size alone, so that a JPEG need not be decoded beyond it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras.data.augmentation import (
    PCA_EIGENVALUES,
    PCA_EIGENVECTORS,
    Crop,
    RandomErasing,
    RandomResizedCrop,
    ScaleJitterCrop,
)
from resnet_keras.data.epochs import WHOLE, Share
from resnet_keras.view import View, tf_view


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that a process makes, of which it keeps its share.

    Random numbers are drawn for the whole batch, so that a row is the same in every process. A row
    that is mixed with its partner, the row as far from the end as this one is from the start, needs
    the partner made, too: a share has the partners after its own rows.

    Attributes:
        batch: how many rows all processes keep together.
        share: which of them this process keeps.
        mixes: whether partners are needed.
    """

    batch: int
    share: Share = WHOLE
    mixes: bool = False

    @property
    def made(self) -> np.ndarray:
        """The numbers of the rows that are made, (n,) int64."""
        own = np.arange(self.batch, dtype=np.int64)[self.share.rows(self.batch)]
        has_partners = self.mixes and self.share.count > 1
        return np.concatenate([own, self.batch - 1 - own]) if has_partners else own

    def of_made(self, drawn: Any, axis: int = 0) -> Any:
        """What was drawn for the batch, of the rows that are made."""
        return drawn if self.share.count == 1 else tf.gather(drawn, self.made, axis=axis)

    def of_own(self, drawn: Any, axis: int = 0) -> Any:
        """The same, of the rows that are kept."""
        if self.share.count == 1:
            return drawn
        own = self.made[: self.batch // self.share.count]
        return tf.gather(drawn, own, axis=axis)

    def pairs(self, made: Any) -> tuple[Any, Any]:
        """The rows that are kept, and their partners."""
        if self.share.count == 1:
            return made, tf.reverse(made, [0])
        own, partners = tf.split(made, 2)
        return own, partners


def window(shape: Any, seed: Any, crop: Crop | None, image_size: int) -> Any:
    """Draws the part of an image that is shown.

    Args:
        shape: of the image, (2,) or (3,) int32: height, width and perhaps channels.
        seed: (2,) integers.
        crop: what is not a window, as `PadAndCrop` is not, takes the centre square.
        image_size: side in pixels that the window is resized to.
    """
    if isinstance(crop, ScaleJitterCrop):
        return _scale_jitter_window(shape, seed, crop, image_size)
    if isinstance(crop, RandomResizedCrop):
        return _resized_window(shape, seed, crop)
    return tf_view.window(shape, View(image_size, image_size))


def _scale_jitter_window(shape: Any, seed: Any, crop: ScaleJitterCrop, image_size: int) -> Any:
    """The window that becomes the crop when the shorter side becomes the drawn length."""
    drawn = tf.random.stateless_uniform([3], seed)
    lengths = crop.longest - crop.shortest + 1
    length = crop.shortest + tf.floor(drawn[0] * lengths)
    sides = shape[:2]
    shorter = tf.cast(tf.reduce_min(sides), tf.float32)
    side = tf.maximum(tf.cast(tf.round(shorter * image_size / length), tf.int32), 1)
    corner = _floor(drawn[1:], sides - side + 1)
    return tf.stack([corner[0], corner[1], side, side])


def _floor(uniform: Any, count: Any) -> Any:
    """Integers from 0 to count - 1, of numbers in [0, 1)."""
    # The product of floats may round up to count.
    return tf.minimum(tf.cast(uniform * tf.cast(count, tf.float32), tf.int32), count - 1)


def _resized_window(shape: Any, seed: Any, crop: RandomResizedCrop) -> Any:
    narrowest, widest = crop.aspect_ratio
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape[:2], [3]], 0),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=crop.aspect_ratio,
        area_range=crop.area,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    # Where none of the attempts fits, as in a very wide image, all of it comes back; the part in
    # the middle that has an allowed aspect ratio is taken then.
    height, width = size[0], size[1]
    float_height, float_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    fitting_height = tf.minimum(height, tf.cast(tf.math.ceil(float_width / narrowest), tf.int32))
    fitting_width = tf.minimum(width, tf.cast(tf.math.ceil(float_height * widest), tf.int32))
    top = begin[0] + (height - fitting_height) // 2
    left = begin[1] + (width - fitting_width) // 2
    return tf.stack([top, left, fitting_height, fitting_width])


def cut(image: Any, part: Any) -> Any:
    """The window of an image, (height, width, 3)."""
    return tf.slice(image, [part[0], part[1], 0], [part[2], part[3], 3])


def decode_jpeg_window(content: Any, part: Any, image_size: int | None = None) -> Any:
    """Decodes a window of a JPEG, and not much else of it.

    Args:
        content: the file, a scalar string.
        part: the window.
        image_size: side that the window is to be resized to, where speed counts more than the last
            bit. The transform is then TensorFlow's faster one, and a window of twice as much and
            more is decoded at a half, a quarter or an eighth of its size, which the transform gives
            for less than the whole. None decodes as Pillow does.

    Returns:
        (height, width, 3) uint8.
    """

    def at(ratio: int, method: str = "INTEGER_FAST") -> Any:
        return tf.image.decode_and_crop_jpeg(
            content, part // ratio, channels=3, ratio=ratio, dct_method=method
        )

    if image_size is None:
        return at(1, "INTEGER_ACCURATE")
    limits = [2 * image_size, 4 * image_size, 8 * image_size]
    halvings = tf.reduce_sum(tf.cast(tf.minimum(part[2], part[3]) >= limits, tf.int32))
    return tf.switch_case(halvings, [lambda: at(1), lambda: at(2), lambda: at(4), lambda: at(8)])


def resize(image: Any, image_size: int) -> Any:
    """Resizes an image, (height, width, 3) uint8, to a square by bilinear interpolation.

    Antialiasing takes its time, and is done only where pixels would be left out without it: from a
    half on.

    Returns:
        (image_size, image_size, 3) uint8.
    """
    sizes = [image_size, image_size]
    shape = tf.shape(image)
    resized = tf.cond(
        tf.maximum(shape[0], shape[1]) >= 2 * image_size,
        lambda: tf.image.resize(image, sizes, antialias=True),
        lambda: tf.image.resize(image, sizes),
    )
    return tf.ensure_shape(to_uint8(resized), [image_size, image_size, 3])


def to_uint8(images: Any) -> Any:
    """Rounds pixels 0..255 to uint8."""
    return tf.cast(images + 0.5, tf.uint8)


def pad_and_crop(images: Any, seed: Any, pad: int, rows: Rows | None = None) -> Any:
    """Shifts every image by up to `pad` pixels either way, on a black ground.

    Args:
        images: (rows made, height, width, 3).
        rows: of the batch; None for all.
    """
    count, height, width, _ = images.shape
    rows = rows or Rows(count)
    shape = [rows.batch, 2, 1]
    corners = tf.random.stateless_uniform(shape, seed, maxval=2 * pad + 1, dtype=tf.int32)
    corners = rows.of_made(corners)
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    shifted = tf.gather(padded, corners[:, 0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(shifted, corners[:, 1] + tf.range(width), axis=2, batch_dims=1)


def flip(images: Any, seed: Any, rows: Rows | None = None) -> Any:
    """Mirrors every image left to right with probability 1/2; arguments as of `pad_and_crop`."""
    rows = rows or Rows(images.shape[0])
    mirrored = rows.of_made(tf.random.stateless_uniform([rows.batch], seed) < 0.5)
    # tf.where, which broadcasts, and a slice with a step of -1 take ten times as long.
    return tf.raw_ops.Select(condition=mirrored, x=tf.reverse(images, [2]), y=images)


def flip_one(image: Any, seed: Any) -> Any:
    """Mirrors an image, (height, width, 3), left to right with probability 1/2."""
    mirrored = tf.random.stateless_uniform([], seed) < 0.5
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def pca_color(images: Any, seed: Any, std: float, rows: Rows | None = None) -> Any:
    """Adds to every image sums of ImageNet's principal colours, see `augmentation.PCAColor`.

    Args:
        images: (rows made, height, width, 3), pixels 0..255.
        std: of the share of each colour, whose size is its eigenvalue.
        rows: of the batch; None for all.

    Returns:
        The same shape, float32, pixels 0..255.
    """
    rows = rows or Rows(images.shape[0])
    shares = rows.of_made(tf.random.stateless_normal([rows.batch, 3], seed, stddev=std))
    scaled = shares * [255 * value for value in PCA_EIGENVALUES]
    shift = tf.matmul(scaled, tf.constant(PCA_EIGENVECTORS), transpose_b=True)
    return tf.clip_by_value(tf.cast(images, tf.float32) + shift[:, None, None, :], 0.0, 255.0)


def erase(images: Any, seed: Any, erasing: RandomErasing, rows: Rows | None = None) -> Any:
    """Fills a rectangle of some images with noise, each value anywhere in 0..255.

    The noise is drawn once for the batch; no two rectangles are likely to show the same of it.

    Args:
        images: (rows made, height, width, 3).
        rows: of the batch; None for all.
    """
    count, height, width, _ = images.shape
    rows = rows or Rows(count)
    batch = rows.batch
    seeds = tf.random.split(seed, 5)
    least, most = erasing.area
    area = height * width * tf.random.stateless_uniform([batch], seeds[0], least, most)
    flattest, tallest = map(math.log, erasing.aspect_ratio)
    ratio = tf.exp(tf.random.stateless_uniform([batch], seeds[1], flattest, tallest))
    heights = _at_least_one(tf.minimum(tf.sqrt(area * ratio), height))
    widths = _at_least_one(tf.minimum(tf.sqrt(area / ratio), width))
    places = tf.random.stateless_uniform([2, batch], seeds[2])
    tops = _floor(places[0], height - heights + 1)
    lefts = _floor(places[1], width - widths + 1)
    happens = tf.random.stateless_uniform([batch], seeds[3]) < erasing.probability
    heights = tf.where(happens, heights, 0)
    tops, lefts, heights, widths = map(rows.of_made, (tops, lefts, heights, widths))
    noise = tf.random.stateless_uniform([height, width, 3], seeds[4], maxval=256, dtype=tf.int32)
    inside = _inside(tops, lefts, heights, widths, height, width)
    return tf.where(inside, tf.cast(noise, images.dtype), images)


def _at_least_one(lengths: Any) -> Any:
    return tf.maximum(tf.cast(tf.round(lengths), tf.int32), 1)


def _inside(tops: Any, lefts: Any, heights: Any, widths: Any, height: int, width: int) -> Any:
    """Which pixels lie in a rectangle an image: (batch, height, width, 1) bool."""
    rows, columns = tf.range(height), tf.range(width)
    in_rows = (rows >= tops[:, None]) & (rows < (tops + heights)[:, None])
    in_columns = (columns >= lefts[:, None]) & (columns < (lefts + widths)[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]


def smooth_labels(labels: Any, classes: int, smoothing: float) -> Any:
    """Probabilities, (batch, classes) float32, of class numbers, (batch,).

    Args:
        smoothing: the share of the label that is spread over all classes alike.
    """
    return tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def mixup(
    images: Any, labels: Any, seed: Any, alpha: float, rows: Rows | None = None
) -> tuple[Any, Any]:
    """Blends every image with its partner, and its label alike.

    The partner is the batch's image as far from the end as this one is from the start: the order of
    a batch is random already.

    Args:
        images: (rows made, height, width, 3).
        labels: probabilities, (rows made, classes) float32.
        alpha: the image's share comes from Beta(alpha, alpha), for each anew.
        rows: of the batch; None for all.

    Returns:
        Images, float32, and labels, of the rows that are kept.
    """
    rows = rows or Rows(images.shape[0], mixes=True)
    share = rows.of_own(_beta(rows.batch, seed, alpha))
    weight = share[:, None, None, None]
    own, partners = rows.pairs(tf.cast(images, tf.float32))
    return weight * own + (1 - weight) * partners, _blend(*rows.pairs(labels), share)


def cutmix(
    images: Any, labels: Any, seed: Any, alpha: float, rows: Rows | None = None
) -> tuple[Any, Any]:
    """Puts a rectangle of its partner into every image; the label gets a share by area.

    The rectangle has the image's proportions, and its centre may be anywhere, so that the border
    cuts off some of it. The partner is as in `mixup`.

    Args:
        images: (rows made, height, width, 3).
        labels: probabilities, (rows made, classes) float32.
        alpha: the image's share comes from Beta(alpha, alpha) before the border cuts.
        rows: of the batch; None for all.

    Returns:
        Images and labels of the same types, of the rows that are kept.
    """
    count, height, width, _ = images.shape
    rows = rows or Rows(count, mixes=True)
    share_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    side = rows.of_own(tf.sqrt(1 - _beta(rows.batch, share_seed, alpha)))
    places = rows.of_own(tf.random.stateless_uniform([2, rows.batch], place_seed), axis=1)
    tops, bottoms = _span(places[0], side, height)
    lefts, rights = _span(places[1], side, width)
    inside = _inside(tops, lefts, bottoms - tops, rights - lefts, height, width)
    cut_out = (bottoms - tops) * (rights - lefts)
    share = 1 - tf.cast(cut_out, tf.float32) / (height * width)
    own, partners = rows.pairs(images)
    return tf.where(inside, partners, own), _blend(*rows.pairs(labels), share)


def _span(place: Any, side: Any, length: int) -> tuple[Any, Any]:
    """Where a piece of `side` * length pixels begins and ends, around a centre in [0, 1)."""
    centre = tf.floor(place * length)
    half = tf.floor(side * length / 2)
    return (
        tf.cast(tf.maximum(centre - half, 0), tf.int32),
        tf.cast(tf.minimum(centre + half, length), tf.int32),
    )


def _beta(count: int, seed: Any, alpha: float) -> Any:
    """Numbers from Beta(alpha, alpha), (count,) float32."""
    # The ratio of gamma variates, by their logarithms: of small alphas both are often too small for
    # a float. Gamma(alpha) is Gamma(alpha + 1) times U^(1 / alpha).
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed, 2))
    gamma = tf.random.stateless_gamma([2, count], gamma_seed, tf.constant(alpha + 1.0))
    uniform = 1 - tf.random.stateless_uniform([2, count], uniform_seed)
    one, other = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) / alpha)
    return tf.sigmoid(one - other)


def _blend(labels: Any, partners: Any, share: Any) -> Any:
    return share[:, None] * labels + (1 - share[:, None]) * partners
