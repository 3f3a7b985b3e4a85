"""Training with less memory: most activations are computed a second time instead of kept."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from statistics import fmean
from typing import Any

import keras
from keras import ops

from resnet_keras.errors import InputError
from resnet_keras.networks.backend import Tensor
from resnet_keras.networks.graph import layers_called_once
from resnet_keras.networks.recursion import recursion_for


@keras.saving.register_keras_serializable(package="resnet_keras")
class RecomputingModel(keras.Model):
    """A functional model that keeps few activations in training; `recompute` makes one.

    The network is cut where one tensor carries everything, as between residual units. Only the
    tensors at the cuts are kept for the backward pass, which runs one segment after another again,
    from its cut. The kept tensors and the largest segment take about the same, so memory grows with
    the square root of the depth (Chen et al. 2016, "Training deep nets with sublinear memory
    cost"), for a second forward pass a step.

    Losses, gradients, random numbers and moving statistics are those of the plain model. Inference,
    layers and weights are untouched.
    """

    def __init__(
        self,
        inputs: keras.KerasTensor,
        outputs: keras.KerasTensor,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        *between, last = _segments(self)
        # The last segment comes first in the backward pass: what it keeps is needed at once.
        self._plan = _Plan((*map(_Recomputed, between), last))

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(keras.tree.flatten(inputs)[0], self.inputs[0].dtype)
        for step in self._plan.steps:
            x = step(x, training=True)
        return x


def recompute(model: keras.Model) -> RecomputingModel:
    """The same network, on the same layers and weights, with recomputation in training.

        model = recompute(create("resnet1202"))
        model.compile(…)

    Args:
        model: a functional model from one tensor to one, of layers that are called once each on a
            tensor or a list of tensors, such as `build` makes.

    Raises:
        InputError: the model is not such a one, or Keras's backend is neither TensorFlow nor JAX.
    """
    backend = keras.backend.backend()
    if backend not in _RECOMPUTERS:
        raise InputError(
            "recomputation does not work on this backend",
            received=backend,
            accepted=", ".join(_RECOMPUTERS),
        )
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if inputs is None or outputs is None or len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            "recomputation cannot take this kind of model",
            received=repr(model.name),
            accepted="a functional model from one tensor to one",
        )
    with recursion_for(len(model.layers)):
        return RecomputingModel(inputs[0], outputs[0], name=model.name)


@dataclass(frozen=True)
class _Plan:
    """What a training pass calls, in an object that Keras does not search for further layers."""

    steps: tuple[keras.layers.Layer, ...]


class _Segment(keras.layers.Layer):
    """Consecutive layers; being a layer itself, it tells them that they are in training."""

    def __init__(self, start: keras.KerasTensor, parts: Sequence[keras.layers.Layer]) -> None:
        super().__init__(autocast=False, name=f"from_{parts[0].name}")
        self.start = start
        self.parts = parts

    def call(self, inputs: Tensor) -> Tensor:
        values = {id(self.start): inputs}
        for layer in self.parts:
            arguments = keras.tree.map_structure(lambda tensor: values[id(tensor)], layer.input)
            values[id(layer.output)] = layer(arguments)
        return values[id(self.parts[-1].output)]


class _Recomputed(keras.layers.Layer):
    """A segment of which nothing but the input is kept for the backward pass.

    It is run as a pure function of that input, the weights and the state from before (moving
    statistics, seeds). So the second run sees what the first one saw, and changes nothing.
    """

    def __init__(self, segment: _Segment) -> None:
        # Without these two, the weights would be read in the model's half precision.
        super().__init__(dtype="float32", autocast=False, name=f"recomputed_{segment.name}")
        self.segment = segment

    def call(self, inputs: Tensor) -> Tensor:
        weights = self.segment.trainable_variables
        state = self.segment.non_trainable_variables
        # As tensors: TensorFlow's variables would be read again in the second run.
        before = [ops.stop_gradient(variable) for variable in state]

        def run(x: Tensor, *values: Tensor) -> tuple[Tensor, list[Tensor]]:
            mapping = zip([*weights, *state], [*values, *before], strict=True)
            with keras.StatelessScope(mapping) as scope:
                outputs = self.segment(x, training=True)
            return outputs, [scope.get_current_value(variable) for variable in state]

        recompute = _RECOMPUTERS[keras.backend.backend()]
        outputs, after = recompute(run, inputs, *map(ops.convert_to_tensor, weights))
        for variable, value in zip(state, after, strict=True):
            variable.assign(value)
        return outputs


Run = Callable[..., tuple[Tensor, list[Tensor]]]


def _recompute_on_tensorflow(run: Run, *arguments: Tensor) -> tuple[Tensor, list[Tensor]]:
    import tensorflow as tf

    states = []

    @tf.recompute_grad
    def outputs_of(*arguments: Tensor) -> Tensor:
        outputs, state = run(*arguments)
        states.append(state)
        return outputs

    outputs = outputs_of(*map(tf.convert_to_tensor, arguments))
    return outputs, states[0]


def _recompute_on_jax(run: Run, *arguments: Tensor) -> tuple[Tensor, list[Tensor]]:
    import jax  # pyright: ignore[reportMissingImports]

    return jax.checkpoint(run)(*arguments)


_RECOMPUTERS = {"tensorflow": _recompute_on_tensorflow, "jax": _recompute_on_jax}


def _segments(model: keras.Model) -> Iterator[_Segment]:
    """Cuts a model into segments of like size, which balances them with the tensors at the cuts."""
    layers = layers_called_once(model)
    for layer in layers:
        if not isinstance(layer, keras.layers.Layer):
            raise InputError(
                "recomputation takes layers alone",
                received=f"{layer.name!r} ({type(layer).__name__})",
                accepted="a model of layers, without bare operations",
            )
    done = list(accumulate(_size(layer.output) for layer in layers))
    cuts = list(_cuts(layers))
    enough = math.sqrt(done[-1] * fmean(_size(layers[cut].output) for cut in cuts))
    start, begin = model.inputs[0], 0
    for cut in cuts:
        is_last = cut == len(layers) - 1
        if is_last or done[cut] - done[begin] >= enough:
            yield _Segment(start, layers[begin : cut + 1])
            start, begin = layers[cut].output, cut + 1


def _size(tensor: keras.KerasTensor) -> int:
    """Elements an image; sides that are open count as 1."""
    return math.prod(side or 1 for side in tensor.shape)


def _cuts(layers: Sequence[keras.layers.Layer]) -> Iterator[int]:
    """The layers after which nothing but their output is needed; the last one is the output."""
    inputs = [{id(tensor) for tensor in keras.tree.flatten(layer.input)} for layer in layers]
    readers = Counter(chain.from_iterable(inputs))
    alive = set(inputs[0])
    for index, layer in enumerate(layers):
        readers.subtract(inputs[index])
        alive = {tensor for tensor in alive if readers[tensor]} | {id(layer.output)}
        if len(alive) == 1:
            yield index
