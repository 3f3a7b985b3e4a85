"""The test kit: what tests of several files share.

Networks in miniature, images, refusals, commands in processes, and things that are made once for
all tests: a finished run, a network that reads digits.
"""

import contextlib
import functools
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import filelock
import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from resnet_keras import architectures, cli, recipes
from resnet_keras.architectures import (
    BN_AFTER_ADDITION,
    NETWORKS,
    OPTION_B,
    OPTION_C,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    RESNET20,
    Architecture,
    Gating,
    Scaling,
    ShortcutDropout,
    Stem,
    find,
)
from resnet_keras.data.augmentation import Augmentation, PadAndCrop
from resnet_keras.data.images import resize
from resnet_keras.data.splits import ArraySplit, EncodedSplit, Split
from resnet_keras.errors import InputError, Interrupted
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import build
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import Run
from resnet_keras.training.callbacks import Progress
from resnet_keras.weights.layer_map import TORCHVISION, places
from resnet_keras.weights.layouts import to_torch

T = TypeVar("T")

TESTS = Path(__file__).parent
ROOT = TESTS.parent

# --- Networks in miniature ---

TINY = replace(RESNET20, stem=Stem(4, 3), blocks=(1, 1, 1), filters=(4, 8, 16))
"""ResNet-20 with one unit a stage and few filters: 10 classes, images of 4 pixels and more."""


def tiny(
    architecture: Architecture,
    blocks: tuple[int, ...] = (2, 2),
    filters: tuple[int, ...] = (4, 8),
    **changes: Any,
) -> Architecture:
    """Returns the architecture with few units of few filters; unit, shortcut and defaults stay.

    Args:
        architecture: to make small.
        blocks: units of each stage.
        filters: of each stage.
        **changes: further fields of `Architecture`; by default 5 classes and images of 32 pixels.
    """
    return replace(
        architecture,
        stem=replace(architecture.stem, filters=4),
        unit=replace(architecture.unit, groups=min(architecture.unit.groups, 2)),
        blocks=blocks,
        filters=filters,
        numbered_stages=(),
        **{"input_size": 32, "classes": 5, **changes},
    )


def _distinct(networks: dict[str, Architecture]) -> dict[str, Architecture]:
    """Leaves out networks that differ from an earlier one in depth and width alone."""
    first_names = {}
    for name, architecture in networks.items():
        first_names.setdefault(tiny(architecture), name)
    return {name: architecture for architecture, name in first_names.items()}


TINY_FAMILY = {
    **_distinct(NETWORKS),
    "option-b": tiny(replace(RESNET20, shortcut=OPTION_B)),
    "option-c": tiny(replace(RESNET20, shortcut=OPTION_C)),
    **{
        name: tiny(replace(RESNET20, unit=replace(RESNET20.unit, ordering=ordering)))
        for name, ordering in {
            "bn-after-addition": BN_AFTER_ADDITION,
            "relu-before-addition": RELU_BEFORE_ADDITION,
            "relu-only-preactivation": RELU_ONLY_PREACTIVATION,
        }.items()
    },
    **{
        name: tiny(replace(RESNET20, manipulation=manipulation))
        for name, manipulation in {
            "scaling": Scaling(),
            "exclusive-gating": Gating(bias=-1.0, gates_branch=True),
            "shortcut-gating": Gating(bias=-1.0, gates_branch=False),
            "shortcut-dropout": ShortcutDropout(),
        }.items()
    },
    "preactivated-scaling": tiny(replace(NETWORKS["preresnet110"], manipulation=Scaling())),
    "stochastic-depth": tiny(replace(RESNET20, final_survival=0.5)),
    "dense-shortcuts": tiny(find("resnet20-dense-shortcuts"), blocks=(3, 2)),
}
"""Every kind of network in miniature, by name; a new kind in the table of networks joins it."""

