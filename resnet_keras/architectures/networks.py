"""The table of named networks, and the variants of each.

[1] He et al. 2016, "Deep Residual Learning"; [2] He et al. 2016, "Identity Mappings"; [3] Xie et
al. 2017, "Aggregated Residual Transformations"; [4] Srivastava et al. 2015, "Training Very Deep
Networks"; [5] Huang et al. 2017, "Densely Connected Convolutional Networks"; [6] Zhang et al. 2021,
"ResNet or DenseNet? Introducing Dense Shortcuts to ResNet"; [7] Huang et al. 2016, "Deep Networks
with Stochastic Depth"; [8] Srivastava et al. 2014, "Dropout".
"""

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from resnet_keras.architectures.architecture import Architecture
from resnet_keras.architectures.parts import (
    BASIC,
    BASIC_PREACTIVATED,
    BN_AFTER_ADDITION,
    BOTTLENECK,
    BOTTLENECK_PREACTIVATED,
    BOTTLENECK_V15,
    CIFAR_STEM,
    COURSE_DEFAULTS,
    COURSE_STEM,
    DENSE_BOTTLENECK,
    DENSE_TRANSITION,
    FULL_PREACTIVATION,
    HIGHWAY,
    HIGHWAY_TRANSITION,
    IMAGENET_STEM,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    LayerDefaults,
    Ordering,
    Preprocessing,
    Unit,
)
from resnet_keras.architectures.shortcuts import (
    CONCATENATION,
    NO_SHORTCUT,
    OPTION_A,
    OPTION_B,
    OPTION_C,
    SHORTCUT_OPTIONS,
    Gating,
    Manipulation,
    Scaling,
    Shortcut,
    ShortcutDropout,
)
from resnet_keras.errors import InputError, nearest

# [1, table 1]
RESNET18 = Architecture(IMAGENET_STEM, BASIC, OPTION_B, (2, 2, 2, 2), (64, 128, 256, 512))
RESNET34 = replace(RESNET18, blocks=(3, 4, 6, 3))
RESNET50 = replace(RESNET34, unit=BOTTLENECK)
RESNET101 = replace(RESNET50, blocks=(3, 4, 23, 3), numbered_stages=(3, 4))
RESNET152 = replace(RESNET101, blocks=(3, 8, 36, 3))

# [1, section 4.2]: 6n + 2 layers; preprocessing constants of CIFAR-10's training images.
RESNET20 = Architecture(
    CIFAR_STEM,
    BASIC,
    OPTION_A,
    (3, 3, 3),
    (16, 32, 64),
    preprocessing=Preprocessing(mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7)),
    input_size=32,
    classes=10,
)

