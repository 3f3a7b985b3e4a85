"""The names of layers, read: where in a network a layer stands."""

import re
from dataclasses import dataclass

_UNIT = re.compile(
    r"(?P<kind>bn|drop|gate|res|scale)(?P<stage>\d+)(?P<block>[a-z]|b\d+)"
    r"(?:_branch(?P<branch>1|2[a-z]?))?(?:_(?P<role>[a-z]+\d*))?"
)
_STEM = frozenset(
    {
        *("pixels", "normalize", "conv1", "conv1_pad", "bn_conv1", "conv1_relu"),
        *("pool1", "pool1_pad"),
    }
)


@dataclass(frozen=True)
class UnitLayer:
    """What the name of a layer in a residual unit says.

    Attributes:
        kind: "res" (convolutions, activations, additions), "bn", "scale", "gate" or "drop".
        stage: of the network, 2 for the first one.
        block: label of the unit in its stage, "a", "b" and so on, or "b1", "b2" and so on.
        branch: "1" on the shortcut; "2" on the residual branch, with the letter of the convolution
            where the layer belongs to one ("2a"); None where the two have met.
        role: what follows the branch in the name, such as "relu" or "pad"; None for the layer that
            gives the branch its name.
    """

    kind: str
    stage: int
    block: str
    branch: str | None
    role: str | None

    @property
    def unit(self) -> str:
        """The unit, such as "2a"."""
        return f"{self.stage}{self.block}"

    @property
    def is_branch_convolution(self) -> bool:
        """Whether this is a convolution of the residual branch, such as "res2a_branch2a"."""
        on_branch = self.branch is not None and len(self.branch) == 2
        return self.kind == "res" and on_branch and self.role is None

    @property
    def is_output(self) -> bool:
        """Whether this is the addition at the end of the unit, or the ReLU or pool after it."""
        return self.kind == "res" and self.branch is None and self.role in (None, "relu", "pool")


def parse(layer: str) -> UnitLayer | None:
    """Reads the name of a layer, such as "res2a_branch2a"; None for layers outside of units."""
    match = _UNIT.fullmatch(layer)
    return match and UnitLayer(**{**match.groupdict(), "stage": int(match["stage"])})


def part_of(layer: str) -> str:
    """The part of a network that a layer is in, by its name: "stem", "stage2" and so on, "head"."""
    if unit := parse(layer):
        return f"stage{unit.stage}"
    return "stem" if layer in _STEM else "head"


def path_of(layer: str) -> str:
    """The layer's name below its part and unit, such as "stage2/2a/res2a_branch2a"."""
    unit = parse(layer)
    return "/".join(filter(None, (part_of(layer), unit and unit.unit, layer)))


def is_convolution(layer: str) -> bool:
    """Whether this is the stem's convolution or one of a residual branch; projections are not."""
    unit = parse(layer)
    return unit.is_branch_convolution if unit else layer == "conv1"


def is_classifier(layer: str) -> bool:
    """Whether this is our name of a classifier, whatever its classes."""
    return re.fullmatch(r"fc\d+", layer) is not None