EVERY_PART = (
    "resnet20",
    "resnet50-course",
    "resnext29-8x64d",
    "preresnet164",
    "exclusive-gating",
    "highway19",
    "densenet100-k12",
)
"""Names in `TINY_FAMILY` that together have all parts: basic units and bottlenecks, shortcuts A
and B, the stems, biases, groups, pre-activation, gates, transitions, concatenations. The others
differ from one of these in a single part: fast tests take these, slow ones all."""


def family(*, fast: tuple[str, ...] = EVERY_PART) -> list[Any]:
    """Parameters for tests of the whole family: all names, the ones not in `fast` marked slow."""
    return [
        pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in TINY_FAMILY
    ]


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives a model weights as after a long training: no initial zeros and ones are left.

    Gammas have both signs, and every fifth is 0, as channels die.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape
            gamma = rng.uniform(0.5, 2, channels) * rng.choice((-1, 1), channels)
            gamma[::5] = 0
            beta, mean = rng.normal(0, 0.5, (2, *channels))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.2, 2, channels)])
        elif layer.weights:
            kernel, *biases = (weight.shape for weight in layer.weights)
            deviation = np.sqrt(2 / np.prod(kernel[:-1]))
            layer.set_weights(
                [rng.normal(0, deviation, kernel), *(rng.normal(0, 0.3, bias) for bias in biases)]
            )
    return model


def trained(architecture: Architecture) -> keras.Model:
    """A network of random weights whose answers differ from image to image of `draw_images`.

    Each class's logits have mean 0 and standard deviation 2 over the images; of random features
    alone they would be far apart, and one class be certain whatever the image.
    """
    model = randomize(build(architecture))
    classifier = model.layers[-1]
    kernel, _ = classifier.get_weights()
    features = keras.Model(model.input, classifier.input)(draw_images(64, architecture.input_size))
    logits = keras.ops.convert_to_numpy(features) @ kernel
    gain = 2 / logits.std(0)
    classifier.set_weights([kernel * gain, -logits.mean(0) * gain])
    return model


def answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What a model answers, by a plain call: `predict` would trace a function for each model."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def tensors_of(model: keras.Model, architecture: Architecture) -> dict[str, np.ndarray]:
    """A network's weights by torchvision's names."""
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    classes = model.output_shape[-1]
    return to_torch(weights, TORCHVISION, places(architecture, classes))


# --- Networks of other projects ---


