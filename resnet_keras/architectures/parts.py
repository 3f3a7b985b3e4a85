"""The parts that a network is composed of, as frozen values: stem, unit, transition, defaults.

[1] He et al. 2016, "Deep Residual Learning"; [2] He et al. 2016, "Identity Mappings"; [3] Xie et
al. 2017, "Aggregated Residual Transformations"; [4] Srivastava et al. 2015, "Training Very Deep
Networks"; [5] Huang et al. 2017, "Densely Connected Convolutional Networks"; [6] Zhang et al. 2021,
"ResNet or DenseNet? Introducing Dense Shortcuts to ResNet".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, prod
from typing import Literal

from resnet_keras.architectures.shortcuts import ADDITION, Gating, Merge, ShortcutKind
from resnet_keras.errors import InputError

Step = Literal["bn", "relu"]


@dataclass(frozen=True)
class Stem:
    """The layers before the first residual unit: a convolution and, for large images, a max pool.

    Attributes:
        filters: channels that the convolution gives.
        kernel_size, stride: of the convolution, in pixels; the padding is kernel_size // 2.
        pool_size: side of the max pool's window (its stride is 2), or None for no pool.
        pool_padding: pixels of padding around the pool, on every side.
        activated: whether batch normalisation and ReLU follow the convolution. A DenseNet for small
            images hands the convolution's own output on [5].
    """

    filters: int
    kernel_size: int
    stride: int = 1
    pool_size: int | None = None
    pool_padding: int = 0
    activated: bool = True

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

    [2, figure 4 and table 2] draws the first five that stand below. What a pre-activation puts
    before the first convolution is, in a ResNet's first unit, what follows conv1, and once more
    follows the last unit's addition.

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
# Of highway layers, whose authors do not normalise, and of the plain layers between them [4].
RELU_BEFORE_GATE = Ordering(first=(), between=("relu",), last=("relu",), joined=())
RELU_AFTER_CONVOLUTION = Ordering(first=(), between=(), last=(), joined=("relu",))


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
        kernel_size: side of all convolutions that are not 1x1.
        pointwise: indices of the 1x1 convolutions; None for a bottleneck's first and last.
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
    pointwise: tuple[int, ...] | None = None

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
        pointwise = (0, 2) if is_bottleneck else ()
        if self.pointwise is not None:
            pointwise = self.pointwise
        return tuple(
            Convolution(
                kernel_size=1 if index in pointwise else self.kernel_size,
                in_filters=channels,
                filters=filters[index],
                stride=stride if index == self.stride_at else 1,
                groups=self.groups if is_bottleneck and index == 1 else 1,
                dilation=dilations[index] if dilations else 1,
            )
            for index, channels in enumerate((in_filters, *filters[:-1]))
        )


@dataclass(frozen=True)
class Pool:
    """A pool of 2x2 pixels with stride 2; at an odd map's edge it pools what there is.

    Attributes:
        kind: whether the pool takes the largest value or the average.
        comes_first: whether the pool stands before the unit's convolution, or after it.
    """

    kind: Literal["max", "average"]
    comes_first: bool


@dataclass(frozen=True)
class Transition:
    """What opens every stage after the first in place of a residual unit, and has no shortcut.

    One convolution brings the map to the stage's channels, and a pool brings it to the stage's
    size. So all other units keep their input's size, as additions and concatenations need it.

    Attributes:
        kernel_size: side of the convolution.
        ordering: of batch normalisation and ReLU about the convolution.
        pool: in the stages that have a stride.
        compression: channels out for every channel in [5, section 3]; None for the stage's filters.
    """

    kernel_size: int
    ordering: Ordering
    pool: Pool
    compression: float | None = None

    def __post_init__(self) -> None:
        if self.compression is not None and not 0 < self.compression <= 1:
            raise InputError(
                "compression is out of range",
                received=self.compression,
                accepted="above 0, at most 1, or None",
            )

    def unit(
        self, stage: int, block: str, in_filters: int, stage_filters: int, pooled: bool
    ) -> "ResidualUnit":
        """The transition in its place in a network; `pooled` where the stage has a stride."""
        filters = stage_filters
        if self.compression is not None:
            filters = int(in_filters * self.compression)
        convolution = Convolution(self.kernel_size, in_filters, filters)
        pool = self.pool if pooled else None
        return ResidualUnit(stage, block, (convolution,), "none", self.ordering, pool=pool)


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
        shortcut: what carries the input to the addition; "none" makes the unit a plain one,
            "concatenated" puts the branch's channels after those of the input [5], and "dense" adds
            the outputs of all units before it in the stage, each normalised and weighted [6].
        ordering: of this unit; a pre-activated ResNet's first has no pre-activation of its own.
        merge: of branch and shortcut.
        pool: of a transition that has a stride.
        reach: maps that a dense shortcut adds up: the unit's input and those before it.
    """

    stage: int
    block: str
    branch: tuple[Convolution, ...]
    shortcut: ShortcutKind
    ordering: Ordering = ORIGINAL
    merge: Merge = ADDITION
    pool: Pool | None = None
    reach: int = 1

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
    def out_filters(self) -> int:
        """Channels of the unit's output."""
        kept = self.in_filters if self.shortcut == "concatenated" else 0
        return kept + self.filters[-1]

    @property
    def stride(self) -> int:
        """Of the whole unit."""
        strides = prod(convolution.stride for convolution in self.branch)
        return strides * 2 if self.pool else strides

    @property
    def gating(self) -> Gating | None:
        """What gates the shortcut, if anything does."""
        manipulation = self.merge.manipulation
        is_manipulated = self.shortcut in ("identity", "zero-padded")
        return manipulation if is_manipulated and isinstance(manipulation, Gating) else None

    @property
    def on_shortcut(self) -> Convolution:
        """The convolution of a gate, or the 1x1 of a projection."""
        kernel_size = self.gating.kernel_size if self.gating else 1
        return Convolution(kernel_size, self.in_filters, self.filters[-1], self.stride)

    def normalized_channels(self) -> int:
        """Channels of all its batch normalisations together."""
        steps_and_channels = [
            (self.ordering.first, self.in_filters),
            *((self.ordering.between, filters) for filters in self.filters[:-1]),
            (self.ordering.last, self.filters[-1]),
            (self.ordering.joined, self.out_filters),
        ]
        if self.shortcut == "projection" and not self.ordering.is_preactivated:
            steps_and_channels.append((("bn",), self.filters[-1]))
        if self.shortcut == "dense":
            steps_and_channels.append((("bn",), self.reach * self.filters[-1]))
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
HIGHWAY = Unit(widths=(1,), ordering=RELU_BEFORE_GATE)
# [5, section 3]: the filters of a stage are the growth rate.
DENSE_BOTTLENECK = Unit(widths=(4, 1), ordering=FULL_PREACTIVATION, pointwise=(0,))

HIGHWAY_TRANSITION = Transition(3, RELU_AFTER_CONVOLUTION, Pool("max", comes_first=True))
DENSE_TRANSITION = Transition(
    1, FULL_PREACTIVATION, Pool("average", comes_first=False), compression=0.5
)

# Of ImageNet's training images, as torchvision and its followers have them.
IMAGENET_PREPROCESSING = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
COURSE_DEFAULTS = LayerDefaults(use_bias=True, bn_epsilon=1e-3, bn_momentum=0.99)