RESNET50_COURSE = replace(
    RESNET50,
    stem=COURSE_STEM,
    defaults=COURSE_DEFAULTS,
    preprocessing=Preprocessing(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
    input_size=64,
    classes=6,
    head_window=2,
)


def _cifar(n: int, shortcut: Shortcut = OPTION_A) -> Architecture:
    return replace(RESNET20, blocks=(n, n, n), shortcut=shortcut)


# [1, section 4.2; 2, section 5]: 9n + 2 layers of bottlenecks.
RESNET164 = replace(_cifar(18, OPTION_B), unit=BOTTLENECK)
RESNET1001 = replace(RESNET164, blocks=(111, 111, 111))

RESNEXT50 = replace(
    RESNET50,
    unit=Unit(widths=(1, 1, 2), stride_at=1, groups=32),
    filters=(128, 256, 512, 1024),
)
# [3, section 5.3]
RESNEXT29 = replace(
    RESNET20,
    stem=replace(CIFAR_STEM, filters=64),
    unit=Unit(widths=(2, 2, 1), stride_at=1, groups=8),
    shortcut=OPTION_B,
    filters=(256, 512, 1024),
)

# [4, section 3.3.1, "Highway B"]: Fitnet 4 of Romero et al. 2015, with gates in all layers that do
# not change the channels. The head is that of [4, section 3.3.2], a 1x1 convolution and the global
# average, in place of Fitnet's fully connected layer; so the layers are 18, and not 19.
HIGHWAY19 = replace(
    RESNET20,
    stem=replace(CIFAR_STEM, filters=32),
    unit=HIGHWAY,
    shortcut=Shortcut("none", "identity"),
    blocks=(2, 2, 6, 6),
    filters=(32, 48, 80, 128),
    defaults=LayerDefaults(use_bias=True, normalized=False),
    transition=HIGHWAY_TRANSITION,
    unstrided_stages=(3,),
    manipulation=Gating(-1.0, gates_branch=True, kernel_size=3),
)


def _densenet(network: Architecture, blocks: tuple[int, ...], growth_rate: int) -> Architecture:
    """Architecture of a DenseNet-BC [5, section 3]; `blocks` has the layers of each dense block."""
    first, *others = blocks
    return replace(
        network,
        stem=replace(network.stem, filters=2 * growth_rate),
        unit=DENSE_BOTTLENECK,
        shortcut=CONCATENATION,
        blocks=(first, *(1 + count for count in others)),
        filters=(growth_rate,) * len(blocks),
        transition=DENSE_TRANSITION,
    )


def _cifar_densenet(depth: int, growth_rate: int) -> Architecture:
    """[5, table 2]: three dense blocks; the stem's output is neither normalised nor activated."""
    layers = (depth - 4) // 6
    network = replace(RESNET20, stem=replace(CIFAR_STEM, activated=False))
    return _densenet(network, (layers,) * 3, growth_rate)


@dataclass(frozen=True)
class Group:
    """Named networks that belong together.

    Attributes:
        title: what they have in common, and where they were published.
        purpose: what one takes them for.
        networks: by name.
    """

    title: str
    purpose: str
    networks: dict[str, Architecture]


FAMILY = (
    Group(
        "ResNets for photographs (He et al. 2016, table 1)",
        "images of some 224 pixels; 50 is what most work builds on",
        {
            "resnet18": RESNET18,
            "resnet34": RESNET34,
            "resnet50": RESNET50,
            "resnet101": RESNET101,
            "resnet152": RESNET152,
        },
    ),
    Group(
        "their v1.5, stride on the 3x3 (torchvision, NVIDIA)",
        "to compare with, or take weights from, other libraries",
        {
            "resnet50v1.5": replace(RESNET50, unit=BOTTLENECK_V15),
            "resnet101v1.5": replace(RESNET101, unit=BOTTLENECK_V15),
            "resnet152v1.5": replace(RESNET152, unit=BOTTLENECK_V15),
        },
    ),
    Group(
        "the course walkthrough's ResNet-50",
        "to follow the walkthrough, which counts 23,600,006 with the BN statistics",
        {"resnet50-course": RESNET50_COURSE},
    ),
    Group(
        "ResNets for small images (He et al. 2016, section 4.2)",
        "32 pixels; depth studied at little cost",
        {
            "resnet20": RESNET20,
            "resnet32": _cifar(5),
            "resnet44": _cifar(7),
            "resnet56": _cifar(9),
            "resnet110": _cifar(18),
            "resnet1202": _cifar(200),
            "resnet164": RESNET164,
            "resnet1001": RESNET1001,
            # Shallower than the paper's, by its rule of 6n + 2 layers.
            "resnet8": _cifar(1),
            "resnet14": _cifar(2),
        },
    ),
    Group(
        "plain networks, without shortcuts (He et al. 2016)",
        "to see the degradation problem",
        {
            "plain18": replace(RESNET18, shortcut=NO_SHORTCUT),
            "plain34": replace(RESNET34, shortcut=NO_SHORTCUT),
            "plain20": _cifar(3, NO_SHORTCUT),
            "plain32": _cifar(5, NO_SHORTCUT),
            "plain44": _cifar(7, NO_SHORTCUT),
            "plain56": _cifar(9, NO_SHORTCUT),
            "plain110": _cifar(18, NO_SHORTCUT),
        },
    ),
    Group(
        "full pre-activation (He et al. 2016, Identity Mappings)",
        "very deep networks that still train well",
        {
            "preresnet110": replace(_cifar(18), unit=BASIC_PREACTIVATED),
            "preresnet164": replace(RESNET164, unit=BOTTLENECK_PREACTIVATED),
            "preresnet1001": replace(RESNET1001, unit=BOTTLENECK_PREACTIVATED),
            "preresnet200": replace(RESNET152, blocks=(3, 24, 36, 3), unit=BOTTLENECK_PREACTIVATED),
        },
    ),
    Group(
        "ResNeXt (Xie et al. 2017)",
        "grouped convolutions: better at the same cost",
        {"resnext50-32x4d": RESNEXT50, "resnext29-8x64d": RESNEXT29},
    ),
    Group(
        "highway networks (Srivastava et al. 2015)",
        "gated shortcuts, which came before ResNet's",
        {"highway19": HIGHWAY19},
    ),
    Group(
        "DenseNet-BC (Huang et al. 2017)",
        "concatenation in place of addition: fewer parameters, more memory",
        {
            "densenet121": _densenet(RESNET18, (6, 12, 24, 16), 32),
            "densenet100-k12": _cifar_densenet(100, 12),
            "densenet250-k24": _cifar_densenet(250, 24),
            "densenet190-k40": _cifar_densenet(190, 40),
        },
    ),
)
NETWORKS = {name: network for group in FAMILY for name, network in group.networks.items()}


def _ordered(ordering: Ordering) -> Callable[[Architecture], Architecture]:
    return lambda network: replace(network, unit=replace(network.unit, ordering=ordering))


def _manipulated(manipulation: Manipulation) -> Callable[[Architecture], Architecture]:
    return lambda network: replace(network, manipulation=manipulation)


def _of_single_layers(network: Architecture) -> Architecture:
    """As deep as before, every convolution a unit of its own."""
    if network.transition:
        raise InputError(
            "only residual units can be divided into single layers",
            received="a network with transitions between its stages",
            accepted="a ResNet or a plain network",
        )
    layers = len(network.unit.widths)
    blocks = tuple(layers * count for count in network.blocks)
    return replace(network, unit=replace(network.unit, widths=(1,)), blocks=blocks)


def _without_normalization(network: Architecture) -> Architecture:
    return replace(network, defaults=replace(network.defaults, normalized=False, use_bias=True))


VARIANTS: dict[str, Callable[[Architecture], Architecture]] = {
    # [2, table 2]; full pre-activation goes by its own name in the tables above, too.
    "bn-after-addition": _ordered(BN_AFTER_ADDITION),
    "relu-before-addition": _ordered(RELU_BEFORE_ADDITION),
    "relu-only-preactivation": _ordered(RELU_ONLY_PREACTIVATION),
    "full-preactivation": _ordered(FULL_PREACTIVATION),
    # [2, table 1]
    "constant-scaling": _manipulated(Scaling(0.5, 0.5)),
    "shortcut-scaling": _manipulated(Scaling(0.5, 1.0)),
    "exclusive-gating-6": _manipulated(Gating(-6, gates_branch=True)),
    "exclusive-gating-7": _manipulated(Gating(-7, gates_branch=True)),
    "exclusive-gating-0": _manipulated(Gating(0, gates_branch=True)),
    "shortcut-gating-0": _manipulated(Gating(0, gates_branch=False)),
    "shortcut-gating-6": _manipulated(Gating(-6, gates_branch=False)),
    "conv-shortcut": lambda network: replace(network, shortcut=OPTION_C),
    "dropout-shortcut": _manipulated(ShortcutDropout(0.5)),
    # [6], in its units' outputs and with batch normalisation
    "dense-shortcuts": lambda network: replace(
        network, shortcut=replace(network.shortcut, elsewhere="dense")
    ),
    # Regularisers, each with the rate of its paper's experiments [7; 8].
    "stochastic-depth": lambda network: replace(network, final_survival=0.5),
    "dropout": lambda network: replace(network, head_dropout=0.5),
    # [1, section 3.2]
    "single-layer": _of_single_layers,
    # What [1, section 4.1] argues against: that plain networks fail for vanishing gradients.
    "without-bn": _without_normalization,
}
"""Changes to a network that the papers study. A variant bears its network's name before its own:
resnet110-bn-after-addition, plain20-without-bn; a gate's number is its bias, negated."""


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks that match a shell pattern, such as "*50*"."""
    return fnmatch.filter(NETWORKS, pattern)


def find(network: str, shortcut: str | None = None) -> Architecture:
    """The architecture of a network's name, with another shortcut option if one is named.

    Args:
        network: of `NETWORKS`, or one of them with a variant, as in "resnet110-dropout-shortcut".
        shortcut: "A", "B", "C", or None for the network's own.

    Raises:
        InputError: there is no such network (the nearest names are suggested) or no such option, or
            the network is a plain one, which has no shortcuts.
    """
    architecture = _named(network)
    if shortcut is None:
        return architecture
    if shortcut not in SHORTCUT_OPTIONS:
        raise InputError(
            "unknown shortcut option", received=repr(shortcut), accepted=", ".join(SHORTCUT_OPTIONS)
        )
    if not architecture.is_residual:
        raise InputError(
            "a plain network has no shortcuts",
            received=f"{network!r}, shortcut {shortcut!r}",
            accepted="no shortcut option, or a network with shortcuts",
        )
    return replace(architecture, shortcut=SHORTCUT_OPTIONS[shortcut])


def _named(network: str) -> Architecture:
    if network in NETWORKS:
        return NETWORKS[network]
    base = max((name for name in NETWORKS if network.startswith(f"{name}-")), key=len, default="")
    variants = {f"{base}-{variant}": change for variant, change in VARIANTS.items() if base}
    if network in variants:
        return variants[network](NETWORKS[base])
    raise InputError(
        "unknown network", received=repr(network), accepted=nearest(network, [*NETWORKS, *variants])
    )


def model_name(network: str) -> str:
    """The network's name as Keras and TensorFlow's scopes accept it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", network)
