"""A look inside a network."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import ops

from resnet_keras.architectures.layer_names import is_convolution, part_of
from resnet_keras.networks.backend import Tensor
from resnet_keras.networks.recursion import recursion_for

COUNTED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def gradient_norms(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The gradients' length, layer by layer, on one batch in training mode; nothing changes.

    Args:
        model: a compiled network of this package.
        images: (batch, height, width, 3), pixels 0..255.
        labels: as the model's loss takes them.

    Returns:
        Euclidean norms by the name of the layer whose weights they are of, from the stem on.
    """
    squares: dict[str, float] = defaultdict(float)
    weights = model.trainable_variables
    for weight, gradient in zip(weights, _of_weights(model, images, labels), strict=True):
        squares[weight.path.split("/")[-2]] += float(ops.sum(ops.square(gradient)))
    return {layer: float(np.sqrt(square)) for layer, square in squares.items()}


def by_stage(norms: Mapping[str, float]) -> dict[str, float]:
    """Norms of layers, together for each part of the network.

    Returns:
        Euclidean norms of "head", "stage2" and so on, "stem".
    """
    squares: dict[str, float] = defaultdict(float)
    for layer, norm in norms.items():
        squares[part_of(layer)] += norm**2
    return {part: float(np.sqrt(square)) for part, square in sorted(squares.items())}


def responses(model: keras.Model, images: np.ndarray, batch_size: int = 64) -> dict[str, float]:
    """The strength of every layer's response (He et al. 2016, section 4.2, figure 7).

    It is the standard deviation of what a unit's convolution gives, after batch normalisation where
    that follows it, before the nonlinearity and the addition. Projections are left out.

    Args:
        model: a built or loaded network of this package.
        images: (n, height, width, 3), pixels 0..255.
        batch_size: images at a time; only sums are kept of them.

    Returns:
        Standard deviations by convolution, such as "res2a_branch2a", from the stem on.
    """
    layers = {layer.name: layer for layer in model.layers}
    names = [name for name in layers if is_convolution(name)]
    outputs = {}
    for name in names:
        normalized = layers.get("bn_conv1" if name == "conv1" else f"bn{name.removeprefix('res')}")
        follows = normalized is not None and normalized.input is layers[name].output
        outputs[name] = normalized.output if normalized and follows else layers[name].output
    with recursion_for(len(model.layers)):
        inside = keras.Model(model.input, outputs)
    count = dict.fromkeys(names, 0)
    sums, squares = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for start in range(0, len(images), batch_size):
        for name, found in inside(images[start : start + batch_size], training=False).items():
            values = ops.convert_to_numpy(found).astype("float64")
            count[name] += values.size
            sums[name] += float(values.sum())
            squares[name] += float(np.square(values).sum())
    return {
        name: float(np.sqrt(max(squares[name] / count[name] - (sums[name] / count[name]) ** 2, 0)))
        for name in names
    }


def multiply_adds(model: keras.Model) -> int:
    """Counts the multiply-adds (the papers' "FLOPs") of one image's forward pass, layer by layer.

    Convolutions and dense layers are counted, as in He et al. 2016, table 1. Of this package's
    networks `Architecture.multiply_adds` tells the same without building them.

    Args:
        model: of any family, made of Keras's layers, with an input of fixed size; channels last.
    """
    return sum(
        int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
        for layer in model.layers
        if isinstance(layer, COUNTED)
    )


def _local(variable: keras.Variable) -> Tensor:
    return ops.convert_to_tensor(ops.convert_to_numpy(variable))


def _of_weights(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> list[Tensor]:
    """The gradients of the training loss with respect to the trainable weights."""
    # Values of this process alone, so that on JAX no other process has to take part.
    values = [_local(weight) for weight in model.trainable_variables]
    others = [(variable, _local(variable)) for variable in model.non_trainable_variables]

    def loss(values: list[Tensor]) -> Tensor:
        mapping = zip(model.trainable_variables, values, strict=True)
        with keras.StatelessScope([*mapping, *others]):  # and so no statistics move
            outputs = model(images, training=True)
            return model.compute_loss(x=images, y=labels, y_pred=outputs, training=True)

    return gradients(loss, values)


def gradients(function: Callable[[list[Tensor]], Tensor], values: list[Tensor]) -> list[Tensor]:
    """Gradients of a scalar function of a list of tensors, with respect to each tensor."""
    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.grad(function)(values)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(values)
    return tape.gradient(result, values)
