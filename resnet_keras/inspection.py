"""A look inside a network in training."""

import re
from collections import defaultdict
from typing import Any

import keras
import numpy as np
from keras import ops


def gradient_norms(model: keras.Model, images: Any, labels: Any) -> dict[str, float]:
    """The gradients' length, stage by stage, on one batch in training mode; nothing changes.

    Args:
        model: a compiled network of this package.
        images: (batch, height, width, 3), pixels 0..255.
        labels: as the model's loss takes them.

    Returns:
        Euclidean norms by part: "stem", "stage2" and so on, "head".
    """
    squares: dict[str, float] = defaultdict(float)
    weights = model.trainable_variables
    for weight, gradient in zip(weights, _gradients(model, images, labels), strict=True):
        squares[_part_of(weight.path.split("/")[-2])] += float(ops.sum(ops.square(gradient)))
    return {part: float(np.sqrt(square)) for part, square in sorted(squares.items())}


def _part_of(layer: str) -> str:
    if stage := re.match(r"(?:res|bn|gate)(\d+)", layer):
        return f"stage{stage[1]}"
    return "stem" if "conv1" in layer else "head"


def _local(variable: Any) -> Any:
    return ops.convert_to_tensor(ops.convert_to_numpy(variable))


def _gradients(model: keras.Model, images: Any, labels: Any) -> list[Any]:
    # Values of this process alone, so that on JAX no other process has to take part.
    values = [_local(weight) for weight in model.trainable_variables]
    others = [(variable, _local(variable)) for variable in model.non_trainable_variables]

    def loss(values: list[Any]) -> Any:
        mapping = zip(model.trainable_variables, values, strict=True)
        with keras.StatelessScope([*mapping, *others]):  # and so no statistics move
            outputs = model(images, training=True)
            return model.compute_loss(x=images, y=labels, y_pred=outputs, training=True)

    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.grad(loss)(values)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = loss(values)
    return tape.gradient(result, values)
