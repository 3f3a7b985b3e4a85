"""What carries a unit's input to its addition, and what happens there.

[1] He et al. 2016, "Deep Residual Learning", section 3.3; [2] "Identity Mappings", section 3.1.
"""

from collections.abc import Sequence
from dataclasses import replace

import keras

from resnet_keras.architectures import Gating, LayerDefaults, ResidualUnit, Scaling, ShortcutDropout
from resnet_keras.networks.layers import ZeroPaddedShortcut, convolution, normalization


def join(
    earlier: Sequence[keras.KerasTensor],
    activated: keras.KerasTensor,
    branch: keras.KerasTensor,
    unit: ResidualUnit,
    defaults: LayerDefaults,
) -> keras.KerasTensor:
    """Adds a unit's shortcut to its branch, the branch now and then dropped (stochastic depth).

    A concatenated shortcut gets the branch's channels after its own (Huang et al. 2017, section 3).

    Args:
        earlier: the stage's maps that the unit reads, its input last.
        activated: the input after the unit's pre-activation; x itself where the unit has none.
        branch: output of the residual branch.

    Returns:
        A map (batch, h, w, unit.out_filters), h and w being the branch's; the branch itself where
        there is no shortcut.
    """
    name, x = f"res{unit.name}", earlier[-1]
    if unit.shortcut == "none":
        return branch
    if unit.shortcut == "concatenated":
        return keras.layers.Concatenate(name=name)([x, branch])
    carried = []
    if unit.shortcut == "projection":
        shortcut = _projection(x, activated, unit, defaults)
    elif unit.shortcut == "dense":
        shortcut, *carried = _dense(earlier, unit, defaults)
    else:
        shortcut = x if unit.shortcut == "identity" else _zero_padded(x, unit)
        branch, shortcut = _manipulate(x, branch, shortcut, unit, defaults)
    if unit.merge.drop_rate:
        # One draw for the whole batch: the unit is there or it is not.
        branch = keras.layers.Dropout(
            unit.merge.drop_rate, noise_shape=(1, 1, 1, 1), name=f"drop{unit.name}"
        )(branch)
    return keras.layers.Add(name=name)([branch, shortcut, *carried])


def _projection(
    x: keras.KerasTensor, activated: keras.KerasTensor, unit: ResidualUnit, defaults: LayerDefaults
) -> keras.KerasTensor:
    """Options B and C [1]: a 1x1 convolution with the unit's stride, and batch normalisation.

    In a pre-activated unit it takes the activated input, and is not normalised again.
    """
    name = f"{unit.name}_branch1"
    if unit.ordering.is_preactivated:
        return convolution(activated, unit.on_shortcut, f"res{name}", defaults)
    return normalization(
        convolution(x, unit.on_shortcut, f"res{name}", defaults), f"bn{name}", defaults
    )


def _dense(
    earlier: Sequence[keras.KerasTensor], unit: ResidualUnit, defaults: LayerDefaults
) -> list[keras.KerasTensor]:
    """The maps of a stage so far, each normalised and weighted for this unit (Zhang et al. 2021).

    The weights, one for each channel, are the gammas of the batch normalisations.
    """
    return [
        normalization(x, f"bn{unit.name}_branch1_from{index}", defaults)
        for index, x in enumerate(earlier)
    ]


def _zero_padded(x: keras.KerasTensor, unit: ResidualUnit) -> keras.KerasTensor:
    """Option A [1] where dimensions grow: subsampled, zero channels appended, no parameters."""
    return ZeroPaddedShortcut(unit.filters[-1], unit.stride, name=f"res{unit.name}_branch1")(x)


def _manipulate(
    x: keras.KerasTensor,
    branch: keras.KerasTensor,
    shortcut: keras.KerasTensor,
    unit: ResidualUnit,
    defaults: LayerDefaults,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Branch and shortcut, both of one shape, after what [2, table 1] tries."""
    name, manipulation = unit.name, unit.merge.manipulation
    if isinstance(manipulation, Scaling):
        branch = keras.layers.Rescaling(manipulation.branch, name=f"scale{name}_branch2")(branch)
        shortcut = keras.layers.Rescaling(manipulation.shortcut, name=f"scale{name}_branch1")(
            shortcut
        )
    elif isinstance(manipulation, Gating):
        gate = convolution(
            x,
            unit.on_shortcut,
            f"gate{name}",
            replace(defaults, use_bias=True),
            activation="sigmoid",
            bias_initializer=keras.initializers.Constant(manipulation.bias),
        )
        opened = keras.layers.Rescaling(-1.0, 1.0, name=f"gate{name}_complement")(gate)
        shortcut = keras.layers.Multiply(name=f"gate{name}_branch1")([shortcut, opened])
        if manipulation.gates_branch:
            branch = keras.layers.Multiply(name=f"gate{name}_branch2")([branch, gate])
    elif isinstance(manipulation, ShortcutDropout):
        shortcut = keras.layers.Dropout(manipulation.rate, name=f"drop{name}_branch1")(shortcut)
    return branch, shortcut
