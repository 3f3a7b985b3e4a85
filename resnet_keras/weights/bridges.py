"""From a file of weights to those of our network, by the names that the file has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_keras.architectures import ORIGINAL, Architecture, Preprocessing
from resnet_keras.errors import InputError
from resnet_keras.weights import layouts, reading
from resnet_keras.weights.layouts import Weights
from resnet_keras.weights.naming import APPLICATIONS, CAFFE, TORCHVISION, TRANSFORMERS, Naming
from resnet_keras.weights.places import Place, places

TORCH_PREPROCESSING = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
CAFFE_PREPROCESSING = Preprocessing(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Origin:
    """What comes with the weights of a source.

    Attributes:
        naming: of its layers.
        is_torch: whether its arrays are named one by one, rather than layer by layer.
        preprocessing: of the pixels that its networks were trained on, red first.
        bn_epsilon: of its batch normalisations.
        takes_bgr: whether its stem's kernel takes blue first.
    """

    naming: Naming
    is_torch: bool
    preprocessing: Preprocessing
    bn_epsilon: float = 1e-5
    takes_bgr: bool = False


ORIGINS = (
    Origin(TORCHVISION, True, TORCH_PREPROCESSING),
    Origin(TRANSFORMERS, True, TORCH_PREPROCESSING),
    Origin(APPLICATIONS, False, CAFFE_PREPROCESSING, bn_epsilon=1.001e-5, takes_bgr=True),
    Origin(CAFFE, False, CAFFE_PREPROCESSING, takes_bgr=True),
)


@dataclass(frozen=True)
class Bridged:
    """A source's weights, and the architecture that they are for.

    Attributes:
        architecture: with the source's preprocessing and epsilon.
        weights: by our layers' names; without the classifier, if the source has none.
        title: of the source.
    """

    architecture: Architecture
    weights: Weights
    title: str


def bridge(path: Path, architecture: Architecture) -> Bridged:
    """Reads weights that another project trained.

    Args:
        path: a file that `reading.read` knows.
        architecture: of the network; names alone do not tell v1 from v1.5.

    Raises:
        InputError: the file cannot be read, its names are of no known source, or they are of
            another network: the first layer that is missing or left over.
    """
    content = reading.read(path)
    try:
        return translate(content, architecture)
    except InputError as error:
        raise InputError(f"{error}. Received: {path}") from error


def translate(content: reading.Tensors | reading.Layers, architecture: Architecture) -> Bridged:
    """Arrays by a source's names, as arrays by ours.

    Args:
        content: what was read of a file, or of a live model.
        architecture: as in `bridge`.

    Raises:
        InputError: as in `bridge`.
    """
    _check_takes_others(architecture)
    content = _complete(content)
    origin = _origin(content)
    classes = _classes(content, origin.naming)
    known = list(places(architecture, classes))
    _check_whole(content, origin.naming, known)
    if isinstance(content, reading.Tensors):
        weights = layouts.from_torch(content.values, origin.naming, known)
    else:
        weights = layouts.from_keras(content.values, origin.naming, known)
    if origin.takes_bgr:
        kernel, *_ = weights["conv1"]
        weights["conv1"] = [np.ascontiguousarray(kernel[:, :, ::-1])]
    style = replace(architecture.style, bn_epsilon=origin.bn_epsilon, use_bias=False)
    adapted = replace(architecture, preprocessing=origin.preprocessing, style=style)
    return Bridged(adapted, weights, origin.naming.title)


def _check_takes_others(architecture: Architecture) -> None:
    if architecture.unit.ordering != ORIGINAL or not architecture.style.normalized:
        raise InputError(
            "weights of other projects are of networks with the original units: convolution, batch "
            "normalisation, ReLU. Received: a network with other ones"
        )


def _complete(content: reading.Tensors | reading.Layers) -> reading.Tensors | reading.Layers:
    """With the prefix that a transformers network without a classifier leaves out."""
    prefix = "resnet."
    if f"{TRANSFORMERS.stem.removeprefix(prefix)}.weight" not in content.values:
        return content
    return reading.Tensors({f"{prefix}{name}": value for name, value in content.values.items()})


def _origin(content: reading.Tensors | reading.Layers) -> Origin:
    is_torch = isinstance(content, reading.Tensors)
    if any("preact" in name for name in content.values):
        raise InputError(
            "these weights are of a ResNet V2 of keras.applications, which is another architecture "
            "(pre-activated, its strides at the ends of the stages) than any network here"
        )
    for origin in ORIGINS:
        stem = f"{origin.naming.stem}.weight" if is_torch else origin.naming.stem
        if origin.is_torch == is_torch and stem in content.values:
            return origin
    first = ", ".join(list(content.values)[:3])
    known = ", ".join(origin.naming.title for origin in ORIGINS)
    raise InputError(f"the names in these weights are not known: {first}, …; accepted: {known}")


def _classes(content: reading.Tensors | reading.Layers, naming: Naming) -> int | None:
    """How many the classifier tells apart; None if there is no classifier."""
    name = naming.name(Place("", "classifier"))
    if isinstance(content, reading.Tensors):
        bias = content.values.get(f"{name}.bias")
        return None if bias is None else len(bias)
    arrays = content.values.get(name)
    return len(arrays[-1]) if arrays else None


def _check_whole(
    content: reading.Tensors | reading.Layers, naming: Naming, known: Sequence[Place]
) -> None:
    """Raises InputError if the source has a layer that our network lacks."""
    ours = {naming.name(place) for place in known}
    for name in content.values:
        layer = name.rpartition(".")[0] if isinstance(content, reading.Tensors) else name
        if layer not in ours:
            raise InputError(f"the weights are of another network: ours has no layer for {name}")
