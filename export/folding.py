"""From a trained network to the model that files are made of: convolutions, and little else.

With its moving statistics a batch normalisation is a scale and a shift of every channel, so after a
convolution it is nothing but another kernel and bias. Converters see that in some networks and not
in others (tf2onnx not where the convolution has a bias already); folded here, all formats get it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from resnet_keras.errors import InputError
from resnet_keras.networks.graph import layers_called_once
from resnet_keras.networks.layers import BatchNormalization, Conv2D, Dense, ZeroPaddedShortcut
from resnet_keras.networks.recursion import recursion_for

CONVOLUTIONS = (keras.layers.Conv2D, Conv2D)
NORMALIZATIONS = (keras.layers.BatchNormalization, BatchNormalization)
# At inference a Dropout scales by 1 and shifts by 0: Keras enlarges, in training, what it keeps.
AFFINE = (*NORMALIZATIONS, keras.layers.Rescaling, keras.layers.Dropout)
KEPT = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.AveragePooling2D,
    keras.layers.Concatenate,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.Multiply,
    keras.layers.ZeroPadding2D,
    ZeroPaddedShortcut,
)
ACCEPTED = (*CONVOLUTIONS, *AFFINE, *KEPT, keras.layers.Dense, Dense)
PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)


def inference_model(model: keras.Model) -> keras.Model:
    """A trained network as files want it: float32, folded, without what only training needs.

    Batch normalisations and scalings fold into the convolution before them, computed in float64.
    Where there is none (a pre-activation follows an addition) what stands in a row becomes one
    depthwise 1x1 convolution: one operation where a multiplication and an addition would be two,
    and under int8 one scale for each channel. What several layers become has the first one's name.

    Args:
        model: a classifier made by `build`, or of the same kinds of layers, under any dtype policy;
            it stays as it is.

    Returns:
        A model of layers of its own from "pixels" (batch, height, width, channels) float32, the
        size being the network's, to (batch, classes) float32 probabilities. Logits get a softmax;
        one sigmoid becomes the softmax of two classes, of which it is the second.

    Raises:
        InputError: the model is not functional, has several inputs or outputs or an open image
            size, has a layer that is not known here or is called twice, or does not end in a
            classifier.
    """
    layers = layers_called_once(model)
    for layer in layers:
        _check(layer)
    source = model.inputs[0]
    pixels = keras.Input(_image_shape(source), dtype="float32", name="pixels")
    gives_probabilities(layers[-1])
    values = {id(source): pixels}
    for group in _groups(layers):
        x = keras.tree.map_structure(lambda tensor: values[id(tensor)], group[0].input)
        values[id(group[-1].output)] = _replace(group, x)
    outputs = values[id(layers[-1].output)]
    if not gives_probabilities(layers[-1]):
        softmax = keras.layers.Activation("softmax", dtype="float32", name="probabilities")
        outputs = softmax(outputs)
    with recursion_for(len(layers)):
        folded = keras.Model(pixels, outputs, name=model.name)
    folded.dtype_policy = "float32"  # a model takes the global one, which may be another
    return folded


def _check(layer: keras.layers.Layer) -> None:
    if type(layer) not in ACCEPTED:
        accepted = sorted({kind.__name__ for kind in ACCEPTED})
        raise InputError(
            "an export does not know this layer",
            received=f"{layer.name!r} ({type(layer).__name__})",
            accepted=", ".join(accepted),
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise InputError(
            "a layer does not have its channels last",
            received=f"{layer.name!r} ({layer.data_format})",
            accepted="channels_last",
        )
    if type(layer) in NORMALIZATIONS and (len(layer.input.shape) != 4 or layer.axis not in (-1, 3)):
        raise InputError(
            "a batch normalisation is not over the channels of a feature map",
            received=f"{layer.name!r}, axis {layer.axis} of shape {layer.input.shape}",
            accepted="axis -1 or 3 of shape (batch, height, width, channels)",
        )
    if isinstance(layer, keras.layers.Rescaling):
        shapes = np.shape(layer.scale), np.shape(layer.offset)
        if max(map(len, shapes)) > 1:
            raise InputError(
                "a rescaling is not the same for all pixels",
                received=f"{layer.name!r}, scale and offset of shapes {shapes[0]} and {shapes[1]}",
                accepted="one number, or one for each channel",
            )


def _image_shape(source: keras.KerasTensor) -> tuple[int, int, int]:
    shape = tuple(source.shape[1:])
    if len(shape) != 3 or None in shape:
        raise InputError(
            "the model does not fix the image's size",
            received=shape,
            accepted="(height, width, channels) in pixels, as from "
            "build(architecture, (224, 224, 3)) and load_weights",
        )
    return shape


def gives_probabilities(last: keras.layers.Layer) -> bool:
    """Whether the classifier gives probabilities; if not, it gives logits."""
    activation = getattr(last, "activation", None)
    is_classifier = isinstance(last, keras.layers.Dense | keras.layers.Activation)
    if is_classifier and len(last.output.shape) == 2:
        if activation in PROBABILITIES:
            return True
        if activation is keras.activations.linear:
            return False
    raise InputError(
        "the network does not end in a classifier",
        received=f"{last.name!r} ({type(last).__name__}) of shape {last.output.shape}",
        accepted="a Dense layer of logits, softmax or sigmoid",
    )


def _groups(layers: Sequence[keras.layers.Layer]) -> Iterator[list[keras.layers.Layer]]:
    """The layers that become one: each with the affine ones after it that it can take in."""
    readers = defaultdict(list)
    for layer in layers:
        for tensor in keras.tree.flatten(layer.input):
            readers[id(tensor)].append(layer)
    grouped = set()
    for layer in layers:
        if id(layer) in grouped:
            continue
        group = [layer]
        while _is_affine(group[-1]):
            match readers[id(group[-1].output)]:
                case [reader] if type(reader) in AFFINE:
                    group.append(reader)
                    grouped.add(id(reader))
                case _:
                    break
        yield group


def _is_affine(layer: keras.layers.Layer) -> bool:
    if type(layer) in CONVOLUTIONS:
        return layer.activation is keras.activations.linear
    return type(layer) in AFFINE


def _replace(group: Sequence[keras.layers.Layer], x: keras.KerasTensor) -> keras.KerasTensor:
    first = group[0]
    if type(first) in CONVOLUTIONS:
        return _convolve(x, first, *_scale_and_shift(group[1:]))
    if type(first) in AFFINE:
        return _transform(x, group)
    if isinstance(first, keras.layers.Dense):
        return _connect(x, first)
    return type(first).from_config({**first.get_config(), "dtype": "float32"})(x)


def _scale_and_shift(layers: Sequence[keras.layers.Layer]) -> tuple[np.ndarray, np.ndarray]:
    """Of affine layers in a row: float64 arrays (channels,), or () where all channels share one."""
    scale, shift = np.ones(()), np.zeros(())
    for layer in layers:
        if isinstance(layer, keras.layers.Dropout):
            continue
        if isinstance(layer, keras.layers.Rescaling):
            factor, offset = np.asarray(layer.scale, "float64"), np.asarray(layer.offset, "float64")
        else:
            factor = 1 / np.sqrt(_float64(layer.moving_variance) + layer.epsilon)
            if layer.scale:
                factor = factor * _float64(layer.gamma)
            offset = -_float64(layer.moving_mean) * factor
            if layer.center:
                offset = offset + _float64(layer.beta)
        scale, shift = scale * factor, shift * factor + offset
    return scale, shift


def _float64(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype("float64")


def _convolve(
    x: keras.KerasTensor, layer: keras.layers.Conv2D, scale: np.ndarray, shift: np.ndarray
) -> keras.KerasTensor:
    # Stock Keras compiles grouped convolutions with XLA, which no converter takes.
    kind = Conv2D if layer.groups > 1 else keras.layers.Conv2D
    convolution = kind(
        layer.filters,
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        groups=layer.groups,
        activation=layer.activation,
        kernel_initializer="zeros",
        dtype="float32",
        name=layer.name,
    )
    bias = _float64(layer.bias) if layer.use_bias else np.zeros(layer.filters)
    return _call(convolution, x, [_float64(layer.kernel) * scale, bias * scale + shift])


def _transform(x: keras.KerasTensor, layers: Sequence[keras.layers.Layer]) -> keras.KerasTensor:
    """What affine layers in a row do where there is no convolution before them."""
    layers = [layer for layer in layers if not isinstance(layer, keras.layers.Dropout)]
    if not layers:
        return x
    name = layers[0].name
    scale, shift = _scale_and_shift(layers)
    if all(isinstance(layer, keras.layers.Rescaling) for layer in layers):
        return keras.layers.Rescaling(scale.tolist(), shift.tolist(), dtype="float32", name=name)(x)
    depthwise = keras.layers.DepthwiseConv2D(
        1, depthwise_initializer="zeros", dtype="float32", name=name
    )
    return _call(depthwise, x, [scale[None, None, :, None], shift])


def _connect(x: keras.KerasTensor, layer: keras.layers.Dense) -> keras.KerasTensor:
    weights = [_float64(weight) for weight in layer.weights]
    activation = layer.activation
    if layer.units == 1 and activation is keras.activations.sigmoid:
        # sigmoid(z) is what softmax gives to the second of the logits 0 and z.
        weights = [np.concatenate([0 * weight, weight], axis=-1) for weight in weights]
        activation = keras.activations.softmax
    dense = keras.layers.Dense(
        weights[0].shape[1],
        activation=activation,
        use_bias=layer.use_bias,
        kernel_initializer="zeros",
        dtype="float32",
        name=layer.name,
    )
    return _call(dense, x, weights)


def _call(
    layer: keras.layers.Layer, x: keras.KerasTensor, weights: Sequence[np.ndarray]
) -> keras.KerasTensor:
    outputs = layer(x)
    layer.set_weights([weight.astype("float32") for weight in weights])
    return outputs
