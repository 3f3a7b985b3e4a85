"""What stands beside weights, or inside their file, and is none: classes and preprocessing."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from resnet_keras.architectures import Preprocessing
from resnet_keras.files import structured
from resnet_keras.files.structured import JsonObject
from resnet_keras.weights import variants
from resnet_keras.weights.variants import (
    check_class,
    check_stated,
    check_torch_architecture,
    stated_in,
)

ACCEPTED = "the file as its publisher has it"
IMAGENET_CLASSES = 1000

Activation = Literal["softmax", "sigmoid", "linear"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Triple = tuple[float, float, float]


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

    It is in config.json, preprocessor_config.json, task.json and image_converter.json. A
    config.json of a training script, which states no architecture, says nothing.

    Args:
        path: the file of weights.

    Raises:
        InputError: one of the files is damaged, or states another network than those here.
    """
    file = path.with_name("config.json")
    config = _object(file)
    if is_of_keras_hub(config):
        task = _object(path.with_name("task.json"))
        converter = _object(path.with_name("image_converter.json"))
        with stated_in(path.parent):
            return _of_keras_hub(task or config, converter)
    if isinstance(config.get("architecture"), str):
        return _of_timm(config, file)
    # A training script may call something its model_type; transformers states more.
    names = {"architectures", "transformers_version"}
    if config.get("model_type") == "resnet" or ("model_type" in config and names & set(config)):
        return _of_transformers(config, file)
    return UNKNOWN


def is_of_keras_hub(config: JsonObject) -> bool:
    """Whether a model's description, as Keras serialises it, is of KerasHub."""
    return str(config.get("registered_name")).startswith("keras_hub>")


def of_keras_hub(model: JsonObject, where: str) -> Card:
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
    accepted = "the file that convert wrote"
    told = structured.parse(metadata["resnet_keras"], _Metadata, path, accepted)
    preprocessing = _preprocessing(told.mean, told.std)
    return Card(told.class_names, preprocessing, told.bn_epsilon, told.stride_at, told.activation)


@dataclass(frozen=True)
class _Metadata:
    """What `to_metadata` writes; the first files lack the activation."""

    class_names: tuple[str, ...] | None
    mean: Triple
    std: Triple
    bn_epsilon: float
    stride_at: Literal[0, 1]
    activation: Activation | None = None

    def __post_init__(self) -> None:
        _preprocessing(self.mean, self.std)


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


def _object(path: Path) -> JsonObject:
    """A JSON file's object; an empty one where there is no file, or nothing of the kind in it."""
    content = structured.read(path, object, ACCEPTED) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class _Transformers:
    """What counts of config.json by transformers.

    `downsample_in_bottleneck` came after the first networks; without it the stride is on the 3x3.
    """

    architectures: tuple[str, ...] | None = None
    id2label: dict[int, str] | None = None
    downsample_in_bottleneck: bool = False
    problem_type: str | None = None

    def __post_init__(self) -> None:
        _in_order(self.id2label or {})


@dataclass(frozen=True)
class _Preprocessor:
    """What counts of preprocessor_config.json by transformers, of pixels 0..1."""

    image_mean: Triple | None = None
    image_std: Triple | None = None

    def __post_init__(self) -> None:
        _of_unit_range(self.image_mean, self.image_std)


def _of_transformers(content: JsonObject, path: Path) -> Card:
    config = structured.convert(content, _Transformers, path, ACCEPTED, extra="ignore")
    with stated_in(path.parent):
        check_stated(content, variants.TRANSFORMERS_CONFIG)
        for name in config.architectures or ():
            check_class(name, variants.TRANSFORMERS_CLASSES, "config.json")
    labels, names = config.id2label or {}, None
    # What transformers writes where nobody has named the classes.
    if any(label != f"LABEL_{number}" for number, label in labels.items()):
        names = _in_order(labels)
    path = path.with_name("preprocessor_config.json")
    pixels = structured.convert(_object(path), _Preprocessor, path, ACCEPTED, extra="ignore")
    is_multi_label = config.problem_type == "multi_label_classification"
    return Card(
        names,
        _of_unit_range(pixels.image_mean, pixels.image_std),
        stride_at=0 if config.downsample_in_bottleneck else 1,
        activation="sigmoid" if is_multi_label else None,
    )


@dataclass(frozen=True)
class _Pretrained:
    """The part of config.json by timm that tells the preprocessing, of pixels 0..1."""

    mean: Triple | None = None
    std: Triple | None = None

    def __post_init__(self) -> None:
        _of_unit_range(self.mean, self.std)


@dataclass(frozen=True)
class _Timm:
    """What counts of config.json by timm; the names of classes in order, or by their numbers."""

    architecture: str
    label_names: tuple[str, ...] | dict[int, str] | None = None
    model_args: JsonObject | None = None
    pretrained_cfg: _Pretrained | None = None

    def __post_init__(self) -> None:
        if isinstance(self.label_names, dict):
            _in_order(self.label_names)


def _of_timm(content: JsonObject, path: Path) -> Card:
    config = structured.convert(content, _Timm, path, ACCEPTED, extra="ignore")
    with stated_in(path.parent):
        check_torch_architecture(config.architecture, "config.json")
        check_stated(content, variants.TIMM_CONFIG)
        check_stated(config.model_args or {}, variants.TIMM_ARGUMENTS)
    pixels = config.pretrained_cfg or _Pretrained()
    names = config.label_names
    return Card(
        _in_order(names) if isinstance(names, dict) else names,
        _of_unit_range(pixels.mean, pixels.std),
        stride_at=1,
    )


def _of_keras_hub(model: JsonObject, converter: JsonObject) -> Card:
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


def _of_converter(config: JsonObject) -> Preprocessing:
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


def _of_unit_range(mean: Triple | None, std: Triple | None) -> Preprocessing | None:
    """Of pixels 0..1, as torch's projects have them."""
    if mean is None or std is None:
        return None
    return _preprocessing([255 * value for value in mean], [255 * value for value in std])


def _preprocessing(mean: Iterable[float], std: Iterable[float]) -> Preprocessing:
    red, green, blue = (float(value) for value in mean)
    reds, greens, blues = (float(value) for value in std)
    return Preprocessing((red, green, blue), (reds, greens, blues))


def _in_order(names: Mapping[int, str]) -> tuple[str, ...]:
    if names.keys() != {*range(len(names))}:
        raise ValueError("the classes are not counted from 0 on")
    return tuple(names[number] for number in range(len(names)))
