"""An export of a small network that knows handwritten digits, for what a browser has to load."""

import digits_classifier

import export

HELD_OUT = 200
LABELS = digits_classifier.CLASS_NAMES
FORMATS = (
    *("tflite-float32", "tflite-float16", "tflite-dynamic-int8", "tflite-int8"),
    *("onnx-float32", "onnx-int8"),
)


def write_export(folder):
    """Trains for seconds, and exports."""
    images, labels = digits_classifier.digits()
    export.export(
        digits_classifier.trained(),
        images[-HELD_OUT:],
        labels[-HELD_OUT:],
        images[:100],
        folder,
        class_names=LABELS,
        formats=FORMATS,
    )