def as_after_training(model: keras.Model, images: np.ndarray, seed: int = 0) -> keras.Model:
    """Gives a network of Keras random biases, gammas, betas, and statistics near those of images.

    Args:
        model: whose units end in layers named …_3_bn, where they are bottlenecks.
        images: as the network takes them.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    normalizations = []
    for layer in model.layers:
        values = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            normalizations.append(layer)
            gamma = random.uniform(0.1, 0.5, values[0].shape)
            if layer.name.endswith("_3_bn"):  # where a branch ends they are small, once trained
                gamma *= 0.3
            layer.set_weights([gamma, random.normal(0, 0.1, gamma.shape), *values[2:]])
            layer.momentum = 0.0
        elif len(values) == 2:
            layer.set_weights([values[0], random.normal(0, 0.3, values[1].shape)])
    model(images, training=True)
    for layer in normalizations:
        gamma, beta, mean, variance = layer.get_weights()
        mean = mean + np.sqrt(variance) * random.uniform(-0.3, 0.3, mean.shape)
        layer.set_weights([gamma, beta, mean, variance * random.uniform(0.7, 1.5, mean.shape)])
    return model


TOLERANCE = 1e-4  # of logits, whose largest is below 100


def assert_alike(found: np.ndarray, expected: np.ndarray, label: str | None = None) -> None:
    """Logits of a network and of its source are the same.

    Args:
        found: logits of the network.
        expected: logits of its source.
        label: with which the difference is printed, for docs/reference/weights.md.
    """
    difference, largest = np.abs(found - expected).max(), np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 100 * TOLERANCE  # it heeds the images
    assert largest < 100  # as a trained network's: rounding errors grow with it
    if label:
        print(f"{label}: largest difference {difference:.1e}, largest logit {largest:.2f}")
    assert difference <= TOLERANCE


# --- Images ---


def draw_images(count: int, size: int | tuple[int, int] = 32, seed: int = 0) -> np.ndarray:
    """Images (count, height, width, 3) uint8 that differ as photographs do: patches and noise.

    The averages of plain noise are all alike, and so would be a network's answers.

    Args:
        count: of images.
        size: side of square images, or (height, width), in pixels.
        seed: of the random numbers.
    """
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seed)
    rows, columns = -(-height // 8), -(-width // 8)
    patches = rng.uniform(0, 255, (count, rows, columns, 3)).repeat(8, 1).repeat(8, 2)
    tint = rng.uniform(-100, 100, (count, 1, 1, 3))
    noise = rng.normal(0, 20, (count, height, width, 3))
    return (patches[:, :height, :width] + tint + noise).clip(0, 255).astype("uint8")


def pixels(*shape: int) -> np.ndarray:
    """Noise of this shape, float32 in 0..255: for comparisons of numbers, not of answers."""
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


# --- Files ---


def known(value: T | None) -> T:
    """A value of which a test knows that it is there."""
    assert value is not None
    return value


def of_files(split: Split) -> EncodedSplit:
    """A split of which a test knows that its images are encoded."""
    assert isinstance(split, EncodedSplit)
    return split


def of_arrays(split: Split) -> ArraySplit:
    """A split of which a test knows that its images are arrays."""
    assert isinstance(split, ArraySplit)
    return split


def contents(folder: Path) -> dict[Path, bytes]:
    """The bytes of all files in a folder and below, by their paths in it."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def docs_script(name: str) -> ModuleType:
    """The module docs/NAME.py, which is in no package."""
    spec = known(importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    known(spec.loader).exec_module(module)
    return module


# --- Refusals ---


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> InputError:
    """The InputError that a call raises; a test fails if it raises none.

    conftest.py checks the form of every InputError, so that tests look for decisive values alone.
    """
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return error.value


def faults_of(error: InputError) -> list[str]:
    """How an error falls short: it is to say in one line what is wrong, received and accepted."""
    parts = {name: getattr(error, name) for name in ("problem", "received", "accepted")}
    line = str(error).split("\n")[0]
    faults = [f"{name} is empty" for name, text in parts.items() if not text.strip()]
    faults += [f"{name} is not in the message" for name, text in parts.items() if text not in line]
    if parts["problem"].endswith((".", ":", ";")):
        faults.append("the problem ends in a punctuation mark")
    return faults


def command_refusal(*arguments: object) -> str:
    """The one line on stderr with which the command line refuses arguments, with status 2."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    assert end.value.code == 2, stderr.getvalue()
    (line,) = stderr.getvalue().splitlines()
    assert line.startswith("resnet-keras: error: ")
    return line


# --- Commands in processes of their own ---

PROGRAM = (sys.executable, "-c", "from resnet_keras.cli import main; main()")
"""resnet-keras as a user starts it."""


def run(*command: object, cwd: Path | None = None, **variables: str) -> str:
    """Runs a command as a user would, who has not the repository on Python's path.

    Args:
        *command: program and arguments.
        cwd: folder to run it in.
        **variables: added to the environment.

    Returns:
        What it prints on stdout; a test fails if the command does.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def run_python(script: str, *arguments: object, cwd: Path | None = None, **variables: str) -> str:
    """Runs a Python script in a fresh interpreter that can import this kit; see `run`."""
    return run(
        sys.executable, "-c", script, *arguments, cwd=cwd, PYTHONPATH=str(TESTS), **variables
    )


# --- Made once for all tests ---

SOURCES = ("resnet_keras", "export", "tests/kit.py")
MADE = ROOT / ".pytest_cache" / "made"
DAY = 24 * 3600  # seconds


@functools.cache
def _digest() -> str:
    """Of all sources: what was made from other ones is of no use."""
    digest = hashlib.sha256(keras.__version__.encode())
    for place in SOURCES:
        for path in sorted([ROOT / place, *(ROOT / place).rglob("*.py")]):
            if path.suffix == ".py":
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one process fills, for all tests and until the sources change.

    Args:
        name: of the folder.
        make: fills the empty folder. A test that changes something in it works on a copy.
    """
    folder = MADE / _digest() / name
    done = folder.with_name(f"{name}.done")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f"{name}.lock")):
        if not done.exists():
            for old in MADE.iterdir():
                if old.stat().st_mtime < time.time() - DAY:
                    shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


RECIPE = Recipe(
    epochs=2,
    batch_size=64,
    learning_rate=0.1,
    zero_init_last_gamma=True,
    augmentation=Augmentation(PadAndCrop()),
    image_size=8,
    precision="float32",
)
"""Two epochs of 19 steps on the digits; as a run of the command line, recipe "tests"."""

TRAIN = ("train", "tiny", "--recipe", "tests", "--run", "runs/one")
"""The command that makes the finished run."""


@contextlib.contextmanager
def tiny_names():
    """Network "tiny" and recipe "tests" are known by these names inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.NETWORKS, "tiny", TINY)
        patch.setitem(recipes.RECIPES, "tests", RECIPE)
        yield


