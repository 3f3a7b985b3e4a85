"""The ResNet family as data: small frozen values, and one table of named networks.

A network is an `Architecture`, composed of a stem, a residual unit, a shortcut option and the
number of units in every stage; a variant is `dataclasses.replace(RESNET50, shortcut=OPTION_C)`.
Parameters and multiply-adds are computed from the same walk (`Architecture.units`) from which
`models.build` makes the layers, so they need no framework and no built model.

Sources: [1] He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016);
[2] the same, "Identity Mappings in Deep Residual Networks" (ECCV 2016); [3] Xie, Girshick, Dollár,
Tu, He, "Aggregated Residual Transformations for Deep Neural Networks" (CVPR 2017).
"""

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from string import ascii_lowercase
from typing import Literal

from resnet_keras.errors import InputError, nearest

ShortcutKind = Literal["none", "identity", "zero-padded", "projection"]
Step = Literal["bn", "relu"]


@dataclass(frozen=True)
class Stem:
    """The layers before the first residual unit: a convolution and, for large images, a max pool.

    Attributes:
        filters: channels that the convolution gives.
        kernel_size, stride: of the convolution, in pixels; the padding is kernel_size // 2.
        pool_size: side of the max pool's window (its stride is 2), or None for no pool.
        pool_padding: pixels of padding around the pool, on every side.
    """

    filters: int
    kernel_size: int
    stride: int = 1
    pool_size: int | None = None
    pool_padding: int = 0

    @property
    def total_stride(self) -> int:
        return self.stride * (2 if self.pool_size else 1)


@dataclass(frozen=True)
class Ordering:
    """Where batch normalisation and ReLU stand about a unit's convolutions and its addition.

    [2, figure 4 and table 2] draws the five that stand below. What a pre-activation puts before the
    first convolution is, in a network's first unit, what follows conv1, and once more follows the
    last unit's addition.

    Attributes:
        first: before the first convolution.
        between: between two convolutions.
        last: after the last convolution, before the addition.
        joined: after the addition.
    """

    first: tuple[Step, ...]
    between: tuple[Step, ...]
    last: tuple[Step, ...]
    joined: tuple[Step, ...]

    @property
    def is_preactivated(self) -> bool:
        """Whether normalisation comes before each convolution, and none after the last."""
        return "bn" not in self.last + self.joined


ORIGINAL = Ordering(first=(), between=("bn", "relu"), last=("bn",), joined=("relu",))
BN_AFTER_ADDITION = Ordering(first=(), between=("bn", "relu"), last=(), joined=("bn", "relu"))
RELU_BEFORE_ADDITION = Ordering(first=(), between=("bn", "relu"), last=("bn", "relu"), joined=())
RELU_ONLY_PREACTIVATION = Ordering(first=("relu",), between=("bn", "relu"), last=("bn",), joined=())
FULL_PREACTIVATION = Ordering(first=("bn", "relu"), between=("bn", "relu"), last=(), joined=())


@dataclass(frozen=True)
class Unit:
    """The residual function F of one unit: a chain of convolutions with BN and ReLU about them.

    Attributes:
        widths: filters of every convolution, as multiples of the stage's filters. Two
            convolutions make a basic unit, three a bottleneck [1, figure 5]; a single one makes
            the unit y = W1 x + x, of which [1, section 3.2] saw no advantage.
        kernel_size: side of all convolutions but a bottleneck's first and last, which are 1x1.
        stride_at: index of the convolution that carries a stage's stride: 0 in the paper and the
            course, 1 (the 3x3) in "v1.5".
        ordering: of convolutions, batch normalisations and ReLUs.
        groups: of the bottleneck's middle convolution; more than one makes a ResNeXt [3].
    """

    widths: tuple[int, ...]
    kernel_size: int = 3
    stride_at: int = 0
    ordering: Ordering = ORIGINAL
    groups: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.ordering, Ordering):
            raise InputError(
                "ordering has the wrong type",
                received=repr(self.ordering),
                accepted="a value of architectures.Ordering, such as FULL_PREACTIVATION",
            )

    def filters(self, stage_filters: int) -> tuple[int, ...]:
        return tuple(width * stage_filters for width in self.widths)

    def dilations(self, before: int, after: int) -> tuple[int, ...]:
        """Of every convolution: `before` up to the one that may carry a stride, then `after`."""
        return tuple(
            before if index <= self.stride_at else after for index in range(len(self.widths))
        )


