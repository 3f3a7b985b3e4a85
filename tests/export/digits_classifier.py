"""A tiny network that really tells handwritten digits apart, trained in seconds."""

import dataclasses
from functools import cache

import keras
import numpy as np
from conftest import TINY
from sklearn.datasets import load_digits

import resnet_keras
from resnet_keras.architectures import Stem
from resnet_keras.data.images import resize

SIDE = 16
HELD_OUT = 300
TRAINED_ON = 1797 - HELD_OUT
BATCH, EPOCHS = 64, 8
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "neuf à ½")


def digits(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images of scikit-learn's digits, (n, side, side, 3) uint8, and their labels."""
    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype("uint8")
    colour = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return np.stack([resize(image, side) for image in colour]), data.target


def held_out_digits() -> np.ndarray:
    return digits()[0][-HELD_OUT:]


@cache
def trained(side: int = SIDE) -> keras.Model:
    """The same network for all who ask in one process; they leave it as it is."""
    images, labels = digits(side)
    keras.utils.set_random_seed(0)
    model = resnet_keras.build(
        dataclasses.replace(TINY, stem=Stem(16, 3), filters=(16, 32, 64)), (side, side, 3)
    )
    # Sure enough of its answers that quantisation leaves them, on whatever kernels it was trained.
    rate = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=EPOCHS * (TRAINED_ON // BATCH))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images[:TRAINED_ON], labels[:TRAINED_ON], BATCH, EPOCHS, verbose=0)
    return model
