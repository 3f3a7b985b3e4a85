"""What stands beside weights, or inside their file, and is none: classes and preprocessing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from resnet_keras.architectures import Preprocessing
from resnet_keras.errors import InputError
from resnet_keras.weights import variants
from resnet_keras.weights.variants import (
    check_class,
    check_stated,
    check_torch_architecture,
    stated_in,
)

IMAGENET_CLASSES = 1000
ACTIVATIONS = ("softmax", "sigmoid", "linear")


@dataclass(frozen=True)
class Card:
    """What the publisher of weights tells about them; None where nothing is told.

    Attributes:
        class_names: in the order of the classifier's outputs.
        preprocessing: of the pixels.
        bn_epsilon: of the batch normalisations.
        stride_at: which convolution of a bottleneck carries the stride, see `Unit`.
        activation: of the classifier, one of `ACTIVATIONS`; other projects' logits are a softmax's.
    """

    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    bn_epsilon: float | None = None
    stride_at: int | None = None
    activation: str | None = None

    def or_else(self, other: "Card") -> "Card":
        """With what the other one tells where this one tells nothing."""
        mine = {name: value for name, value in vars(self).items() if value is not None}
        return Card(**(vars(other) | mine))


UNKNOWN = Card()


def beside(path: Path) -> Card:
    """The card of weights in a folder of the Hugging Face hub, or in a preset of KerasHub.

    It is read from config.json, preprocessor_config.json, task.json and image_converter.json. A
    config.json that states no architecture, as of a training script, says nothing.

    Args:
        path: the file of weights.

    Raises:
        InputError: one of the files is damaged, or states another network than those here.
    """
    config = _json(path.with_name("config.json"))
    with stated_in(path.parent):
        if is_of_keras_hub(config):
            task = _json(path.with_name("task.json"))
            return _of_keras_hub(task or config, _json(path.with_name("image_converter.json")))
        if isinstance(config.get("architecture"), str):
            return _of_timm(config)
        # A training script may call something its model_type; transformers states more.
        names = {"architectures", "transformers_version"}
        if config.get("model_type") == "resnet" or ("model_type" in config and names & set(config)):
            return _of_transformers(config, _json(path.with_name("preprocessor_config.json")))
    return UNKNOWN


def is_of_keras_hub(config: Mapping[str, Any]) -> bool:
    """Whether a model's description, as Keras serialises it, is of KerasHub."""
    return str(config.get("registered_name")).startswith("keras_hub>")


def of_keras_hub(model: Mapping[str, Any], where: str) -> Card:
    """The card of a network of KerasHub.

    Args:
        model: its description, as Keras serialises it: of a backbone or a classifier.
        where: the description comes from, for messages.

    Raises:
        InputError: it is another network than those here: V2, Vd, with a deep stem.
    """
    with stated_in(where):
        return _of_keras_hub(model, {})


