"""Models and weights from files: this package's own, and those that other projects trained."""

import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import keras
import numpy as np

from resnet_keras.architectures import Architecture, Preprocessing
from resnet_keras.architectures.layer_names import is_classifier
from resnet_keras.errors import InputError, first_line
from resnet_keras.files.structured import JsonObject
from resnet_keras.networks.layers import check_data_format
from resnet_keras.networks.recursion import recursion_for
from resnet_keras.weights.archive import read_config, read_layers
from resnet_keras.weights.checks import OUR_STEM, check_name
from resnet_keras.weights.download import IMAGENET, fetch
from resnet_keras.weights.layouts import Weights
from resnet_keras.weights.loaded import LoadedWeights
from resnet_keras.weights.metadata import UNKNOWN, Card, beside, is_of_keras_hub, of_keras_hub
from resnet_keras.weights.reading import Layers, find_in, read_weights_file
from resnet_keras.weights.translate import read_foreign, translate

NORMALIZE = "normalize"  # the layer with a network's preprocessing
MOST_LAYERS = 20_000  # that a file may have Keras walk by recursion: four times resnet1202's


def load_model(path: str | PathLike[str]) -> keras.Model:
    """Loads a .keras file of this package, with Keras's safe mode on.

    Raises:
        InputError: the file is missing, truncated, no Keras model, or inflates to more than any
            network has; or Keras is set to channels first.
    """
    path = Path(path)
    return _load(path, read_config(path))


def _load(path: Path, config: JsonObject) -> keras.Model:
    """The model in a .keras file, whose checked description is at hand."""
    check_data_format()
    layers = config["config"].get("layers")
    with recursion_for(min(len(layers), MOST_LAYERS) if isinstance(layers, list) else 0):
        try:
            return keras.saving.load_model(path)
        except Exception as error:  # Keras calls what the file names, which may raise anything
            raise InputError(
                "this model cannot be loaded",
                received=f"{path} ({first_line(error)})",
                accepted="an undamaged .keras file of this package",
            ) from error


WeightsSource = str | PathLike[str] | keras.Model


def read_weights(source: WeightsSource, network: str, architecture: Architecture) -> LoadedWeights:
    """Reads weights for a network that is yet to be built.

    Args:
        source: a .keras or .weights.h5 file of this package; one of another project, see
            `weights.reading`; a folder with one of them (a run's, or one of the Hugging Face hub);
            a live model of this package, keras.applications or KerasHub; or "imagenet", which
            `weights.download` fetches.
        network: its name, for "imagenet".
        architecture: of the network.

    Raises:
        InputError: there is no such file, it is of no kind that is known, damaged or of another
            network, or it cannot be fetched.
    """
    if not isinstance(source, str | PathLike):
        if not isinstance(source, keras.Model):
            raise InputError(
                "weights have the wrong type",
                received=f"a {type(source).__name__}",
                accepted="a path, a Keras model or 'imagenet'",
            )
        return _of_model(source, f"the model {source.name!r}", network, architecture)
    path = fetch(network) if source == IMAGENET else Path(source)
    if os.path.isdir(path):  # Path.is_dir raises OSError of a name that is too long
        path = find_in(path)
    if path.name.endswith(".keras"):
        config = read_config(path)
        if is_of_keras_hub(config):
            card = of_keras_hub(config, str(path))
            return _of_layers(read_layers(path), str(path), architecture, card)
        return _of_model(_load(path, config), str(path), network, architecture)
    if path.name.endswith(".weights.h5"):
        weights = read_weights_file(path)
        card = UNKNOWN if OUR_STEM in weights else beside(path)
        return _of_layers(weights, str(path), architecture, card)
    return read_foreign(path, architecture)


def _of_model(
    model: keras.Model, source: str, network: str, architecture: Architecture
) -> LoadedWeights:
    if any(kind.__module__.startswith("keras_hub.") for kind in type(model).__mro__):
        card = of_keras_hub(_description_of(model), source)
        return _of_layers(_weights_of_keras_hub(model), source, architecture, card)
    names = {layer.name for layer in model.layers}
    check_name(model.name, names, source, network)
    head = model.layers[-1] if model.layers else None
    activation = getattr(getattr(head, "activation", None), "__name__", "softmax")
    if OUR_STEM not in names:
        card = Card(activation="sigmoid" if activation == "sigmoid" else None)
        return _of_layers(_weights_of(model), source, architecture, card)
    class_names = getattr(head, "class_names", None)
    return LoadedWeights(
        source,
        adapted_to(model, architecture),
        _weights_of(model),
        class_names=None if class_names is None else tuple(class_names),
        activation=activation,
        input_shape=tuple(model.input_shape[1:]),
        centre=getattr(head, "centre", None),
        include_preprocessing=NORMALIZE in names,
    )


