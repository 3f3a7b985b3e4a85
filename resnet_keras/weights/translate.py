"""From a file of weights to those of our network, by the names that the file has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_keras.architectures import (
    IMAGENET_PREPROCESSING,
    NETWORKS,
    ORIGINAL,
    Architecture,
    Gating,
    Preprocessing,
)
from resnet_keras.architectures.layer_names import is_classifier
from resnet_keras.errors import InputError
from resnet_keras.weights import layouts, metadata, reading
from resnet_keras.weights.layer_map import (
    APPLICATIONS,
    CAFFE,
    KERAS_HUB,
    TORCHVISION,
    TRANSFORMERS,
    Naming,
    Place,
    places,
)
from resnet_keras.weights.layouts import Weights
from resnet_keras.weights.loaded import LoadedWeights
from resnet_keras.weights.metadata import UNKNOWN, Card
from resnet_keras.weights.reading import Content, Layers, Tensors
from resnet_keras.weights.variants import check_marks

CAFFE_PREPROCESSING = Preprocessing(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Origin:
    """What comes with the weights of a source, where no card says otherwise.

    Attributes:
        naming: of its layers.
        is_torch: whether its arrays are named one by one, rather than layer by layer.
        preprocessing: of the pixels that its networks were trained on, red first.
        bn_epsilon: of its batch normalisations.
        stride_at: which convolution of its bottlenecks carries the stride.
        takes_bgr: whether its stem's kernel takes blue first.
    """

    naming: Naming
    is_torch: bool
    preprocessing: Preprocessing
    stride_at: int
    bn_epsilon: float = 1e-5
    takes_bgr: bool = False


ORIGINS = (
    Origin(TORCHVISION, True, IMAGENET_PREPROCESSING, stride_at=1),
    # What its own configuration assumes where it says nothing.
    Origin(TRANSFORMERS, True, IMAGENET_PREPROCESSING, stride_at=1),
    # Its presets came from timm, with timm's preprocessing.
    Origin(KERAS_HUB, False, IMAGENET_PREPROCESSING, stride_at=1),
    Origin(
        APPLICATIONS, False, CAFFE_PREPROCESSING, bn_epsilon=1.001e-5, stride_at=0, takes_bgr=True
    ),
    Origin(CAFFE, False, CAFFE_PREPROCESSING, stride_at=0, takes_bgr=True),
)


def read_foreign(path: Path, architecture: Architecture) -> LoadedWeights:
    """Reads weights that another project trained, or that `to_torchvision` wrote.

    Args:
        path: a file that `reading.read` knows; what `metadata.beside` knows beside it is heeded.
        architecture: of the network.

    Raises:
        InputError: the file cannot be read, its names are of no known source, or it is of another
            network: by what is stated beside it, or the first layer that is missing or left over.
    """
    return translate(reading.read(path), str(path), architecture, metadata.beside(path))


def translate(
    content: Content, source: str, architecture: Architecture, card: Card = UNKNOWN
) -> LoadedWeights:
    """Arrays by a source's names, as arrays by ours.

    Args:
        content: what was read of a file, or of a live model.
        source: where it was read, for messages.
        architecture: of the network.
        card: what is known about the arrays, beside what their file tells.

    Returns:
        The weights, and the architecture with the source's preprocessing and epsilon.

    Raises:
        InputError: as `read_foreign`.
    """
    try:
        return _translated(content, source, architecture, card)
    except InputError as error:
        raise error.within(source, _hint(content)) from error


def _translated(
    content: Content, source: str, architecture: Architecture, card: Card
) -> LoadedWeights:
    _check_takes_others(architecture)
    content = _with_usual_names(content)
    origin = _origin(content)
    card = content.card.or_else(card)
    _check_stride(architecture, origin, card)
    classes = _classes(content, origin.naming)
    known = list(places(architecture, classes))
    _check_whole(content, origin.naming, known)
    if isinstance(content, Tensors):
        weights = layouts.from_torch(content.values, origin.naming, known)
    else:
        weights = layouts.from_keras(content.values, origin.naming, known)
    if origin.takes_bgr:
        kernel, *_ = weights["conv1"]
        weights["conv1"] = [np.ascontiguousarray(kernel[:, :, ::-1])]
    return LoadedWeights(
        source,
        _adapted(architecture, origin, card),
        weights,
        _class_names(card.class_names, classes),
        card.activation or "softmax",
    )


def to_torchvision(
    weights: Weights,
    architecture: Architecture,
    class_names: tuple[str, ...] | None,
    activation: str,
) -> tuple[dict[str, np.ndarray], Card]:
    """Our weights by torchvision's names, and the card that has to go with them.

    Args:
        weights: by our layers' names; biases of convolutions go into the moving means.
        architecture: of the network, with the preprocessing and the epsilon that it has.
        class_names: of the classifier, if they are known.
        activation: of the classifier.

    Raises:
        InputError: the network is none that torchvision's names are for, or its outputs have an
            activation that no classifier has.
    """
    _check_takes_others(architecture)
    classes = _classes(Layers(weights), CAFFE)
    if classes is not None and activation not in metadata.ACTIVATIONS:
        raise InputError(
            "the activation of the outputs is none of a classifier",
            received=activation,
            accepted=", ".join(metadata.ACTIVATIONS),
        )
    known = list(places(architecture, classes))
    tensors = layouts.to_torch(weights, TORCHVISION, known)
    return tensors, Card(
        class_names,
        architecture.preprocessing,
        architecture.defaults.bn_epsilon,
        architecture.unit.stride_at,
        None if classes is None else activation,
    )


def _check_takes_others(architecture: Architecture) -> None:
    if not _is_like_others(architecture):
        raise InputError(
            "weights of other projects fit only networks with the original units",
            received="weights for a network with other units",
            accepted="units of convolution, batch normalisation and ReLU, in this order",
        )


def _with_usual_names(content: Content) -> Content:
    """By the names that a source's networks have today."""
    prefix = "resnet."  # which transformers leaves out where there is no classifier
    if isinstance(content, Tensors):
        if f"{TRANSFORMERS.stem.removeprefix(prefix)}.weight" not in content.values:
            return content
        named = {f"{prefix}{name}": value for name, value in content.values.items()}
        return Tensors(named, content.card)
    if "probs" not in content.values:
        return content
    # The classifier of keras.applications, when its files were written.
    return Layers(
        {
            APPLICATIONS.classifier if name == "probs" else name: arrays
            for name, arrays in content.values.items()
        }
    )