def inside(path: Path, metadata: Mapping[str, str]) -> Card:
    """The card that `to_metadata` wrote.

    Args:
        path: of the file, for messages.
        metadata: of it.

    Raises:
        InputError: it is damaged.
    """
    if "resnet_keras" not in metadata:
        return UNKNOWN
    with stated_in(path):
        told = _parsed(path, metadata["resnet_keras"])
        names, stride_at = told["class_names"], told["stride_at"]
        activation = told.get("activation")  # which the first files lack
        if stride_at not in (0, 1) or activation not in (*ACTIVATIONS, None):
            raise ValueError(f"stride_at {stride_at!r}, activation {activation!r}")
        return Card(
            None if names is None else tuple(names),
            _preprocessing(told["mean"], told["std"]),
            float(told["bn_epsilon"]),
            stride_at,
            activation,
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
        "activation": card.activation,
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
    return _parsed(path, path.read_bytes()) if path.is_file() else {}


def _parsed(path: Path, text: str | bytes) -> dict[str, Any]:
    """JSON of a dict; another value says nothing."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the description of these weights is damaged",
            received=f"{path} ({error})",
            accepted="JSON, as the Hugging Face hub has it",
        ) from error
    return content if isinstance(content, dict) else {}


def _of_transformers(config: dict[str, Any], preprocessor: dict[str, Any]) -> Card:
    check_stated(config, variants.TRANSFORMERS_CONFIG)
    for name in config.get("architectures") or ():
        check_class(name, variants.TRANSFORMERS_CLASSES, "config.json")
    names = None
    if told := config.get("id2label"):
        labels = {int(number): label for number, label in told.items()}
        # What transformers writes where nobody has named the classes.
        if any(label != f"LABEL_{number}" for number, label in labels.items()):
            names = _in_order(labels)
    preprocessing = None
    if "image_mean" in preprocessor and "image_std" in preprocessor:
        preprocessing = _of_unit_range(preprocessor["image_mean"], preprocessor["image_std"])
    # The attribute came after the first networks; without it the stride is on the 3x3.
    in_first = config.get("downsample_in_bottleneck", False)
    is_multi_label = config.get("problem_type") == "multi_label_classification"
    return Card(
        names,
        preprocessing,
        stride_at=0 if in_first else 1,
        activation="sigmoid" if is_multi_label else None,
    )


def _of_timm(config: dict[str, Any]) -> Card:
    check_torch_architecture(config["architecture"], "config.json")
    check_stated(config, variants.TIMM_CONFIG)
    check_stated(config.get("model_args") or {}, variants.TIMM_ARGUMENTS)
    told = config.get("pretrained_cfg") or {}
    names = config.get("label_names")
    if isinstance(names, dict):  # by their numbers
        names = _in_order({int(number): name for number, name in names.items()})
    preprocessing = None
    if "mean" in told and "std" in told:
        preprocessing = _of_unit_range(told["mean"], told["std"])
    return Card(None if names is None else tuple(names), preprocessing, stride_at=1)


def _of_keras_hub(model: Mapping[str, Any], converter: Mapping[str, Any]) -> Card:
    """The image converter may stand apart, where the model is a backbone."""
    check_class(model["class_name"], variants.KERAS_HUB_CLASSES, "KerasHub's description")
    config, activation = model["config"], None
    if "backbone" in config:
        check_stated(config, variants.KERAS_HUB_CLASSIFIER)
        activation = "sigmoid" if config.get("activation") == "sigmoid" else None
        if preprocessor := config.get("preprocessor"):
            known = variants.KERAS_HUB_PREPROCESSORS
            check_class(preprocessor["class_name"], known, "KerasHub's classifier")
            converter = preprocessor["config"]["image_converter"] or {}
        backbone = config["backbone"]
        check_class(backbone["class_name"], variants.KERAS_HUB_CLASSES[:1], "KerasHub's classifier")
        config = backbone["config"]
    check_stated(config, variants.KERAS_HUB_BACKBONE)
    preprocessing = _of_converter(converter["config"]) if converter else None
    return Card(preprocessing=preprocessing, activation=activation)


def _of_converter(config: dict[str, Any]) -> Preprocessing:
    """Of KerasHub's image converter, which multiplies pixels 0..255 and adds an offset."""
    scale, offset = (
        [0.0 + part] * 3 if isinstance(part, int | float) else part
        for part in (config.get("scale") or 1.0, config.get("offset") or 0.0)
    )
    if "mean" in config and "variance" in config:  # as its first presets have it
        std = [math.sqrt(one) for one in config["variance"]]
        offset = [-mean / one for mean, one in zip(config["mean"], std, strict=True)]
        scale = [factor / one for factor, one in zip(scale, std, strict=True)]
    mean = [-shift / factor for shift, factor in zip(offset, scale, strict=True)]
    return _preprocessing(mean, [1 / factor for factor in scale])


def _of_unit_range(mean: Any, std: Any) -> Preprocessing:
    """Of pixels 0..1, as torch's projects have them."""
    return _preprocessing([255 * value for value in mean], [255 * value for value in std])


def _preprocessing(mean: Any, std: Any) -> Preprocessing:
    red, green, blue = (float(value) for value in mean)
    reds, greens, blues = (float(value) for value in std)
    if not all(map(math.isfinite, (red, green, blue))) or not min(reds, greens, blues) > 0:
        raise ValueError(f"mean {mean} and standard deviation {std}")
    return Preprocessing((red, green, blue), (reds, greens, blues))


def _in_order(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names[number] for number in range(len(names)))
