"""The second paper's units and shortcuts, stochastic depth, ResNeXt and the very deep nets."""

import functools
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from kit import answers, refusal, tiny

from resnet_keras import architectures
from resnet_keras.architectures import (
    BASIC,
    BN_AFTER_ADDITION,
    BOTTLENECK,
    FULL_PREACTIVATION,
    NETWORKS,
    NO_SHORTCUT,
    OPTION_A,
    OPTION_B,
    OPTION_C,
    ORIGINAL,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    RESNET20,
    Gating,
    Scaling,
    ShortcutDropout,
)
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import build, create

TINY = tiny(RESNET20, input_size=8)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))

# As [2, figure 4] draws a basic unit; + is the addition.
DRAWINGS = {
    "original": (ORIGINAL, "conv bn relu conv bn + relu"),
    "BN after addition": (BN_AFTER_ADDITION, "conv bn relu conv + bn relu"),
    "ReLU before addition": (RELU_BEFORE_ADDITION, "conv bn relu conv bn relu +"),
    "ReLU-only pre-activation": (RELU_ONLY_PREACTIVATION, "relu conv bn relu conv bn +"),
    "full pre-activation": (FULL_PREACTIVATION, "bn relu conv bn relu conv +"),
}
ORDERINGS = [ordering for ordering, _ in DRAWINGS.values()]
SIGNS = {"Conv2D": "conv", "BatchNormalization": "bn", "Activation": "relu", "Add": "+"}


def with_ordering(ordering, unit=BASIC, **changes):
    unit = replace(unit, ordering=ordering)
    return replace(TINY, unit=unit, **changes)


@functools.cache
def built(ordering):
    return build(with_ordering(ordering))


def values(model, *layers):
    """What layers give for the images, by their names."""
    outputs = [model.get_layer(name).output for name in layers]
    return [np.asarray(value) for value in keras.Model(model.input, outputs)(IMAGES)]


def drawing(model, unit):
    """The layers of one unit, in signs, in their order."""
    names = (f"res{unit}", f"bn{unit}")
    found = [layer for layer in model.layers if layer.name.startswith(names)]
    return " ".join(SIGNS[type(layer).__name__] for layer in found)


@pytest.mark.parametrize(("ordering", "expected"), DRAWINGS.values(), ids=DRAWINGS)
def test_a_unit_is_as_the_paper_draws_it(ordering, expected):
    model = built(ordering)
    assert drawing(model, "2b") == expected
    # The first unit's pre-activation is what follows conv1; it is not there twice.
    without_first = expected.split(" ")[len(ordering.first) :]
    assert drawing(model, "2a") == " ".join(without_first)
    assert [layer.name for layer in model.layers[2:5]] == ["conv1", "bn_conv1", "conv1_relu"]


@pytest.mark.parametrize("ordering", ORDERINGS, ids=DRAWINGS)
def test_after_the_last_addition_comes_what_precedes_the_others(ordering):
    names = [layer.name for layer in built(ordering).layers]
    expected = {"bn": "bn_final", "relu": "res_final_relu"}
    between = names[names.index("res3b") + 1 : names.index("avg_pool")]
    joined = {"bn": "bn3b", "relu": "res3b_relu"}
    assert between == [joined[step] for step in ordering.joined] + [
        expected[step] for step in ordering.first
    ]


def test_pre_activations_are_named_after_the_convolution_that_follows():
    names = [layer.name for layer in build(with_ordering(FULL_PREACTIVATION, BOTTLENECK)).layers]
    start = names.index("bn2b_branch2a")
    assert names[start : start + 10] == [
        "bn2b_branch2a",
        "res2b_branch2a_relu",
        "res2b_branch2a",
        "bn2b_branch2b",
        "res2b_branch2b_relu",
        "res2b_branch2b",
        "bn2b_branch2c",
        "res2b_branch2c_relu",
        "res2b_branch2c",
        "res2b",
    ]


@pytest.mark.parametrize(
    ("ordering", "unit", "shortcut"),
    [
        # Where units start with a normalisation, counts depend on unit and shortcut together.
        *(
            (FULL_PREACTIVATION, unit, shortcut)
            for unit in (BASIC, BOTTLENECK)
            for shortcut in (OPTION_A, OPTION_B, OPTION_C, NO_SHORTCUT)
        ),
        (ORIGINAL, BASIC, OPTION_C),
        (ORIGINAL, BOTTLENECK, OPTION_A),
        (BN_AFTER_ADDITION, BASIC, NO_SHORTCUT),
        (BN_AFTER_ADDITION, BOTTLENECK, OPTION_C),
        (RELU_BEFORE_ADDITION, BASIC, OPTION_B),
        (RELU_BEFORE_ADDITION, BOTTLENECK, OPTION_C),
        (RELU_ONLY_PREACTIVATION, BASIC, OPTION_B),
        (RELU_ONLY_PREACTIVATION, BOTTLENECK, OPTION_C),
    ],
)
def test_an_ordering_is_built_as_counted(ordering, unit, shortcut):
    architecture = with_ordering(ordering, unit, shortcut=shortcut, blocks=(1, 2))
    model = build(architecture)
    count = architecture.parameters()
    assert model.count_params() == count.total
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == count.trainable
    assert np.isfinite(answers(model, IMAGES)).all()


