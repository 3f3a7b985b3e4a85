"""Every layer of a network that has weights, where it stands, and what it is called elsewhere.

A `Naming` is a function from a place in our network to the source's name of it. All of them are of
the original ordering: torchvision's (timm has the same), Hugging Face transformers', those of
KerasHub and keras.applications, and the Caffe release's, which are ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal

from resnet_keras.architectures import Architecture

Kind = Literal["convolution", "normalization", "classifier"]


@dataclass(frozen=True)
class Place:
    """A layer with weights.

    Attributes:
        layer: its name in our networks.
        kind: what it is.
        unit: its stage and its unit in that, both counted from 0; None in the stem and the head.
        convolution: that it is or follows, counted from 0 in the unit's branch; None for the
            projection on the shortcut, and outside units.
    """

    layer: str
    kind: Kind
    unit: tuple[int, int] | None = None
    convolution: int | None = None


def places(architecture: Architecture, classes: int | None) -> Iterator[Place]:
    """The layers of an original ResNet (or ResNeXt, or plain network), from the stem to the head.

    Args:
        architecture: whose units end in batch normalisation and are not pre-activated.
        classes: of the classifier; None if there is none.
    """
    yield Place("conv1", "convolution")
    yield Place("bn_conv1", "normalization")
    first = next(architecture.units()).stage
    blocks: dict[int, int] = {}
    for unit in architecture.units():
        number = blocks.get(unit.stage, 0)
        blocks[unit.stage] = number + 1
        at = (unit.stage - first, number)
        branches: list[tuple[str, int | None]] = [
            (f"branch2{ascii_lowercase[index]}", index) for index in range(len(unit.filters))
        ]
        if unit.shortcut == "projection":
            branches.append(("branch1", None))
        for branch, index in branches:
            name = f"{unit.stage}{unit.block}_{branch}"
            yield Place(f"res{name}", "convolution", at, index)
            yield Place(f"bn{name}", "normalization", at, index)
    if classes is not None:
        yield Place(f"fc{classes}", "classifier")


STEM = Place("conv1", "convolution")


@dataclass(frozen=True)
class Naming:
    """How a source calls its layers.

    Attributes:
        title: of the source, for messages.
        name: of a place.
        known_by: place whose name no other source has.
        stem: name of the first convolution.
        classifier: name of the last layer; of the Caffe release's it depends on the classes, see
            `layer_names.is_classifier`.
    """

    title: str
    name: Callable[[Place], str]
    known_by: Place = STEM

    @property
    def mark(self) -> str:
        return self.name(self.known_by)

    @property
    def stem(self) -> str:
        return self.name(STEM)

    @property
    def classifier(self) -> str:
        return self.name(Place("", "classifier"))


def _torchvision(place: Place) -> str:
    normalizes = place.kind == "normalization"
    if place.kind == "classifier":
        return "fc"
    if place.unit is None:
        return "bn1" if normalizes else "conv1"
    stage, block = place.unit
    unit = f"layer{stage + 1}.{block}"
    if place.convolution is None:
        return f"{unit}.downsample.{int(normalizes)}"
    return f"{unit}.{'bn' if normalizes else 'conv'}{place.convolution + 1}"


def _transformers(place: Place) -> str:
    part = place.kind
    if part == "classifier":
        return "classifier.1"
    if place.unit is None:
        return f"resnet.embedder.embedder.{part}"
    stage, block = place.unit
    unit = f"resnet.encoder.stages.{stage}.layers.{block}"
    if place.convolution is None:
        return f"{unit}.shortcut.{part}"
    return f"{unit}.layer.{place.convolution}.{part}"


def _applications(place: Place) -> str:
    return _of_keras(place, "conv{}_block{}", first_stage=2, first_block=1)


def _keras_hub(place: Place) -> str:
    return _of_keras(place, "stack{}_block{}", first_stage=0, first_block=0)


def _of_keras(place: Place, unit: str, first_stage: int, first_block: int) -> str:
    if place.kind == "classifier":
        return "predictions"
    part = "bn" if place.kind == "normalization" else "conv"
    if place.unit is None:
        return f"conv1_{part}"
    stage, block = place.unit
    # The projection is counted as 0.
    number = 0 if place.convolution is None else place.convolution + 1
    return f"{unit.format(stage + first_stage, block + first_block)}_{number}_{part}"


def _caffe(place: Place) -> str:
    return place.layer


TORCHVISION = Naming("torchvision or timm", _torchvision)
TRANSFORMERS = Naming("Hugging Face transformers", _transformers)
# Its stem is called as that of keras.applications.
KERAS_HUB = Naming("KerasHub", _keras_hub, Place("", "convolution", (0, 0), 0))
APPLICATIONS = Naming("keras.applications", _applications)
CAFFE = Naming("the Caffe release", _caffe)
