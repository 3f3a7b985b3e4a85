"""Parameters and multiply-adds of a network, counted without building it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet_keras.architectures.parts import Convolution, strided_size

if TYPE_CHECKING:
    from resnet_keras.architectures.architecture import Architecture


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a network: those that training changes, and the BN statistics it does not."""

    trainable: int
    non_trainable: int

    @property
    def total(self) -> int:
        return self.trainable + self.non_trainable


def count_parameters(architecture: "Architecture", classes: int, input_size: int) -> ParameterCount:
    """Counts the parameters of a network with a classifier.

    Args:
        classes: of the classifier.
        input_size: side of the image in pixels; it matters only to a head with a window.
    """
    defaults = architecture.defaults
    normalized = _normalized_channels(architecture) if defaults.normalized else 0
    trainable = (architecture.head_features(input_size) + 1) * classes + 2 * normalized
    for convolution, _ in _convolutions(architecture, input_size):
        trainable += convolution.weights + defaults.use_bias * convolution.filters
    if not defaults.use_bias:  # a gate has one all the same
        trainable += sum(unit.filters[-1] for unit in architecture.units() if unit.gating)
    return ParameterCount(trainable, 2 * normalized)


def count_multiply_adds(architecture: "Architecture", classes: int, input_size: int) -> int:
    """Counts the multiply-adds of the convolutions and the classifier for one square image."""
    return architecture.head_features(input_size) * classes + sum(
        convolution.weights * out_size**2
        for convolution, out_size in _convolutions(architecture, input_size)
    )


def _normalized_channels(architecture: "Architecture") -> int:
    final = architecture.out_filters if "bn" in architecture.unit.ordering.first else 0
    units = sum(unit.normalized_channels() for unit in architecture.units())
    stem = architecture.stem
    return stem.filters * stem.activated + units + final


def _convolutions(architecture: "Architecture", size: int) -> Iterator[tuple[Convolution, int]]:
    """Every convolution, and the side of its output for an image of this side."""
    convolved, size = architecture.stem_map_sizes(size)
    yield architecture.stem.convolution, convolved
    for unit in architecture.units():
        if unit.pool and unit.pool.comes_first:
            size = strided_size(size, 2)
        for convolution in unit.branch:
            size = convolution.out_size(size)
            yield convolution, size
        if unit.shortcut == "projection" or unit.gating:
            yield unit.on_shortcut, size
        if unit.pool and not unit.pool.comes_first:
            size = strided_size(size, 2)
