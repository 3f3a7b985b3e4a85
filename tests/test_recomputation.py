"""Recomputation: less memory in training, and everything else as without it."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import TINY

from resnet_keras import recomputation
from resnet_keras.architectures import (
    FULL_PREACTIVATION,
    NETWORKS,
    Gating,
    ShortcutDropout,
)
from resnet_keras.errors import InputError
from resnet_keras.loading import load_model
from resnet_keras.models import Classifier, build, features
from resnet_keras.optimizers import SGD
from resnet_keras.recomputation import RecomputingModel, recompute

DEEPER = dataclasses.replace(TINY, blocks=(3, 3, 3))
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 16, 16, 3)).astype("uint8")
LABELS = RANDOM.integers(0, 3, 6)

ARCHITECTURES = {
    "original": DEEPER,
    "preactivation": dataclasses.replace(
        DEEPER, unit=dataclasses.replace(DEEPER.unit, ordering=FULL_PREACTIVATION)
    ),
    "bottleneck": dataclasses.replace(
        DEEPER, unit=NETWORKS["resnet164"].unit, shortcut=NETWORKS["resnet164"].shortcut
    ),
    "gated": dataclasses.replace(DEEPER, manipulation=Gating(-2.0, gates_branch=True)),
    "dropout": dataclasses.replace(DEEPER, manipulation=ShortcutDropout()),
    "stochastic depth": dataclasses.replace(DEEPER, final_survival=0.5),
}


def twins(architecture=DEEPER, policy="float32", **compiling):
    """A network and one that recomputes, of the same weights and seeds, compiled."""
    keras.config.set_dtype_policy(policy)
    models = []
    for wrap in (lambda model: model, recompute):
        keras.utils.set_random_seed(0)
        model = wrap(build(architecture, (16, 16, 3), Classifier(3)))
        # The weights' change is the gradient.
        model.compile(SGD(1.0), "sparse_categorical_crossentropy", **compiling)
        models.append(model)
    return models


def train(model, steps=2):
    return [float(model.train_on_batch(IMAGES, LABELS)) for _ in range(steps)]


def assert_equal_states(plain, recomputing, **tolerance):
    assert len(plain.variables) == len(recomputing.variables) > 0
    for one, other in zip(plain.variables, recomputing.variables, strict=True):
        assert one.path == other.path or one.name == other.name
        np.testing.assert_allclose(
            np.asarray(one, "float32"), np.asarray(other, "float32"), **tolerance, err_msg=one.path
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_and_state_are_those_of_the_plain_model(name):
    plain, recomputing = twins(ARCHITECTURES[name], jit_compile=False)
    assert len(recomputing._plan.steps) >= 3
    before = [np.array(variable) for variable in recomputing.variables]
    assert train(plain) == pytest.approx(train(recomputing), rel=1e-6)
    assert_equal_states(plain, recomputing, rtol=1e-5, atol=1e-6)
    changed = [
        not np.array_equal(variable, value)
        for variable, value in zip(recomputing.variables, before, strict=True)
    ]
    # Only shifts before a normalisation have no gradient, and of those there are none.
    assert all(changed)


def test_moving_statistics_move_once_a_step():
    architecture = dataclasses.replace(
        DEEPER, style=dataclasses.replace(DEEPER.style, bn_momentum=0.75)
    )
    _, recomputing = twins(architecture, jit_compile=False)
    layer = recomputing.get_layer("bn2b_branch2a")
    batch = keras.Model(recomputing.input, layer.input)(IMAGES, training=True)
    expected = 0.25 * np.asarray(batch).mean((0, 1, 2))
    layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
    train(recomputing, steps=1)
    np.testing.assert_allclose(np.asarray(layer.moving_mean), expected, rtol=1e-4, atol=1e-5)


def test_mixed_precision_keeps_full_weights():
    plain, recomputing = twins(policy="mixed_bfloat16", jit_compile=False)
    assert train(plain) == pytest.approx(train(recomputing), rel=1e-6)
    assert_equal_states(plain, recomputing, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}])
def test_eager_and_compiled_steps_agree_too(how):
    plain, recomputing = twins(ARCHITECTURES["stochastic depth"], **how)
    assert train(plain, 1) == pytest.approx(train(recomputing, 1), rel=1e-5)
    assert_equal_states(plain, recomputing, rtol=1e-3, atol=1e-4)


def test_frozen_layers_stay():
    _, recomputing = twins(jit_compile=False)
    frozen = recomputing.get_layer("bn2b_branch2a")
    frozen.trainable = False
    recomputing.compile(SGD(1.0), "sparse_categorical_crossentropy", jit_compile=False)
    before = frozen.get_weights()
    train(recomputing)
    for one, other in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_weights_and_answers_are_shared():
    plain = build(DEEPER, (16, 16, 3), Classifier(3), name="mine")
    recomputing = recompute(plain)
    assert recomputing.name == "mine"
    assert recomputing.layers == plain.layers
    assert [id(weight) for weight in recomputing.weights] == [id(w) for w in plain.weights]
    np.testing.assert_array_equal(
        recomputing.predict(IMAGES, verbose=0), plain.predict(IMAGES, verbose=0)
    )
    assert set(features(recomputing).output) == {"C2", "C3", "C4"}


def test_a_file_keeps_the_switch_and_goes_on(tmp_path):
    _, model = twins(jit_compile=False)
    train(model)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert isinstance(loaded, RecomputingModel)
    assert train(model) == pytest.approx(train(loaded), rel=1e-6)
    build(DEEPER, (16, 16, 3), Classifier(3)).set_weights(loaded.get_weights())


def test_images_of_any_size():
    model = recompute(build(DEEPER, (None, None, 3), Classifier(3)))
    model.compile(SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    assert np.isfinite(train(model)).all()


def test_refuses_what_it_cannot_cut(monkeypatch):
    network = build(TINY, (16, 16, 3), Classifier(3), name="tiny")
    with pytest.raises(InputError, match="from one tensor to one. Received: 'tiny_features'"):
        recompute(features(network))
    with pytest.raises(InputError, match="from one tensor to one. Received: 'empty'"):
        recompute(keras.Sequential(name="empty"))
    network(keras.Input((16, 16, 3)))
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4)
    twice = keras.Model(inputs, layer(layer(inputs)), name="twice")
    with pytest.raises(InputError, match="layers that are called once each. Received: 'twice'"):
        recompute(twice)
    monkeypatch.setattr(recomputation.keras.backend, "backend", lambda: "torch")
    with pytest.raises(InputError, match="Received: torch; accepted: tensorflow, jax"):
        recompute(network)


PEAK = """
import resource, sys
import numpy as np
from resnet_keras import create, recompute
from resnet_keras.optimizers import SGD

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

model = create("resnet110")
if sys.argv[1] == "recompute":
    model = recompute(model)
model.compile(SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
before = peak()
images, labels = np.zeros((128, 32, 32, 3), "float32"), np.zeros(128, "int64")
for _ in range(3):
    model.train_on_batch(images, labels)
print((peak() - before) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts otherwise there")
def test_resnet110_trains_in_40_percent_less_memory():
    def gigabytes(how):
        finished = subprocess.run(
            [sys.executable, "-c", PEAK, how],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        )
        return float(finished.stdout)

    assert gigabytes("recompute") <= 0.6 * gigabytes("plain")
