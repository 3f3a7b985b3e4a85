"""The graph of a functional model."""

import keras

from resnet_keras.errors import InputError


def layers_called_once(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers and operations of a model in an order in which they can be called, inputs aside.

    Args:
        model: a functional model from one tensor to one.

    Raises:
        InputError: the model is no such model, or calls a layer more than once.
    """
    operations = getattr(model, "operations", ())
    if len(operations) < 2 or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            "the model is not a functional model from one tensor to one",
            received=repr(model.name),
            accepted="a functional model of layers with one input and one output",
        )
    layers = [layer for layer in operations if not isinstance(layer, keras.layers.InputLayer)]
    needed = {id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.input)}
    # Of a layer that was called again, only the first call shows.
    given = {id(model.inputs[0]), *(id(layer.output) for layer in layers)}
    if not needed <= given or layers[-1].output is not model.outputs[0]:
        raise InputError(
            "the layers of the model are not called once each",
            received=repr(model.name),
            accepted="a model that calls every layer once",
        )
    return layers
