"""Models and weights from files: this package's own, and those that other projects trained."""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from resnet_keras.architectures import Architecture, Preprocessing
from resnet_keras.errors import InputError
from resnet_keras.recursion import recursion_for
from resnet_keras.weights.bridges import bridge
from resnet_keras.weights.layouts import Weights
from resnet_keras.weights.reading import UNREADABLE

NORMALIZE = "normalize"  # the layer with a network's preprocessing


def load_model(path: str | PathLike[str]) -> keras.Model:
    """Loads a .keras file of this package, with Keras's safe mode on.

    Raises:
        InputError: the file is missing, truncated, or no Keras model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such model file. Received: {path}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"not a .keras file, or a truncated one. Received: {path}")
    try:
        with recursion_for(_check_archive(path)):
            return keras.saving.load_model(path)
    except (*UNREADABLE, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"this model cannot be loaded. Received: {path} ({reason})") from error


def _check_archive(path: Path) -> int:
    """Compares the checksums, which Keras does not: HDF5 can crash the process on damaged bytes.

    Returns:
        The number of layers.
    """
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        return len(json.loads(archive.read("config.json"))["config"].get("layers", []))


@dataclass(frozen=True)
class Stored:
    """What a file has for a network.

    Attributes:
        path: the file.
        architecture: of the network as the weights want it: with the preprocessing and the epsilon
            that they were trained with.
        weights: by layer, in the order of get_weights.
    """

    path: Path
    architecture: Architecture
    weights: Weights


def read_weights(path: str | PathLike[str], architecture: Architecture) -> Stored:
    """Reads weights for a network that is yet to be built.

    Args:
        path: a .keras or .weights.h5 file of this package, or one of another project, see
            `weights.reading`.
        architecture: of the network.

    Raises:
        InputError: the file is missing, no such file, damaged, or of another network.
    """
    path = Path(path)
    if path.name.endswith(".keras"):
        model = load_model(path)
        return Stored(path, _as_in(model, architecture), _weights_of(model))
    if path.name.endswith(".weights.h5"):
        return Stored(path, architecture, dict(_read_weights_file(path)))
    bridged = bridge(path, architecture)
    return Stored(path, bridged.architecture, bridged.weights)


def _weights_of(model: keras.Model) -> Weights:
    return {layer.name: [weight.numpy() for weight in layer.weights] for layer in model.layers}


def _as_in(model: keras.Model, architecture: Architecture) -> Architecture:
    """The architecture with a model's preprocessing and epsilon."""
    layers = {layer.name: layer for layer in model.layers}
    if NORMALIZE in layers:
        scale, offset = layers[NORMALIZE].scale, layers[NORMALIZE].offset
        red, green, blue = (1 / one for one in scale)
        mean = tuple(-shift / one for shift, one in zip(offset, scale, strict=True))
        architecture = replace(
            architecture,
            preprocessing=Preprocessing((mean[0], mean[1], mean[2]), (red, green, blue)),
        )
    if "bn_conv1" in layers:
        style = replace(architecture.style, bn_epsilon=layers["bn_conv1"].epsilon)
        architecture = replace(architecture, style=style)
    return architecture


def load_weights(
    model: keras.Model, path: str | PathLike[str], skip_classifier: bool = False
) -> list[str]:
    """Loads the weights of a .keras or .weights.h5 file into a model of the same network.

    Weights of other projects want their own preprocessing, and so a model that is built for them:
    `create(network, weights=path)`.

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
        stored = dict(_read_weights_file(path))
    else:
        raise InputError(f"weights are a .keras or a .weights.h5 file. Received: {path}")
    return fit_weights(model, stored, path, skip_classifier)


def fit_weights(
    model: keras.Model,
    stored: Mapping[str, list[Any]],
    path: Path,
    skip_classifier: bool = False,
) -> list[str]:
    """Gives a model the weights of a file, as `load_weights` does."""
    layers = [layer for layer in model.layers if layer.weights]
    if skip_classifier:
        layers = [
            layer for layer in layers if layer.name in stored or not _is_classifier(layer.name)
        ]
    for layer in layers:
        expected = [tuple(weight.shape) for weight in layer.weights]
        found = [value.shape for value in stored.get(layer.name, [])]
        if expected != found:
            raise InputError(
                f"the weights in {path} do not fit layer {layer.name!r}. "
                f"Expected shapes: {expected}; found: {found or 'no such layer'}"
            )
    # A deeper network's file has every layer of a shallower one, with the same shapes. A classifier
    # alone may be left over: it is, where the model ends in features.
    known = {layer.name for layer in layers}
    for name, values in stored.items():
        if values and name not in known and not _is_classifier(name):
            raise InputError(
                f"the weights in {path} are of another network. Received: layer {name!r}; "
                f"accepted: the layers of {model.name!r}"
            )
    for layer in layers:
        layer.set_weights(stored[layer.name])
    return [layer.name for layer in model.layers if layer.weights and layer.name not in known]


def _is_classifier(layer: str) -> bool:
    return re.fullmatch(r"fc\d+", layer) is not None


def _read_weights_file(path: Path) -> Iterator[tuple[str, list[Any]]]:
    import h5py

    if not path.is_file():
        raise InputError(f"no such weights file. Received: {path}")
    try:
        with h5py.File(path) as file:
            for layer in file["layers"].values():
                variables = layer["vars"]
                values = [_read_array(variables[str(index)]) for index in range(len(variables))]
                yield variables.attrs["name"], values
    except UNREADABLE as error:
        raise InputError(
            f"not a Keras weights file, or a truncated one. Received: {path}"
        ) from error


def _read_array(dataset: Any) -> Any:
    # HDF5 has no bfloat16: Keras stores its bytes, and the type's name beside them.
    return dataset[()].view(dataset.attrs.get("dtype", dataset.dtype))
