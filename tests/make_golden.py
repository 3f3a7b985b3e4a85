"""Writes the golden fixtures: models and a run in today's formats, and what they predict.

A maintainer runs this once for a format; the files it writes are kept for ever, so that a later
version which reads them otherwise, or not at all, fails its tests:

    python tests/make_golden.py
"""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from resnet_keras.architectures import (
    BOTTLENECK,
    IMAGENET_STEM,
    NETWORKS,
    OPTION_B,
    RESNET20,
    RESNET50,
    Architecture,
    Stem,
)
from resnet_keras.data import sources
from resnet_keras.data.augmentation import Augmentation, PadAndCrop
from resnet_keras.evaluation.evaluate import evaluate_run
from resnet_keras.networks.models import build
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import Run
from resnet_keras.training.train import train

FIXTURES = Path(__file__).parent / "fixtures"
FOLDER = FIXTURES / "golden_model"
GOLDEN_RUN = FIXTURES / "golden_run"

TINY_BASIC = replace(RESNET20, blocks=(1, 1, 1), filters=(4, 8, 16), stem=Stem(4, 3))
TINY_BOTTLENECK = replace(
    RESNET50,
    stem=replace(IMAGENET_STEM, filters=4),
    unit=BOTTLENECK,
    shortcut=OPTION_B,
    blocks=(1, 2),
    filters=(2, 4),
    input_size=32,
    classes=5,
)
MODELS = {"model": TINY_BASIC, "bottleneck": TINY_BOTTLENECK}


def build_trained_looking(architecture: Architecture, name: str, seed: int) -> keras.Model:
    """A network whose batch normalisations and biases are not those of a fresh one.

    A fresh one normalises by mean 0 and variance 1, so that exchanged statistics would go unseen.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(architecture, name=name)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            gamma, variance = rng.uniform(0.5, 1.5, shape), rng.uniform(0.5, 2, shape)
            beta, mean = rng.normal(0, 0.3, shape), rng.normal(0, 0.3, shape)
            layer.set_weights([gamma, beta, mean, variance])
        elif isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0, 0.3, bias.shape)])
    return model


def compress(path: Path) -> None:
    """Deflates a .keras file, whose HDF5 is mostly zeros at this size; its content stays the same.

    Keras stores its archives as they are, and reads both.
    """
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def write_run() -> None:
    """Trains and evaluates a run, and keeps what a later version has to read."""
    NETWORKS["tiny"] = TINY_BASIC
    run = Run(GOLDEN_RUN)
    recipe = Recipe(
        epochs=6,
        batch_size=32,
        learning_rate=0.1,
        augmentation=Augmentation(PadAndCrop()),
        image_size=16,
        precision="float32",
    )
    train("tiny", sources.find("digits"), recipe, run)
    evaluate_run(run)
    compress(run.best_model)
    run.last_model.unlink()
    shutil.rmtree(run.events)
    shutil.rmtree(run.folder / "examples")


def write_models() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    inputs = np.random.default_rng(7).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.save(FOLDER / "inputs.npy", inputs)
    expected = {}
    for seed, (name, architecture) in enumerate(MODELS.items()):
        model = build_trained_looking(architecture, name, seed)
        model.save(FOLDER / f"{name}.keras")
        compress(FOLDER / f"{name}.keras")
        expected[name] = model.predict(inputs, verbose=0)
    np.save(FOLDER / "expected.npy", expected["model"])
    np.save(FOLDER / "bottleneck_expected.npy", expected["bottleneck"])
    (FOLDER / "README.md").write_text(
        f"Written once by `python tests/make_golden.py` with Keras {keras.__version__}: "
        "every later version loads these models and predicts the same (tests/test_models.py).\n"
    )


if __name__ == "__main__":
    write_models()
    write_run()
