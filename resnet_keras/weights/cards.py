"""What stands beside weights, or inside their file, and is none: classes and preprocessing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from resnet_keras import structured
from resnet_keras.architectures import Preprocessing
from resnet_keras.errors import InputError

ACCEPTED = "the file as the Hugging Face hub has it"
IMAGENET_CLASSES = 1000


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
        preprocessor = path.with_name("preprocessor_config.json")
        told = _object(preprocessor)
        return Card(
            _labels(config.get("id2label") or {}, file),
            _of_unit_range(told.get("image_mean"), told.get("image_std"), preprocessor),
            # The attribute came after the first networks; without it the stride is on the 3x3.
            stride_at=0 if config.get("downsample_in_bottleneck", False) else 1,
        )
    if str(config.get("architecture", "")).startswith(("resnet", "resnext")):
        told = structured.convert(config.get("pretrained_cfg", {}), dict[str, Any], file, ACCEPTED)
        preprocessing = _of_unit_range(told.get("mean"), told.get("std"), file)
        card = {"class_names": config.get("label_names"), "stride_at": 1}
        return replace(structured.convert(card, Card, file, ACCEPTED), preprocessing=preprocessing)
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
    told = structured.parse(metadata["resnet_keras"], dict[str, Any], path, accepted)
    told["preprocessing"] = {"mean": told.pop("mean", None), "std": told.pop("std", None)}
    return structured.convert(told, Card, path, accepted)


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


def _object(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is no file, or nothing of the kind in it."""
    content = structured.read(path, object, ACCEPTED) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _labels(id2label: object, path: Path) -> tuple[str, ...] | None:
    labels = structured.convert(id2label, dict[int, str], path, ACCEPTED)
    # What transformers writes where nobody has named the classes.
    if all(label == f"LABEL_{number}" for number, label in labels.items()):
        return None
    if labels.keys() != {*range(len(labels))}:
        raise InputError(
            f"{path.name} is damaged",
            received=f"{path} (id2label: {len(labels)} labels up to {max(labels)})",
            accepted=ACCEPTED,
        )
    return tuple(labels[number] for number in range(len(labels)))


def _of_unit_range(mean: object, std: object, path: Path) -> Preprocessing | None:
    """Of pixels 0..1, as torch's projects have them."""
    if mean is None or std is None:
        return None
    told = structured.convert({"mean": mean, "std": std}, Preprocessing, path, ACCEPTED)
    return Preprocessing(_to_pixels(told.mean), _to_pixels(told.std))


def _to_pixels(values: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (255 * value for value in values)
    return red, green, blue
