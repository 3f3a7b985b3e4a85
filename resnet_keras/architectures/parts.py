"""The parts that a network is composed of, as frozen values: stem, unit, shortcut, defaults.

[1] He et al. 2016, "Deep Residual Learning"; [2] He et al. 2016, "Identity Mappings"; [3] Xie et
al. 2017, "Aggregated Residual Transformations".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, prod
from typing import Literal

from resnet_keras.errors import InputError

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

    @property
    def convolution(self) -> "Convolution":
        """Of RGB images."""
        return Convolution(self.kernel_size, 3, self.filters, self.stride)


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
class Convolution:
    """One convolution of a network: channels in and out, and lengths in pixels.

    Attributes:
        kernel_size: side of the kernel; the padding is kernel_size // 2, times the dilation.
        in_filters, filters: channels that it takes and gives.
        stride: pixels from one output to the next.
        groups: into which the channels are divided.
        dilation: pixels from one tap of the kernel to the next.
    """

    kernel_size: int
    in_filters: int
    filters: int
    stride: int = 1
    groups: int = 1
    dilation: int = 1

    @property
    def weights(self) -> int:
        """Numbers in the kernel."""
        return self.kernel_size**2 * self.in_filters * self.filters // self.groups

    def out_size(self, size: int) -> int:
        """Side of the output for a map of this side."""
        return strided_size(size, self.stride)


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

    def branch(
        self,
        in_filters: int,
        filters: Sequence[int],
        stride: int = 1,
        dilations: Sequence[int] = (),
    ) -> tuple[Convolution, ...]:
        """The convolutions of a residual branch: 1x1, k x k, 1x1 where there are three.

        Args:
            in_filters: channels of the unit's input.
            filters: channels that each convolution gives; of one, two or three convolutions.
            stride: of the whole unit.
            dilations: of each convolution; 1 if empty.

        Raises:
            InputError: there are more than three filters, or not as many dilations.
        """
        count = len(filters)
        if count not in (1, 2, 3):
            raise InputError(
                "a unit cannot have this number of convolutions",
                received=f"filters for {count}",
                accepted="filters for 2 (basic), 3 (bottleneck) or 1 (a single layer)",
            )
        if dilations and len(dilations) != count:
            raise InputError(
                "a unit needs one dilation for each of its convolutions",
                received=f"{list(dilations)} for filters={list(filters)}",
                accepted=f"{count} dilations",
            )
        is_bottleneck = count == 3
        return tuple(
            Convolution(
                kernel_size=1 if is_bottleneck and index != 1 else self.kernel_size,
                in_filters=channels,
                filters=filters[index],
                stride=stride if index == self.stride_at else 1,
                groups=self.groups if is_bottleneck and index == 1 else 1,
                dilation=dilations[index] if dilations else 1,
            )
            for index, channels in enumerate((in_filters, *filters[:-1]))
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


Manipulation = Scaling | Gating | ShortcutDropout


@dataclass(frozen=True)
class Merge:
    """How a unit's residual branch and shortcut become its output. Both papers add them.

    Attributes:
        manipulation: what is done to a shortcut without convolution; by [2, table 1] nothing should
            be.
        drop_rate: probability that the branch is left out in a training step, for the whole batch:
            stochastic depth (Huang et al. 2016). What is kept is divided by 1 - drop_rate, so that
            inference needs no scaling.
    """

    manipulation: Manipulation | None = None
    drop_rate: float = 0.0


@dataclass(frozen=True)
class LayerDefaults:
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
        if not all(map(isfinite, self.mean)) or not all(0 < std < inf for std in self.std):
            raise InputError(
                "mean or standard deviation of the pixels is out of range",
                received=f"mean {self.mean}, std {self.std}",
                accepted="finite numbers, and standard deviations above 0",
            )


@dataclass(frozen=True)
class ResidualUnit:
    """One residual unit in its place in a network: all that `blocks.residual_unit` needs.

    Attributes:
        stage: the stage's number in the paper's tables; the stem is stage 1.
        block: the unit's label within its stage: a, b, c, … or a, b1, b2, …
        branch: convolutions of the residual branch, from the input on.
        shortcut: what carries the input to the addition; "none" makes the unit a plain one.
        ordering: of this unit; the network's first has no pre-activation of its own.
        merge: of branch and shortcut.
    """

    stage: int
    block: str
    branch: tuple[Convolution, ...]
    shortcut: ShortcutKind
    ordering: Ordering = ORIGINAL
    merge: Merge = Merge()

    @property
    def name(self) -> str:
        """For the names of its layers, such as "2a"."""
        return f"{self.stage}{self.block}"

    @property
    def in_filters(self) -> int:
        """Channels of the unit's input."""
        return self.branch[0].in_filters

    @property
    def filters(self) -> tuple[int, ...]:
        """Channels that each convolution gives."""
        return tuple(convolution.filters for convolution in self.branch)

    @property
    def stride(self) -> int:
        """Of the whole unit."""
        return prod(convolution.stride for convolution in self.branch)

    @property
    def on_shortcut(self) -> Convolution:
        """The 1x1 convolution of a projection, or of a gate."""
        return Convolution(1, self.in_filters, self.filters[-1], self.stride)

    @property
    def is_gated(self) -> bool:
        return self.shortcut in ("identity", "zero-padded") and isinstance(
            self.merge.manipulation, Gating
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

ADDITION = Merge()

NO_SHORTCUT = Shortcut("none", "none")
OPTION_A = Shortcut("zero-padded", "identity")
OPTION_B = Shortcut("projection", "identity")
OPTION_C = Shortcut("projection", "projection")
SHORTCUT_OPTIONS = {"A": OPTION_A, "B": OPTION_B, "C": OPTION_C}

# Of ImageNet's training images, as torchvision and its followers have them.
IMAGENET_PREPROCESSING = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
COURSE_DEFAULTS = LayerDefaults(use_bias=True, bn_epsilon=1e-3, bn_momentum=0.99)
