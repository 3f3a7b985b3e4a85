"""The residual units of the papers and of the course walkthrough.

`identity_block` and `convolutional_block` take their arguments as the course writes them; two
filters make a basic unit, three a bottleneck (He et al. 2016, figure 5). Layers carry the names of
the course and of the Caffe release: res2a_branch2a, bn2a_branch2a, …, res2a_branch1. Of a
pre-activation they bear the name of the convolution that follows.
"""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import keras

from resnet_keras import shortcuts
from resnet_keras.architectures import (
    ADDITION,
    BOTTLENECK,
    COURSE_STYLE,
    Junction,
    Step,
    Style,
    Unit,
    is_grouped,
    kernel_sizes,
)
from resnet_keras.errors import InputError
from resnet_keras.layers import convolution, normalization


def identity_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    *,
    unit: Unit = BOTTLENECK,
    style: Style = COURSE_STYLE,
    junction: Junction = ADDITION,
    dilations: Sequence[int] = (),
) -> Any:
    """A unit whose input has the shape of its output, and is added to it unchanged.

    Args:
        x: a map (batch, h, w, filters[-1]), of any float dtype.
        f: kernel size of the bottleneck's middle convolution (both of the basic unit's).
        filters: of the two (basic) or three (bottleneck) convolutions, or of a single one.
        stage: the stage's number, for the layers' names.
        block: the unit's label within its stage, for the layers' names.
        unit: where its stride stands, its ordering and its groups; `f` and `filters` are in place
            of its kernel size and widths.
        style: what all convolutions of the network have in common; the course's by default.
        junction: of branch and shortcut.
        dilations: pixels from one tap of each convolution to the next; 1 if empty.

    Returns:
        A map of the same shape.

    Raises:
        InputError: x has another number of channels than the unit's output, `filters` are more than
            three, or `dilations` not as many.
    """
    if x.shape[-1] != filters[-1]:
        raise InputError(
            "an identity block cannot change the number of channels",
            received=f"{x.shape[-1]} channels, filters={list(filters)}",
            accepted=f"{filters[-1]} channels, or convolutional_block, which takes any number",
        )
    name = f"{stage}{block}"
    activated = preactivation(x, name, unit, style)
    branch = residual_branch(
        activated, f, filters, name, unit=unit, style=style, dilations=dilations
    )
    branch, shortcut = shortcuts.manipulate(x, branch, x, 1, name, junction)
    x = shortcuts.join(branch, shortcut, name, junction)
    return activation(x, unit.ordering.joined, name, style)


def convolutional_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 2,
    *,
    unit: Unit = BOTTLENECK,
    style: Style = COURSE_STYLE,
    junction: Junction = ADDITION,
    dilations: Sequence[int] = (),
) -> Any:
    """A unit with a projection shortcut: a 1x1 convolution and batch normalisation.

    In a fully pre-activated unit the projection, too, takes the activated input, and is not
    normalised. Args and errors are those of `identity_block`, and:
        s: stride of the whole unit.

    Returns:
        A map (batch, ceil(h / s), ceil(w / s), filters[-1]).
    """
    name = f"{stage}{block}"
    activated = preactivation(x, name, unit, style)
    branch = residual_branch(
        activated, f, filters, name, s, unit=unit, style=style, dilations=dilations
    )
    if unit.ordering.is_preactivated:
        shortcut = shortcuts.projection(activated, filters[-1], s, name, style, normalized=False)
    else:
        shortcut = shortcuts.projection(x, filters[-1], s, name, style)
    x = shortcuts.join(branch, shortcut, name, junction)
    return activation(x, unit.ordering.joined, name, style)


def zero_padded_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 2,
    *,
    unit: Unit = BOTTLENECK,
    style: Style = COURSE_STYLE,
    junction: Junction = ADDITION,
    dilations: Sequence[int] = (),
) -> Any:
    """A unit whose shape changes, with option A's parameter-free shortcut.

    Arguments and result are those of `convolutional_block`.
    """
    name = f"{stage}{block}"
    activated = preactivation(x, name, unit, style)
    branch = residual_branch(
        activated, f, filters, name, s, unit=unit, style=style, dilations=dilations
    )
    shortcut = shortcuts.zero_padded(x, filters[-1], s, name)
    branch, shortcut = shortcuts.manipulate(x, branch, shortcut, s, name, junction)
    x = shortcuts.join(branch, shortcut, name, junction)
    return activation(x, unit.ordering.joined, name, style)


def plain_block(
    x: Any,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 1,
    *,
    unit: Unit = BOTTLENECK,
    style: Style = COURSE_STYLE,
    dilations: Sequence[int] = (),
) -> Any:
    """The same convolutions with no shortcut, as the paper's plain networks stack them.

    Arguments and result are those of `convolutional_block`.
    """
    name = f"{stage}{block}"
    x = preactivation(x, name, unit, style)
    x = residual_branch(x, f, filters, name, s, unit=unit, style=style, dilations=dilations)
    return activation(x, unit.ordering.joined, name, style)


def preactivation(x: Any, name: str, unit: Unit, style: Style) -> Any:
    """What stands before a unit's first convolution: nothing in the original ordering."""
    named_after = f"{name}_branch2a" if unit.ordering.is_preactivated else f"{name}_branch2"
    return activation(x, unit.ordering.first, named_after, style)


def residual_branch(
    x: Any,
    f: int,
    filters: Sequence[int],
    name: str,
    s: int = 1,
    *,
    unit: Unit,
    style: Style,
    dilations: Sequence[int] = (),
) -> Any:
    """F(x), from the first convolution to the addition; `name` is the unit's, such as "2a"."""
    ordering = unit.ordering
    branches = [f"{name}_branch2{letter}" for letter in ascii_lowercase[: len(filters)]]
    dilations = dilations or len(filters) * (1,)
    if len(dilations) != len(filters):
        raise InputError(
            "a unit needs one dilation for each of its convolutions",
            received=f"{list(dilations)} for filters={list(filters)}",
            accepted=f"{len(filters)} dilations",
        )
    for index, kernel_size in enumerate(kernel_sizes(f, len(filters))):
        if index > 0:
            named_after = branches[index if ordering.is_preactivated else index - 1]
            x = activation(x, ordering.between, named_after, style)
        x = convolution(
            x,
            filters[index],
            kernel_size,
            stride=s if index == unit.stride_at else 1,
            name=f"res{branches[index]}",
            style=style,
            groups=unit.groups if is_grouped(index, len(filters)) else 1,
            dilation=dilations[index],
        )
    gamma = "zeros" if style.zero_init_last_gamma else "ones"
    return activation(x, ordering.last, branches[-1], style, gamma_initializer=gamma)


def activation(x: Any, steps: Sequence[Step], name: str, style: Style, **bn: Any) -> Any:
    """Batch normalisation "bn<name>" and ReLU "res<name>_relu", as far as `steps` names them.

    Args:
        **bn: further arguments of the batch normalisation.
    """
    for step in steps:
        if step == "bn":
            x = normalization(x, f"bn{name}", style, **bn)
        else:
            x = keras.layers.Activation("relu", name=f"res{name}_relu")(x)
    return x
