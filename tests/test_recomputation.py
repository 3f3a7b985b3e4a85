"""Recomputation: less memory in training, and everything else as without it."""

import sys
from dataclasses import replace
from itertools import chain, pairwise

import keras
import kit
import numpy as np
import pytest

from resnet_keras.architectures import (
    FULL_PREACTIVATION,
    NETWORKS,
    RESNET20,
    Gating,
    ShortcutDropout,
)
from resnet_keras.networks import recomputation
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import Classifier, build
from resnet_keras.networks.recomputation import RecomputingModel, recompute
from resnet_keras.training.optimizers import SGD

IMAGES = kit.draw_images(6, 8)
LABELS = np.arange(6) % 3

EAGER, GRAPH, XLA = {"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}
BOTTLENECKS = NETWORKS["resnet164"]
KINDS = {
    "original": RESNET20,
    "gated": replace(
        RESNET20,
        unit=replace(BOTTLENECKS.unit, ordering=FULL_PREACTIVATION),
        shortcut=BOTTLENECKS.shortcut,
        manipulation=Gating(-2.0, gates_branch=True),
    ),
    "random": replace(RESNET20, manipulation=ShortcutDropout(), final_survival=0.5),
    "dense": NETWORKS["densenet100-k12"],
}
"""Basic units; bottlenecks, pre-activation, projections and gates; dropout and dropped branches;
concatenations."""


def network(kind="original", size: int | None = 8, name=None):
    """Three units, which recomputation cuts into four segments."""
    architecture = kit.tiny(KINDS[kind], blocks=(2, 1))
    return build(architecture, (size, size, 3), Classifier(3), name=name)


def compiled(model, **how):
    # The weights' change is the gradient.
    model.compile(SGD(1.0), "sparse_categorical_crossentropy", **how)
    return model


def train(model, steps=2):
    return [float(model.train_on_batch(IMAGES, LABELS)) for _ in range(steps)]


def values_of(model):
    return [np.asarray(variable, "float32") for variable in model.variables]


def assert_learns_the_same(kind, how, **tolerance):
    """As the plain network, of the same weights and seeds."""
    keras.utils.set_random_seed(0)
    # XLA draws other random numbers.
    plain = compiled(network(kind), **(how if how is XLA else EAGER))
    keras.utils.set_random_seed(0)
    recomputing = compiled(recompute(network(kind)), **how)
    assert [variable.name for variable in recomputing.variables] == [
        variable.name for variable in plain.variables
    ]
    before = values_of(recomputing)
    assert train(recomputing) == pytest.approx(train(plain), rel=1e-5)
    for variable, old, found, expected in zip(
        plain.variables, before, values_of(recomputing), values_of(plain), strict=True
    ):
        # Only shifts before a normalisation have no gradient, and of those there are none.
        assert not np.array_equal(found, old), variable.path
        np.testing.assert_allclose(found, expected, **tolerance, err_msg=variable.path)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("original", EAGER),
        ("gated", EAGER),
        ("random", GRAPH),
        ("dense", EAGER),
        pytest.param("gated", GRAPH, marks=pytest.mark.slow),
        pytest.param("random", XLA, marks=pytest.mark.slow),
    ],
)
def test_gradients_and_state_are_those_of_the_plain_model(kind, how):
    assert_learns_the_same(kind, how, rtol=1e-4, atol=1e-5)


def test_mixed_precision_keeps_full_weights():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert_learns_the_same("original", EAGER, rtol=1e-6, atol=1e-7)


def test_segments_are_run_again_the_last_one_first(monkeypatch):
    """All but the one at the end, of which the backward pass uses what the forward pass kept."""
    model = compiled(recompute(network()), **EAGER)
    train(model, steps=1)  # the first step calls layers once more, to know their shapes
    names = {layer.name for layer in model.layers[1:]}  # without the input
    called = []
    call = keras.layers.Layer.__call__

    def noted(layer, *arguments, **options):
        if layer.name in names:
            called.append(layer.name)
        return call(layer, *arguments, **options)

    monkeypatch.setattr(keras.layers.Layer, "__call__", noted)
    train(model, steps=1)
    forward, again = called[: len(names)], called[len(names) :]
    assert set(forward) == names
    places = [forward.index(name) for name in again]
    starts = [0, *(i for i, (one, next_one) in enumerate(pairwise(places), 1) if next_one < one)]
    segments = [again[start:end] for start, end in pairwise([*starts, len(again)])]
    assert len(segments) == 3
    recomputed = [*chain.from_iterable(reversed(segments))]
    assert recomputed == forward[: len(recomputed)] and 0 < len(forward) - len(recomputed) < 5


def test_frozen_layers_stay():
    model = recompute(network())
    frozen = model.get_layer("bn2b_branch2a")
    frozen.trainable = False
    compiled(model, **EAGER)
    before = frozen.get_weights()
    train(model)
    for one, other in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_weights_and_answers_are_shared():
    plain = network(name="mine")
    recomputing = recompute(plain)
    assert recomputing.name == "mine"
    assert recomputing.layers == plain.layers
    assert [id(weight) for weight in recomputing.weights] == [id(w) for w in plain.weights]
    np.testing.assert_array_equal(kit.answers(recomputing, IMAGES), kit.answers(plain, IMAGES))
    assert set(features(recomputing).output) == {"C2", "C3"}


def test_a_file_keeps_the_switch_and_goes_on(tmp_path):
    model = compiled(recompute(network()), **EAGER)
    train(model, steps=1)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert isinstance(loaded, RecomputingModel)
    assert train(model) == pytest.approx(train(loaded), rel=1e-6)
    network().set_weights(loaded.get_weights())


def test_images_of_any_size():
    model = compiled(recompute(network(size=None)), **EAGER)
    assert np.isfinite(train(model, steps=1)).all()


def test_refuses_what_it_cannot_cut(monkeypatch):
    model = network(name="whole")
    assert "whole_features" in kit.refusal(recompute, features(model)).received
    assert "empty" in kit.refusal(recompute, keras.Sequential(name="empty")).received
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4)
    twice = keras.Model(inputs, layer(layer(inputs)), name="twice")
    assert "twice" in kit.refusal(recompute, twice).received
    monkeypatch.setattr(recomputation.keras.backend, "backend", lambda: "torch")
    error = kit.refusal(recompute, model)
    assert (error.received, error.accepted) == ("torch", "tensorflow, jax")


PEAK = """
import resource, sys
import numpy as np
from resnet_keras import create, recompute
from resnet_keras.training.optimizers import SGD

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

model = create("resnet32")
if sys.argv[1] == "recompute":
    model = recompute(model)
model.compile(SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
before = peak()
images, labels = np.zeros((256, 32, 32, 3), "float32"), np.zeros(256, "int64")
model.train_on_batch(images, labels)
print((peak() - before) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts otherwise there")
def test_resnet32_trains_in_40_percent_less_memory():
    def gigabytes(how):
        return float(kit.run_python(PEAK, how, KERAS_BACKEND="tensorflow"))

    assert gigabytes("recompute") <= 0.6 * gigabytes("plain")
