import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from digits_classifier import CLASS_NAMES, SIDE, digits, held_out_digits, trained
from tiny_family import TINY_FAMILY, draw_images
from tiny_family import trained as trained_tiny

from export import to_onnx
from export.card import ModelCard
from export.folding import inference_model

CARD = ModelCard("tiny", "Handwritten digits, 0 to 9.", CLASS_NAMES)
CONVERSIONS = {"float32": to_onnx.convert_float32, "int8": to_onnx.convert_int8}
FLOAT, UINT8, INT8, INT32 = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT32,
)

# Every part of the family that has operations of its own.
PARTS = ["resnet50-course", "resnet20", "preresnet164", "resnext29-8x64d", "exclusive-gating"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The digits classifier in both formats."""
    folder = tmp_path_factory.mktemp("onnx")
    model = inference_model(trained())
    for name, convert in CONVERSIONS.items():
        convert(model, CARD, digits()[0][:200], folder / f"{name}.onnx")
    assert sorted(file.name for file in folder.iterdir()) == ["float32.onnx", "int8.onnx"]
    return folder


def operations(graph):
    return Counter(node.op_type for node in graph.node)


def run(path, images, level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"pixels": images.astype(np.float32)})[0]


def emulate(path, images):
    """What the file says, in float arithmetic: without optimisation nothing is merged."""
    return run(path, images, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)


@pytest.mark.parametrize("batch", [1, 5])
def test_float32_predicts_what_keras_predicts_in_batches_of_any_size(files, batch):
    images = held_out_digits()[:batch]
    probabilities = run(files / "float32.onnx", images)
    assert probabilities.shape == (batch, 10) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, trained().predict(images, verbose=0), atol=1e-4)


def test_float32_has_the_networks_operations_and_one_transpose(files):
    assert operations(onnx.load(files / "float32.onnx").graph) == {
        "Mul": 1,
        "Add": 5,  # of the pixels, the three units and the classifier's bias
        "Transpose": 1,
        "Conv": 1 + 3 * 2,
        "Relu": 1 + 3 * 2,
        "AveragePool": 2,  # option A subsamples and pads
        "Pad": 2,
        "GlobalAveragePool": 1,
        "Squeeze": 1,
        "MatMul": 1,
        "Softmax": 1,
    }


@pytest.mark.parametrize("name", CONVERSIONS)
def test_file_tells_shapes_names_and_classes(files, name):
    model = onnx.load(files / f"{name}.onnx")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(told.pop("labels")) == list(CLASS_NAMES)
    assert told == {"name": "tiny", "description": "Handwritten digits, 0 to 9."}

    session = onnxruntime.InferenceSession(files / f"{name}.onnx")
    (pixels,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (pixels.name, pixels.type) == ("pixels", "tensor(float)")
    assert pixels.shape == ["batch", SIDE, SIDE, 3]
    assert (probabilities.name, probabilities.type) == ("probabilities", "tensor(float)")
    assert probabilities.shape == ["batch", 10]


@pytest.mark.parametrize("name", CONVERSIONS)
def test_predictor_takes_any_number_of_images(files, name):
    predict = to_onnx.predictor(files / f"{name}.onnx")
    images = held_out_digits()[:19]
    assert predict(images[:0]).shape == (0, 10)
    all_at_once = predict(images)
    assert all_at_once.dtype == np.float32
    one_by_one = np.concatenate([predict(image[None]) for image in images])
    np.testing.assert_allclose(all_at_once, one_by_one, atol=1e-6)


def test_int8_decides_as_keras_does(files):
    images = held_out_digits()
    expected = trained().predict(images, verbose=0)
    probabilities = run(files / "int8.onnx", images)
    assert np.mean(probabilities.argmax(1) == expected.argmax(1)) >= 0.98
    assert np.abs(probabilities - expected).max() < 0.15


def test_int8_keeps_small_probabilities(files):
    # A softmax of eight bits would have 256 different ones.
    assert len(np.unique(run(files / "int8.onnx", held_out_digits()))) > 1000


def test_int8_kernels_answer_what_the_file_says(files):
    # Full eight bits of weights overflow where there is no VNNI: by 0.6 in this network.
    images = held_out_digits()
    path = files / "int8.onnx"
    np.testing.assert_allclose(run(path, images), emulate(path, images), atol=0.02)


def test_int8_has_unsigned_activations_and_signed_weights_by_filter(files):
    graph = onnx.load(files / "int8.onnx").graph
    constants = {constant.name: constant for constant in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 1 + 3 * 2
    for convolution in convolutions:
        activation, weights, bias = (made_by[name] for name in convolution.input)
        assert made_by[activation.input[0]].op_type == "QuantizeLinear"
        assert constants[activation.input[2]].data_type == UINT8
        kernel = constants[weights.input[0]]
        assert kernel.data_type == INT8
        assert np.abs(onnx.numpy_helper.to_array(kernel)).max() == 64  # of 7 bits
        assert constants[weights.input[1]].dims == [kernel.dims[0]]  # a scale for every filter
        assert constants[bias.input[0]].data_type == INT32
    (classifier,) = (node for node in graph.node if node.op_type == "Gemm")
    assert constants[made_by[classifier.input[1]].input[0]].data_type == INT8


def test_pixels_are_normalised_in_float(files):
    graph = onnx.load(files / "int8.onnx").graph
    constants = {constant.name: constant.data_type for constant in graph.initializer}
    (scale,) = (node for node in graph.node if node.op_type == "Mul")
    (shift,) = (node for node in graph.node if scale.output[0] in node.input)
    assert "pixels" in scale.input and shift.op_type == "Add"
    numbers = [constants.get(name) for node in (scale, shift) for name in node.input]
    assert numbers.count(FLOAT) == 2


def test_dark_calibration_images_leave_bright_pixels_apart(tmp_path):
    dark = digits()[0][:200] // 4
    original = dark.copy()
    path = tmp_path / "dark.onnx"
    to_onnx.convert_int8(inference_model(trained()), CARD, dark, path)
    np.testing.assert_array_equal(dark, original)
    graph = onnx.load(path).graph
    constants = {
        constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer
    }
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    scale, zero_point = (constants[name].astype(np.float64) for name in first.input[1:])
    normalize = inference_model(trained()).get_layer("normalize")
    extremes = np.float64([[0], [255]]) * normalize.scale + normalize.offset
    assert (0 - zero_point) * scale <= extremes.min() + scale
    assert (255 - zero_point) * scale >= extremes.max() - scale


@pytest.mark.parametrize(
    "network",
    [
        *PARTS,
        *(pytest.param(name, marks=pytest.mark.slow) for name in TINY_FAMILY if name not in PARTS),
    ],
)
def test_float32_of_every_kind_of_network(network, tmp_path):
    architecture = TINY_FAMILY[network]
    model = inference_model(trained_tiny(architecture))
    path = tmp_path / "tiny.onnx"
    to_onnx.convert_float32(model, ModelCard(network, "", tuple("abcde")), np.empty(0), path)
    images = draw_images(5)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(run(path, images), expected, atol=1e-4)

    graph = onnx.load(path).graph
    counts = operations(graph)
    layers = Counter(type(layer).__name__ for layer in model.layers)
    assert counts["Conv"] == layers["Conv2D"] + layers["DepthwiseConv2D"]
    # Besides the units' additions: the classifier's bias, the pixels' shift, gates' complements.
    assert counts["Add"] <= layers["Add"] + 1 + layers["Rescaling"]
    assert counts["Mul"] == layers["Multiply"] + layers["Rescaling"]
    assert counts["Transpose"] == 1 + layers["Flatten"]
    assert not {"BatchNormalization", "Shape", "Cast", "Identity"} & set(counts)
    groups = [
        attribute.i
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    ]
    assert (2 in groups) == (architecture.unit.groups == 2)


@pytest.mark.parametrize("network", PARTS)
def test_int8_of_every_part_answers_what_the_file_says(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.onnx"
    model = inference_model(trained_tiny(TINY_FAMILY[network]))
    card = ModelCard(network, "", tuple("abcde"))
    to_onnx.convert_int8(model, card, draw_images(32, seed=1), path)
    images = draw_images(5)
    np.testing.assert_allclose(run(path, images), emulate(path, images), atol=0.02)
    assert list(tmp_path.iterdir()) == [path]


def test_conversion_says_nothing(tmp_path, capfd, caplog):
    model = inference_model(trained())
    capfd.readouterr()
    to_onnx.convert_int8(model, CARD, digits()[0][:20], tmp_path / "tiny.onnx")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname != "INFO"]


CONVERT = """
import resource, sys
import keras, numpy as np
from pathlib import Path
from export import to_onnx
from export.card import ModelCard
from export.folding import inference_model
from resnet_keras import create
network, size, conversion, path = sys.argv[1:]
keras.utils.set_random_seed(5)
model = inference_model(create(network, input_shape=(int(size), int(size), 3)))
images = np.random.default_rng(0).integers(0, 256, (16, int(size), int(size), 3), np.uint8)
card = ModelCard(network, "", tuple(map(str, range(model.output_shape[1]))))
getattr(to_onnx, conversion)(model, card, images, Path(path))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def convert_in_a_process(network, size, name, path, **environment):
    """Returns the peak of the process's memory, in GB."""
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, network, str(size), f"convert_{name}", path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "name"), [("resnet20", "int8"), ("resnet164", "float32")])
def test_two_processes_write_the_same_bytes(tmp_path, network, name):
    files = [tmp_path / f"{seed}.onnx" for seed in "12"]
    for file in files:
        convert_in_a_process(network, 32, name, file, PYTHONHASHSEED=file.stem)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERSIONS)
def test_resnet50_converts_in_less_than_9_gb(tmp_path, name):
    assert convert_in_a_process("resnet50", 224, name, tmp_path / "resnet50.onnx") < 9
