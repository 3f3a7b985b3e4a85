"""What the tests of exports share: a network that reads digits, converted once to each format."""

import functools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import kit
import numpy as np
import pytest

from resnet_keras import export
from resnet_keras.export import exporting, worker
from resnet_keras.export.card import ModelCard
from resnet_keras.export.folding import inference_model
from resnet_keras.export.formats import FORMATS
from resnet_keras.export.workspace import PREPARE, Workspace

CARD = ModelCard("tiny", "Handwritten digits, 0 to 9.", kit.DIGIT_NAMES)
CALIBRATION_IMAGES = 100


def calibration_images() -> np.ndarray:
    """Training images of the digits, (100, 16, 16, 3) uint8, with no black or white pixel."""
    return kit.digits()[0][:CALIBRATION_IMAGES].clip(8, 247)


@functools.cache
def folded_digits() -> keras.Model:
    """The network that reads digits, folded for inference."""
    return inference_model(kit.digits_classifier())


def converted(name: str) -> Path:
    """The digits' network as a file, or folder, of a format; converted once for all tests."""
    chosen = FORMATS[name]

    def make(folder: Path) -> None:
        chosen.convert(folded_digits(), CARD, calibration_images(), folder / chosen.file)

    return kit.made_once(f"digits-{name}", make) / chosen.file


@functools.cache
def expected() -> np.ndarray:
    """What Keras answers for `kit.held_out_digits()`, (300, 10) float32 probabilities."""
    return kit.answers(kit.digits_classifier(), kit.held_out_digits())


class InThisProcess:
    """Stands in for the process of a step: starting one takes longer than a small conversion."""

    def __init__(self, command: list[str], **options: Any) -> None:
        *_, folder, step = command
        workspace = Workspace(Path(folder))
        found = worker.prepare(workspace) if step == PREPARE else worker.make(workspace, step)
        workspace.finding(step).write_text(json.dumps({**found, "seconds": 1.0, "memory": 1.0}))

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def wait(self, timeout: float) -> int:
        return 0

    def kill(self) -> None:
        pass


@contextmanager
def steps_in_this_process() -> Iterator[None]:
    """Exports start no processes inside, but that of coremltools, which warns of its own files."""

    def start(command: list[str], **options: Any) -> Any:
        is_core_ml = command[-1] == "core-ml"
        return (subprocess.Popen if is_core_ml else InThisProcess)(command, **options)

    with pytest.MonkeyPatch.context() as patch:
        stand_in = SimpleNamespace(**vars(subprocess) | {"Popen": start})
        patch.setattr(exporting, "subprocess", stand_in)
        yield


def installed_formats() -> list[str]:
    """Names of the formats whose packages are installed: Core ML's are not on every machine."""
    return [name for name, chosen in FORMATS.items() if all(map(find_spec, chosen.packages))]


def export_digits(folder: Path, *formats: str, model: keras.Model | None = None) -> export.Manifest:
    """Exports the digits' network, or another one, and compares it on the held-out digits."""
    labels = kit.digits()[1][-kit.HELD_OUT_DIGITS :]
    return export.export(
        model or kit.digits_classifier(),
        kit.held_out_digits(),
        labels,
        calibration_images(),
        folder,
        class_names=kit.DIGIT_NAMES,
        description="digits of the tests",
        formats=formats,
    )


def whole_export() -> Path:
    """An export of the digits' network in all formats, made once; for slow tests."""

    def make(folder: Path) -> None:
        with steps_in_this_process():
            export_digits(folder, *installed_formats())

    return kit.made_once("export", make)