def _weights_of(model: keras.Model) -> Weights:
    return {layer.name: [weight.numpy() for weight in layer.weights] for layer in model.layers}


def _weights_of_keras_hub(model: keras.Model) -> Weights:
    """Those of a backbone of KerasHub, or of a classifier with a backbone as its layer."""
    backbone = getattr(model, "backbone", model)
    weights = _weights_of(model) | _weights_of(backbone)
    return {name: values for name, values in weights.items() if name != backbone.name}


def _description_of(model: keras.Model) -> JsonObject:
    """What a .keras file would have as config.json; functions by their names."""
    text = json.dumps(model.get_config(), default=lambda value: getattr(value, "__name__", ""))
    return {"class_name": type(model).__name__, "config": json.loads(text)}


def _of_layers(
    weights: Weights, source: str, architecture: Architecture, card: Card
) -> LoadedWeights:
    if OUR_STEM in weights:
        return LoadedWeights(source, architecture, weights)
    content = Layers({name: values for name, values in weights.items() if values})
    return translate(content, source, architecture, card)


def adapted_to(model: keras.Model, architecture: Architecture) -> Architecture:
    """The architecture with the preprocessing and the epsilon of a model of this package."""
    layers = {layer.name: layer for layer in model.layers}
    preprocessing, epsilon = architecture.preprocessing, architecture.defaults.bn_epsilon
    if NORMALIZE in layers:
        scale, offset = layers[NORMALIZE].scale, layers[NORMALIZE].offset
        red, green, blue = (1 / one for one in scale)
        mean = tuple(-shift / one for shift, one in zip(offset, scale, strict=True))
        preprocessing = Preprocessing((mean[0], mean[1], mean[2]), (red, green, blue))
    if "bn_conv1" in layers:
        epsilon = layers["bn_conv1"].epsilon
    return architecture.adapted(preprocessing, epsilon)


def load_weights(
    model: keras.Model, path: str | PathLike[str], skip_classifier: bool = False
) -> list[str]:
    """Loads the weights of a .keras or .weights.h5 file into a model of the same network.

    Weights of other projects want their own preprocessing, and so a model that is built for them:
    `create(network, weights=…)`.

    Args:
        model: to give them to.
        path: the file.
        skip_classifier: leave the model's own classifier as it is where the file's tells apart
            another number of classes.

    Returns:
        The names of the layers that were left as they are.

    Raises:
        InputError: the file is missing or no such file, or the first layer that does not fit, with
            the shapes that were expected and found. The model's weights are then unchanged.
    """
    path = Path(path)
    if path.name.endswith(".keras"):
        stored = _weights_of(load_model(path))
    elif path.name.endswith(".weights.h5"):
        stored = read_weights_file(path)
    else:
        raise InputError(
            "unknown kind of weights file", received=path, accepted="a .keras or a .weights.h5 file"
        )
    return fit_weights(model, stored, str(path), skip_classifier)


def fit_weights(
    model: keras.Model,
    stored: Mapping[str, list[np.ndarray]],
    source: str,
    skip_classifier: bool = False,
) -> list[str]:
    """Gives a model the weights of a source, as `load_weights` does of a file."""
    layers = [layer for layer in model.layers if layer.weights]
    if skip_classifier:
        layers = [
            layer for layer in layers if layer.name in stored or not is_classifier(layer.name)
        ]
    for layer in layers:
        expected = [tuple(weight.shape) for weight in layer.weights]
        found = [value.shape for value in stored.get(layer.name, [])]
        if expected != found:
            raise InputError(
                f"the weights do not fit layer {layer.name!r}",
                received=f"{f'shapes {found}' if found else 'no such layer'} in {source}",
                accepted=f"shapes {expected}",
            )
    # A deeper network's file has every layer of a shallower one, with the same shapes. A classifier
    # alone may be left over: it is, where the model ends in features.
    known = {layer.name for layer in layers}
    for name, values in stored.items():
        if values and name not in known and not is_classifier(name):
            raise InputError(
                "the weights are of another network",
                received=f"layer {name!r} in {source}",
                accepted=f"the layers of {model.name!r}",
            )
    for layer in layers:
        layer.set_weights(stored[layer.name])
    return [layer.name for layer in model.layers if layer.weights and layer.name not in known]
