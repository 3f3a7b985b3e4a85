"""Keras layers that the family needs and stock Keras lacks or does slowly."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import keras
from keras import ops

from resnet_keras.architectures import Convolution, LayerDefaults
from resnet_keras.errors import InputError
from resnet_keras.networks import winograd

FUSED_DTYPES = ("float32", "bfloat16", "float16")
ONEDNN_BLOCK = 16  # the most channels that oneDNN lays out side by side: with AVX-512
MANY_WEIGHTS = 2**18  # from here on matrix products are faster than convolution gradients
# From here on winograd.py is faster than a convolution, by enough to be worth its memory, and the
# seconds that XLA takes for a shape, the batch's size included.
MANY_CHANNELS = 64
MANY_MULTIPLICATIONS = 2**25  # of an image
WORTHWHILE_SAVING = 2.0
WINOGRAD_SWITCH = "RESNET_KERAS_WINOGRAD"  # an environment variable, 0 to do without


@keras.saving.register_keras_serializable(package="resnet_keras")
class BatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization (Ioffe & Szegedy 2015) on TensorFlow's fused kernel.

    The arguments, the weights and the mathematics are Keras's: outputs, gradients and moving
    statistics agree to 1e-5 in float32. Stock Keras computes moments and normalisation in
    separate float32 operations; the fused kernel takes half precision as it is and costs about half
    as much. Where that kernel does not apply (another backend, an axis other than the last of four,
    a mask, renorm, training with synchronized=True, float64) or does worse (XLA) the stock
    implementation runs.

    As in Keras, `trainable=False` means inference: the moving statistics are used and kept.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        by_batch = bool(training and self.trainable)
        if not self._is_fusible(inputs, mask, by_batch):
            return super().call(inputs, training=training, mask=mask)
        if by_batch:
            return self._normalize_by_batch(inputs)
        return self._fused(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]

    def _is_fusible(self, inputs: Any, mask: Any, by_batch: bool) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and mask is None
            and not self.renorm
            # The kernel knows one replica's images; moving statistics are the same for all.
            and not (self.synchronized and by_batch)
            and self.compute_dtype in FUSED_DTYPES
            and keras.backend.standardize_dtype(inputs.dtype) == self.compute_dtype
            and not _is_traced_for_xla()
        )

    def _normalize_by_batch(self, inputs: Any) -> Any:
        outputs, mean, variance = self._fused(inputs, (), (), is_training=True)
        # The kernel gives the unbiased variance (n - 1 in the denominator), Keras keeps the biased
        # one: without this correction checkpoints would drift from those of stock Keras.
        batch, height, width, _ = ops.shape(inputs)
        # Of a single pixel cuDNN makes 0 / 0, a NaN that would stay in the moving variance.
        n = ops.cast(batch * height * width, variance.dtype)
        variance = ops.where(n > 1.0, variance * ((n - 1.0) / n), 0.0)
        for statistic, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            # The sum is made in float32 even where the policy keeps half-precision weights.
            kept = ops.cast(statistic, value.dtype)
            statistic.assign(kept * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def _fused(
        self, inputs: Any, mean: Any, variance: Any, is_training: bool
    ) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        # From the weights' shape: the input's channels may be unknown under tf.function.
        gamma = self.gamma if self.scale else ops.ones_like(self.moving_mean)
        beta = self.beta if self.center else ops.zeros_like(self.moving_mean)
        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(gamma, "float32"),
            offset=ops.convert_to_tensor(beta, "float32"),
            mean=ops.convert_to_tensor(mean, "float32"),
            variance=ops.convert_to_tensor(variance, "float32"),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            data_format="NHWC",
            is_training=is_training,
        )
        return result.y, result.batch_mean, result.batch_variance


def _is_traced_for_xla() -> bool:
    """Whether TensorFlow is tracing a function with jit_compile=True.

    XLA lowers the fused operation to E[x^2] - E[x]^2, which cancels in float32 (the outputs of
    channels with a mean of ten deviations are off by 3e-4), and gains no time by it.
    """
    import tensorflow as tf

    return tf.__internal__.get_enclosing_xla_context() is not None


def _has_xla() -> bool:
    import tensorflow as tf

    return tf.test.is_built_with_xla()


@keras.saving.register_keras_serializable(package="resnet_keras")
class Dense(keras.layers.Dense):
    """keras.layers.Dense that knows what its outputs are, and of which part of an image.

    Args:
        class_names: one for every unit, in their order; None if they are not known.
        centre: sides of the centre piece that the network is shown, see `view.View`; None if it is
            not known.

    Raises:
        InputError: there are more or fewer names than units.
    """

    def __init__(
        self,
        units: int,
        *args: Any,
        class_names: Sequence[str] | None = None,
        centre: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, **kwargs)
        if class_names is not None and len(class_names) != units:
            raise InputError(
                "a classifier needs a name for every class",
                received=f"{len(class_names)} names",
                accepted=f"{units} names",
            )
        self.class_names = None if class_names is None else tuple(class_names)
        self.centre = centre

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_names": self.class_names,
            "centre": self.centre,
        }


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

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        is_derived = type(self).convolution_op is not Conv2D.convolution_op
        if is_derived or not training or not _computes_on_tensorflow_cpu():
            return super().call(inputs)
        if self._gains_by_winograd(inputs):
            outputs = winograd.convolve(inputs, self.kernel)
        elif self._gains_by_products():
            # Only a 1x1 convolution comes here with a stride.
            outputs = _convolve(_subsampled(inputs, self.strides), self.kernel)
        else:
            return super().call(inputs)
        if self.use_bias:
            outputs = ops.add(outputs, ops.cast(self.bias, outputs.dtype))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
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
            inputs, how["strides"] = _subsampled(inputs, self.strides), (1, 1)
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

    def _gains_by_winograd(self, inputs: Any) -> bool:
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
            and not _is_traced_for_xla()
            and _has_xla()
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


def _subsampled(x: Any, strides: tuple[int, int]) -> Any:
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


def _computes_on_tensorflow_cpu() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")


def _convolve(x: Any, kernel: Any) -> Any:
    """A convolution of stride 1 and padding k // 2, its gradients written as matrix products."""
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(x: Any, kernel: Any) -> tuple[Any, Any]:
        rows, columns, channels, filters = kernel.shape

        def gradient(upstream: Any) -> tuple[Any, Any]:
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
def _lacks_gradients_of_groups(dtype: Any) -> bool:
    if not _computes_on_tensorflow_cpu():
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
    x: Any,
    kernel: Any,
    groups: int,
    strides: tuple[int, int],
    padding: Any,
    dilations: tuple[int, int],
) -> Any:
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
    def convolve(x: Any, kernel: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
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


@keras.saving.register_keras_serializable(package="resnet_keras")
class ZeroPaddedShortcut(keras.layers.Layer):
    """The parameter-free shortcut where dimensions grow: every stride-th pixel, zeros appended.

    Option A of He et al. 2016, section 3.3: (batch, h, w, c) becomes
    (batch, ceil(h / stride), ceil(w / stride), filters).

    Raises:
        ValueError: `filters` is smaller than the input's channels.
    """

    def __init__(self, filters: int, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] is None or input_shape[-1] > self.filters:
            raise ValueError(
                "a zero-padded shortcut can only add channels. "
                f"Received: {input_shape[-1]} channels to become {self.filters}"
            )

    def call(self, inputs: Any) -> Any:
        kept = _subsampled(inputs, (self.stride, self.stride))
        missing = self.filters - inputs.shape[-1]
        return ops.pad(kept, ((0, 0), (0, 0), (0, 0), (0, missing)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}


def check_data_format() -> None:
    """Refuses Keras's setting for channels before pixels: the networks here have them last.

    Loaded networks, too: Keras's Rescaling heeds the setting whenever it is called.

    Raises:
        InputError: `keras.config.image_data_format()` is "channels_first".
    """
    data_format = keras.config.image_data_format()
    if data_format != "channels_last":
        raise InputError(
            "the networks here take images with the channels last",
            received=f"keras.config.image_data_format() is {data_format!r}",
            accepted="keras.config.set_image_data_format('channels_last'), the default",
        )


def convolution(x: Any, values: Convolution, name: str, defaults: LayerDefaults) -> Any:
    """A convolution layer that pads kernel_size // 2 on every side, times its dilation.

    An even kernel's padding before the map is one less. With a stride, Keras's "same" would depend
    on the image's size, and it would centre an even kernel that is dilated; so there the padding is
    a layer of its own.

    Args:
        x: a map (batch, h, w, channels); the channels count, and not `values.in_filters`.
        values: sizes of the convolution.
        name: of the layer.
        defaults: what the network's convolutions have in common.

    Raises:
        InputError: see `check_data_format`.
    """
    check_data_format()
    kernel_size = values.kernel_size
    # Keras would refuse a 1x1 kernel's dilation beside a stride, and take a detour without.
    dilation = values.dilation if kernel_size > 1 else 1
    padding = "same"
    if values.stride > 1 or (dilation > 1 and kernel_size % 2 == 0):
        padding = "valid"
        if kernel_size > 1:
            sides = (dilation * ((kernel_size - 1) // 2), dilation * (kernel_size // 2))
            x = keras.layers.ZeroPadding2D((sides, sides), name=f"{name}_pad")(x)
    return Conv2D(
        values.filters,
        kernel_size,
        strides=values.stride,
        padding=padding,
        groups=values.groups,
        dilation_rate=dilation,
        use_bias=defaults.use_bias,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def normalization(x: Any, name: str, defaults: LayerDefaults, **options: Any) -> Any:
    """The network's batch normalisation, if it has any.

    Args:
        **options: further ones of BatchNormalization.
    """
    if not defaults.normalized:
        return x
    return BatchNormalization(
        epsilon=defaults.bn_epsilon,
        momentum=defaults.bn_momentum,
        synchronized=defaults.bn_synchronized,
        name=name,
        **options,
    )(x)
