"""An export of a small network that knows handwritten digits, for what a browser has to load."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from conftest import TINY
from PIL import Image
from sklearn.datasets import load_digits

import resnet_keras
from resnet_keras.architectures import Stem

SIDE = 32
HELD_OUT = 200
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits():
    """(1797, 32, 32, 3) uint8 and the class of each."""
    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype("uint8")
    larger = [Image.fromarray(image).resize((SIDE, SIDE), Image.BILINEAR) for image in grey]
    return np.stack([np.asarray(image.convert("RGB")) for image in larger]), data.target


def write_export(folder):
    """Trains for seconds, and writes what an export consists of."""
    images, labels = digits()
    model = _trained(images[HELD_OUT:], labels[HELD_OUT:])
    probabilities = model.predict(images[:HELD_OUT].astype("float32"), verbose=0)

    (folder / "check").mkdir(parents=True)
    np.save(folder / "check/images.npy", images[:HELD_OUT])
    np.save(folder / "check/labels.npy", labels[:HELD_OUT])
    np.save(folder / "check/probabilities.npy", probabilities)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    _write_tflite(model, images[HELD_OUT : 2 * HELD_OUT], folder)
    _write_onnx(model, folder)


def _trained(images, labels):
    keras.utils.set_random_seed(0)
    tiny = dataclasses.replace(TINY, stem=Stem(8, 3), filters=(8, 16, 32), classes=len(LABELS))
    model = resnet_keras.build(tiny, (SIDE, SIDE, 3))
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=6, verbose=0)
    return model


def _write_tflite(model, calibration, folder):
    builtins = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    quantized = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": builtins}

    def examples():
        for image in calibration:
            yield [image[None].astype("float32")]

    for name, settings in {
        "model_float32": {"target_spec": builtins},
        "model_float16": {
            **quantized,
            "target_spec": {**builtins, "supported_types": [tf.float16]},
        },
        "model_dynamic_int8": quantized,
        "model_int8": {
            **quantized,
            "representative_dataset": examples,
            "inference_input_type": tf.uint8,
        },
    }.items():
        model.export(
            folder / f"{name}.tflite",
            format="litert",
            verbose=False,
            input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32, "pixels")],
            **settings,
        )


def _write_onnx(model, folder):
    function = tf.function(lambda pixels: {"probabilities": model(pixels, training=False)})
    signature = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, "pixels")]
    tf2onnx.convert.from_function(
        function, signature, opset=18, output_path=str(folder / "model.onnx")
    )
