"""What stands beside weights, or inside their file, and is none: classes and preprocessing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from resnet_keras import structured
from resnet_keras.architectures import Preprocessing

ACCEPTED = "the file as the Hugging Face hub has it"
IMAGENET_CLASSES = 1000

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Card:
    """What the publisher of weights tells about them; None where nothing is told.

    Attributes:
        class_names: in the order of the classifier's outputs.
        preprocessing: of the pixels.
        bn_epsilon: of the batch normalisations.
        stride_at: which convolution of a bottleneck carries the stride, see `Unit`.
    """

    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    bn_epsilon: float | None = None
    stride_at: int | None = None

    def or_else(self, other: "Card") -> "Card":
        """With what the other one tells where this one tells nothing."""
        mine = {name: value for name, value in vars(self).items() if value is not None}
        return Card(**(vars(other) | mine))


UNKNOWN = Card()


def beside(path: Path) -> Card:
    """The card of weights from the Hugging Face hub: config.json and preprocessor_config.json.

    A config.json that is of no ResNet is somebody else's, and says nothing.

    Args:
        path: the file of weights.

    Raises:
        InputError: one of the files is damaged.
    """
    file = path.with_name("config.json")
    config = _object(file)
    if config.get("model_type") == "resnet":
        return _of_transformers(
            structured.convert(config, _Transformers, file, ACCEPTED, extra="ignore"),
            _preprocessing(path.with_name("preprocessor_config.json")),
        )
    if str(config.get("architecture", "")).startswith(("resnet", "resnext")):
        timm = structured.convert(config, _Timm, file, ACCEPTED, extra="ignore")
        told = timm.pretrained_cfg
        return Card(timm.label_names, _of_unit_range(told.mean, told.std), stride_at=1)
    return UNKNOWN


def inside(metadata: Mapping[str, str], path: Path) -> Card:
    """The card that `to_metadata` wrote.

    Args:
        metadata: of a .safetensors file.
        path: of that file, for the message.

    Raises:
        InputError: it is damaged.
    """
    if "resnet_keras" not in metadata:
        return UNKNOWN
    accepted = "the file that convert wrote"
    told = structured.parse(metadata["resnet_keras"], _Metadata, path, accepted)
    return Card(
        told.class_names, Preprocessing(told.mean, told.std), told.bn_epsilon, told.stride_at
    )


@dataclass(frozen=True)
class _Metadata:
    """What `to_metadata` writes."""

    class_names: tuple[str, ...] | None
    mean: Triple
    std: Triple
    bn_epsilon: float
    stride_at: int


def to_metadata(card: Card) -> dict[str, str]:
    """A whole card as a .safetensors file keeps it."""
    assert card.preprocessing is not None
    told = {
        "class_names": card.class_names,
        "mean": card.preprocessing.mean,
        "std": card.preprocessing.std,
        "bn_epsilon": card.bn_epsilon,
        "stride_at": card.stride_at,
    }
    return {"resnet_keras": json.dumps(told)}


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The classes of ILSVRC 2012 in the order of their WordNet numbers, which all sources keep.

    Each bears its synset's first word, or more where two classes share that.
    """
    text = files("resnet_keras.weights").joinpath("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())


@dataclass(frozen=True)
class _Transformers:
    """What counts of config.json by transformers.

    `downsample_in_bottleneck` came after the first networks; without it the stride is on the 3x3.
    """

    id2label: dict[int, str] | None = None
    downsample_in_bottleneck: bool = False

    def __post_init__(self) -> None:
        if {*(self.id2label or ())} != {*range(len(self.id2label or ()))}:
            raise ValueError("id2label does not count the classes from 0 on")


@dataclass(frozen=True)
class _Preprocessor:
    """What counts of preprocessor_config.json by transformers, of pixels 0..1."""

    image_mean: Triple | None = None
    image_std: Triple | None = None


@dataclass(frozen=True)
class _Pretrained:
    """The part of config.json by timm that tells the preprocessing, of pixels 0..1."""

    mean: Triple | None = None
    std: Triple | None = None


@dataclass(frozen=True)
class _Timm:
    """What counts of config.json by timm."""

    label_names: tuple[str, ...] | None = None
    pretrained_cfg: _Pretrained = _Pretrained()


def _object(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is no file, or nothing of the kind in it."""
    content = structured.read(path, object, ACCEPTED) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _preprocessing(path: Path) -> Preprocessing | None:
    told = structured.convert(_object(path), _Preprocessor, path, ACCEPTED, extra="ignore")
    return _of_unit_range(told.image_mean, told.image_std)


def _of_transformers(config: _Transformers, preprocessing: Preprocessing | None) -> Card:
    labels, names = config.id2label or {}, None
    # What transformers writes where nobody has named the classes.
    if any(label != f"LABEL_{number}" for number, label in labels.items()):
        names = tuple(label for _, label in sorted(labels.items()))
    return Card(names, preprocessing, stride_at=0 if config.downsample_in_bottleneck else 1)


def _of_unit_range(mean: Triple | None, std: Triple | None) -> Preprocessing | None:
    """Of pixels 0..1, as torch's projects have them."""
    if mean is None or std is None:
        return None
    (r, g, b), (r_std, g_std, b_std) = mean, std
    return Preprocessing((r * 255, g * 255, b * 255), (r_std * 255, g_std * 255, b_std * 255))
