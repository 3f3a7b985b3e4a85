"""TFLite files, which LiteRT and MediaPipe Tasks run on phones, in browsers and in Python.

All take one image at a time and consist of built-in operations: a dynamic batch, which LiteRT.js
refuses, and TensorFlow's own operations, which phones do not have, are left out. The signature
"serving_default" names the input "pixels" and the output "probabilities".
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from resnet_keras.export.calibration import of_full_range
from resnet_keras.export.card import ModelCard
from resnet_keras.export.tflite_metadata import with_metadata
from resnet_keras.networks.recursion import recursion_for

THREADS = 2


def convert_float32(
    model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path
) -> None:
    """Writes a file with the model's own numbers.

    Args:
        model: an inference model, from pixels (None, h, w, 3) to probabilities (None, classes).
        card: goes into the file.
        calibration: not needed.
        path: of the .tflite file, whose input is (1, h, w, 3) float32 and output (1, classes)
            float32.

    Raises:
        InputError: a class name is empty or has more than one line.
    """
    del calibration
    _convert(model, card, path)


def convert_float16(
    model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path
) -> None:
    """Writes a file of half the size: weights in float16, arithmetic in float32 (float16 on GPUs).

    Arguments, input, output and errors are those of `convert_float32`.
    """
    del calibration
    _convert(
        model,
        card,
        path,
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec={"supported_types": [tf.float16]},
    )


def convert_dynamic_int8(
    model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path
) -> None:
    """Writes a file of a quarter of the size: int8 weights, activations quantised as they come.

    Arguments, input, output and errors are those of `convert_float32`.
    """
    del calibration
    _convert(model, card, path, optimizations=[tf.lite.Optimize.DEFAULT])


def convert_int8(model: keras.Model, card: ModelCard, calibration: np.ndarray, path: Path) -> None:
    """Writes a file that calculates in integers: int8, one scale for each filter of a convolution.

    Args:
        model: an inference model, from pixels (None, h, w, 3) to probabilities (None, classes).
        card: goes into the file.
        calibration: images (n, h, w, 3) uint8 as the model will see them, from whose activations
            the ranges of the integers are taken; 100 to 500 are customary.
        path: of the .tflite file, whose input is (1, h, w, 3) uint8, the pixels as they are, and
            output (1, classes) float32, in steps of 1/256.
    """

    def images() -> Iterator[list[np.ndarray]]:
        for image in of_full_range(calibration):
            yield [image[np.newaxis].astype("float32")]

    _convert(
        model,
        card,
        path,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=images,
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        inference_input_type=tf.uint8,
        inference_output_type=tf.float32,
    )


def _convert(model: keras.Model, card: ModelCard, path: Path, **options: Any) -> None:
    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS], **options.pop("target_spec", {})}
    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, "pixels")]
    with recursion_for(len(model.layers)):
        named = keras.Model(model.input, {"probabilities": model.output})
        named.export(
            path,
            format="litert",
            verbose=False,
            input_signature=signature,
            target_spec=target,
            **options,
        )
    view = card.view_as_json(model.input_shape)
    path.write_bytes(with_metadata(path.read_bytes(), card, view))


def predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a .tflite file into LiteRT.

    Returns:
        A function from images (n, h, w, 3) uint8 to probabilities (n, classes) float32.
    """
    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    (pixels,) = interpreter.get_input_details()
    (probabilities,) = interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        predictions = np.empty((len(images), probabilities["shape"][-1]), "float32")
        for image, prediction in zip(images, predictions, strict=True):
            interpreter.set_tensor(pixels["index"], image[np.newaxis].astype(pixels["dtype"]))
            interpreter.invoke()
            prediction[:] = interpreter.get_tensor(probabilities["index"])[0]
        return predictions

    return predict


def operations(path: Path) -> list[str]:
    """The operations of a .tflite file in the order of their execution.

    Built-in ones have names such as "CONV_2D"; of others ("FlexMul", say) the name is their own.
    """
    builtin = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model = schema.Model.GetRootAs(path.read_bytes())

    def name(code: Any) -> str:
        if code.BuiltinCode() == schema.BuiltinOperator.CUSTOM:
            return code.CustomCode().decode()
        return builtin[code.BuiltinCode()]

    names = [name(model.OperatorCodes(index)) for index in range(model.OperatorCodesLength())]
    return [
        names[graph.Operators(index).OpcodeIndex()]
        for graph in (model.Subgraphs(number) for number in range(model.SubgraphsLength()))
        for index in range(graph.OperatorsLength())
    ]
