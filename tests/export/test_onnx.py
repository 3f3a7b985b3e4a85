import json
from collections import Counter
from pathlib import Path

import kit
import numpy as np
import onnx
import onnxruntime
import pytest
from exports import converted, expected, folded_digits
from kit import DIGIT_NAMES, DIGITS_SIDE, held_out_digits

from resnet_keras.export import to_onnx
from resnet_keras.export.card import ModelCard
from resnet_keras.export.folding import inference_model
from resnet_keras.view import View

FORMATS = ("onnx-float32", "onnx-int8")
FLOAT, UINT8, INT8, INT32 = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT32,
)


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
def test_float32_predicts_what_keras_predicts_in_batches_of_any_size(batch):
    images = held_out_digits()[:batch]
    probabilities = run(converted("onnx-float32"), images)
    assert probabilities.shape == (batch, 10) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected()[:batch], atol=1e-4)


def test_float32_has_the_networks_operations_and_one_transpose():
    assert operations(onnx.load(converted("onnx-float32")).graph) == {
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


@pytest.mark.parametrize("name", FORMATS)
def test_file_tells_shapes_names_and_classes(name):
    model = onnx.load(converted(name))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(told.pop("labels")) == list(DIGIT_NAMES)
    assert View(**json.loads(told.pop("view"))) == View(DIGITS_SIDE, DIGITS_SIDE)
    assert told == {"name": "tiny", "description": "Handwritten digits, 0 to 9."}

    session = onnxruntime.InferenceSession(converted(name))
    (pixels,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (pixels.name, pixels.type) == ("pixels", "tensor(float)")
    assert pixels.shape == ["batch", DIGITS_SIDE, DIGITS_SIDE, 3]
    assert (probabilities.name, probabilities.type) == ("probabilities", "tensor(float)")
    assert probabilities.shape == ["batch", 10]


@pytest.mark.parametrize("name", FORMATS)
def test_predictor_takes_any_number_of_images(name):
    predict = to_onnx.predictor(converted(name))
    images = held_out_digits()[:19]
    assert predict(images[:0]).shape == (0, 10)
    all_at_once = predict(images)
    assert all_at_once.dtype == np.float32
    one_by_one = np.concatenate([predict(image[None]) for image in images])
    np.testing.assert_allclose(all_at_once, one_by_one, atol=1e-6)


def test_int8_decides_as_keras_does():
    probabilities = run(converted("onnx-int8"), held_out_digits())
    assert np.mean(probabilities.argmax(1) == expected().argmax(1)) >= 0.98
    assert np.abs(probabilities - expected()).max() < 0.15


def test_int8_keeps_small_probabilities():
    # A softmax of eight bits would have 256 different ones.
    assert len(np.unique(run(converted("onnx-int8"), held_out_digits()))) > 1000


def test_int8_kernels_answer_what_the_file_says():
    # Full eight bits of weights overflow where there is no VNNI: by 0.6 in this network.
    images = held_out_digits()
    path = converted("onnx-int8")
    np.testing.assert_allclose(run(path, images), emulate(path, images), atol=0.02)


def test_int8_has_unsigned_activations_and_signed_weights_by_filter():
    graph = onnx.load(converted("onnx-int8")).graph
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


def test_pixels_are_normalised_in_float():
    graph = onnx.load(converted("onnx-int8")).graph
    constants = {constant.name: constant.data_type for constant in graph.initializer}
    (scale,) = (node for node in graph.node if node.op_type == "Mul")
    (shift,) = (node for node in graph.node if scale.output[0] in node.input)
    assert "pixels" in scale.input and shift.op_type == "Add"
    numbers = [constants.get(name) for node in (scale, shift) for name in node.input]
    assert numbers.count(FLOAT) == 2


def test_calibration_images_without_black_and_white_leave_all_pixels_apart():
    graph = onnx.load(converted("onnx-int8")).graph
    constants = {
        constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer
    }
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    scale, zero_point = (constants[name].astype(np.float64) for name in first.input[1:])
    normalize = folded_digits().get_layer("normalize")
    extremes = np.array([[0.0], [255.0]]) * normalize.scale + normalize.offset
    assert (0 - zero_point) * scale <= extremes.min() + scale
    assert (255 - zero_point) * scale >= extremes.max() - scale


# --- other processes ---

PARTS = ("resnet20", "resnext29-8x64d")
WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from test_onnx import write_files
write_files(sys.argv[2])
"""
MEMORY = """
import resource, sys
from pathlib import Path
import kit
from export import to_onnx
from resnet_keras.export.card import ModelCard
from resnet_keras.export.folding import inference_model
from resnet_keras.export.card import ModelCard
from resnet_keras.export.folding import inference_model
from resnet_keras import create
model = inference_model(create("resnet50"))
card = ModelCard("resnet50", "", tuple(map(str, range(1000))))
to_onnx.convert_int8(model, card, kit.draw_images(8, 224), Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def write_files(folder):
    for name in PARTS:
        model = inference_model(kit.trained(kit.TINY_FAMILY[name]))
        card = ModelCard(name, "", tuple("abcde"))
        to_onnx.convert_float32(model, card, np.empty(0), Path(folder, f"{name}.onnx"))
        if name == PARTS[-1]:
            to_onnx.convert_int8(model, card, kit.draw_images(16), Path(folder, "int8.onnx"))


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    write_files(here)
    kit.run_python(WRITE, Path(__file__).parent, there, PYTHONHASHSEED="1")
    assert kit.contents(here) == kit.contents(there)
    assert len(kit.contents(here)) == len(PARTS) + 1


@pytest.mark.slow
def test_resnet50_converts_in_less_than_9_gb(tmp_path):
    # int8 starts with the conversion to float32.
    assert float(kit.run_python(MEMORY, tmp_path / "resnet50.onnx")) < 9