@dataclass(frozen=True)
class Shortcut:
    """Which shortcut a unit gets where its input and output differ in shape, and elsewhere.

    [1, section 3.3, "Plain Network" and "Residual Network"; table 3] names the options A, B and C.
    """

    where_shape_changes: ShortcutKind
    elsewhere: ShortcutKind

    def kind(self, shape_changes: bool) -> ShortcutKind:
        return self.where_shape_changes if shape_changes else self.elsewhere


@dataclass(frozen=True)
class Scaling:
    """Shortcut and residual branch times constants, before they are added [2, section 3.1]."""

    shortcut: float = 0.5
    branch: float = 0.5


@dataclass(frozen=True)
class Gating:
    """A gate g(x) = sigmoid(1x1 convolution of x): the shortcut times 1 - g [2, section 3.1].

    Attributes:
        bias: that the convolution starts from; the lower, the wider the shortcut is open.
        gates_branch: whether the branch is multiplied by g ("exclusive gating", as in highway
            networks) or not ("shortcut-only gating").
    """

    bias: float
    gates_branch: bool


@dataclass(frozen=True)
class ShortcutDropout:
    """Dropout on the shortcut [2, section 3.1]."""

    rate: float = 0.5


@dataclass(frozen=True)
class Junction:
    """How a unit's residual branch and shortcut become its output. Both papers add them.

    Attributes:
        manipulation: what is done to a shortcut without convolution; by [2, table 1] nothing should
            be.
        drop_rate: probability that the branch is left out in a training step, for the whole batch:
            stochastic depth (Huang et al. 2016). What is kept is divided by 1 - drop_rate, so that
            inference needs no scaling.
    """

    manipulation: Scaling | Gating | ShortcutDropout | None = None
    drop_rate: float = 0.0


@dataclass(frozen=True)
class Style:
    """What all convolutions and normalisations of one network have in common.

    Attributes:
        use_bias: whether convolutions carry a bias (the course's do, the papers' do not).
        normalized: whether there is any batch normalisation.
        bn_epsilon, bn_momentum: of every batch normalisation.
        bn_synchronized: whether each replica of TensorFlow's strategies normalises by the
            statistics of all replicas' images together, rather than by those of its own.
        zero_init_last_gamma: start every residual branch at zero by a zero gamma in its last batch
            normalisation (Goyal et al. 2017, section 5.1), so that units begin as the identity. An
            ordering that does not end the branch in one is left as it is.
    """

    use_bias: bool = False
    normalized: bool = True
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    bn_synchronized: bool = False
    zero_init_last_gamma: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation of each channel (red, green, blue), in pixel values 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not min(self.std) > 0:
            raise InputError(
                "a standard deviation of pixels is out of range",
                received=self.std,
                accepted="numbers above 0",
            )


