"""Every kind of network, folded and converted: its answers, and that nothing stays unfolded."""

from collections import Counter

import keras
import numpy as np
import pytest
from tiny_family import TINY_FAMILY, draw_images, trained

from export import to_tflite
from export.card import ModelCard
from export.folding import inference_model

CARD = ModelCard("tiny", "Five classes.", tuple("abcde"))

# Grouped convolutions and pre-activations are where converters fall short.
FAST = ("resnext50-32x4d", "preresnet110")
NETWORKS = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in TINY_FAMILY
]

# What follows from the layers one to one is counted; these need no more than be allowed.
OTHERS = {
    "AVERAGE_POOL_2D",
    "FULLY_CONNECTED",
    "LOGISTIC",
    "MAX_POOL_2D",
    "MEAN",
    "PAD",
    "RELU",
    "RESHAPE",
    "SOFTMAX",
}


def expected_operations(model: keras.Model) -> dict[str, int]:
    """Of an inference model: a convolution is one operation, a rescaling is one or two."""

    def layers(*kinds):
        return [layer for layer in model.layers if isinstance(layer, kinds)]

    depthwise = layers(keras.layers.DepthwiseConv2D)
    rescalings = layers(keras.layers.Rescaling)
    shifts = [layer for layer in rescalings if np.any(layer.offset)]
    return {
        "CONV_2D": len(layers(keras.layers.Conv2D)),
        "DEPTHWISE_CONV_2D": len(depthwise),
        "MUL": len(rescalings) + len(layers(keras.layers.Multiply)),
        "ADD": len(shifts) + len(layers(keras.layers.Add)),
    }


@pytest.mark.parametrize("network", NETWORKS)
def test_network_answers_as_in_keras_with_built_in_operations(network, tmp_path):
    model = trained(TINY_FAMILY[network])
    images = draw_images(16)
    folded = inference_model(model)
    path = tmp_path / "tiny.tflite"

    to_tflite.convert_float32(folded, CARD, images, path)

    np.testing.assert_allclose(to_tflite.predictor(path)(images), model(images), atol=1e-4)
    counts = Counter(to_tflite.operations(path))
    assert {name: counts.pop(name, 0) for name in expected_operations(folded)} == (
        expected_operations(folded)
    )
    assert set(counts) <= OTHERS


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", ["resnet50", "resnext29-8x64d", "preresnet164", "exclusive-gating"]
)
def test_network_keeps_its_answers_in_integers(network, tmp_path):
    model = trained(TINY_FAMILY[network])
    images = draw_images(100)
    path = tmp_path / "tiny.tflite"

    to_tflite.convert_int8(inference_model(model), CARD, draw_images(200, seed=1), path)

    # Random weights leave most images on the brink between two classes, so their probabilities are
    # compared; of answers unrelated to Keras's they would differ by 0.15 or more on average.
    difference = np.abs(to_tflite.predictor(path)(images) - np.asarray(model(images)))
    assert difference.mean() < 0.08
