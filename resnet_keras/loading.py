"""Models and weights from files: this package's own, and those that other projects trained."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from resnet_keras.architectures import NETWORKS, Architecture, Preprocessing, model_name
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.hdf5 import check_self_contained
from resnet_keras.recursion import recursion_for
from resnet_keras.weights.bridges import bridge, translate
from resnet_keras.weights.layouts import Weights
from resnet_keras.weights.places import is_classifier
from resnet_keras.weights.published import IMAGENET, fetch
from resnet_keras.weights.reading import UNREADABLE, Layers, find_in, first_line

NORMALIZE = "normalize"  # the layer with a network's preprocessing
OUR_STEM = "conv1"


def load_model(path: str | PathLike[str]) -> keras.Model:
    """Loads a .keras file of this package, with Keras's safe mode on.

    Raises:
        InputError: the file is missing, truncated, or no Keras model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "no such model file",
            received=path,
            accepted=f"an existing .keras file{did_you_mean_beside(path)}",
        )
    if not zipfile.is_zipfile(path):
        raise InputError(
            "the file is not a .keras file, or is truncated",
            received=path,
            accepted="a complete .keras file",
        )
    try:
        with recursion_for(_check_archive(path)):
            return keras.saving.load_model(path)
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            "this model cannot be loaded",
            received=f"{path} ({first_line(error)})",
            accepted="an undamaged .keras file of this package",
        ) from error


def _check_archive(path: Path) -> int:
    """Compares the checksums, which Keras does not: HDF5 can crash the process on damaged bytes.

    Returns:
        The number of layers.
    """
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        return len(json.loads(archive.read("config.json"))["config"].get("layers", []))


Source = str | PathLike[str] | keras.Model


@dataclass(frozen=True)
class Stored:
    """What a source has for a network.

    Attributes:
        source: a file's path, or a model's name.
        architecture: of the network as the weights want it: with the preprocessing and the epsilon
            that they were trained with.
        weights: by layer, in the order of get_weights.
        class_names: of the classifier, in the order of its outputs; None if they are not known.
        activation: of the classifier: "softmax", "sigmoid" or "linear".
        input_shape: of a model of this package, (height, width, channels), which may be open; None
            of other sources.
        centre: of the view, which a model of this package may know.
        include_preprocessing: whether the source normalises pixels 0..255 itself.
    """

    source: str
    architecture: Architecture
    weights: Weights
    class_names: tuple[str, ...] | None = None
    activation: str = "softmax"
    input_shape: tuple[int | None, int | None, int] | None = None
    centre: float | None = None
    include_preprocessing: bool = True

    @property
    def classes(self) -> int | None:
        """How many the classifier tells apart; None if there is none."""
        for name, values in self.weights.items():
            if is_classifier(name):
                return len(values[-1])
        return None

    def without_classifier(self) -> "Stored":
        trunk = {name: values for name, values in self.weights.items() if not is_classifier(name)}
        return replace(self, weights=trunk, class_names=None)

    def for_classes(self, class_names: tuple[str, ...]) -> "Stored":
        """Without the classifier, if it tells other classes apart; unnamed ones are counted."""
        if self.class_names is None:
            same = self.classes == len(class_names)
        else:
            same = self.class_names == class_names
        return self if same else self.without_classifier()


def read_weights(source: Source, network: str, architecture: Architecture) -> Stored:
    """Reads weights for a network that is yet to be built.

    Args:
        source: a .keras or .weights.h5 file of this package; one of another project, see
            `weights.reading`; a folder with one of them (a run's, or one of the Hugging Face hub);
            a live model of this package or of keras.applications; or "imagenet", which
            `weights.published` fetches.
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
        _check_name(source, f"the model {source.name!r}", network)
        return _of_model(source, f"the model {source.name!r}", architecture)
    path = fetch(network) if source == IMAGENET else Path(source)
    if path.is_dir():
        path = find_in(path)
    if path.name.endswith(".keras"):
        model = load_model(path)
        _check_name(model, str(path), network)
        return _of_model(model, str(path), architecture)
    if path.name.endswith(".weights.h5"):
        return _of_layers(dict(_read_weights_file(path)), str(path), architecture)
    bridged = bridge(path, architecture)
    return Stored(str(path), bridged.architecture, bridged.weights, bridged.class_names)


def _check_name(model: keras.Model, source: str, network: str) -> None:
    """Refuses a network of another name here, whose shapes may fit: v1 and v1.5 have the same."""
    names = {model_name(name): name for name in NETWORKS}
    found = names.get(model.name)
    if OUR_STEM in {layer.name for layer in model.layers} and found not in (None, network):
        raise InputError(
            f"these are weights of {found}",
            received=f"{source} for {network}",
            accepted=f"weights of {network}",
        )


def _of_model(model: keras.Model, source: str, architecture: Architecture) -> Stored:
    stored = _of_layers(_weights_of(model), source, adapted_to(model, architecture))
    names = {layer.name for layer in model.layers}
    if OUR_STEM not in names:
        return stored
    head = model.layers[-1]
    class_names = getattr(head, "class_names", None)
    activation = getattr(head, "activation", keras.activations.softmax)
    return replace(
        stored,
        class_names=None if class_names is None else tuple(class_names),
        activation=activation.__name__,
        input_shape=tuple(model.input_shape[1:]),
        centre=getattr(head, "centre", None),
        include_preprocessing=NORMALIZE in names,
    )


def _weights_of(model: keras.Model) -> Weights:
    return {layer.name: [weight.numpy() for weight in layer.weights] for layer in model.layers}


def _of_layers(weights: Weights, source: str, architecture: Architecture) -> Stored:
    if OUR_STEM in weights:
        return Stored(source, architecture, weights)
    content = Layers({name: values for name, values in weights.items() if values})
    try:
        bridged = translate(content, architecture)
    except InputError as error:
        raise InputError(
            error.problem, received=f"{error.received}, in {source}", accepted=error.accepted
        ) from error
    return Stored(source, bridged.architecture, bridged.weights, bridged.class_names)


def adapted_to(model: keras.Model, architecture: Architecture) -> Architecture:
    """The architecture with the preprocessing and the epsilon of a model of this package."""
    layers = {layer.name: layer for layer in model.layers}
    preprocessing, epsilon = architecture.preprocessing, architecture.style.bn_epsilon
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
        stored = dict(_read_weights_file(path))
    else:
        raise InputError(
            "unknown kind of weights file", received=path, accepted="a .keras or a .weights.h5 file"
        )
    return fit_weights(model, stored, str(path), skip_classifier)


def fit_weights(
    model: keras.Model,
    stored: Mapping[str, list[Any]],
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


def _read_weights_file(path: Path) -> Iterator[tuple[str, list[Any]]]:
    import h5py

    if not path.is_file():
        raise InputError(
            "no such weights file",
            received=path,
            accepted=f"an existing .weights.h5 file{did_you_mean_beside(path)}",
        )
    try:
        with h5py.File(path) as file:
            check_self_contained(file, path)
            for layer in file["layers"].values():
                variables = layer["vars"]
                values = [_read_array(variables[str(index)]) for index in range(len(variables))]
                yield variables.attrs["name"], values
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "the file is not a Keras weights file, or is truncated",
            received=f"{path} ({first_line(error)})",
            accepted="a complete .weights.h5 file",
        ) from error


def _read_array(dataset: Any) -> Any:
    # HDF5 has no bfloat16: Keras stores its bytes, and the type's name beside them.
    return dataset[()].view(dataset.attrs.get("dtype", dataset.dtype))
