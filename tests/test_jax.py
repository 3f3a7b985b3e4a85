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
import pytest
from commands import run
from conftest import TINY
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
    find,
)
from resnet_keras.loading import load_model
from resnet_keras.models import Classifier, build
from resnet_keras.runs import Run

ROOT = Path(__file__).parents[1]


LOGITS = """
import sys
from pathlib import Path
import keras
import numpy as np
from resnet_keras import load_model

assert keras.backend.backend() == "jax"
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    images = np.load(path.with_suffix(".npy"))
    np.save(path.with_suffix(".logits.npy"), load_model(path).predict(images, verbose=0))
"""


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
    style = architecture.style
    quick = build(
        replace(architecture, style=replace(style, bn_momentum=0.0)),
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
NAMED = {
    "resnet18": 64,
    "resnet50": 64,
    "resnet50v1.5": 64,
    "resnet50-course": 64,
    "plain18": 64,
    "resnet20": 32,
    "preresnet164": 32,
    "resnext50-32x4d": 64,
}


def assert_same_logits(folder, networks):
    expected = {}
    for name, (architecture, size) in networks.items():
        model, images = settled(architecture, size)
        model.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", images)
        expected[name] = model.predict(images, verbose=0)
    run(sys.executable, "-c", LOGITS, folder, KERAS_BACKEND="jax")
    for name, logits in expected.items():
        found = np.load(folder / f"{name}.logits.npy")
        assert logits.std() > 0.01, name
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4, err_msg=name)


def test_variants_give_the_same_logits_on_jax(tmp_path):
    assert_same_logits(tmp_path, {name: (network, 16) for name, network in SMALL.items()})


@pytest.mark.slow
def test_named_networks_give_the_same_logits_on_jax(tmp_path):
    assert_same_logits(tmp_path, {name: (find(name), size) for name, size in NAMED.items()})


RECOMPUTATION = """
import keras
import numpy as np
from resnet_keras import build, recompute
from resnet_keras.architectures import RESNET20
from resnet_keras.models import Classifier
from dataclasses import replace

images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")
labels = np.arange(4)
states = []
for wrap in (lambda model: model, recompute):
    keras.utils.set_random_seed(0)
    model = wrap(build(replace(RESNET20, final_survival=0.5), (16, 16, 3), Classifier(4)))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    for _ in range(2):
        model.train_on_batch(images, labels)
    states.append([np.asarray(variable) for variable in model.variables])
assert len(states[0]) == len(states[1])
for one, other in zip(*states):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
def test_recomputation_on_jax():
    run(sys.executable, "-c", RECOMPUTATION, KERAS_BACKEND="jax")


BACKBONE = """
import keras
import numpy as np
from resnet_keras import backbone

trunk = backbone("resnet20", ("C3", "C4"), output_stride=2, freeze_bn=True)
pixels = keras.Input((None, None, 3))
maps = trunk(pixels)
detector = keras.Model(pixels, keras.layers.Conv2D(2, 1)(maps["C4"]))
detector.compile(keras.optimizers.SGD(1e-3), "mse")
before = {layer.name: layer.get_weights() for layer in trunk.layers if layer.weights}
images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3)).astype("float32")
detector.train_on_batch(images, np.ones((2, 8, 12, 2), "float32"))
for name, values in before.items():
    for one, other in zip(values, trunk.get_layer(name).get_weights(), strict=True):
        assert np.array_equal(one, other) == name.startswith("bn"), name
"""


@pytest.mark.slow
def test_a_dilated_backbone_learns_on_jax():
    run(sys.executable, "-c", BACKBONE, KERAS_BACKEND="jax")


FINE_TUNING = """
import dataclasses
import numpy as np
import resnet_keras
from resnet_keras import architectures
from resnet_keras.data import sources

architectures.NETWORKS["tiny"] = dataclasses.replace(architectures.RESNET20, blocks=(1, 1, 1))
recipe = dataclasses.replace(
    resnet_keras.RECIPES["quick"], epochs=2, batch_size=64, image_size=8, precision="float32"
)
digits = sources.find("digits")
resnet_keras.train("tiny", digits, dataclasses.replace(recipe, epochs=1), "learnt", verbose=0)
train = digits.load("train")
kept = np.flatnonzero(train.labels < 2)
others = resnet_keras.Arrays((train.images[kept], train.labels[kept]), class_names=("no", "yes"))
recipe = dataclasses.replace(
    recipe, head_epochs=1, freeze="stage2", freeze_bn=True, stage_decay=0.5
)
resnet_keras.fine_tune("tiny", others, "learnt", "tuned", recipe, verbose=0)
before, after = (
    resnet_keras.load_model(path) for path in ("learnt/best.keras", "tuned/last.keras")
)
for layer in after.layers[:-1]:
    for one, other in zip(
        layer.get_weights(), before.get_layer(layer.name).get_weights(), strict=True
    ):
        frozen = layer.name.startswith(("bn", "conv1", "res2"))
        assert np.array_equal(one, other) == frozen, layer.name