def finished_training() -> tuple[Path, str]:
    """A folder in which `TRAIN` was run, with runs/one in it, and what the command printed."""

    def make(folder: Path) -> None:
        printed = io.StringIO()
        with tiny_names(), contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            cli.main(TRAIN)
        (folder / "printed.txt").write_text(printed.getvalue())

    folder = made_once("finished", make)
    return folder, (folder / "printed.txt").read_text()


def finished_run() -> Run:
    """A finished, evaluated run of "tiny" with `RECIPE` on the digits, its report written."""
    return Run(finished_training()[0] / "runs" / "one")


class Killed(BaseException):
    """Ends a training as SIGKILL would: nothing more is written."""


@contextlib.contextmanager
def interrupted_after(step: int, signal: int | None = None):
    """Inside, a training ends after so many steps of the run; a test fails if it goes on.

    Args:
        step: the last one, from the run's first on.
        signal: sent to this process; None ends the training as a kill would, without a checkpoint.
    """
    count = Progress.on_train_batch_end

    def interrupt(progress: Progress, batch: int, logs: dict[str, Any] | None = None) -> None:
        if progress.step == step:
            raise Killed
        if signal and progress.step == step - 1:
            os.kill(os.getpid(), signal)
        count(progress, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", interrupt)
        with pytest.raises((Killed, Interrupted)) as ended:
            yield
    assert ended.type is (Interrupted if signal else Killed)


# --- A network that reads digits ---

DIGITS_SIDE = 16
HELD_OUT_DIGITS = 300
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "neuf à ½")


def digits(side: int = DIGITS_SIDE) -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images of scikit-learn's digits, (n, side, side, 3) uint8, and their labels."""
    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype("uint8")
    colour = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return np.stack([resize(image, side) for image in colour]), data.target


def held_out_digits() -> np.ndarray:
    """The images that `digits_classifier` has not learnt, (300, 16, 16, 3) uint8."""
    return digits()[0][-HELD_OUT_DIGITS:]


@functools.cache
def digits_classifier(side: int = DIGITS_SIDE) -> keras.Model:
    """A small network that tells the digits apart; tests leave it as it is.

    It is sure enough of its answers that quantisation leaves them, whatever kernels trained it.
    """
    batch, epochs, count = 64, 8, len(load_digits().target) - HELD_OUT_DIGITS

    def make(folder: Path) -> None:
        images, labels = digits(side)
        keras.utils.set_random_seed(0)
        network = replace(TINY, stem=Stem(16, 3), filters=(16, 32, 64))
        model = build(network, (side, side, 3))
        rate = keras.optimizers.schedules.CosineDecay(0.01, epochs * (count // batch))
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(images[:count], labels[:count], batch, epochs, verbose=0)
        model.save(folder / "model.keras")

    return load_model(made_once(f"digits-{side}", make) / "model.keras")