def test_a_fully_preactivated_projection_takes_the_activated_input_and_no_bn():
    model = build(with_ordering(FULL_PREACTIVATION, shortcut=OPTION_B))
    layers = {layer.name: layer for layer in model.layers}
    assert "bn3a_branch1" not in layers
    assert layers["res3a_branch1"].input is layers["res3a_branch2a_relu"].output


def test_a_signal_passes_fully_preactivated_units_unchanged():
    model = build(with_ordering(FULL_PREACTIVATION, blocks=(3,), filters=(4,)))
    for layer in model.layers:
        if "_branch2" in layer.name and isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.zeros(layer.kernel.shape)])
    before, after = values(model, "conv1_relu", "res2c")
    np.testing.assert_array_equal(before, after)


def test_features_of_a_preactivated_network_end_activated():
    maps = features(built(FULL_PREACTIVATION))(IMAGES)
    found = {name: np.asarray(map) for name, map in maps.items()}
    assert {name: map.shape for name, map in found.items()} == {
        "C2": (2, 8, 8, 4),
        "C3": (2, 4, 4, 8),
    }
    assert found["C3"].min() == 0 > found["C2"].min()


# --- manipulated shortcuts ---


def one_unit(manipulation, **changes):
    """A network of one identity unit."""
    return replace(TINY, blocks=(1,), filters=(4,), manipulation=manipulation, **changes)


UNIT_PARTS = ("conv1_relu", "bn2a_branch2b", "res2a")  # x, F(x) and what their addition gives


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


@pytest.mark.parametrize(
    ("manipulation", "of_shortcut", "of_branch"),
    [
        (None, 1, 1),
        (Scaling(), 0.5, 0.5),
        (Scaling(shortcut=0.5, branch=1.0), 0.5, 1),
        (Gating(bias=-1.5, gates_branch=True), 1 - sigmoid(-1.5), sigmoid(-1.5)),
        (Gating(bias=-1.5, gates_branch=False), 1 - sigmoid(-1.5), 1),
        (ShortcutDropout(), 1, 1),
    ],
)
def test_manipulated_shortcuts(manipulation, of_shortcut, of_branch):
    model = build(one_unit(manipulation))
    if isinstance(manipulation, Gating):
        gate = model.get_layer("gate2a")
        np.testing.assert_array_equal(gate.bias, np.full(4, -1.5))
        gate.kernel.assign(np.zeros(gate.kernel.shape))
    x, branch, joined = values(model, *UNIT_PARTS)
    np.testing.assert_allclose(joined, of_branch * branch + of_shortcut * x, atol=1e-5)


@pytest.mark.parametrize(
    "manipulation", [Scaling(), Gating(0.0, True), Gating(0.0, False), ShortcutDropout()]
)
def test_manipulated_networks_with_projections_are_built_as_counted(manipulation):
    architecture = replace(TINY, manipulation=manipulation, shortcut=OPTION_B)
    assert build(architecture).count_params() == architecture.parameters().total


def test_a_gate_where_the_shape_changes_has_the_units_stride():
    architecture = replace(TINY, manipulation=Gating(-6.0, True))
    gate = build(architecture).get_layer("gate3a")
    assert gate.strides == (2, 2) and gate.filters == 8


def test_shortcut_dropout_drops_in_training_alone():
    model = build(one_unit(ShortcutDropout()))
    dropout = model.get_layer("drop2a_branch1")
    ones = np.ones((2, 8, 8, 4))
    assert dropout.rate == 0.5
    assert set(np.unique(dropout(ones, training=True))) == {0.0, 2.0}
    np.testing.assert_array_equal(dropout(ones), ones)


# --- stochastic depth ---


def test_survival_falls_linearly_to_the_last_unit():
    architecture = replace(NETWORKS["resnet110"], final_survival=0.5)
    rates = [unit.merge.drop_rate for unit in architecture.units()]
    np.testing.assert_allclose(rates, 0.5 * np.arange(1, 55) / 54)


def test_stochastic_depth_keeps_or_drops_a_branch_for_the_whole_batch():
    model = build(replace(one_unit(None), final_survival=0.75))
    drop = model.get_layer("drop2a")
    ones = np.ones((3, 8, 8, 4))
    draws = [np.unique(drop(ones, training=True)) for _ in range(60)]
    assert all(len(draw) == 1 for draw in draws)
    kept = np.array([draw[0] for draw in draws])
    np.testing.assert_allclose(kept[kept > 0], 1 / 0.75, rtol=1e-6)
    assert 0.5 < np.mean(kept > 0) < 0.95
    x, branch, joined = values(model, *UNIT_PARTS)
    np.testing.assert_allclose(joined, x + branch, atol=1e-5)


