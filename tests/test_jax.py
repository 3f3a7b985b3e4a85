"""The JAX backend: the same answers, and the whole way of a training run without TensorFlow."""

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import on_jax
import pytest
from kit import EVERY_PART, ROOT, TESTS, TINY, TINY_FAMILY, answers, draw_images, run, trained
from sklearn.datasets import load_sample_images
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnet_keras.architectures import (
    BN_AFTER_ADDITION,
    NETWORKS,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    Gating,
    Scaling,
    ShortcutDropout,
)
from resnet_keras.evaluation.grad_cam import grad_cam
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import Classifier, build
from resnet_keras.runs.run import Run

pytestmark = pytest.mark.slow


def photographs(count, size):
    """Crops of real ones: of noise every image is like another to a deep network, and batch
    normalisation would blow up rounding errors.
    """
    random = np.random.default_rng(0)
    crops = []
    for photograph in itertools.islice(itertools.cycle(load_sample_images().images), count):
        top, left = (random.integers(0, side - size) for side in photograph.shape[:2])
        crops.append(photograph[top : top + size, left : left + size])
    return np.stack(crops)


def settled(architecture, size):
    """A network of random weights that is as well conditioned as a trained one.

    Its moving statistics are those of some images, and its branches are weaker than its shortcuts:
    with random ones as strong, each unit of a hundred amplifies rounding errors.
    """
    defaults = architecture.defaults
    quick = build(
        replace(architecture, defaults=replace(defaults, bn_momentum=0.0)),
        (size, size, 3),
        Classifier(10, activation=None),
    )
    last = "abc"[len(architecture.unit.widths) - 1]
    for layer in quick.layers:
        if architecture.is_residual and re.fullmatch(rf"bn.*_branch2{last}", layer.name):
            layer.gamma.assign(layer.gamma * 0.25)
    images = photographs(32, size)
    quick(images, training=True)
    model = build(architecture, (size, size, 3), Classifier(10, activation=None))
    model.set_weights(quick.get_weights())
    return model, images[:4]


def with_ordering(ordering):
    return replace(TINY, unit=replace(TINY.unit, ordering=ordering))


SMALL = {
    "option-a": TINY,
    "option-b": replace(TINY, shortcut=NETWORKS["resnet18"].shortcut),
    "bn-after-addition": with_ordering(BN_AFTER_ADDITION),
    "relu-before-addition": with_ordering(RELU_BEFORE_ADDITION),
    "relu-only-preactivation": with_ordering(RELU_ONLY_PREACTIVATION),
    "scaled": replace(TINY, manipulation=Scaling()),
    "gated": replace(TINY, manipulation=Gating(-1.0, gates_branch=True)),
    "gated-shortcut": replace(TINY, manipulation=Gating(-1.0, gates_branch=False)),
    "dropped": replace(TINY, manipulation=ShortcutDropout()),
    "stochastic": replace(TINY, final_survival=0.5),
    "dilated": replace(TINY, output_stride=1),
    "dilated-groups": replace(
        TINY,
        unit=replace(NETWORKS["resnext29-8x64d"].unit, groups=2),
        shortcut=NETWORKS["resnet18"].shortcut,
        output_stride=2,
    ),
}


