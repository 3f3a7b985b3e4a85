"""3x3 convolutions with a third of the multiplications, on TensorFlow's CPUs.

Winograd's minimal filtering (1980) in two dimensions, as Lavin & Gray 2016 (sections 4.1 and 4.3)
apply it to convolutions: tiles of the map and the kernel are transformed by additions and a few
constant factors, so that a tile of 4x2 outputs takes 24 products for every pair of channels where a
convolution takes 72. The products are matrices', by oneDNN; XLA makes one pass over memory of each
transformation. Its gradients are the transposed transformations of the same kind of products.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from math import ceil
from operator import add
from typing import TypeVar

import numpy as np

from resnet_keras.networks.backend import Tensor

T = TypeVar("T")

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Filtering:
    """F(m, 3): m outputs of three taps by m + 2 products [Lavin & Gray 2016, section 4].

    Outputs are of_products · (of_taps · taps * of_inputs · inputs), for m + 2 inputs.

    Attributes:
        of_inputs: B transposed, (m + 2, m + 2).
        of_taps: G, (m + 2, 3).
        of_products: A transposed, (m, m + 2).
    """

    of_inputs: Matrix
    of_taps: Matrix
    of_products: Matrix

    @property
    def outputs(self) -> int:
        return len(self.of_products)

    @property
    def products(self) -> int:
        return len(self.of_taps)


TWO = Filtering(
    of_inputs=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    of_taps=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    of_products=((1, 1, 1, 0), (0, 1, -1, -1)),
)
FOUR = Filtering(
    of_inputs=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    of_taps=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    of_products=(
        (1, 1, 1, 1, 1, 0),
        (0, 1, -1, 2, -2, 0),
        (0, 1, 1, 4, 4, 0),
        (0, 1, -1, 8, -8, 1),
    ),
)
# Four by four would take 36 products for 144, but its rounding errors are four times as large.
ROWS, COLUMNS = FOUR, TWO


def saving(height: int, width: int) -> float:
    """How many times fewer multiplications a map takes; tiles that hang over its edge count."""
    tiles = ceil(height / ROWS.outputs) * ceil(width / COLUMNS.outputs)
    return 9 * height * width / (tiles * ROWS.products * COLUMNS.products)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution of stride 1 and padding 1.

    A tile's outputs are sums in which all of its inputs take part, of which most cancel: where one
    input is much larger than its neighbours, or not finite, outputs of its tile that do not depend
    on it are off by a millionth of it, or not finite.

    Args:
        x: (batch, height, width, channels), float32; height and width are known.
        kernel: (3, 3, channels, filters), float32.

    Returns:
        (batch, height, width, filters), float32; off by some 1e-6 of the spread, as are the
        gradients. There are gradients of gradients, but none in forward mode.

    Raises:
        ValueError: the kernel is not 3x3, or x has other channels; called eagerly, it is
            TensorFlow's InvalidArgumentError.
    """
    import tensorflow as tf

    kernel = tf.ensure_shape(kernel, (3, 3, None, None))
    *_, channels, filters = kernel.shape
    _, height, width, _ = x.shape

    @tf.custom_gradient
    def convolution(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        inputs, taps = _compiled(_transformed_inputs)(x), _transformed_taps(kernel)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            # What comes after a convolution may have forgotten the shape.
            upstream = tf.ensure_shape(upstream, (None, height, width, filters))
            errors = _compiled(_product_gradients)(upstream)
            of_inputs = [
                tf.matmul(*pair, transpose_b=True) for pair in zip(errors, taps, strict=True)
            ]
            of_taps = [
                tf.matmul(*pair, transpose_a=True) for pair in zip(inputs, errors, strict=True)
            ]
            return _compiled(_input_gradients, height, width)(of_inputs), _tap_gradients(of_taps)

        products = [tf.matmul(*pair) for pair in zip(inputs, taps, strict=True)]
        return _compiled(_outputs, height, width)(products), gradient

    return convolution(tf.ensure_shape(x, (None, height, width, channels)), kernel)


@cache
def _compiled(transformation: Callable[..., T], *sizes: int) -> Callable[..., T]:
    """One for all layers: XLA compiles it once for every shape, the batch among it."""
    import tensorflow as tf

    return tf.function(partial(transformation, *sizes), jit_compile=True, autograph=False)


def _transformed_inputs(x: Tensor) -> list[Tensor]:
    """Of a map, a (tiles, channels) for every product."""
    return [
        _flat(entry)
        for row in _combined(ROWS.of_inputs, _windows(x, 1, ROWS.outputs))
        for entry in _combined(COLUMNS.of_inputs, _windows(row, 2, COLUMNS.outputs))
    ]


def _input_gradients(height: int, width: int, errors: Sequence[Tensor]) -> Tensor:
    """The transposed of `_transformed_inputs`."""
    of_columns, of_rows = _transposed(COLUMNS.of_inputs), _transposed(ROWS.of_inputs)
    rows = [
        _windows_added(_combined(of_columns, row), 2, COLUMNS.outputs, width)
        for row in _in_rows(errors, height, width)
    ]
    return _windows_added(_combined(of_rows, rows), 1, ROWS.outputs, height)


def _transformed_taps(kernel: Tensor) -> list[Tensor]:
    """Of a kernel, a (channels, filters) for every product."""
    import tensorflow as tf

    *_, channels, filters = kernel.shape
    taps = tf.matmul(_taps_to_products(), tf.reshape(kernel, (9, -1)))
    return tf.unstack(tf.reshape(taps, (-1, channels, filters)))


def _tap_gradients(errors: Sequence[Tensor]) -> Tensor:
    """The transposed of `_transformed_taps`."""
    import tensorflow as tf

    channels, filters = errors[0].shape
    flat = tf.reshape(tf.stack(errors), (len(errors), -1))
    taps = tf.matmul(_taps_to_products(), flat, transpose_a=True)
    return tf.reshape(taps, (3, 3, channels, filters))


def _taps_to_products() -> np.ndarray:
    return np.kron(ROWS.of_taps, COLUMNS.of_taps).astype("float32")


def _outputs(height: int, width: int, products: Sequence[Tensor]) -> Tensor:
    """The map of all products, (tiles, filters) each."""
    rows = [
        _joined(_combined(COLUMNS.of_products, row), 2, width)
        for row in _in_rows(products, height, width)
    ]
    return _joined(_combined(ROWS.of_products, rows), 1, height)


def _product_gradients(errors: Tensor) -> list[Tensor]:
    """The transposed of `_outputs`."""
    of_columns, of_rows = _transposed(COLUMNS.of_products), _transposed(ROWS.of_products)
    return [
        _flat(entry)
        for row in _combined(of_rows, _dealt(errors, 1, ROWS.outputs))
        for entry in _combined(of_columns, _dealt(row, 2, COLUMNS.outputs))
    ]


def _combined(matrix: Matrix, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Linear combinations of tensors, one for every row."""
    return [
        reduce(
            add,
            (
                tensor if factor == 1 else factor * tensor
                for factor, tensor in zip(row, tensors, strict=True)
                if factor
            ),
        )
        for row in matrix
    ]


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _windows(x: Tensor, axis: int, stride: int) -> list[Tensor]:
    """The entries of windows of stride + 2, the first of which begins in a padding of 1."""
    tiles = ceil(x.shape[axis] / stride)
    dealt = _dealt(x, axis, stride, before=1)
    ahead = [_cut(entry, axis, 1, tiles) for entry in dealt[:2]]
    return [*(_cut(entry, axis, 0, tiles) for entry in dealt), *ahead]


def _windows_added(entries: Sequence[Tensor], axis: int, stride: int, size: int) -> Tensor:
    """The transposed of `_windows`: where they overlap, their sum."""
    dealt = [_padded(entry, axis, 0, 1) for entry in entries[:stride]]
    for index, entry in enumerate(entries[stride:]):
        dealt[index] += _padded(entry, axis, 1, 0)
    return _joined(dealt, axis, size, before=1)


def _dealt(x: Tensor, axis: int, count: int, before: int = 0) -> list[Tensor]:
    """Every count-th slice along an axis, from each of the first; zeros fill it up."""
    import tensorflow as tf

    size = x.shape[axis]
    tiles = ceil(size / count) + before
    padded = _padded(x, axis, before, tiles * count - size - before)
    shape = [-1, *x.shape[1:]]
    shape[axis : axis + 1] = [tiles, count]
    return tf.unstack(tf.reshape(padded, shape), axis=axis + 1)


def _joined(parts: Sequence[Tensor], axis: int, size: int, before: int = 0) -> Tensor:
    """The transposed, and the inverse, of `_dealt`."""
    import tensorflow as tf

    shape = [-1, *parts[0].shape[1:]]
    shape[axis] *= len(parts)
    return _cut(tf.reshape(tf.stack(parts, axis + 1), shape), axis, before, size)


def _padded(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    import tensorflow as tf

    return tf.pad(x, [(before, after) if each == axis else (0, 0) for each in range(4)])


def _cut(x: Tensor, axis: int, begin: int, size: int) -> Tensor:
    where = [slice(None)] * 4
    where[axis] = slice(begin, begin + size)
    return x[tuple(where)]


def _flat(x: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.reshape(x, (-1, x.shape[-1]))


def _in_rows(entries: Sequence[Tensor], height: int, width: int) -> list[list[Tensor]]:
    """Maps of tiles, the inverse of `_flat`, those of one row of products together."""
    import tensorflow as tf

    tiles = (ceil(height / ROWS.outputs), ceil(width / COLUMNS.outputs))
    return _parted([tf.reshape(entry, (-1, *tiles, entry.shape[-1])) for entry in entries])


def _parted(entries: Sequence[Tensor]) -> list[list[Tensor]]:
    count = COLUMNS.products
    return [list(entries[start : start + count]) for start in range(0, len(entries), count)]
