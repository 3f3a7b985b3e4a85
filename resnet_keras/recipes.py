"""Training recipes: everything about a training run but the network and the data.

A preset states only what differs from the defaults of `Recipe`.
"""

from dataclasses import dataclass
from typing import Literal

from resnet_keras.architectures import nearest
from resnet_keras.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with momentum, warm-up, then a decaying learning rate.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the highest, after the warm-up.
        momentum: of SGD; the learning rate stands inside it, as in the papers' Caffe.
        l2: factor of the L2 term that is added to the gradient of every parameter before momentum,
            which is what both papers call weight decay. (Keras's decoupled `weight_decay` bypasses
            momentum and is another recipe.)
        warmup_epochs: epochs over which the learning rate grows linearly from zero.
        decay: "cosine" to zero, or "steps" by `decay_factor`.
        decay_at: when the steps come, as fractions of all epochs.
        decay_factor: what each step multiplies the learning rate by.
        zero_init_last_gamma: start residual units as the identity (Goyal et al. 2017); plain
            networks have none and ignore it.
        shift: largest random translation, as a fraction of the image's side: 1/8 pads a 32-pixel
            image by 4 and crops 32, as the paper does for CIFAR.
        flip: mirror half of the images left to right.
        image_size: side in pixels; None takes the smaller of the network's and the data's own.
        precision: "auto", or a Keras policy: float32, mixed_bfloat16, mixed_float16.
        seed: of the initial weights, the order of the images and the augmentation.
    """

    epochs: int = 90
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    l2: float = 1e-4
    warmup_epochs: float = 0.0
    decay: Literal["cosine", "steps"] = "cosine"
    decay_at: tuple[float, ...] = (0.5, 0.75)
    decay_factor: float = 0.1
    zero_init_last_gamma: bool = False
    shift: float = 0.0
    flip: bool = False
    image_size: int | None = None
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1. Received: {value}")
        for name in ("learning_rate", "decay_factor"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive. Received: {getattr(self, name)}")
        for name in ("l2", "warmup_epochs"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative. Received: {getattr(self, name)}")
        for name in ("momentum", "shift"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1). Received: {getattr(self, name)}")
        if self.decay not in ("cosine", "steps"):
            raise InputError(f"decay is 'cosine' or 'steps'. Received: {self.decay!r}")


QUICK = Recipe(
    epochs=24,
    batch_size=32,
    learning_rate=0.05,
    warmup_epochs=3,
    zero_init_last_gamma=True,
    shift=1 / 8,
)
"""Minutes on a CPU, for small data: `make train-resnet50`."""

PAPER_CIFAR10 = Recipe(epochs=182, decay="steps", shift=1 / 8, flip=True)
"""He et al. 2016, section 4.2: 64k iterations of 128 out of 45,000 images, 0.1 divided by 10 at 32k
and 48k; `resnet-keras train resnet20 --recipe paper-cifar10`. Not run here on CIFAR-10."""

RECIPES = {"quick": QUICK, "paper-cifar10": PAPER_CIFAR10}


def find(recipe: str) -> Recipe:
    """The preset of a name.

    Raises:
        InputError: there is no such recipe; the nearest names are suggested.
    """
    if recipe not in RECIPES:
        raise InputError(f"unknown recipe. Received: {recipe!r}; {nearest(recipe, list(RECIPES))}")
    return RECIPES[recipe]
