"""Core ML packages, which Apple's devices run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import coremltools as ct
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_keras.errors import InputError
from resnet_keras.export.card import ModelCard
from resnet_keras.networks.recursion import recursion_for

CLASS_NAMES = "class_names"  # under which the package's metadata have them, in order, as JSON


def convert(model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path) -> None:
    """Writes an ML program for iOS 15, macOS 12 and later: a classifier of images.

    Its input "pixels" is an RGB image, as Vision and Xcode's preview hand it over, and its outputs
    are those of Core ML's classifiers: "classLabel" and, for every class name, "classLabel_probs".
    Weights and arithmetic are float16, which the Neural Engine asks for.

    Args:
        model: an inference model, from pixels (None, h, w, 3) to probabilities (None, classes).
        card: goes into the package.
        calibration: not needed.
        path: of the .mlpackage folder.
    """
    del calibration
    shape = (1, *model.input_shape[1:])
    with recursion_for(len(model.layers)):
        classify = tf.function(
            lambda pixels: model(pixels, training=False),
            input_signature=[tf.TensorSpec(shape, tf.float32, "pixels")],
        )
        package = ct.convert(
            [classify.get_concrete_function()],
            source="tensorflow",
            convert_to="mlprogram",
            inputs=[ct.ImageType("pixels", shape, color_layout=ct.colorlayout.RGB)],
            classifier_config=ct.ClassifierConfig(list(card.class_names)),
        )
    package.short_description = card.description
    package.user_defined_metadata["name"] = card.name
    package.user_defined_metadata[CLASS_NAMES] = json.dumps(card.class_names, ensure_ascii=False)
    package.user_defined_metadata["view"] = card.view_as_json(model.input_shape)
    package.save(str(path))


def predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a package into Core ML, which only macOS has.

    Returns:
        A function from images (n, h, w, 3) uint8 to probabilities (n, classes) float32.

    Raises:
        InputError: this is no Mac.
    """
    if sys.platform != "darwin":
        raise InputError("Core ML predicts on macOS only", received=sys.platform, accepted="darwin")
    package = ct.models.MLModel(str(path))
    class_names = json.loads(package.user_defined_metadata[CLASS_NAMES])

    def predict(images: np.ndarray) -> np.ndarray:
        predictions = np.empty((len(images), len(class_names)), "float32")
        for image, prediction in zip(images, predictions, strict=True):
            found = package.predict({"pixels": Image.fromarray(image)})["classLabel_probs"]
            prediction[:] = [found[name] for name in class_names]
        return predictions

    return predict
