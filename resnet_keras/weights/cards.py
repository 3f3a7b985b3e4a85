"""What stands beside weights, or inside their file, and is none: classes and preprocessing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from resnet_keras.architectures import Preprocessing
from resnet_keras.errors import InputError

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
    config = _json(path.with_name("config.json"))
    try:
        if config.get("model_type") == "resnet":
            return _of_transformers(config, _json(path.with_name("preprocessor_config.json")))
        if str(config.get("architecture", "")).startswith(("resnet", "resnext")):
            return _of_timm(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the description of these weights is damaged",
            received=f"{path.parent} ({error!r})",
            accepted="config.json and preprocessor_config.json as the Hugging Face hub has them",
        ) from error
    return UNKNOWN


def inside(metadata: Mapping[str, str]) -> Card:
    """The card that `to_metadata` wrote.

    Raises:
        ValueError: it is damaged.
    """
    if "resnet_keras" not in metadata:
        return UNKNOWN
    told = json.loads(metadata["resnet_keras"])
    names = told["class_names"]
    return Card(
        None if names is None else tuple(names),
        Preprocessing(_triple(told["mean"]), _triple(told["std"])),
        float(told["bn_epsilon"]),
        int(told["stride_at"]),
    )


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


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            "the description of these weights is damaged",
            received=f"{path} ({error})",
            accepted="a JSON file as the Hugging Face hub has it",
        ) from error
    return content if isinstance(content, dict) else {}


def _of_transformers(config: dict[str, Any], preprocessor: dict[str, Any]) -> Card:
    names = None
    if told := config.get("id2label"):
        labels = {int(number): label for number, label in told.items()}
        # What transformers writes where nobody has named the classes.
        if any(label != f"LABEL_{number}" for number, label in labels.items()):
            names = tuple(labels[number] for number in range(len(labels)))
    preprocessing = None
    if "image_mean" in preprocessor and "image_std" in preprocessor:
        preprocessing = _of_unit_range(preprocessor["image_mean"], preprocessor["image_std"])
    # The attribute came after the first networks; without it the stride is on the 3x3.
    in_first = config.get("downsample_in_bottleneck", False)
    return Card(names, preprocessing, stride_at=0 if in_first else 1)


def _of_timm(config: dict[str, Any]) -> Card:
    told = config.get("pretrained_cfg", {})
    names = config.get("label_names")
    preprocessing = None
    if "mean" in told and "std" in told:
        preprocessing = _of_unit_range(told["mean"], told["std"])
    return Card(None if names is None else tuple(names), preprocessing, stride_at=1)


def _of_unit_range(mean: Any, std: Any) -> Preprocessing:
    """Of pixels 0..1, as torch's projects have them."""
    return Preprocessing(_triple(mean, 255), _triple(std, 255))


def _triple(values: Any, scale: float = 1) -> tuple[float, float, float]:
    red, green, blue = (float(value) * scale for value in values)
    return red, green, blue
