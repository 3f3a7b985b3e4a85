"""Facts for a report: counts of images, parameters, multiply-adds, layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from resnet_keras.architectures import find
from resnet_keras.data.checks import CheckedSource
from resnet_keras.data.splits import BadImage, SplitName
from resnet_keras.errors import InputError
from resnet_keras.evaluation.introspection import multiply_adds
from resnet_keras.runs.run import RunDetails


@dataclass(frozen=True)
class DataFacts:
    """How many images a source has.

    Attributes:
        totals: images by split.
        classes: by name the images of each split, in the order of `totals`.
        skipped: images that were left out as bad.
    """

    totals: Mapping[SplitName, int]
    classes: Sequence[tuple[str, tuple[int, ...]]]
    skipped: Sequence[BadImage]


@dataclass(frozen=True)
class Layer:
    """A layer of a network: its name, its class, the shape of its output, its parameters."""

    name: str
    kind: str
    shape: str
    parameters: int


@dataclass(frozen=True)
class NetworkFacts:
    """What a network costs.

    Attributes:
        parameters: trainable ones.
        multiply_adds: of one image's forward pass.
        layers: empty where there is no model yet.
    """

    parameters: int
    multiply_adds: int
    layers: Sequence[Layer]


def title_of(details: RunDetails) -> str:
    """The network and the data, a path by its last part."""
    name = Path(details.data.partition(",")[0]).name or details.data
    return f"{details.network} on {name}"


def data_facts(data: CheckedSource) -> DataFacts:
    """Counts the images of a source by split and class."""
    counts = [
        np.bincount(split.labels, minlength=len(data.class_names)).tolist()
        for split in data.splits.values()
    ]
    return DataFacts(
        {name: len(split) for name, split in data.splits.items()},
        list(zip(data.class_names, zip(*counts, strict=True), strict=True)),
        data.skipped,
    )


def network_facts(details: RunDetails, model: keras.Model | None) -> NetworkFacts | None:
    """Counts parameters and multiply-adds, on the layers or from the architecture.

    Args:
        details: of the run.
        model: None before the first epoch has ended.

    Returns:
        None of a network that a builder makes, before there is a model.
    """
    if model is not None:
        trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        return NetworkFacts(trainable, multiply_adds(model), [_layer(one) for one in model.layers])
    try:
        architecture = find(details.network, details.shortcut)
    except InputError:
        return None
    classes, size = len(details.class_names), details.image_size
    return NetworkFacts(
        architecture.parameters(classes, size).trainable,
        architecture.multiply_adds(size, classes),
        (),
    )


def _layer(layer: keras.Layer) -> Layer:
    output = layer.output[0] if isinstance(layer.output, list) else layer.output
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, output.shape[1:]))
    return Layer(layer.name, type(layer).__name__, shape, layer.count_params())
