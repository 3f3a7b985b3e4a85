"""resnet-keras with a network and a recipe of seconds, for what needs a process of its own.

It imports no framework before the command line does, as the program that users start.
"""

import dataclasses

from resnet_keras import architectures, cli, recipes
from resnet_keras.architectures import RESNET20, Stem
from resnet_keras.data.augmentation import Augmentation, CutMix, MixUp, PadAndCrop

DROPPING = dataclasses.replace(
    RESNET20, stem=Stem(8, 3), blocks=(1, 1, 1), filters=(8, 16, 32), final_survival=0.5
)
"""A network with stochastic depth."""

EVERYTHING = recipes.Recipe(
    epochs=5,
    batch_size=64,
    accumulate=2,
    optimizer="lamb",
    learning_rate=0.01,
    weight_decay=0.02,
    clip_norm=1.0,
    ema=0.9,
    warmup_epochs=0.5,
    loss="binary",
    augmentation=Augmentation(PadAndCrop(), flip=True, mixup=MixUp(), cutmix=CutMix()),
    image_size=8,
    precision="mixed_float16",
)
"""All that has a state: averages, accumulated gradients, the loss scale, mixed images."""

if __name__ == "__main__":
    architectures.NETWORKS["tiny"] = DROPPING
    recipes.RECIPES["everything"] = EVERYTHING
    cli.main()
