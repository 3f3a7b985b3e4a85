"""ResNets that compute something else than the networks here, by what tells them apart.

Weights of many of them have the names and shapes of a network here, and would load. So what a
source states about its network is compared with lists of what is accepted; and names that only
such a network has are told as what they are.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resnet_keras.architectures import NETWORKS
from resnet_keras.errors import InputError


@dataclass(frozen=True)
class Statement:
    """Where a source states something about its network, and what of it is accepted.

    Attributes:
        where: it stands, such as "config.json".
        accepted: values of each setting that changes what a network computes. A setting that is
            not stated has its default, which is accepted.
        others: settings that may have any value: shapes tell them, or training alone heeds them.
            None for all others, where many facts are stated that are no arguments of the network.
        names: of the networks that other values make, for messages.
    """

    where: str
    accepted: Mapping[str, Collection[object]]
    others: Collection[str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def check_stated(stated: Mapping[str, object], statement: Statement) -> None:
    """Refuses a setting with which a network computes something else than those here.

    Raises:
        InputError: the first such setting, its value and the accepted values.
    """
    for name, values in statement.accepted.items():
        if name in stated and stated[name] not in values:
            kind = f", {statement.names[name]}" if name in statement.names else ""
            accepted = " or ".join(repr(value) for value in values)
            raise _stated_other(statement.where, f"{name}: {stated[name]!r}{kind}", accepted)
    for name in stated:
        if statement.others is not None and name not in {*statement.accepted, *statement.others}:
            known = ", ".join([*statement.accepted, *statement.others])
            raise _stated_other(statement.where, f"{name}: {stated[name]!r}", f"settings {known}")


@contextmanager
def stated_in(where: Path | str) -> Iterator[None]:
    """Names the source of what is compared inside, and tells a description of another shape.

    Args:
        where: a file, a folder or a model.

    Raises:
        InputError: one was raised inside, or Python's own error about what was read.
    """
    try:
        yield
    except InputError as error:
        raise error.within(where) from error
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the description of these weights is damaged",
            received=f"{where} ({error!r})",
            accepted="what timm, transformers, KerasHub or convert write",
        ) from error


TRANSFORMERS_CONFIG = Statement(
    "config.json",
    {
        "model_type": ("resnet",),
        "hidden_act": ("relu",),
        "downsample_in_first_stage": (False,),
        "downsample_in_bottleneck": (False, True),
    },
)
TRANSFORMERS_CLASSES = ("ResNetForImageClassification", "ResNetModel", "ResNetBackbone")

_POOLS = ("avg", "fast", "fastavg", "", None)
TIMM_CONFIG = Statement("config.json", {"global_pool": _POOLS})
TIMM_SCRIPT = Statement("the checkpoint's 'args'", {"gp": _POOLS, "bn_eps": (1e-5, None)})
TIMM_ARGUMENTS = Statement(
    "model_args of timm",
    {
        "act_layer": ("relu", None),
        "norm_layer": ("batchnorm", "batchnorm2d", None),
        "aa_layer": ("", None),
        "avg_down": (False, None),
        "block_args": ({}, None),
        "block_reduce_first": (1,),
        "down_kernel_size": (1,),
        "global_pool": _POOLS,
        "output_stride": (32,),
        "replace_stem_pool": (False, None),
        "stem_type": ("", None),
    },
    others=(
        *("num_classes", "in_chans", "layers", "channels", "cardinality"),
        *("base_width", "stem_width", "drop_rate", "drop_path_rate", "drop_block_rate"),
        *("zero_init_last", "pretrained", "checkpoint_path", "scriptable", "exportable"),
    ),
)

KERAS_HUB_CLASSES = ("ResNetBackbone", "ResNetImageClassifier")
KERAS_HUB_PREPROCESSORS = ("ResNetImageClassifierPreprocessor", "ImageClassifierPreprocessor")
KERAS_HUB_BACKBONE = Statement(
    "KerasHub's backbone",
    {
        "block_type": ("basic_block", "bottleneck_block"),
        "use_pre_activation": (False,),
        "input_conv_kernel_sizes": ([7],),
        "stackwise_num_strides": [[1, *[2] * count] for count in range(4)],
    },
    others=(
        *("name", "trainable", "dtype", "image_shape", "data_format", "input_conv_filters"),
        *("stackwise_num_filters", "stackwise_num_blocks"),
    ),
    names={
        "block_type": "as in ResNet-Vd",
        "use_pre_activation": "as in ResNet V2",
        "input_conv_kernel_sizes": "a deep stem, as in ResNet-D and -Vd",
    },
)
KERAS_HUB_CLASSIFIER = Statement(
    "KerasHub's classifier",
    {"pooling": ("avg",), "activation": (None, "linear", "softmax", "sigmoid")},
    others=(
        *("name", "trainable", "dtype", "head_dtype", "num_classes", "dropout"),
        *("backbone", "preprocessor"),  # which are compared by themselves
    ),
)

# Of timm and of torchvision, which share the names: the plain stem, original units, strides on the
# 3x3. Letters after a depth (50d, 50t, 50c, 50_gn, 33ts, 51q) and before it (seresnet, resnetaa,
# resnetblur, resnetrs, resnetv2) name other networks.
_TORCH_ARCHITECTURE = re.compile(
    r"(tv_|gluon_|ssl_|swsl_|ig_)?"
    r"(resnet(18|26|34|50|101|152|200)(_v1b)?|wide_resnet(50|101)_2"
    r"|resnext(26|50|101)_(32x4d|32x8d|64x4d|32x16d|32x32d|32x48d))"
)


def check_torch_architecture(name: str, where: str) -> None:
    """Refuses an architecture of timm or torchvision that is none here.

    Args:
        name: as the source states it, perhaps with timm's tag: "resnet50.a1_in1k".
        where: it is stated, such as "config.json".

    Raises:
        InputError: it is another network.
    """
    if name in NETWORKS or _TORCH_ARCHITECTURE.fullmatch(name.partition(".")[0]):
        return
    raise _stated_other(
        where,
        f"architecture {name!r}",
        "resnet18, 34, 50, 101 and 152, wide_resnet and resnext of torchvision or timm, "
        "without letters before and after",
    )


def check_class(name: str, accepted: Collection[str], where: str) -> None:
    """Refuses a class of another project that is no network of ours.

    Raises:
        InputError: it is not among the accepted ones.
    """
    if name not in accepted:
        raise _stated_other(where, f"class {name!r}", ", ".join(accepted))


def _stated_other(where: str, received: str, accepted: str) -> InputError:
    return InputError(
        f"{where} states another network than those here", received=received, accepted=accepted
    )


# Names of layers and arrays that no network here has, and what they tell.
_MARKS = (
    (r"preact|pre_activation|post_bn$|^stages\.\d+\.blocks\.\d+\.norm\d|^bit\.",
     "ResNet V2 has pre-activated units in another order than the networks here"),
    (r"^conv1\.[2-9]|^conv[23]_conv$|^stem\.conv[2-9]",
     "the stem has several convolutions (a deep stem, as in ResNet-C, -D and -T)"),
    (r"downsample\.2\.", "the shortcuts average before they project (ResNet-D)"),
    (r"(^|[._])(se|eca|cbam|attn)([._]|$)", "the units have channel attention (SE, ECA or CBAM)"),
    (r"(^|[._])gn\d*([._]|$)|group_?norm", "the network has group normalisation"),
)  # fmt: skip


def check_marks(names: Iterable[str]) -> None:
    """Refuses weights whose names tell that they are of a ResNet of another kind.

    Args:
        names: of layers, or of torch's arrays.

    Raises:
        InputError: with the kind.
    """
    names = list(names)
    for mark, kind in _MARKS:
        for name in names:
            if re.search(mark, name):
                raise _other_kind(kind, name)
    if "bn1.weight" in names and not any(name.endswith(".running_mean") for name in names):
        raise _other_kind(
            "the normalisations have no moving statistics (group or layer normalisation)",
            "bn1.weight and no running_mean",
        )


def _other_kind(kind: str, name: str) -> InputError:
    return InputError(
        kind,
        received=name,
        accepted="weights of the original ResNet (V1): one 7x7 or 3x3 convolution as stem, "
        "batch normalisation after every convolution",
    )
