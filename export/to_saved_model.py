"""SavedModels, which TensorFlow Serving and whatever else runs TensorFlow load.

Two signatures give the same dictionary, "scores", (batch, classes) float32 probabilities, and
"labels", (batch, classes) strings, the classes' names in the order of the scores:

- serving_default takes "pixels", (batch, height, width, 3) float32 RGB 0..255;
- serve_bytes takes "images", (batch,) strings, each the bytes of a JPEG, PNG, GIF or BMP file of
  any size, of which it shows the network what evaluation shows (`resnet_keras.view.tf_view`). Of an
  animation it takes the first picture; bytes that cannot be decoded raise InvalidArgumentError.

The class names stand in assets/labels.txt too, one a line. The weights are constants of the graph,
once for both signatures: variables are brought into oneDNN's order at every call, which takes
longer than the convolutions of one image.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.export.card import LABELS, ModelCard
from resnet_keras.networks.recursion import recursion_for
from resnet_keras.view import tf_view

IMAGES_AT_ONCE = 32


def convert(model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path) -> None:
    """Writes a model as a SavedModel.

    Args:
        model: as `folding.inference_model` makes it.
        card: class names, and the part of an image to show.
        calibration: not needed.
        path: of the folder, which is not there yet.
    """
    del calibration
    shape = model.input_shape[1:]
    view = card.view(*shape)
    pixels = tf.TensorSpec((None, *shape), tf.float32, name="pixels")
    images = tf.TensorSpec((None,), tf.string, name="images")
    weights = [
        [keras.ops.convert_to_numpy(variable) for variable in of]
        for of in (model.trainable_variables, model.non_trainable_variables)
    ]

    @tf.function(input_signature=[pixels])
    def answer(pixels: tf.Tensor) -> tf.Tensor:
        constants = ([tf.constant(weight) for weight in of] for of in weights)
        return model.stateless_call(*constants, pixels, training=False)[0]

    def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = answer(pixels)
        labels = tf.broadcast_to(tf.constant(card.class_names), tf.shape(scores))
        return {"scores": scores, "labels": labels}

    def classify_bytes(images: tf.Tensor) -> dict[str, tf.Tensor]:
        shown = tf.map_fn(
            lambda content: tf_view.show_bytes(content, view),
            images,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )
        return classify(tf.cast(shown, tf.float32))

    with tempfile.TemporaryDirectory(dir=path.parent) as folder, recursion_for(len(model.layers)):
        labels = Path(folder, LABELS)
        labels.write_text(card.labels, encoding="utf-8")
        tf.saved_model.save(
            _Kept(labels),
            path,
            signatures={
                "serving_default": tf.function(classify, input_signature=[pixels]),
                "serve_bytes": tf.function(classify_bytes, input_signature=[images]),
            },
        )


def predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a SavedModel.

    Returns:
        A function from (n, height, width, 3) uint8 to probabilities, (n, classes) float32.
    """
    serve = tf.saved_model.load(path).signatures["serving_default"]
    no_scores = np.empty((0, serve.structured_outputs["scores"].shape[1]), np.float32)

    def predict(images: np.ndarray) -> np.ndarray:
        scores = [
            serve(pixels=tf.constant(images[start : start + IMAGES_AT_ONCE], tf.float32))["scores"]
            for start in range(0, len(images), IMAGES_AT_ONCE)
        ]
        return np.concatenate([no_scores, *scores])

    return predict


class _Kept(tf.Module):
    """What is stored beside the signatures: the file of labels."""

    def __init__(self, labels: Path) -> None:
        super().__init__()
        self.labels = tf.saved_model.Asset(labels)
