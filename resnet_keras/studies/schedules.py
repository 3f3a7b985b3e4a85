"""Which recipe a study trains a network with, at which scale."""

from dataclasses import replace

from resnet_keras import architectures
from resnet_keras.recipes import PAPER_CIFAR10, PAPER_CIFAR10_WARMUP, PAPER_IMAGENET, QUICK, Recipe
from resnet_keras.studies.study import Setting, Training

MANY = 5000  # training images, from which on the quick recipe is that for many
PER_CLASS = 1000  # training images that the quick scale takes, at most
# Residual units start as the papers' do, and not as the identity: that alone would hide effects.
FEW_IMAGES = replace(QUICK, epochs=12, warmup_epochs=1, image_size=16, zero_init_last_gamma=False)
# 0.05 for batches of 64 is the paper's learning rate, 0.1 for 128 [1, section 4.2].
MANY_IMAGES = replace(FEW_IMAGES, epochs=6, batch_size=64, image_size=28)
DEEP = 110  # layers, from which on the paper warms up [1, section 4.2]


def quick(setting: Setting) -> Recipe:
    """The recipe of the quick scale for as many training images."""
    return MANY_IMAGES if setting.training_images >= MANY else FEW_IMAGES


def training(
    network: str,
    setting: Setting,
    seed: int,
    shortcut: str | None = None,
    quick_recipe: Recipe | None = None,
    tag: str = "",
) -> Training:
    """A network with the papers' recipe for it, or with one of minutes.

    Args:
        network: its name.
        setting: scale and data.
        seed: of weights, order and augmentation.
        shortcut: option in place of the network's own.
        quick_recipe: in place of the quick scale's.
        tag: as in `Training`, of the quick scale.
    """
    if setting.scale == "quick":
        recipe = quick_recipe or quick(setting)
        return Training(network, replace(recipe, seed=seed), shortcut, tag)
    return Training(network, replace(_paper_recipe(network, setting), seed=seed), shortcut)


def _paper_recipe(network: str, setting: Setting) -> Recipe:
    if setting.has_large_images:
        return PAPER_IMAGENET
    deep = architectures.find(network).depth >= DEEP
    return PAPER_CIFAR10_WARMUP if deep else PAPER_CIFAR10
