"""Keras layers that the family needs and stock Keras lacks or does slowly."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from resnet_keras.architectures import Convolution, LayerDefaults
from resnet_keras.errors import InputError
from resnet_keras.networks.backend import Tensor, is_traced_for_xla
from resnet_keras.networks.convolution import Conv2D, subsampled

FUSED_DTYPES = ("float32", "bfloat16", "float16")


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

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        by_batch = bool(training and self.trainable)
        if not self._is_fusible(inputs, mask, by_batch):
            return super().call(inputs, training=training, mask=mask)
        if by_batch:
            return self._normalize_by_batch(inputs)
        return self._fused(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]

    def _is_fusible(self, inputs: Tensor, mask: Tensor | None, by_batch: bool) -> bool:
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
            and not is_traced_for_xla()
        )

    def _normalize_by_batch(self, inputs: Tensor) -> Tensor:
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
        self, inputs: Tensor, mean: Tensor, variance: Tensor, is_training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
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

    def call(self, inputs: Tensor) -> Tensor:
        kept = subsampled(inputs, (self.stride, self.stride))
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


def convolution(
    x: keras.KerasTensor, values: Convolution, name: str, defaults: LayerDefaults, **options: Any
) -> keras.KerasTensor:
    """A convolution layer that pads kernel_size // 2 on every side, times its dilation.

    An even kernel's padding before the map is one less. With a stride, Keras's "same" would depend
    on the image's size, and it would centre an even kernel that is dilated; so there the padding is
    a layer of its own.

    Args:
        x: a map (batch, h, w, channels); the channels count, and not `values.in_filters`.
        values: sizes of the convolution.
        name: of the layer.
        defaults: what the network's convolutions have in common.
        **options: further ones of Keras's Conv2D.

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
        **options,
    )(x)


def normalization(
    x: keras.KerasTensor, name: str, defaults: LayerDefaults, gamma_initializer: str = "ones"
) -> keras.KerasTensor:
    """The network's batch normalisation, if it has any.

    Args:
        x: a map (batch, h, w, channels).
        name: of the layer.
        defaults: what the network's normalisations have in common.
        gamma_initializer: "zeros" for the last gamma of a branch that starts as nothing.
    """
    if not defaults.normalized:
        return x
    return BatchNormalization(
        epsilon=defaults.bn_epsilon,
        momentum=defaults.bn_momentum,
        synchronized=defaults.bn_synchronized,
        name=name,
        gamma_initializer=gamma_initializer,
    )(x)
