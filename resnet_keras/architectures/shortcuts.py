"""What carries a unit's input past its branch, and how both meet, as frozen values.

[1] He et al. 2016, "Deep Residual Learning"; [2] He et al. 2016, "Identity Mappings"; [4]
Srivastava et al. 2015, "Training Very Deep Networks".
"""

from dataclasses import dataclass
from typing import Literal

ShortcutKind = Literal["none", "identity", "zero-padded", "projection", "concatenated", "dense"]


@dataclass(frozen=True)
class Shortcut:
    """Which shortcut a unit gets where its input and output differ in shape, and elsewhere.

    [1, section 3.3, "Plain Network" and "Residual Network"; table 3] names the options A, B and C.
    Where a network has transitions, the shape changes nowhere else; see `Transition`.
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
    """A gate g(x) = sigmoid(convolution of x): the shortcut times 1 - g [2, section 3.1].

    Attributes:
        bias: that the convolution starts from; the lower, the wider the shortcut is open.
        gates_branch: whether the branch is multiplied by g ("exclusive gating", as in highway
            networks) or not ("shortcut-only gating").
        kernel_size: side of the convolution: 1 in [2]. Highway networks take that of the branch
            [4].
    """

    bias: float
    gates_branch: bool
    kernel_size: int = 1


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


ADDITION = Merge()

NO_SHORTCUT = Shortcut("none", "none")
OPTION_A = Shortcut("zero-padded", "identity")
OPTION_B = Shortcut("projection", "identity")
OPTION_C = Shortcut("projection", "projection")
CONCATENATION = Shortcut("concatenated", "concatenated")
SHORTCUT_OPTIONS = {"A": OPTION_A, "B": OPTION_B, "C": OPTION_C}