@pytest.mark.parametrize("survival", [0.0, 1.5])
def test_survival_out_of_range_is_refused(survival):
    error = refusal(replace, TINY, final_survival=survival)
    assert str(survival) in error.received


@pytest.mark.parametrize("changes", [{"final_survival": 0.5}, {"manipulation": Scaling()}])
def test_plain_networks_have_no_shortcut_to_manipulate(changes):
    error = refusal(replace, TINY, shortcut=NO_SHORTCUT, **changes)
    assert "plain network" in error.received


def test_projections_are_not_manipulated():
    error = refusal(replace, TINY, shortcut=OPTION_C, manipulation=Scaling())
    assert "projection" in error.received


def test_parts_of_another_kind_are_refused():
    error = refusal(replace, TINY, shortcut="C")
    assert error.received == "'C'" and "Shortcut" in error.accepted
    error = refusal(replace, TINY.unit, ordering="full")
    assert error.received == "'full'" and "Ordering" in error.accepted
    error = refusal(build, "resnet20")
    assert error.received == "'resnet20'" and "create" in error.accepted
    assert "build" in refusal(create, TINY).accepted


# --- ResNeXt ---


@pytest.mark.parametrize(("network", "width"), [("resnext50-32x4d", 4), ("resnext29-8x64d", 64)])
def test_resnext_groups_its_middle_convolutions(network, width):
    architecture = NETWORKS[network]
    model = build(replace(architecture, blocks=(1, 2), filters=architecture.filters[:2]))
    grouped = [layer for layer in model.layers if getattr(layer, "groups", 1) > 1]
    assert [layer.name for layer in grouped] == [
        f"res{unit}_branch2b" for unit in ("2a", "3a", "3b")
    ]
    assert {layer.groups for layer in grouped} == {architecture.unit.groups}
    assert [layer.strides for layer in grouped] == [(1, 1), (2, 2), (1, 1)]
    # 32x4d: 32 groups of 4 channels in stage 2; 8x64d: 8 of 64.
    assert grouped[0].filters == architecture.unit.groups * width


# --- very deep ---


@pytest.fixture
def low_recursion_limit():
    """Half of Python's own 1000, which packages that other tests import have raised."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    yield 500
    sys.setrecursionlimit(before)


@pytest.mark.slow
def test_a_network_deeper_than_the_recursion_limit_learns_and_comes_back(
    tmp_path, low_recursion_limit
):
    model = build(replace(TINY, blocks=(90,), filters=(4,), shortcut=NO_SHORTCUT))
    assert len(model.layers) > low_recursion_limit
    # Layer by layer: a graph of this depth takes long, and `growth.py --very-deep` has those.
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(IMAGES, np.array([1, 2])))
    model.save(tmp_path / "deep.keras")
    loaded = load_model(tmp_path / "deep.keras")
    assert sys.getrecursionlimit() == low_recursion_limit
    np.testing.assert_array_equal(answers(loaded, IMAGES), answers(model, IMAGES))


def test_the_recursion_limit_is_put_back_after_an_error(monkeypatch, low_recursion_limit):
    def fail(*_, **__):
        assert sys.getrecursionlimit() > low_recursion_limit
        raise RuntimeError

    monkeypatch.setattr(keras, "Model", fail)
    with pytest.raises(RuntimeError):
        build(TINY)
    assert sys.getrecursionlimit() == low_recursion_limit


# --- variants, by name ---


@pytest.mark.parametrize("variant", architectures.VARIANTS)
def test_a_variant_is_built_as_counted(variant):
    architecture = tiny(architectures.find(f"resnet20-{variant}"))
    model = build(architecture)
    assert model.count_params() == architecture.parameters().total
    normalized = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert bool(normalized) == (variant != "without-bn")


def test_the_dropout_variant_drops_half_of_the_classifier_s_inputs():
    dropped = build(tiny(architectures.find("resnet20-dropout"))).get_layer("drop_fc")
    kept = np.asarray(dropped(np.ones((1, 1000), "float32"), training=True))
    assert set(np.unique(kept)) == {0, 2} and 400 < np.count_nonzero(kept) < 600


def test_a_unit_of_a_single_layer_is_that_and_its_input():
    architecture = architectures.find("resnet20-single-layer")
    assert architecture.depth == 20
    assert drawing(build(tiny(architecture)), "2a") == "conv bn + relu"


def test_without_normalization_convolutions_have_biases():
    model = build(tiny(architectures.find("plain20-without-bn")))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 9 and all(layer.use_bias for layer in convolutions)
