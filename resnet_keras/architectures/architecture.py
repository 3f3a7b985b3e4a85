"""A network as data: its parts, its stages, and the walk over its residual units."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from string import ascii_lowercase
from typing import Annotated

from resnet_keras.architectures.counting import (
    ParameterCount,
    count_multiply_adds,
    count_parameters,
)
from resnet_keras.architectures.parts import (
    IMAGENET_PREPROCESSING,
    LayerDefaults,
    Preprocessing,
    ResidualUnit,
    Stem,
    Transition,
    Unit,
    strided_size,
)
from resnet_keras.architectures.shortcuts import (
    CONCATENATION,
    NO_SHORTCUT,
    Manipulation,
    Merge,
    Shortcut,
)
from resnet_keras.errors import InputError, check_fields, number


@dataclass(frozen=True)
class Architecture:
    """Everything that tells one network of the family from another.

    Attributes:
        stem, unit, shortcut, defaults, preprocessing: the parts.
        blocks: residual units in each stage, from stage 2 on, the transition included.
        filters: the filters that `unit.widths` multiplies, in each stage.
        input_size: side of the square images that the network was published with, in pixels.
        classes: the number of classes that it was published with.
        numbered_stages: stages that label their units a, b1, b2, … as the Caffe release of the
            101- and 152-layer nets does; others use letters, as long as the alphabet lasts.
        transition: what opens every stage after the first, in place of a residual unit that
            changes its input's shape; None for such units.
        unstrided_stages: stages that keep the size of the map of the stage before.
        manipulation: of the shortcuts, see `Merge`.
        final_survival: probability that the last unit's branch is kept in a training step; those of
            the units before it fall linearly from 1 (Huang et al. 2016, equation 4).
        head_dropout: share of the classifier's inputs that a training step drops (Srivastava et al.
            2014, "Dropout").
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
    defaults: LayerDefaults = field(default_factory=LayerDefaults)
    preprocessing: Preprocessing = IMAGENET_PREPROCESSING
    input_size: int = 224
    classes: int = 1000
    numbered_stages: tuple[int, ...] = ()
    transition: Transition | None = None
    unstrided_stages: tuple[int, ...] = ()
    manipulation: Manipulation | None = None
    final_survival: Annotated[float, number(0, 1, "(]")] = 1.0
    head_dropout: Annotated[float, number(0, 1, "[)")] = 0.0
    head_window: int | None = None
    output_stride: int | None = None

    def __post_init__(self) -> None:
        self._check_parts()
        self._check_shortcuts()
        # A pool has no weights that dilation could spread.
        accepted = self.undilated_strides[-1:] if self.transition else self.undilated_strides
        if self.output_stride not in (None, *accepted):
            raise InputError(
                "the network cannot have this output_stride",
                received=self.output_stride,
                accepted=", ".join(map(str, dict.fromkeys(accepted))),
            )

    def _check_parts(self) -> None:
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
        check_fields(self)

    def _check_shortcuts(self) -> None:
        """Refuses what a network's shortcuts, or their absence, make impossible."""
        self._check_kinds()
        if (self.manipulation or self.final_survival < 1) and not self.is_residual:
            raise InputError(
                "manipulations and stochastic depth need shortcuts",
                received="a plain network",
                accepted="networks with shortcuts",
            )
        if self.manipulation and self.shortcut.elsewhere not in ("identity", "zero-padded"):
            raise InputError(
                "manipulations need shortcuts without weights where the shape stays",
                received=str(self.shortcut),
                accepted="options A and B",
            )
        if self.defaults.zero_init_last_gamma and not self.is_residual:
            raise InputError(
                "zero_init_last_gamma needs shortcuts, or every unit outputs zeros",
                received="a plain network",
                accepted="networks with shortcuts",
            )

    def _check_kinds(self) -> None:
        """Refuses shortcuts that do not fit the units between them."""
        kinds = {self.shortcut.where_shape_changes, self.shortcut.elsewhere}
        concatenates = self.shortcut == CONCATENATION
        if self.transition:
            fits = concatenates or self.shortcut.where_shape_changes == "none"
        else:
            fits = "concatenated" not in kinds and self.shortcut.where_shape_changes != "dense"
        if not fits or ("concatenated" in kinds and not concatenates):
            raise InputError(
                "the network's shortcuts and transitions do not fit together",
                received=f"{self.shortcut}, {'a' if self.transition else 'no'} transition",
                accepted="with a transition, concatenation or no shortcut where the shape changes; "
                "without one, any other shortcuts, dense ones only where the shape stays",
            )
        if concatenates and self.final_survival < 1:
            raise InputError(
                "stochastic depth needs branches that are added",
                received="a network that concatenates",
                accepted="networks with additions",
            )
        if "dense" in kinds and not self.defaults.normalized:
            raise InputError(
                "dense shortcuts need batch normalisation, whose gammas are their weights",
                received="a network without",
                accepted="networks with batch normalisation",
            )

    def adapted(self, preprocessing: Preprocessing, bn_epsilon: float) -> "Architecture":
        """The same network as weights want it that were trained with these."""
        defaults = replace(self.defaults, bn_epsilon=bn_epsilon)
        return replace(self, preprocessing=preprocessing, defaults=defaults)

    @property
    def is_residual(self) -> bool:
        return self.shortcut != NO_SHORTCUT

    @property
    def undilated_strides(self) -> tuple[int, ...]:
        """What `strides` are where `output_stride` cuts none."""
        strides, stride = [], self.stem.total_stride
        for stage in range(2, 2 + len(self.blocks)):
            stride *= 1 if stage == 2 or stage in self.unstrided_stages else 2
            strides.append(stride)
        return tuple(strides)

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
        return tuple({unit.stage: unit.out_filters for unit in self.units()}.values())

    @property
    def out_filters(self) -> int:
        """Channels of the last stage's output."""
        return self.channels[-1]

    @property
    def depth(self) -> int:
        """Weighted layers on the longest path, as the papers count them."""
        return 2 + sum(len(unit.branch) for unit in self.units())

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
        ordering = self.unit.ordering
        # The stem's takes its place in a ResNet, where nothing else reads the stem's convolution.
        if self.stem.activated and self.shortcut != CONCATENATION:
            ordering = replace(ordering, first=())
        walked = 0
        for stage, (count, stage_filters, stride, undilated) in enumerate(
            zip(self.blocks, self.filters, self.strides, self.undilated_strides, strict=True),
            start=2,
        ):
            filters = self.unit.filters(stage_filters)
            dilation = undilated // stride
            reach = 0
            for index, block in enumerate(self._labels(stage, count)):
                walked += 1
                if self.transition and stage > 2 and index == 0:
                    unit = self.transition.unit(
                        stage, block, in_filters, stage_filters, pooled=stride > in_stride
                    )
                else:
                    # By the network without dilation, whose weights, projections' too, this takes.
                    coarsens = undilated > in_stride * in_dilation
                    kind = self.shortcut.kind(coarsens or in_filters != filters[-1])
                    branch = self.unit.branch(
                        in_filters,
                        filters,
                        stride // in_stride,
                        self.unit.dilations(in_dilation, dilation),
                    )
                    drop_rate = walked / sum(self.blocks) * (1 - self.final_survival)
                    merge = Merge(self.manipulation, drop_rate)
                    reach = reach + 1 if kind == "dense" else 0
                    unit = ResidualUnit(
                        stage, block, branch, kind, ordering, merge, reach=max(reach, 1)
                    )
                yield unit
                in_filters, in_stride, in_dilation = unit.out_filters, stride, dilation
                ordering = self.unit.ordering

    def _labels(self, stage: int, count: int) -> list[str]:
        if stage in self.numbered_stages or count > len(ascii_lowercase):
            return ["a", *(f"b{index}" for index in range(1, count))]
        return list(ascii_lowercase[:count])

    def stem_map_sizes(self, size: int) -> tuple[int, int]:
        """Side of the stem's map after its convolution and after its pool, for an image's side."""
        convolved = self.stem.convolution.out_size(size)
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
        return count_parameters(self, classes, input_size or self.input_size)

    def multiply_adds(self, input_size: int | None = None, classes: int | None = None) -> int:
        """Counts the multiply-adds (the papers' "FLOPs") of one image's forward pass.

        Convolutions and the classifier are counted, as in He et al. 2016, table 1; the square
        image's side is the published one if None.
        """
        classes = self.classes if classes is None else classes
        return count_multiply_adds(self, classes, input_size or self.input_size)
