"""An export of a small network that knows handwritten digits, for what a browser has to load."""

import dataclasses

import keras
import numpy as np
from conftest import TINY
from PIL import Image
from sklearn.datasets import load_digits

import export
import resnet_keras
from resnet_keras.architectures import Stem

SIDE = 32
HELD_OUT = 200
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORMATS = (
    *("tflite-float32", "tflite-float16", "tflite-dynamic-int8", "tflite-int8"),
    *("onnx-float32", "onnx-int8"),
)


def digits():
    """(1797, 32, 32, 3) uint8 and the class of each."""
    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype("uint8")
    larger = [Image.fromarray(image).resize((SIDE, SIDE), Image.BILINEAR) for image in grey]
    return np.stack([np.asarray(image.convert("RGB")) for image in larger]), data.target


def write_export(folder):
    """Trains for seconds, and exports."""
    images, labels = digits()
    model = _trained(images[HELD_OUT:], labels[HELD_OUT:])
    export.export(
        model,
        images[:HELD_OUT],
        labels[:HELD_OUT],
        images[HELD_OUT : 2 * HELD_OUT],
        folder,
        class_names=LABELS,
        formats=FORMATS,
    )


def _trained(images, labels):
    keras.utils.set_random_seed(0)
    tiny = dataclasses.replace(TINY, stem=Stem(8, 3), filters=(8, 16, 32), classes=len(LABELS))
    model = resnet_keras.build(tiny, (SIDE, SIDE, 3))
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=6, verbose=0)
    return model
