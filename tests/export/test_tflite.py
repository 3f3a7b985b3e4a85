import sys
import zipfile
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from digits_classifier import CLASS_NAMES, SIDE, digits, held_out_digits, trained

import export.tflite_metadata
from export import to_tflite
from export.card import ModelCard

CARD = ModelCard("tiny", "Handwritten digits, 0 to 9.", CLASS_NAMES)

# Largest difference of a probability, and the least share of images whose top class is Keras's.
FORMATS = {
    to_tflite.convert_float32: (1e-5, 1.0),
    to_tflite.convert_float16: (0.01, 0.99),
    to_tflite.convert_dynamic_int8: (0.15, 0.97),
    to_tflite.convert_int8: (0.25, 0.97),
}
QUANTIZED_TO_INTEGERS = to_tflite.convert_int8


@pytest.fixture(scope="module", params=FORMATS, ids=lambda convert: convert.__name__)
def converted(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "tiny.tflite"
    request.param(trained(), CARD, digits()[0][:200], path)
    return request.param, path


def test_file_predicts_what_keras_predicts(converted):
    convert, path = converted
    largest_difference, agreement = FORMATS[convert]
    images = held_out_digits()
    expected = trained().predict(images, verbose=0)

    predicted = to_tflite.predictor(path)(images)

    assert predicted.dtype == np.float32
    assert np.abs(predicted - expected).max() < largest_difference
    assert np.mean(predicted.argmax(1) == expected.argmax(1)) >= agreement


def test_predictor_takes_any_number_of_images(converted):
    _, path = converted
    predict = to_tflite.predictor(path)
    images = held_out_digits()

    assert predict(images[:0]).shape == (0, 10)
    np.testing.assert_array_equal(predict(images[:3])[2:], predict(images[2:3]))


def test_input_and_output_are_what_phones_and_browsers_take(converted):
    convert, path = converted
    interpreter = Interpreter(str(path))
    (pixels,) = interpreter.get_input_details()
    (probabilities,) = interpreter.get_output_details()

    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
    }
    assert pixels["shape_signature"].tolist() == [1, SIDE, SIDE, 3]
    assert pixels["dtype"] is (np.uint8 if convert is QUANTIZED_TO_INTEGERS else np.float32)
    assert probabilities["shape_signature"].tolist() == [1, 10]
    assert probabilities["dtype"] is np.float32


def test_file_has_built_in_operations_and_no_normalisation_but_the_images(converted):
    convert, path = converted
    counts = Counter(to_tflite.operations(path))
    weights = counts.pop("DEQUANTIZE", 0)  # of float16 weights, or of the integer output
    borders = counts.pop("QUANTIZE", 0)

    # MUL and ADD of the pixels, an ADD for each of the three units; option A subsamples and pads.
    assert counts == {
        "MUL": 1,
        "ADD": 1 + 3,
        "CONV_2D": 1 + 3 * 2,
        "AVERAGE_POOL_2D": 2,
        "PAD": 2 + 2,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }
    if convert is QUANTIZED_TO_INTEGERS:
        assert (borders, weights) == (1, 1)
    else:
        assert borders == 0
        assert (weights > 0) == (convert is to_tflite.convert_float16)


def test_file_carries_names_and_description(converted):
    _, path = converted
    displayer = export.tflite_metadata.metadata_writer.metadata.MetadataDisplayer
    metadata = displayer.with_model_file(str(path)).get_metadata_json()

    assert '"name": "tiny"' in metadata
    assert '"description": "Handwritten digits, 0 to 9."' in metadata
    assert '"color_space": "RGB"' in metadata
    with zipfile.ZipFile(path) as archive:
        assert tuple(archive.read("labels.txt").decode().split("\n")) == CLASS_NAMES


def convolution_weights(path: Path) -> list[dict]:
    tensors = Interpreter(str(path)).get_tensor_details()
    return [
        tensor
        for tensor in tensors
        if tensor["dtype"] is np.int8 and len(tensor["shape"]) == 4 and tensor["shape"][0] > 1
    ]


def test_integer_weights_have_a_scale_for_every_filter(tmp_path):
    path = tmp_path / "tiny.tflite"
    to_tflite.convert_int8(trained(), CARD, digits()[0][:20], path)
    weights = convolution_weights(path)

    assert len(weights) == 1 + 3 * 2
    for tensor in weights:
        assert len(tensor["quantization_parameters"]["scales"]) == tensor["shape"][0]


def test_dark_calibration_images_leave_the_pixels_their_scale(tmp_path):
    path = tmp_path / "tiny.tflite"
    dark = digits()[0][:200] // 2
    original = dark.copy()

    to_tflite.convert_int8(trained(), CARD, dark, path)

    (pixels,) = Interpreter(str(path)).get_input_details()
    assert pixels["quantization"] == (1.0, 0)
    np.testing.assert_array_equal(dark, original)


def test_stand_in_for_a_module_that_mediapipe_lacks_does_not_stay():
    module = sys.modules.get(export.tflite_metadata.COMPILED)

    assert module is None or module.__file__


def test_operations_of_tensorflow_are_refused_and_listed_by_name(tmp_path):
    pixels = keras.Input((SIDE, SIDE, 3), name="pixels")
    halved = keras.layers.Rescaling(0.5, dtype="bfloat16")(pixels)
    model = keras.Model(pixels, keras.layers.Activation("linear", dtype="float32")(halved))
    path = tmp_path / "flex.tflite"

    with pytest.raises(Exception, match="tf.Mul"):
        to_tflite.convert_float32(model, CARD, digits()[0], path)
    model.export(path, format="litert", verbose=False)  # as Keras does by default

    assert to_tflite.operations(path) == ["CAST", "FlexMul", "CAST"]
