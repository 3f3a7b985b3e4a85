"""The whole family in miniature: every kind of network there is, with weights as after training."""

from dataclasses import replace

import keras
import numpy as np

from resnet_keras.architectures import (
    BN_AFTER_ADDITION,
    NETWORKS,
    OPTION_B,
    OPTION_C,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    Architecture,
    Gating,
    Scaling,
    ShortcutDropout,
)
from resnet_keras.models import build


def tiny(architecture: Architecture) -> Architecture:
    """The same stem, unit, shortcut, style and head, on two short stages of few filters."""
    return replace(
        architecture,
        stem=replace(architecture.stem, filters=4),
        unit=replace(architecture.unit, groups=min(architecture.unit.groups, 2)),
        blocks=(2, 2),
        filters=(4, 8),
        numbered_stages=(),
        input_size=32,
        classes=5,
    )


def _distinct(architectures: dict[str, Architecture]) -> dict[str, Architecture]:
    """Without the networks that differ from one before them in depth or width alone."""
    first_names = {}
    for name, architecture in architectures.items():
        first_names.setdefault(tiny(architecture), name)
    return {name: architecture for architecture, name in first_names.items()}


RESNET20 = NETWORKS["resnet20"]

# A new network of the table is here by itself.
TINY_FAMILY = {
    **_distinct(NETWORKS),
    "option-b": tiny(replace(RESNET20, shortcut=OPTION_B)),
    "option-c": tiny(replace(RESNET20, shortcut=OPTION_C)),
    **{
        name: tiny(replace(RESNET20, unit=replace(RESNET20.unit, ordering=ordering)))
        for name, ordering in {
            "bn-after-addition": BN_AFTER_ADDITION,
            "relu-before-addition": RELU_BEFORE_ADDITION,
            "relu-only-preactivation": RELU_ONLY_PREACTIVATION,
        }.items()
    },
    **{
        name: tiny(replace(RESNET20, manipulation=manipulation))
        for name, manipulation in {
            "scaling": Scaling(),
            "exclusive-gating": Gating(bias=-1.0, gates_branch=True),
            "shortcut-gating": Gating(bias=-1.0, gates_branch=False),
            "shortcut-dropout": ShortcutDropout(),
        }.items()
    },
    "preactivated-scaling": tiny(replace(NETWORKS["preresnet110"], manipulation=Scaling())),
    "stochastic-depth": tiny(replace(RESNET20, final_survival=0.5)),
}


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives a model weights as after a long training: no initial zeros and ones are left.

    Gammas have both signs, and every fifth is 0, as channels die.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape
            gamma = rng.uniform(0.5, 2, channels) * rng.choice((-1, 1), channels)
            gamma[::5] = 0
            beta, mean = rng.normal(0, 0.5, (2, *channels))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.2, 2, channels)])
        elif layer.weights:
            kernel, *biases = (weight.shape for weight in layer.weights)
            deviation = np.sqrt(2 / np.prod(kernel[:-1]))
            layer.set_weights(
                [rng.normal(0, deviation, kernel), *(rng.normal(0, 0.3, bias) for bias in biases)]
            )
    return model


def trained(architecture: Architecture) -> keras.Model:
    """A network of random weights whose answers differ from image to image of `draw_images`.

    Each class's logits have mean 0 and standard deviation 2 over them; of random features alone
    they would be far apart, and one class be certain whatever the image.
    """
    model = randomize(build(architecture))
    classifier = model.layers[-1]
    kernel, _ = classifier.get_weights()
    features = keras.Model(model.input, classifier.input)(draw_images(64, architecture.input_size))
    logits = keras.ops.convert_to_numpy(features) @ kernel
    gain = 2 / logits.std(0)
    classifier.set_weights([kernel * gain, -logits.mean(0) * gain])
    return model


def draw_images(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Images (count, size, size, 3) uint8 that differ as photographs do: patches and noise.

    The averages of plain noise are all alike, and so would be a network's answers.
    """
    rng = np.random.default_rng(seed)
    side = -(-size // 8)
    patches = rng.uniform(0, 255, (count, side, side, 3)).repeat(8, 1).repeat(8, 2)
    tint = rng.uniform(-100, 100, (count, 1, 1, 3))
    noise = rng.normal(0, 20, (count, size, size, 3))
    return (patches[:, :size, :size] + tint + noise).clip(0, 255).astype("uint8")
