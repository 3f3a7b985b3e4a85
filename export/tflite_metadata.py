"""What a .tflite file says of itself, so that MediaPipe Tasks can use it and name its classes."""

import importlib
import sys
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any

from resnet_keras.export.card import ModelCard

WRITER = "mediapipe.tasks.python.metadata.metadata_writers.metadata_writer"
COMPILED = "mediapipe.tasks.cc.metadata.python"

# That of the schema's first release, which knows images, their normalisation and labels.
MINIMUM_PARSER_VERSION = "1.0.0"


def _import_writer() -> Any:
    with suppress(ModuleNotFoundError):
        return importlib.import_module(WRITER)
    # MediaPipe's wheels leave out the compiled module that tells which version of the schema a
    # reader has to know. The writer asks for it while it is imported and never again, so the
    # stand-in goes at once: nobody else is to take it for the module.
    stand_in = ModuleType(COMPILED)
    stand_in.__dict__["_pywrap_metadata_version"] = SimpleNamespace(
        GetMinimumMetadataParserVersion=lambda _metadata: MINIMUM_PARSER_VERSION
    )
    sys.modules[COMPILED] = stand_in
    try:
        return importlib.import_module(WRITER)
    finally:
        del sys.modules[COMPILED]


metadata_writer = _import_writer()


def with_metadata(file: bytes, card: ModelCard, view: str) -> bytes:
    """Adds name, description, class names and normalisation to a classifier's .tflite file.

    The normalisation is that of a network that takes RGB pixels 0..255 as they are: mean 0,
    standard deviation 1. The class names are a file within, labels.txt; unzip takes it out.

    Args:
        file: with one input, images, and one output, scores in the order of the class names.
        card: what to say; its class names are of one line each.
        view: of the input, as JSON, which becomes the input's description.
    """
    labels = metadata_writer.Labels().add(list(card.class_names))
    writer = metadata_writer.MetadataWriter.create(bytearray(file))
    writer.add_general_info(card.name, card.description)
    writer.add_image_input(norm_mean=[0.0], norm_std=[1.0], description=view)
    writer.add_classification_output(labels)
    described, _ = writer.populate()
    return bytes(described)
