"""What the layers of a ResNet are called elsewhere.

A `Naming` is a function from a place in our network to the source's name of it. All of them are of
the original ordering: torchvision's (timm has the same), Hugging Face transformers', those of
keras.applications, and the Caffe release's, which are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_keras.weights.places import Place


@dataclass(frozen=True)
class Naming:
    """How a source calls its layers.

    Attributes:
        title: of the source, for messages.
        name: of a place.
        stem: name of the first convolution, by which the source is known.
        classifier: name of the last layer; of the Caffe release's it depends on the classes, see
            `layer_names.is_classifier`.
    """

    title: str
    name: Callable[[Place], str]

    @property
    def stem(self) -> str:
        return self.name(Place("conv1", "convolution"))

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
    if place.kind == "classifier":
        return "predictions"
    part = "bn" if place.kind == "normalization" else "conv"
    if place.unit is None:
        return f"conv1_{part}"
    stage, block = place.unit
    # The projection is counted as 0.
    number = 0 if place.convolution is None else place.convolution + 1
    return f"conv{stage + 2}_block{block + 1}_{number}_{part}"


def _caffe(place: Place) -> str:
    return place.layer


TORCHVISION = Naming("torchvision or timm", _torchvision)
TRANSFORMERS = Naming("Hugging Face transformers", _transformers)
APPLICATIONS = Naming("keras.applications", _applications)
CAFFE = Naming("the Caffe release", _caffe)
