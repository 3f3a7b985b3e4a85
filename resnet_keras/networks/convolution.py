"""A convolution layer that is fast on TensorFlow where Keras or oneDNN is slow."""

import os
from functools import cache
from typing import TYPE_CHECKING, Literal

import keras
from keras import ops

from resnet_keras.networks import winograd
from resnet_keras.networks.backend import (
    Tensor,
    computes_on_tensorflow_cpu,
    has_xla,
    is_traced_for_xla,
)

if TYPE_CHECKING:
    import tensorflow as tf

ONEDNN_BLOCK = 16  # the most channels that oneDNN lays out side by side: with AVX-512
MANY_WEIGHTS = 2**18  # from here on matrix products are faster than convolution gradients
# From here on winograd.py is faster than a convolution, by enough to be worth its memory, and the
# seconds that XLA takes for a shape, the batch's size included.
MANY_CHANNELS = 64
MANY_MULTIPLICATIONS = 2**25  # of an image
WORTHWHILE_SAVING = 2.0
WINOGRAD_SWITCH = "RESNET_KERAS_WINOGRAD"  # an environment variable, 0 to do without


@keras.saving.register_keras_serializable(package="resnet_keras")
class Conv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D, faster on TensorFlow where Keras or oneDNN is slow.

    Gradients of a convolution with many weights are the same, but written as matrix products on a
    CPU: oneDNN's convolution kernels need up to four times as long for them where the map is small
    and its channels are many. In float32, 3x3 convolutions of many channels are trained with a
    third of the multiplications, see `winograd`; not with RESNET_KERAS_WINOGRAD=0 in the
    environment. Classes with a `convolution_op` of their own keep to that.

    Grouped convolutions go to tf.nn.conv2d, which reads the groups off the kernel's shape. Keras
    compiles them with XLA: hundreds of times slower in training on a CPU, and a call that ONNX
    cannot represent. TensorFlow has their gradients on CPUs only with oneDNN, which this package
    switches on if it is imported first, and in half precision only with AVX-512 too; else they are
    taken one group after another.

    A 1x1 convolution with a stride over few channels skips the other pixels by itself: oneDNN
    writes past its memory in the kernel's gradient
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        is_derived = type(self).convolution_op is not Conv2D.convolution_op
        if is_derived or not training or not computes_on_tensorflow_cpu():
            return super().call(inputs)
        if self._gains_by_winograd(inputs):
            outputs = winograd.convolve(inputs, self.kernel)
        elif self._gains_by_products():
            # Only a 1x1 convolution comes here with a stride.
            outputs = _convolve(subsampled(inputs, self.strides), self.kernel)
        else:
            return super().call(inputs)
        if self.use_bias:
            outputs = ops.add(outputs, ops.cast(self.bias, outputs.dtype))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        skips = self._skips_pixels_of_few_channels()
        is_stock = (self.groups == 1 and not skips) or self.data_format != "channels_last"
        if is_stock or keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        kernel = tf.convert_to_tensor(kernel)
        how = {
            "strides": self.strides,
            "padding": self.padding.upper(),
            "dilations": self.dilation_rate,
        }
        if skips:
            inputs, how["strides"] = subsampled(inputs, self.strides), (1, 1)
        if self.groups > 1 and _lacks_gradients_of_groups(inputs.dtype):
            outputs = _convolve_groups(inputs, kernel, self.groups, **how)
        else:
            outputs = tf.nn.conv2d(inputs, kernel, **how)
        # Else TensorFlow fuses what follows (a bias, a normalisation) into a kernel that without
        # oneDNN refuses groups.
        return tf.ensure_shape(outputs, outputs.shape)

    def _skips_pixels_of_few_channels(self) -> bool:
        *size, channels, _ = self.kernel.shape
        return size == [1, 1] and self.strides != (1, 1) and channels < ONEDNN_BLOCK

    def _gains_by_winograd(self, inputs: Tensor) -> bool:
        _, height, width, _ = inputs.shape
        *size, channels, filters = self.kernel.shape
        if size != [3, 3] or not self._pads_evenly():
            return False
        if {self.compute_dtype, keras.backend.standardize_dtype(inputs.dtype)} != {"float32"}:
            return False
        if height is None or width is None or min(channels, filters) < MANY_CHANNELS:
            return False
        return (
            height * width * 9 * channels * filters >= MANY_MULTIPLICATIONS
            and winograd.saving(height, width) >= WORTHWHILE_SAVING
            and not is_traced_for_xla()
            and has_xla()
            and os.environ.get(WINOGRAD_SWITCH) != "0"
        )

    def _gains_by_products(self) -> bool:
        *size, channels, filters = self.kernel.shape
        if channels * filters < MANY_WEIGHTS:
            return False
        if size == [1, 1]:
            return self._is_plain()
        # In float32 oneDNN's kernel gradient of larger windows is as fast.
        return self._pads_evenly() and self.compute_dtype != "float32"

    def _is_plain(self) -> bool:
        return (
            self.groups == 1
            and self.data_format == "channels_last"
            and self.dilation_rate == (1, 1)
        )

    def _pads_evenly(self) -> bool:
        """Whether it is plain, and as large a map comes out as goes in."""
        return (
            self._is_plain()
            and self.padding == "same"
            and self.strides == (1, 1)
            and all(side % 2 for side in self.kernel_size)
        )


