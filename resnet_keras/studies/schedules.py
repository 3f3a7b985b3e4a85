"""Which recipe a study trains a network with, at which scale."""

from dataclasses import replace

from resnet_keras import architectures
from resnet_keras.recipes import PAPER_CIFAR10, PAPER_CIFAR10_WARMUP, PAPER_IMAGENET, QUICK, Recipe
from resnet_keras.studies.study import Setting, Training

# Residual units start as the papers' do, and not as the identity: that alone would hide effects.
MINUTES = replace(QUICK, epochs=12, warmup_epochs=1, image_size=16, zero_init_last_gamma=False)
DEEP = 110  # layers, from which on the paper warms up [1, section 4.2]


def training(
    network: str,
    setting: Setting,
    seed: int,
    shortcut: str | None = None,
    quick: Recipe | None = None,
    tag: str = "",
) -> Training:
    """A network with the papers' recipe for it, or with one of minutes.

    Args:
        network: its name.
        setting: scale and data.
        seed: of weights, order and augmentation.
        shortcut: option in place of the network's own.
        quick: another recipe of minutes.
        tag: as in `Training`, of the quick scale.
    """
    if setting.scale == "quick":
        return Training(network, replace(quick or MINUTES, seed=seed), shortcut, tag=tag)
    return Training(network, replace(_paper_recipe(network, setting), seed=seed), shortcut)


def _paper_recipe(network: str, setting: Setting) -> Recipe:
    if setting.has_large_images:
        return PAPER_IMAGENET
    deep = architectures.find(network).depth >= DEEP
    return PAPER_CIFAR10_WARMUP if deep else PAPER_CIFAR10
