"""Residual units: Keras layers of a `ResidualUnit`, and the blocks of the course walkthrough.

Layers carry the names of the course and of the Caffe release: res2a_branch2a, bn2a_branch2a, …,
res2a_branch1. A pre-activation carries the name of the convolution that follows.
"""

from collections.abc import Sequence
from dataclasses import replace
from string import ascii_lowercase

import keras

from resnet_keras.architectures import (
    ADDITION,
    BOTTLENECK,
    COURSE_DEFAULTS,
    LayerDefaults,
    Merge,
    Pool,
    ResidualUnit,
    Step,
    Unit,
)
from resnet_keras.errors import InputError
from resnet_keras.networks import shortcuts
from resnet_keras.networks.layers import convolution, normalization


def residual_unit(
    x: keras.KerasTensor,
    unit: ResidualUnit,
    defaults: LayerDefaults,
    earlier: Sequence[keras.KerasTensor] = (),
) -> keras.KerasTensor:
    """A residual branch F(x), its shortcut, and their sum (He et al. 2016, equations 1 and 2).

    A transition between stages is a branch alone, with a pool; a dense unit concatenates.

    Args:
        x: a map (batch, h, w, unit.in_filters), of any float dtype.
        unit: convolutions, ordering, shortcut and place in the network.
        defaults: what all convolutions of the network have in common.
        earlier: maps before x that a dense shortcut reads too, unit.reach - 1 of x's shape.

    Returns:
        A map (batch, ceil(h / unit.stride), ceil(w / unit.stride), unit.out_filters).
    """
    ordering = unit.ordering
    follows = f"{unit.name}_branch2a" if ordering.is_preactivated else f"{unit.name}_branch2"
    activated = activation(x, ordering.first, follows, defaults)
    if unit.pool and unit.pool.comes_first:
        activated = _pool(activated, unit.pool, f"res{unit.name}_branch2_pool")
    branch = _residual_branch(activated, unit, defaults)
    joined = shortcuts.join((*earlier, x), activated, branch, unit, defaults)
    joined = activation(joined, ordering.joined, unit.name, defaults)
    if unit.pool and not unit.pool.comes_first:
        joined = _pool(joined, unit.pool, f"res{unit.name}_pool")
    return joined


def _pool(x: keras.KerasTensor, pool: Pool, name: str) -> keras.KerasTensor:
    kind = keras.layers.MaxPooling2D if pool.kind == "max" else keras.layers.AveragePooling2D
    return kind(2, padding="same", name=name)(x)


def _residual_branch(
    x: keras.KerasTensor, unit: ResidualUnit, defaults: LayerDefaults
) -> keras.KerasTensor:
    """F(x), from the first convolution to the addition."""
    ordering = unit.ordering
    names = [f"{unit.name}_branch2{letter}" for letter in ascii_lowercase[: len(unit.branch)]]
    for index, (name, values) in enumerate(zip(names, unit.branch, strict=True)):
        if index > 0:
            named_after = name if ordering.is_preactivated else names[index - 1]
            x = activation(x, ordering.between, named_after, defaults)
        x = convolution(x, values, f"res{name}", defaults)
    starts_empty = defaults.zero_init_last_gamma and unit.shortcut != "none"
    gamma = "zeros" if starts_empty else "ones"
    return activation(x, ordering.last, names[-1], defaults, gamma)


def activation(
    x: keras.KerasTensor,
    steps: Sequence[Step],
    name: str,
    defaults: LayerDefaults,
    gamma_initializer: str = "ones",
) -> keras.KerasTensor:
    """Batch normalisation "bn<name>" and ReLU "res<name>_relu", as far as `steps` names them.

    Args:
        x: a map (batch, h, w, channels).
        steps: in their order.
        name: of the convolution that the layers are named after.
        defaults: what the network's normalisations have in common.
        gamma_initializer: of the batch normalisation, "ones" or "zeros".
    """
    for step in steps:
        if step == "bn":
            x = normalization(x, f"bn{name}", defaults, gamma_initializer)
        else:
            x = keras.layers.Activation("relu", name=f"res{name}_relu")(x)
    return x


def identity_block(
    x: keras.KerasTensor,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    *,
    unit: Unit = BOTTLENECK,
    defaults: LayerDefaults = COURSE_DEFAULTS,
    merge: Merge = ADDITION,
    dilations: Sequence[int] = (),
) -> keras.KerasTensor:
    """A unit whose input has the shape of its output, and is added to it unchanged.

    Args:
        x: a map (batch, h, w, filters[-1]), of any float dtype.
        f: kernel size of the bottleneck's middle convolution (both of the basic unit's).
        filters: of the two (basic) or three (bottleneck) convolutions, or of a single one.
        stage: the stage's number, for the layers' names.
        block: the unit's label within its stage, for the layers' names.
        unit: where its stride stands, its ordering and its groups; `f` and `filters` are in place
            of its kernel size and widths.
        defaults: what all convolutions of the network have in common; the course's by default.
        merge: of branch and shortcut.
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
    convolutions = replace(unit, kernel_size=f).branch(x.shape[-1], filters, 1, dilations)
    spec = ResidualUnit(stage, block, convolutions, "identity", unit.ordering, merge)
    return residual_unit(x, spec, defaults)


def convolutional_block(
    x: keras.KerasTensor,
    f: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    s: int = 2,
    *,
    unit: Unit = BOTTLENECK,
    defaults: LayerDefaults = COURSE_DEFAULTS,
    merge: Merge = ADDITION,
    dilations: Sequence[int] = (),
) -> keras.KerasTensor:
    """A unit with a projection shortcut: a 1x1 convolution and batch normalisation.

    In a fully pre-activated unit the projection, too, takes the activated input, and is not
    normalised. Args and errors are those of `identity_block`, and:
        s: stride of the whole unit.

    Returns:
        A map (batch, ceil(h / s), ceil(w / s), filters[-1]).
    """
    convolutions = replace(unit, kernel_size=f).branch(x.shape[-1], filters, s, dilations)
    spec = ResidualUnit(stage, block, convolutions, "projection", unit.ordering, merge)
    return residual_unit(x, spec, defaults)