def _origin(content: Content) -> Origin:
    check_marks(content.values)
    is_torch = isinstance(content, Tensors)
    for origin in ORIGINS:
        mark = f"{origin.naming.mark}.weight" if is_torch else origin.naming.mark
        if origin.is_torch == is_torch and mark in content.values:
            return origin
    first = ", ".join(list(content.values)[:3]) or "none"
    known = ", ".join(origin.naming.title for origin in ORIGINS)
    raise InputError(
        "the names in these weights are not known", received=first, accepted=f"names of {known}"
    )


def _check_stride(architecture: Architecture, origin: Origin, card: Card) -> None:
    """Names and shapes are the same wherever a bottleneck has its stride; the answers are not."""
    theirs = origin.stride_at if card.stride_at is None else card.stride_at
    if len(architecture.unit.widths) < 3 or theirs == architecture.unit.stride_at:
        return
    where = {0: "first 1x1 (v1: resnet50, …)", 1: "3x3 (v1.5: resnet50v1.5, …)"}
    raise InputError(
        "the weights and the network have the stride of a bottleneck in different places",
        received=f"weights of {origin.naming.title} with the stride on the {where[theirs]}",
        accepted=f"the stride on the {where[architecture.unit.stride_at]}",
    )


def _classes(content: Content, naming: Naming) -> int | None:
    """How many the classifier tells apart; None if there is no classifier."""
    bias = None
    if isinstance(content, Tensors):
        bias = content.values.get(f"{naming.classifier}.bias")
    else:
        for name, arrays in content.values.items():
            if name == naming.classifier or (naming is CAFFE and is_classifier(name)):
                bias = arrays[-1]
    if bias is None:
        return None
    if bias.ndim != 1:
        raise InputError(
            "the classifier's bias is no vector",
            received=f"shape {bias.shape}",
            accepted="a number for every class",
        )
    return len(bias)


def _check_whole(content: Content, naming: Naming, known: Sequence[Place]) -> None:
    """Raises InputError if the source has a layer that our network lacks."""
    ours = {naming.name(place) for place in known}
    for name in content.values:
        array = name.rpartition(".")[2] if isinstance(content, Tensors) else None
        if _layer(name, content) not in ours or (array and array not in layouts.TORCH_ARRAYS):
            raise InputError(
                "the weights are of another network",
                received=f"{name}, which this network lacks",
                accepted=f"{len(ours)} layers, the last of them {naming.name(known[-1])}",
            )


def _layer(name: str, content: Content) -> str:
    """The source's name of the layer that an entry belongs to."""
    return name.rpartition(".")[0] if isinstance(content, Tensors) else name


def _hint(content: Content) -> str:
    """Which networks have the layers of the source, if any do."""
    try:
        content = _with_usual_names(content)
        naming = _origin(content).naming
        classes = _classes(content, naming)
    except InputError:
        return ""
    layers = {_layer(name, content) for name in content.values}
    fitting = [
        network
        for network, architecture in NETWORKS.items()
        if _is_like_others(architecture)
        and layers == {naming.name(place) for place in places(architecture, classes)}
    ]
    return f"; these layers are those of {', '.join(fitting)}" if fitting else ""


def _is_like_others(architecture: Architecture) -> bool:
    has_own_weights = architecture.shortcut.elsewhere == "dense" or isinstance(
        architecture.manipulation, Gating
    )
    is_original = architecture.unit.ordering == ORIGINAL and architecture.defaults.normalized
    return is_original and not has_own_weights


def _adapted(architecture: Architecture, origin: Origin, card: Card) -> Architecture:
    epsilon = origin.bn_epsilon if card.bn_epsilon is None else card.bn_epsilon
    adapted = architecture.adapted(card.preprocessing or origin.preprocessing, epsilon)
    return replace(adapted, defaults=replace(adapted.defaults, use_bias=False))


def _class_names(told: tuple[str, ...] | None, classes: int | None) -> tuple[str, ...] | None:
    if told is not None and len(told) == classes:
        return told
    return metadata.imagenet_classes() if classes == metadata.IMAGENET_CLASSES else None
