"""Every layer of a network that has weights, and where it stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal

from resnet_keras.architectures import Architecture

Kind = Literal["convolution", "normalization", "classifier"]


@dataclass(frozen=True)
class Place:
    """A layer with weights.

    Attributes:
        layer: its name in our networks.
        kind: what it is.
        unit: its stage and its unit in that, both counted from 0; None in the stem and the head.
        convolution: that it is or follows, counted from 0 in the unit's branch; None for the
            projection on the shortcut, and outside units.
    """

    layer: str
    kind: Kind
    unit: tuple[int, int] | None = None
    convolution: int | None = None


def places(architecture: Architecture, classes: int | None) -> Iterator[Place]:
    """The layers of an original ResNet (or ResNeXt, or plain network), from the stem to the head.

    Args:
        architecture: whose units end in batch normalisation and are not pre-activated.
        classes: of the classifier; None if there is none.
    """
    yield Place("conv1", "convolution")
    yield Place("bn_conv1", "normalization")
    first = next(architecture.units()).stage
    blocks: dict[int, int] = {}
    for unit in architecture.units():
        number = blocks.get(unit.stage, 0)
        blocks[unit.stage] = number + 1
        at = (unit.stage - first, number)
        branches: list[tuple[str, int | None]] = [
            (f"branch2{ascii_lowercase[index]}", index) for index in range(len(unit.filters))
        ]
        if unit.shortcut == "projection":
            branches.append(("branch1", None))
        for branch, index in branches:
            name = f"{unit.stage}{unit.block}_{branch}"
            yield Place(f"res{name}", "convolution", at, index)
            yield Place(f"bn{name}", "normalization", at, index)
    if classes is not None:
        yield Place(f"fc{classes}", "classifier")
