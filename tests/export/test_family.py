"""Every kind of network, folded and converted: its answers, and that nothing stays unfolded."""

import functools
from collections import Counter
from dataclasses import dataclass, replace

import keras
import kit
import numpy as np
import onnx
import onnxruntime
import pytest
from kit import TINY_FAMILY, draw_images

from resnet_keras.export import to_onnx, to_saved_model, to_tflite
from resnet_keras.export.card import ModelCard
from resnet_keras.export.folding import inference_model

CARD = ModelCard("tiny", "Five classes.", tuple("abcde"))
IMAGES = draw_images(16)

# Grouped convolutions and pre-activations are where converters fall short.
FAST = ("resnext29-8x64d", "preresnet164")

# What follows from the layers one to one is counted; these need no more than be allowed.
OTHERS_IN_TFLITE = {
    "AVERAGE_POOL_2D",
    "FULLY_CONNECTED",
    "LOGISTIC",
    "MAX_POOL_2D",
    "MEAN",
    "PAD",
    "RESHAPE",
    "SOFTMAX",
}


@dataclass(frozen=True)
class Kind:
    """A network of the family in miniature.

    Attributes:
        name: in `TINY_FAMILY`.
        folded: the network, with weights as after training, folded for inference.
        answers: of the network to `IMAGES`.
    """

    name: str
    folded: keras.Model
    answers: np.ndarray

    def count(self, *layers):
        return sum(isinstance(layer, layers) for layer in self.folded.layers)

    @property
    def additions(self):
        """Of two maps each; a dense shortcut's is of several."""
        sums = [layer for layer in self.folded.layers if isinstance(layer, keras.layers.Add)]
        return sum(len(layer.input) - 1 for layer in sums)


@functools.cache
def make_kind(name):
    model = kit.trained(replace(TINY_FAMILY[name], blocks=(2, 1)))
    return Kind(name, inference_model(model), kit.answers(model, IMAGES))


@pytest.fixture(scope="module", params=kit.family(fast=FAST))
def kind(request):
    return make_kind(request.param)


def test_tflite_answers_as_keras_does_with_built_in_operations(kind, tmp_path):
    path = tmp_path / "tiny.tflite"
    to_tflite.convert_float32(kind.folded, CARD, IMAGES, path)
    np.testing.assert_allclose(to_tflite.predictor(path)(IMAGES), kind.answers, atol=1e-4)

    counts = Counter(to_tflite.operations(path))
    rescalings = [
        layer for layer in kind.folded.layers if isinstance(layer, keras.layers.Rescaling)
    ]
    shifts = [layer for layer in rescalings if np.any(layer.offset)]
    expected = {
        "CONV_2D": kind.count(keras.layers.Conv2D),
        "DEPTHWISE_CONV_2D": kind.count(keras.layers.DepthwiseConv2D),
        "MUL": len(rescalings) + kind.count(keras.layers.Multiply),
        "ADD": len(shifts) + kind.additions,
        "CONCATENATION": kind.count(keras.layers.Concatenate),
        # All others join the operation before, which no shortcut reads too.
        "RELU": 2 if kind.name == "relu-only-preactivation" else 0,
    }
    assert {name: counts.pop(name, 0) for name in expected} == expected
    assert set(counts) <= OTHERS_IN_TFLITE


def test_onnx_answers_as_keras_does_with_the_networks_operations(kind, tmp_path):
    path = tmp_path / "tiny.onnx"
    to_onnx.convert_float32(kind.folded, CARD, np.empty(0), path)
    np.testing.assert_allclose(to_onnx.predictor(path)(IMAGES), kind.answers, atol=1e-4)

    graph = onnx.load(path).graph
    counts = Counter(node.op_type for node in graph.node)
    rescalings = kind.count(keras.layers.Rescaling)
    assert counts["Conv"] == kind.count(keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    # Besides the units' additions: the classifier's bias, the pixels' shift, gates' complements.
    assert counts["Add"] <= kind.additions + 1 + rescalings
    assert counts["Mul"] == kind.count(keras.layers.Multiply) + rescalings
    assert counts["Transpose"] == 1 + kind.count(keras.layers.Flatten)
    assert not {"BatchNormalization", "Shape", "Cast", "Identity"} & set(counts)
    groups = [
        attribute.i
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    ]
    assert (2 in groups) == (TINY_FAMILY[kind.name].unit.groups == 2)


@pytest.mark.parametrize(
    "kind",
    [
        "resnext29-8x64d",
        pytest.param("preresnet164", marks=pytest.mark.slow),
        pytest.param("resnet50-course", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_saved_model_answers_as_keras_does(kind, tmp_path):
    to_saved_model.convert(kind.folded, CARD, np.empty(0), tmp_path / "saved")
    scores = to_saved_model.predictor(tmp_path / "saved")(IMAGES)
    np.testing.assert_allclose(scores, kind.answers, atol=1e-4)


# --- in integers ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", kit.EVERY_PART, indirect=True)
def test_tflite_keeps_its_answers_in_integers(kind, tmp_path):
    path = tmp_path / "tiny.tflite"
    to_tflite.convert_int8(kind.folded, CARD, draw_images(200, seed=1), path)

    # Random weights leave most images on the brink between two classes, so their probabilities are
    # compared; of answers unrelated to Keras's they would differ by 0.15 or more on average.
    images = draw_images(100)
    difference = np.abs(to_tflite.predictor(path)(images) - kit.answers(kind.folded, images))
    assert difference.mean() < 0.08


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(name, marks=() if name == "resnext29-8x64d" else pytest.mark.slow)
        for name in kit.EVERY_PART
    ],
    indirect=True,
)
def test_onnx_in_integers_answers_what_the_file_says_and_says_nothing(
    kind, tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.onnx"
    capfd.readouterr()
    to_onnx.convert_int8(kind.folded, CARD, draw_images(32, seed=1), path)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    assert list(tmp_path.iterdir()) == [path]

    images = draw_images(5)
    # Without optimisation nothing is merged: float arithmetic, as the file has it.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (emulated,) = session.run(["probabilities"], {"pixels": images.astype("float32")})
    np.testing.assert_allclose(to_onnx.predictor(path)(images), emulated, atol=0.02)


# --- at depth ---


@pytest.mark.slow
def test_onnx_of_a_network_as_deep_as_resnet164(tmp_path):
    architecture = kit.tiny(TINY_FAMILY["resnet164"], (54,), (2,), input_size=8)
    model = kit.randomize(kit.build(architecture))
    path = tmp_path / "deep.onnx"
    to_onnx.convert_float32(inference_model(model), CARD, np.empty(0), path)
    images = draw_images(4, 8)
    np.testing.assert_allclose(
        to_onnx.predictor(path)(images), kit.answers(model, images), atol=1e-4
    )
