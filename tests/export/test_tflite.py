import sys
import zipfile
from collections import Counter
from pathlib import Path

import keras
import kit
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from exports import CARD, calibration_images, converted, expected
from kit import DIGIT_NAMES, DIGITS_SIDE, held_out_digits

from resnet_keras.export import tflite_metadata, to_tflite

# Largest difference of a probability, and the least share of images whose top class is Keras's.
FORMATS = {
    "tflite-float32": (1e-5, 1.0),
    "tflite-float16": (0.01, 0.99),
    "tflite-dynamic-int8": (0.15, 0.97),
    "tflite-int8": (0.25, 0.97),
}

each_format = pytest.mark.parametrize("name", FORMATS)


@each_format
def test_file_predicts_what_keras_predicts(name):
    largest_difference, agreement = FORMATS[name]

    predicted = to_tflite.predictor(converted(name))(held_out_digits())

    assert predicted.dtype == np.float32
    assert np.abs(predicted - expected()).max() < largest_difference
    assert np.mean(predicted.argmax(1) == expected().argmax(1)) >= agreement


@each_format
def test_predictor_takes_any_number_of_images(name):
    predict = to_tflite.predictor(converted(name))
    images = held_out_digits()[:3]

    assert predict(images[:0]).shape == (0, 10)
    np.testing.assert_array_equal(predict(images)[2:], predict(images[2:]))


@each_format
def test_input_and_output_are_what_phones_and_browsers_take(name):
    interpreter = Interpreter(str(converted(name)))
    (pixels,) = interpreter.get_input_details()
    (probabilities,) = interpreter.get_output_details()

    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
    }
    assert pixels["shape_signature"].tolist() == [1, DIGITS_SIDE, DIGITS_SIDE, 3]
    assert pixels["dtype"] is (np.uint8 if name == "tflite-int8" else np.float32)
    assert probabilities["shape_signature"].tolist() == [1, 10]
    assert probabilities["dtype"] is np.float32


@each_format
def test_file_has_built_in_operations_and_no_normalisation_but_the_images(name):
    counts = Counter(to_tflite.operations(converted(name)))
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
    if name == "tflite-int8":
        assert (borders, weights) == (1, 1)
    else:
        assert borders == 0
        assert (weights > 0) == (name == "tflite-float16")


@each_format
def test_file_carries_names_and_description(name):
    path = converted(name)
    displayer = tflite_metadata.metadata_writer.metadata.MetadataDisplayer
    metadata = displayer.with_model_file(str(path)).get_metadata_json()

    assert '"name": "tiny"' in metadata
    assert '"description": "Handwritten digits, 0 to 9."' in metadata
    assert '"color_space": "RGB"' in metadata
    with zipfile.ZipFile(path) as archive:
        assert tuple(archive.read("labels.txt").decode().split("\n")) == DIGIT_NAMES


def convolution_weights(path: Path) -> list[dict]:
    tensors = Interpreter(str(path)).get_tensor_details()
    return [
        tensor
        for tensor in tensors
        if tensor["dtype"] is np.int8 and len(tensor["shape"]) == 4 and tensor["shape"][0] > 1
    ]


def test_integer_weights_have_a_scale_for_every_filter():
    weights = convolution_weights(converted("tflite-int8"))

    assert len(weights) == 1 + 3 * 2
    for tensor in weights:
        assert len(tensor["quantization_parameters"]["scales"]) == tensor["shape"][0]


def test_calibration_images_without_black_and_white_leave_the_pixels_their_scale():
    (pixels,) = Interpreter(str(converted("tflite-int8"))).get_input_details()

    assert calibration_images().max() < 255
    assert pixels["quantization"] == (1.0, 0)


def test_stand_in_for_a_module_that_mediapipe_lacks_does_not_stay():
    module = sys.modules.get(tflite_metadata.COMPILED)

    assert module is None or module.__file__


def test_operations_of_tensorflow_are_refused_and_listed_by_name(tmp_path):
    pixels = keras.Input((DIGITS_SIDE, DIGITS_SIDE, 3), name="pixels")
    halved = keras.layers.Rescaling(0.5, dtype="bfloat16")(pixels)
    model = keras.Model(pixels, keras.layers.Activation("linear", dtype="float32")(halved))
    path = tmp_path / "flex.tflite"

    with pytest.raises(Exception, match="tf.Mul"):
        to_tflite.convert_float32(model, CARD, kit.digits()[0], path)
    model.export(path, format="litert", verbose=False)  # as Keras does by default

    assert to_tflite.operations(path) == ["CAST", "FlexMul", "CAST"]