assert after.layers[-1].class_names == ("no", "yes")
"""


@pytest.mark.slow
def test_fine_tuning_on_jax(tmp_path):
    run(sys.executable, "-c", FINE_TUNING, cwd=tmp_path, KERAS_BACKEND="jax")


VIEWS = """
from dataclasses import replace
import numpy as np
from resnet_keras import build
from resnet_keras.architectures import RESNET20
from resnet_keras.data.images import resize_whole
from resnet_keras.data.splits import ArraySplit
from resnet_keras.views import five_crops, multi_scale, ten_crop

architecture = replace(RESNET20, blocks=(1, 1, 1))
model = build(architecture)
images = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), np.uint8)
split = ArraySplit(images, np.zeros(3, int))

def answers(model, views):
    return model.predict_on_batch(np.stack([*views, *(view[:, ::-1] for view in views)])).mean(0)

wholes = [resize_whole(image, 37) for image in images]
expected = [
    answers(model, [whole[y : y + 32, x : x + 32] for y, x in five_crops(whole.shape, 32)])
    for whole in wholes
]
np.testing.assert_allclose(ten_crop(model, split), expected, atol=1e-5)
of_its_size = build(architecture, wholes[0].shape)
of_its_size.set_weights(model.get_weights())
expected = [answers(of_its_size, [whole]) for whole in wholes]
np.testing.assert_allclose(multi_scale(model, architecture, split, [37]), expected, atol=1e-5)
"""


@pytest.mark.slow
def test_ten_crop_and_multi_scale_on_jax():
    run(sys.executable, "-c", VIEWS, KERAS_BACKEND="jax")


TRAINING = """
import dataclasses, importlib.util, json, sys
import numpy as np
import resnet_keras
from resnet_keras.data.splits import resized
from resnet_keras.evaluation import evaluate_run

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
resnet_keras.train("resnet20", source, recipe, run, verbose=0)
evaluation = evaluate_run(run, 0, source)
test = resized(source.load("test"), 16)
np.save("images.npy", test.images)
np.save("probabilities.npy", resnet_keras.load_model("run/best.keras").predict(test.images))
print(json.dumps({"top1_error": evaluation.top1_error, "image_size": source.image_size}))
"""


@pytest.mark.slow
def test_trains_without_tensorflow(tmp_path):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "-q"]
    run(*pip, "-r", ROOT / "requirements" / "jax.txt")
    run(*pip, "--no-deps", ROOT)
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
    probabilities = model.predict(np.load(tmp_path / "images.npy"), verbose=0)
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
    assert "compute with tensorflow, which is not installed" in refused.stderr


RESUME = """
import dataclasses
import numpy as np
import resnet_keras
from resnet_keras import architectures, recorder
from resnet_keras.data import sources

architectures.NETWORKS["tiny"] = dataclasses.replace(
    architectures.RESNET20, blocks=(1, 1, 1), final_survival=0.5
)
recipe = dataclasses.replace(
    resnet_keras.RECIPES["quick"],
    epochs=2, batch_size=64, image_size=8, ema=0.9, accumulate=2, precision="float32",
)
record = recorder.Recorder.on_train_batch_end

class BreakOffError(Exception):
    pass

def train(name, stop=None):
    def break_off(self, batch, logs=None):
        if self.step == stop:
            raise BreakOffError
        record(self, batch, logs)

    recorder.Recorder.on_train_batch_end = break_off
    run = resnet_keras.Run(name)
    try:
        resnet_keras.train(
            "tiny", sources.find("digits"), recipe, run, verbose=0, checkpoint_steps=5
        )
    except BreakOffError:
        return None
    model = resnet_keras.load_model(run.last_model)
    values = [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]
    return values, (run.folder / "history.csv").read_bytes()

whole = train("whole")
for stop in (7, 19, 30):
    assert train("resumed", stop) is None
resumed = train("resumed")
assert resumed[1] == whole[1]
for one, other in zip(resumed[0], whole[0], strict=True):
    np.testing.assert_array_equal(one, other)
"""


@pytest.mark.slow
def test_a_run_on_jax_goes_on_to_the_same_end(tmp_path):
    run(sys.executable, "-c", RESUME, cwd=tmp_path, KERAS_BACKEND="jax")
