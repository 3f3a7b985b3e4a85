"""The formats that a network is exported to; another one is a module of its own and a row here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from resnet_keras.errors import InputError, did_you_mean
from resnet_keras.export.parity import Predict, Tolerance


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: its name in the export folder; a folder's where the format is one.
        title: what it is, in a few words.
        runtime: what it is loaded and compared in.
        module: of this package, with `converter` and `predictor`.
        converter: the function that writes the file.
        tolerance: how far its answers may be from Keras's.
        packages: modules that it imports and this package does not need otherwise.
        extra: of this package, with which they are installed.
        batch_sizes: at which it is compared.
        is_calibrated: whether training images tell it what values there are.
        by_default: whether it is written where no format is named.
        runs_here: whether its runtime is one that works wherever this package does.
    """

    file: str
    title: str
    runtime: str
    module: str
    converter: str
    tolerance: Tolerance
    packages: tuple[str, ...] = ()
    extra: str = "export"
    batch_sizes: tuple[int, ...] = (1,)
    is_calibrated: bool = False
    by_default: bool = True
    runs_here: bool = True

    def convert(self, model, card, calibration: np.ndarray, path: Path) -> None:
        """Writes the file of an inference model, see the format's module."""
        getattr(import_module(self.module), self.converter)(model, card, calibration, path)

    def predictor(self, path: Path) -> Predict:
        """Loads the file in its runtime, see the format's module."""
        return import_module(self.module).predictor(path)


# Where two classes are about as probable, rounding decides; hence the disagreement.
EXACT = Tolerance(probability=1e-4, disagreement=0.01, accuracy_drop=0.01)
ROUNDED = Tolerance(disagreement=0.005, accuracy_drop=0.005)
QUANTIZED = Tolerance(disagreement=0.03, accuracy_drop=0.02)

LITERT = ("ai_edge_litert", "mediapipe")
ONNX = ("onnx", "onnxruntime", "tf2onnx")

FORMATS = {
    "saved-model": Format(
        "saved_model",
        "SavedModel, float32",
        "TensorFlow",
        "resnet_keras.export.to_saved_model",
        "convert",
        EXACT,
        batch_sizes=(1, 8),
    ),
    "tflite-float32": Format(
        "model_float32.tflite",
        "TFLite, float32",
        "LiteRT",
        "resnet_keras.export.to_tflite",
        "convert_float32",
        EXACT,
        LITERT,
    ),
    "tflite-float16": Format(
        "model_float16.tflite",
        "TFLite, float16 weights",
        "LiteRT",
        "resnet_keras.export.to_tflite",
        "convert_float16",
        ROUNDED,
        LITERT,
    ),
    "tflite-dynamic-int8": Format(
        "model_dynamic_int8.tflite",
        "TFLite, int8 weights",
        "LiteRT",
        "resnet_keras.export.to_tflite",
        "convert_dynamic_int8",
        QUANTIZED,
        LITERT,
    ),
    "tflite-int8": Format(
        "model_int8.tflite",
        "TFLite, int8",
        "LiteRT",
        "resnet_keras.export.to_tflite",
        "convert_int8",
        QUANTIZED,
        LITERT,
        is_calibrated=True,
    ),
    "onnx-float32": Format(
        "model.onnx",
        "ONNX, float32",
        "ONNX Runtime",
        "resnet_keras.export.to_onnx",
        "convert_float32",
        EXACT,
        ONNX,
        batch_sizes=(1, 8),
    ),
    "onnx-int8": Format(
        "model_int8.onnx",
        "ONNX, int8 (QDQ)",
        "ONNX Runtime",
        "resnet_keras.export.to_onnx",
        "convert_int8",
        QUANTIZED,
        ONNX,
        batch_sizes=(1, 8),
        is_calibrated=True,
    ),
    "core-ml": Format(
        "model.mlpackage",
        "Core ML",
        "Core ML (macOS)",
        "resnet_keras.export.to_core_ml",
        "convert",
        ROUNDED,  # it computes in float16
        ("coremltools",),
        "coreml",
        by_default=False,
        runs_here=False,
    ),
}


def find(names: Sequence[str]) -> dict[str, Format]:
    """The formats of some names; those that are written by default for none.

    Raises:
        InputError: there is no such format, the nearest name is suggested; or packages that it
            needs are missing.
    """
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in FORMATS:
            if os.path.exists(name):
                raise InputError(
                    "unknown format",
                    received=f"{name!r}, which is a path",
                    accepted=f"{', '.join(FORMATS)}; a run or a model comes before --formats",
                )
            raise InputError(
                "unknown format",
                received=repr(name),
                accepted=f"{', '.join(FORMATS)}{did_you_mean(name, FORMATS)}",
            )
    chosen = {
        name: kind
        for name, kind in FORMATS.items()
        if (name in names if names else kind.by_default)
    }
    for name, kind in chosen.items():
        if missing := [package for package in kind.packages if find_spec(package) is None]:
            raise InputError(
                f"{name} needs packages that are not installed",
                received=f"no {', '.join(missing)}",
                accepted=f'pip install "resnet-keras[{kind.extra}]", or make export',
            )
    return chosen
