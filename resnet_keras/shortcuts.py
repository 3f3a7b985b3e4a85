"""What carries a unit's input to its addition, and what happens there.

[1] He et al. 2016, "Deep Residual Learning", section 3.3; [2] "Identity Mappings", section 3.1.
"""

from typing import Any

import keras

from resnet_keras.architectures import Gating, Junction, Scaling, ShortcutDropout, Style
from resnet_keras.layers import Conv2D, ZeroPaddedShortcut, convolution, normalization


def zero_padded(x: Any, filters: int, stride: int, unit: str) -> Any:
    """Option A where dimensions grow: subsampled, zero channels appended, no parameters.

    Args:
        x: a map (batch, h, w, channels), channels <= filters.
        unit: the unit's stage and label, such as "3a".
    """
    return ZeroPaddedShortcut(filters, stride, name=f"res{unit}_branch1")(x)


def projection(
    x: Any, filters: int, stride: int, unit: str, style: Style, normalized: bool = True
) -> Any:
    """Options B and C: a 1x1 convolution with the unit's stride, and its batch normalisation.

    Args:
        x: a map (batch, h, w, channels); pre-activated where the unit is, and then not `normalized`
            again.
    """
    x = convolution(x, filters, 1, stride, f"res{unit}_branch1", style)
    return normalization(x, f"bn{unit}_branch1", style) if normalized else x


def join(branch: Any, shortcut: Any, unit: str, junction: Junction) -> Any:
    """Adds a unit's branch and shortcut, the branch now and then left out (stochastic depth)."""
    if junction.drop_rate:
        # One draw for the whole batch: the unit is there or it is not.
        branch = keras.layers.Dropout(
            junction.drop_rate, noise_shape=(1, 1, 1, 1), name=f"drop{unit}"
        )(branch)
    return keras.layers.Add(name=f"res{unit}")([branch, shortcut])


def manipulate(
    x: Any, branch: Any, shortcut: Any, stride: int, unit: str, junction: Junction
) -> tuple[Any, Any]:
    """Does to branch and shortcut what [2, table 1] tries; both are of one shape.

    Args:
        x: the unit's input, from which a gate is computed.
        stride: of the unit.

    Returns:
        Branch and shortcut, as they are to be joined.
    """
    manipulation = junction.manipulation
    if isinstance(manipulation, Scaling):
        branch = keras.layers.Rescaling(manipulation.branch, name=f"scale{unit}_branch2")(branch)
        shortcut = keras.layers.Rescaling(manipulation.shortcut, name=f"scale{unit}_branch1")(
            shortcut
        )
    elif isinstance(manipulation, Gating):
        gate = Conv2D(
            branch.shape[-1],
            1,
            stride,
            activation="sigmoid",
            kernel_initializer="he_normal",
            bias_initializer=keras.initializers.Constant(manipulation.bias),
            name=f"gate{unit}",
        )(x)
        opened = keras.layers.Rescaling(-1.0, 1.0, name=f"gate{unit}_complement")(gate)
        shortcut = keras.layers.Multiply(name=f"gate{unit}_branch1")([shortcut, opened])
        if manipulation.gates_branch:
            branch = keras.layers.Multiply(name=f"gate{unit}_branch2")([branch, gate])
    elif isinstance(manipulation, ShortcutDropout):
        shortcut = keras.layers.Dropout(manipulation.rate, name=f"drop{unit}_branch1")(shortcut)
    return branch, shortcut