NETWORKS_AND_SIZES = {
    **{name: (network, 16) for name, network in SMALL.items()},
    **{name: (TINY_FAMILY[name], 32) for name in (*EVERY_PART, "resnet50v1.5")},
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What one process on JAX found: its folder, by fact why it fails, TensorFlow's logits."""
    folder = tmp_path_factory.mktemp("jax")
    (folder / "models").mkdir()
    logits = {}
    for name, (architecture, size) in NETWORKS_AND_SIZES.items():
        model, images = settled(architecture, size)
        model.save(folder / "models" / f"{name}.keras")
        np.save(folder / "models" / f"{name}.npy", images)
        logits[name] = answers(model, images)
    trained(TINY_FAMILY["preresnet110"]).save(folder / "heat.keras")
    np.save(folder / "images.npy", draw_images(3))
    run(sys.executable, TESTS / "on_jax.py", folder, KERAS_BACKEND="jax")
    return folder, json.loads((folder / "facts.json").read_text()), logits


@pytest.mark.parametrize("fact", on_jax.FACTS, ids=lambda fact: fact.__name__)
def test_holds_on_jax(fact, seen):
    _, facts, _ = seen
    assert not facts[fact.__name__], facts[fact.__name__]


@pytest.mark.parametrize("network", NETWORKS_AND_SIZES)
def test_networks_give_the_same_logits_on_jax(network, seen):
    folder, _, logits = seen
    found, expected = np.load(folder / "models" / f"{network}.logits.npy"), logits[network]
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_heat_is_the_same_on_jax(seen):
    expected = grad_cam(trained(TINY_FAMILY["preresnet110"]), draw_images(3), [0, 1, 2], "C2")
    np.testing.assert_allclose(np.load(seen[0] / "heat.npy"), expected, atol=1e-4)


# --- Without TensorFlow ---

TRAINING = """
import dataclasses, importlib.util, json, sys
import numpy as np
import resnet_keras
from resnet_keras.architectures import NETWORKS, RESNET20
from resnet_keras.data.splits import resized
from resnet_keras.evaluation.evaluate import evaluate_run

NETWORKS["resnet8"] = dataclasses.replace(RESNET20, blocks=(1, 1, 1))
for package in ("tensorflow", "torch"):
    assert importlib.util.find_spec(package) is None, package
from sklearn.datasets import load_digits

digits = load_digits()
images = np.rint(np.kron(digits.images, np.ones((1, 2, 2))) * 255 / 16).astype("uint8")
source = resnet_keras.Arrays(
    (images[:1400], digits.target[:1400]), (images[1400:], digits.target[1400:])
)
run = resnet_keras.Run("run")
recipe = dataclasses.replace(resnet_keras.RECIPES["quick"], epochs=8, precision="float32")
resnet_keras.train("resnet8", source, recipe, run, verbose=0)
evaluation = evaluate_run(run, 0, source)
test = resized(source.load("test"), 16)
np.save("images.npy", test.images)
np.save("probabilities.npy", resnet_keras.load_model("run/best.keras").predict(test.images))
print(json.dumps({"top1_error": evaluation.top1_error, "image_size": source.image_size}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment without TensorFlow; uv makes it of what its cache has."""
    environment = tmp_path_factory.mktemp("jax") / "environment"
    uv = Path(sys.executable).with_name("uv")
    run(uv, "venv", "--quiet", "--python", sys.executable, environment)
    install = (uv, "pip", "install", "--quiet", "--python", environment / "bin" / "python")
    run(*install, "-c", ROOT / "requirements" / "lock.txt", f"{ROOT}[jax]")
    return environment


def test_trains_without_tensorflow(environment, tmp_path):
    printed = run(environment / "bin" / "python", "-c", TRAINING, cwd=tmp_path, KERAS_BACKEND="jax")
    found = json.loads(printed.splitlines()[-1])
    assert found["top1_error"] < 0.3  # 0.9 by chance

    # From here on in this process, under TensorFlow.
    assert keras.backend.backend() == "tensorflow"
    trained = Run(tmp_path / "run")
    assert trained.read_details().finished and len(trained.read_history()) == 8
    events = EventAccumulator(str(trained.events / "training")).Reload()
    assert [event.step for event in events.Tensors("loss")] == list(range(1, 9))
    assert events.Images("augmented_inputs")
    model = load_model(trained.best_model)
    probabilities = answers(model, np.load(tmp_path / "images.npy"))
    expected = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)

    # The command line says which backend is missing.
    script = environment / "bin" / "resnet-keras"
    refused = subprocess.run(
        [script, "train", "resnet20", "--run", tmp_path / "other"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    assert refused.returncode == 2
    assert "tensorflow" in refused.stderr and "Traceback" not in refused.stderr
