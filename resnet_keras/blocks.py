"""The residual units of the papers and of the course walkthrough.

`identity_block` and `convolutional_block` take their arguments as the course writes them; two
filters make a basic unit, three a bottleneck (He et al. 2016, figure 5). Layers carry the names of
the course and of the Caffe release: res2a_branch2a, bn2a_branch2a, …, res2a_branch1.
"""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import keras

from resnet_keras import shortcuts
from resnet_keras.architectures import COURSE_STYLE, Style, kernel_sizes
from resnet_keras.errors import InputError
from resnet_keras.layers import conv_bn


def identity_block(
    x: Any, f: int, filters: Sequence[int], stage: int, block: str, *, style: Style = COURSE_STYLE
) -> Any:
    """A unit whose input has the shape of its output, and is added to it unchanged.

    Args:
        x: a map (batch, h, w, filters[-1]), of any float dtype.
        f: kernel size of the bottleneck's middle convolution (both of the basic unit's).
        filters: of the two (basic) or three (bottleneck) convolutions.
        stage: the stage's number, for the layers' names.
        block: the unit's label within its stage, for the layers' names.
        style: what all convolutions of the network have in common; the course's by default.

    Returns:
        A map of the same shape.

    Raises:
        InputError: x has another number of channels than the unit's output, or `filters` is not of
            length 2 or 3.
    """
    if x.shape[-1] != filters[-1]:
        raise InputError(
            "an identity block needs an input with as many channels as its output has. "
            f"Received: {x.shape[-1]} channels, filters={list(filters)}; "
            "a convolutional_block takes any number"
        )
    branch = residual_branch(x, f, filters, stage, block, style=style)
    return _add(branch, x, f"{stage}{block}")


def convolutional_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 2,
    *,
    stride_at: int = 0,
    style: Style = COURSE_STYLE,
) -> Any:
    """A unit with a projection shortcut: a 1x1 convolution and batch normalisation.

    Args and errors are those of `identity_block`, and:
        s: stride of the whole unit.
        stride_at: index of the convolution that carries it; 0 in the paper and the course, 1 in
            "v1.5".

    Returns:
        A map (batch, ceil(h / s), ceil(w / s), filters[-1]).
    """
    branch = residual_branch(x, f, filters, stage, block, s, stride_at=stride_at, style=style)
    shortcut = shortcuts.projection(x, filters[-1], s, f"{stage}{block}", style)
    return _add(branch, shortcut, f"{stage}{block}")


def zero_padded_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 2,
    *,
    stride_at: int = 0,
    style: Style = COURSE_STYLE,
) -> Any:
    """A unit whose shape changes, with option A's parameter-free shortcut.

    Arguments and result are those of `convolutional_block`.
    """
    branch = residual_branch(x, f, filters, stage, block, s, stride_at=stride_at, style=style)
    shortcut = shortcuts.zero_padded(x, filters[-1], s, f"{stage}{block}")
    return _add(branch, shortcut, f"{stage}{block}")


def plain_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 1,
    *,
    stride_at: int = 0,
    style: Style = COURSE_STYLE,
) -> Any:
    """The same convolutions with no shortcut, as the paper's plain networks stack them.

    Arguments and result are those of `convolutional_block`.
    """
    branch = residual_branch(x, f, filters, stage, block, s, stride_at=stride_at, style=style)
    return keras.layers.Activation("relu", name=f"res{stage}{block}_relu")(branch)


def residual_branch(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 1,
    *,
    stride_at: int = 0,
    style: Style = COURSE_STYLE,
) -> Any:
    """F(x): the unit's convolutions, each with BN, with ReLU between them and none at the end."""
    last = len(filters) - 1
    for index, kernel_size in enumerate(kernel_sizes(f, len(filters))):
        branch = f"{stage}{block}_branch2{ascii_lowercase[index]}"
        starts_at_zero = style.zero_init_last_gamma and index == last
        x = conv_bn(
            x,
            filters[index],
            kernel_size,
            s if index == stride_at else 1,
            branch,
            style,
            gamma_initializer="zeros" if starts_at_zero else "ones",
        )
        if index < last:
            x = keras.layers.Activation("relu", name=f"res{branch}_relu")(x)
    return x


def _add(branch: Any, shortcut: Any, unit: str) -> Any:
    x = keras.layers.Add(name=f"res{unit}")([branch, shortcut])
    return keras.layers.Activation("relu", name=f"res{unit}_relu")(x)