@dataclass(frozen=True)
class ResidualUnit:
    """One residual unit in its place in a network, as `Architecture.units` walks them.

    Attributes:
        stage: the stage's number in the paper's tables; the stem is stage 1.
        block: the unit's label within its stage: a, b, c, … or a, b1, b2, …
        in_filters: channels of its input.
        filters: channels that each of its convolutions gives.
        stride: of the whole unit.
        dilations: pixels from one tap of each of its convolutions to the next.
        shortcut: what carries the input to the addition.
        ordering: of this unit; the network's first has no pre-activation of its own.
        junction: of branch and shortcut.
    """

    stage: int
    block: str
    in_filters: int
    filters: tuple[int, ...]
    stride: int
    dilations: tuple[int, ...]
    shortcut: ShortcutKind
    ordering: Ordering
    junction: Junction

    @property
    def is_gated(self) -> bool:
        return self.shortcut in ("identity", "zero-padded") and isinstance(
            self.junction.manipulation, Gating
        )

    def normalized_channels(self) -> int:
        """Channels of all its batch normalisations together."""
        steps_and_channels = [
            (self.ordering.first, self.in_filters),
            *((self.ordering.between, filters) for filters in self.filters[:-1]),
            (self.ordering.last, self.filters[-1]),
            (self.ordering.joined, self.filters[-1]),
        ]
        if self.shortcut == "projection" and not self.ordering.is_preactivated:
            steps_and_channels.append((("bn",), self.filters[-1]))
        return sum(channels for steps, channels in steps_and_channels if "bn" in steps)


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a network: those that training changes, and the BN statistics it does not."""

    trainable: int
    non_trainable: int

    @property
    def total(self) -> int:
        return self.trainable + self.non_trainable


@dataclass(frozen=True)
class Architecture:
    """Everything that tells one network of the family from another.

    Attributes:
        stem, unit, shortcut, style, preprocessing: the parts.
        blocks: residual units in each stage, from stage 2 on.
        filters: the filters that `unit.widths` multiplies, in each stage.
        input_size: side of the square images that the network was published with, in pixels.
        classes: the number of classes that it was published with.
        numbered_stages: stages that label their units a, b1, b2, … as the Caffe release of the
            101- and 152-layer nets does; others use letters, as long as the alphabet lasts.
        manipulation: of the shortcuts, see `Junction`.
        final_survival: probability that the last unit's branch is kept in a training step; those of
            the units before it fall linearly from 1 (Huang et al. 2016, equation 4).
        head_window: side of the window that is averaged before the classifier; None averages the
            whole map. The course averages 2x2 and flattens.
        output_stride: pixels of the image from one place of the last map to the next, if fewer than
            the stages would come to: one of `undilated_strides`. Stages that would go beyond have
            no stride, and what comes after their stride is dilated in its place (Chen et al. 2018,
            "DeepLab", section 3.1; Yu et al. 2017, "Dilated Residual Networks", section 2). The
            weights are the same, and every second place (or fourth, …) of a map is what the network
            without dilation gives.
    """

    stem: Stem
    unit: Unit
    shortcut: Shortcut
    blocks: tuple[int, ...]
    filters: tuple[int, ...]
    style: Style = field(default_factory=Style)
    preprocessing: Preprocessing = Preprocessing(
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
    )
    input_size: int = 224
    classes: int = 1000
    numbered_stages: tuple[int, ...] = ()
    manipulation: Scaling | Gating | ShortcutDropout | None = None
    final_survival: float = 1.0
    head_window: int | None = None
    output_stride: int | None = None

    def __post_init__(self) -> None:
        if not self.blocks or len(self.blocks) != len(self.filters) or min(self.blocks) < 1:
            raise InputError(
                "blocks and filters do not describe the same stages",
                received=f"blocks={self.blocks}, filters={self.filters}",
                accepted="one positive number in each of them for every stage",
            )
        for name, kind in (("unit", Unit), ("shortcut", Shortcut), ("stem", Stem)):
            if not isinstance(getattr(self, name), kind):
                raise InputError(
                    f"{name} has the wrong type",
                    received=repr(getattr(self, name)),
                    accepted=f"a value of architectures.{kind.__name__}",
                )
        if not 0 < self.final_survival <= 1:
            raise InputError(
                "final_survival is out of range",
                received=self.final_survival,
                accepted="a number in (0, 1]",
            )
        if (self.manipulation or self.final_survival < 1) and not self.is_residual:
            raise InputError(
                "manipulations and stochastic depth need shortcuts",
                received="a plain network",
                accepted="networks with shortcuts",
            )
        if self.manipulation and self.shortcut == OPTION_C:
            raise InputError(
                "manipulations need shortcuts without a convolution",
                received="option C, which projects everywhere",
                accepted="options A and B",
            )
        if self.style.zero_init_last_gamma and not self.is_residual:
            raise InputError(
                "zero_init_last_gamma needs shortcuts, or every unit outputs zeros",
                received="a plain network",
                accepted="networks with shortcuts",
            )
        if self.output_stride not in (None, *self.undilated_strides):
            raise InputError(
                "no stage of the network has this output_stride",
                received=self.output_stride,
                accepted=", ".join(map(str, self.undilated_strides)),
            )

    def adapted(self, preprocessing: Preprocessing, bn_epsilon: float) -> "Architecture":
        """The same network as weights want it that were trained with these."""
        style = replace(self.style, bn_epsilon=bn_epsilon)
        return replace(self, preprocessing=preprocessing, style=style)

    @property
    def is_residual(self) -> bool:
        return self.shortcut != NO_SHORTCUT

    @property
    def undilated_strides(self) -> tuple[int, ...]:
        """What `strides` are where `output_stride` cuts none."""
        return tuple(self.stem.total_stride * 2**index for index in range(len(self.blocks)))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image from one place of a map to the next, at the end of every stage."""
        return tuple(min(stride, self.output_stride or stride) for stride in self.undilated_strides)

    @property
    def total_stride(self) -> int:
        return self.strides[-1]

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the map at the end of every stage."""
        return tuple(self.unit.filters(filters)[-1] for filters in self.filters)

    @property
    def out_filters(self) -> int:
        """Channels of the last stage's output."""
        return self.channels[-1]

    @property
    def depth(self) -> int:
        """Weighted layers on the longest path, as the papers count them."""
        return 2 + sum(self.blocks) * len(self.unit.widths)

    @property
    def minimum_input_size(self) -> int:
        """The smallest side, in pixels, whose last map still fills the head's window."""
        size = self.total_stride
        while self.map_size(size) < (self.head_window or 1):
            size += 1
        return size

    def check_sides(self, *sides: int | None) -> None:
        """Raises InputError if an image's height or width in pixels is too small; None is open."""
        minimum = self.minimum_input_size
        if any(side is not None and side < minimum for side in sides):
            raise InputError(
                "the image is too small for the network",
                received=f"{'x'.join(map(str, sides))} pixels",
                accepted=f"at least {minimum}x{minimum}",
            )

    def units(self) -> Iterator[ResidualUnit]:
        """Walks the residual units from the stem to the head."""
        in_filters = self.stem.filters
        in_stride, in_dilation = self.stem.total_stride, 1
        ordering = replace(self.unit.ordering, first=())
        walked = 0
        for stage, (count, stage_filters, stride, undilated) in enumerate(
            zip(self.blocks, self.filters, self.strides, self.undilated_strides, strict=True),
            start=2,
        ):
            filters = self.unit.filters(stage_filters)
            dilation = undilated // stride
            for block in self._labels(stage, count):
                # By the network without dilation, whose weights, projections' too, this one takes.
                coarsens = undilated > in_stride * in_dilation
                kind = self.shortcut.kind(coarsens or in_filters != filters[-1])
                walked += 1
                drop_rate = walked / sum(self.blocks) * (1 - self.final_survival)
                yield ResidualUnit(
                    stage,
                    block,
                    in_filters,
                    filters,
                    stride // in_stride,
                    self.unit.dilations(in_dilation, dilation),
                    kind,
                    ordering,
                    Junction(self.manipulation, drop_rate),
                )
                in_filters, in_stride, in_dilation = filters[-1], stride, dilation
                ordering = self.unit.ordering

    def _labels(self, stage: int, count: int) -> list[str]:
        if stage in self.numbered_stages or count > len(ascii_lowercase):
            return ["a", *(f"b{index}" for index in range(1, count))]
        return list(ascii_lowercase[:count])

    def stem_map_sizes(self, size: int) -> tuple[int, int]:
        """Side of the stem's map after its convolution and after its pool, for an image's side."""
        convolved = strided_size(size, self.stem.stride)
        if self.stem.pool_size is None:
            return convolved, convolved
        return convolved, (convolved + 2 * self.stem.pool_padding - self.stem.pool_size) // 2 + 1

    def map_size(self, size: int) -> int:
        """Side of the last stage's map for an image's side, in pixels."""
        size = self.stem_map_sizes(size)[1]
        for before, stride in pairwise(self.strides):
            size = strided_size(size, stride // before)
        return size

    def head_features(self, input_size: int) -> int:
        """Length of the vector that the classifier takes."""
        windows = self.map_size(input_size) // self.head_window if self.head_window else 1
        return windows**2 * self.out_filters

    def parameters(
        self, classes: int | None = None, input_size: int | None = None
    ) -> ParameterCount:
        """Counts the network's parameters.

        Args:
            classes: of the classifier; the published number if None.
            input_size: side of the image in pixels; it matters only to a head with a window.
        """
        classes = self.classes if classes is None else classes
        bias = int(self.style.use_bias)
        features = self.head_features(input_size or self.input_size)
        normalized = self._normalized_channels() if self.style.normalized else 0
        trainable = (features + 1) * classes + 2 * normalized
        for convolution in self._convolutions(self.input_size):
            trainable += convolution.weights + bias * convolution.filters
        if not bias:  # a gate has one all the same
            trainable += sum(unit.filters[-1] for unit in self.units() if unit.is_gated)
        return ParameterCount(trainable, 2 * normalized)

    def _normalized_channels(self) -> int:
        channels = self.stem.filters + sum(unit.normalized_channels() for unit in self.units())
        return channels + (self.out_filters if "bn" in self.unit.ordering.first else 0)

    def multiply_adds(self, input_size: int | None = None, classes: int | None = None) -> int:
        """Counts the multiply-adds (the papers' "FLOPs") of one image's forward pass.

        Convolutions and the classifier are counted, as in [1, table 1]; the square image's side is
        the published one if None.
        """
        size = input_size or self.input_size
        classes = self.classes if classes is None else classes
        classifier = self.head_features(size) * classes
        return classifier + sum(
            convolution.weights * convolution.out_size**2
            for convolution in self._convolutions(size)
        )

    def _convolutions(self, size: int) -> "Iterator[_Convolution]":
        convolved, size = self.stem_map_sizes(size)
        yield _Convolution(self.stem.kernel_size, 3, self.stem.filters, convolved)
        for unit in self.units():
            out_size = strided_size(size, unit.stride)
            kernels = kernel_sizes(self.unit.kernel_size, len(unit.filters))
            channels = unit.in_filters
            for index, (kernel, filters) in enumerate(zip(kernels, unit.filters, strict=True)):
                map_size = size if index < self.unit.stride_at else out_size
                groups = self.unit.groups if is_grouped(index, len(unit.filters)) else 1
                yield _Convolution(kernel, channels, filters, map_size, groups)
                channels = filters
            if unit.shortcut == "projection" or unit.is_gated:
                yield _Convolution(1, unit.in_filters, channels, out_size)
            size = out_size


@dataclass(frozen=True)
class _Convolution:
    """What counting needs to know of one convolution."""

    kernel_size: int
    in_filters: int
    filters: int
    out_size: int
    groups: int = 1

    @property
    def weights(self) -> int:
        return self.kernel_size**2 * self.in_filters * self.filters // self.groups


def kernel_sizes(f: int, convolutions: int) -> tuple[int, ...]:
    """The kernels of a unit: f, f in a basic one; 1, f, 1 in a bottleneck; f in a single layer."""
    if convolutions not in (1, 2, 3):
        raise InputError(
            "a unit cannot have this number of convolutions",
            received=f"filters for {convolutions}",
            accepted="filters for 2 (basic), 3 (bottleneck) or 1 (a single layer)",
        )
    return (1, f, 1) if convolutions == 3 else convolutions * (f,)


def is_grouped(index: int, convolutions: int) -> bool:
    """Whether a unit's groups apply to this one of its convolutions: a bottleneck's middle one."""
    return convolutions == 3 and index == 1


def strided_size(size: int, stride: int) -> int:
    """Side of a map after a convolution with odd kernel k and k // 2 of padding on both sides."""
    return (size - 1) // stride + 1


IMAGENET_STEM = Stem(64, kernel_size=7, stride=2, pool_size=3, pool_padding=1)
CIFAR_STEM = Stem(16, kernel_size=3)
COURSE_STEM = replace(IMAGENET_STEM, pool_padding=0)

BASIC = Unit(widths=(1, 1))
BOTTLENECK = Unit(widths=(1, 1, 4))
BOTTLENECK_V15 = replace(BOTTLENECK, stride_at=1)
BASIC_PREACTIVATED = replace(BASIC, ordering=FULL_PREACTIVATION)
BOTTLENECK_PREACTIVATED = replace(BOTTLENECK, ordering=FULL_PREACTIVATION)

ADDITION = Junction()
NO_SHORTCUT = Shortcut("none", "none")
OPTION_A = Shortcut("zero-padded", "identity")
OPTION_B = Shortcut("projection", "identity")
OPTION_C = Shortcut("projection", "projection")
SHORTCUT_OPTIONS = {"A": OPTION_A, "B": OPTION_B, "C": OPTION_C}

COURSE_STYLE = Style(use_bias=True, bn_epsilon=1e-3, bn_momentum=0.99)

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
    style=COURSE_STYLE,
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
)
NETWORKS = {name: network for group in FAMILY for name, network in group.networks.items()}


def _ordered(ordering: Ordering) -> Callable[[Architecture], Architecture]:
    return lambda network: replace(network, unit=replace(network.unit, ordering=ordering))


def _manipulated(
    manipulation: Scaling | Gating | ShortcutDropout,
) -> Callable[[Architecture], Architecture]:
    return lambda network: replace(network, manipulation=manipulation)


def _of_single_layers(network: Architecture) -> Architecture:
    """As deep as before, every convolution a unit of its own."""
    layers = len(network.unit.widths)
    blocks = tuple(layers * count for count in network.blocks)
    return replace(network, unit=replace(network.unit, widths=(1,)), blocks=blocks)


def _without_normalization(network: Architecture) -> Architecture:
    return replace(network, style=replace(network.style, normalized=False, use_bias=True))


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
