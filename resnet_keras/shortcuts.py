"""What carries a unit's input to its addition (He et al. 2016, section 3.3)."""

from typing import Any

from resnet_keras.architectures import Style
from resnet_keras.layers import ZeroPaddedShortcut, conv_bn


def zero_padded(x: Any, filters: int, stride: int, unit: str) -> Any:
    """Option A where dimensions grow: subsampled, zero channels appended, no parameters.

    Args:
        x: a map (batch, h, w, channels), channels <= filters.
        unit: the unit's stage and label, such as "3a".
    """
    return ZeroPaddedShortcut(filters, stride, name=f"res{unit}_branch1")(x)


def projection(x: Any, filters: int, stride: int, unit: str, style: Style) -> Any:
    """Options B and C: a 1x1 convolution with the unit's stride, and its batch normalisation."""
    return conv_bn(x, filters, 1, stride, f"{unit}_branch1", style)
