"""Networks that share a network's weights: its feature maps, its pieces, its twin of any size."""

import keras
import numpy as np

from resnet_keras.architectures import Architecture
from resnet_keras.architectures.layer_names import parse, part_of
from resnet_keras.errors import InputError
from resnet_keras.networks.loading import adapted_to
from resnet_keras.networks.models import FINAL, Classifier, build, dtype_policy
from resnet_keras.networks.recursion import recursion_for


def features(model: keras.Model) -> keras.Model:
    """The maps at the end of every stage of a built or loaded network, sharing its weights.

    Returns:
        A model from the network's input to {"C2": …, "C3": …, …}, each (batch, h, w, channels) in
        the network's compute dtype. The ImageNet networks' C2…C5 have strides 4, 8, 16, 32.

    Raises:
        InputError: the model's layers are not named as this package names them.
    """
    ends = {f"C{stage}": output for (stage, _), output in _unit_outputs(model).items()}
    for layer in model.layers:
        if layer.name == f"res{FINAL}_relu":
            ends[max(ends)] = layer.output
    with recursion_for(len(model.layers)):
        return keras.Model(model.input, ends, name=f"{model.name}_features")


def _unit_outputs(model: keras.Model) -> dict[tuple[int, str], keras.KerasTensor]:
    """What every residual unit gives, by its stage and block, in the order of the units."""
    outputs = {}
    for layer in model.layers:
        name = parse(layer.name)
        if name and name.is_output:
            outputs[name.stage, name.block] = layer.output
    if not outputs:
        raise InputError(
            "the model has no residual stages by this package's names",
            received=repr(model.name),
            accepted="a model of this package",
        )
    return outputs


def fully_convolutional(model: keras.Model, architecture: Architecture) -> keras.Model:
    """The same classifier with the same weights, for images of any size: fully convolutional.

    Its class scores are the average of those of every place in the last map, since averaging and
    the classifier are both linear (He et al. 2016, "Deep Residual Learning", section 3.4).

    Args:
        model: a classifier that `build` made of the architecture, at any input size.
        architecture: of which it is.

    Returns:
        A model from (batch, height, width, 3) to (batch, classes), compiled to run without XLA,
        which would compile once for every size.

    Raises:
        InputError: the classifier takes more than the map's average, as that of a head with a
            window does at sizes beyond the published one.
    """
    classifier = model.layers[-1]
    features, classes = classifier.kernel.shape
    if features != architecture.out_filters:
        raise InputError(
            "the classifier of this network takes images of one size only",
            received=f"{model.name!r} of {model.input_shape[1]}x{model.input_shape[2]} pixels",
            accepted="networks that average the whole feature map",
        )
    head = Classifier(classes, classifier.activation.__name__)
    policy = next(layer.dtype_policy.name for layer in model.layers if layer.weights)
    with dtype_policy(policy):
        twin = build(adapted_to(model, architecture), (None, None, 3), head, model.name)
    for layer in model.layers:
        if layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    twin.compile(jit_compile=False)
    return twin


def in_float32(model: keras.Model) -> keras.Model:
    """The same layers and weights under the policy float32; the model itself where that is its own.

    Args:
        model: functional, under any dtype policy; it stays as it is.
    """
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def full(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    with recursion_for(len(model.layers)):
        clone = keras.models.clone_model(model, clone_function=full)
    clone.set_weights([np.asarray(weight, "float32") for weight in model.get_weights()])
    return clone


def pieces(model: keras.Model) -> list[tuple[str, keras.Model]]:
    """A built or loaded classifier, cut between its residual units, sharing its weights.

    Returns:
        Name and model of each piece, in the order in which images pass them: "stem", every unit by
        its stage and block, such as "2a", and "head".

    Raises:
        InputError: the model's layers are not named as this package names them.
    """
    outputs = _unit_outputs(model)
    stem = [layer for layer in model.layers if part_of(layer.name) == "stem"][-1]
    cuts = [model.input, stem.output, *outputs.values(), model.output]
    names = ["stem", *(f"{stage}{block}" for stage, block in outputs), "head"]
    return [
        (name, keras.Model(start, end, name=f"piece_{name}"))
        for name, start, end in zip(names, cuts[:-1], cuts[1:], strict=True)
    ]