def subsampled(x: Tensor, strides: tuple[int, int]) -> Tensor:
    """The pixels of a map that a 1x1 convolution with these strides reads."""
    if strides == (1, 1):
        return x
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # The same pixels, ten times as fast: slices with a stride are copied one value after
        # another on a single core, and so are their gradients.
        return tf.nn.avg_pool2d(x, 1, strides, "VALID")
    rows, columns = strides
    return x[:, ::rows, ::columns]


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution of stride 1 and padding k // 2, its gradients written as matrix products."""
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, channels, filters = kernel.shape

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            errors = tf.reshape(upstream, (-1, filters))
            if rows == columns == 1:
                of_x = tf.reshape(tf.matmul(errors, kernel[0, 0], transpose_b=True), tf.shape(x))
            else:
                of_x = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x),
                    filter=kernel,
                    out_backprop=upstream,
                    strides=[1, 1, 1, 1],
                    padding="SAME",
                )
            above, before = rows // 2, columns // 2
            padded = tf.pad(x, ((0, 0), (above, above), (before, before), (0, 0)))
            _, height, width, _ = tf.unstack(tf.shape(x))
            of_kernel = [
                tf.matmul(
                    tf.reshape(padded[:, i : i + height, j : j + width], (-1, channels)),
                    errors,
                    transpose_a=True,
                )
                for i in range(rows)
                for j in range(columns)
            ]
            return of_x, tf.reshape(tf.stack(of_kernel), kernel.shape)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


@cache
def _lacks_gradients_of_groups(dtype: "tf.DType") -> bool:
    if not computes_on_tensorflow_cpu():
        return False
    import tensorflow as tf

    with tf.init_scope(), tf.device("CPU"):
        one = tf.ones((1, 1, 1, 2), dtype)
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=one,
                filter_sizes=(1, 1, 1, 2),
                out_backprop=one,
                strides=[1, 1, 1, 1],
                padding="VALID",
            )
        except tf.errors.OpError:
            return True
    return False


def _convolve_groups(
    x: Tensor,
    kernel: Tensor,
    groups: int,
    strides: tuple[int, int],
    padding: Literal["SAME", "VALID"],
    dilations: tuple[int, int],
) -> Tensor:
    """A grouped convolution, its gradients those of one convolution for each group."""
    import tensorflow as tf

    if dilations != (1, 1):
        # Those of dilations are lacking too, but for what tf.nn.convolution makes of them; strides
        # are 1 then, or Keras would have refused.
        pairs = zip(*(tf.split(tensor, groups, axis=-1) for tensor in (x, kernel)), strict=True)
        how = {"padding": padding, "dilations": dilations}
        return tf.concat([tf.nn.convolution(*pair, **how) for pair in pairs], axis=-1)
    steps = [1, *strides, 1]

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            of_x, of_kernel = [], []
            parts = (tf.split(tensor, groups, axis=-1) for tensor in (x, kernel, upstream))
            for inputs, filters, errors in zip(*parts, strict=True):
                how = {"out_backprop": errors, "strides": steps, "padding": padding}
                of_x.append(
                    tf.raw_ops.Conv2DBackpropInput(
                        input_sizes=tf.shape(inputs), filter=filters, **how
                    )
                )
                of_kernel.append(
                    tf.raw_ops.Conv2DBackpropFilter(
                        input=inputs, filter_sizes=tf.shape(filters), **how
                    )
                )
            return tf.concat(of_x, axis=-1), tf.concat(of_kernel, axis=-1)

        return tf.nn.conv2d(x, kernel, strides, padding), gradient

    return convolve(x, kernel)
