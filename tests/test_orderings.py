"""The second paper's units and shortcuts, stochastic depth, ResNeXt and the very deep nets."""

import dataclasses
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from resnet_keras import architectures, layers
from resnet_keras.architectures import (
    BASIC,
    BN_AFTER_ADDITION,
    BOTTLENECK,
    FULL_PREACTIVATION,
    NETWORKS,
    OPTION_B,
    ORIGINAL,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    RESNET20,
    SHORTCUT_OPTIONS,
    Gating,
    Scaling,
    ShortcutDropout,
    Stem,
)
from resnet_keras.errors import InputError
from resnet_keras.loading import load_model
from resnet_keras.models import Classifier, build, create, features

TINY = dataclasses.replace(RESNET20, stem=Stem(4, 3), blocks=(2, 2), filters=(4, 8))

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
    unit = dataclasses.replace(unit, ordering=ordering)
    return dataclasses.replace(TINY, unit=unit, **changes)


def drawing(model, unit):
    """The layers of one unit, in signs, in their order."""
    names = (f"res{unit}", f"bn{unit}")
    found = [layer for layer in model.layers if layer.name.startswith(names)]
    return " ".join(SIGNS[type(layer).__name__] for layer in found)


@pytest.mark.parametrize(("ordering", "expected"), DRAWINGS.values(), ids=DRAWINGS)
def test_a_unit_is_as_the_paper_draws_it(ordering, expected):
    model = build(with_ordering(ordering))
    assert drawing(model, "2b") == expected
    # The first unit's pre-activation is what follows conv1; it is not there twice.
    without_first = expected.split(" ")[len(ordering.first) :]
    assert drawing(model, "2a") == " ".join(without_first)
    assert [layer.name for layer in model.layers[2:5]] == ["conv1", "bn_conv1", "conv1_relu"]


@pytest.mark.parametrize("ordering", ORDERINGS, ids=DRAWINGS)
def test_after_the_last_addition_comes_what_precedes_the_others(ordering):
    names = [layer.name for layer in build(with_ordering(ordering)).layers]
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


@pytest.mark.parametrize("shortcut", [*SHORTCUT_OPTIONS.values(), architectures.NO_SHORTCUT])
@pytest.mark.parametrize("unit", [BASIC, BOTTLENECK])
@pytest.mark.parametrize("ordering", ORDERINGS, ids=DRAWINGS)
def test_parameters_of_every_ordering(ordering, unit, shortcut):
    architecture = with_ordering(ordering, unit, shortcut=shortcut)
    model = build(architecture)
    count = architecture.parameters()
    assert model.count_params() == count.total
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == count.trainable
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    assert np.isfinite(model.predict(image, verbose=0)).all()


def test_a_fully_preactivated_projection_takes_the_activated_input_and_no_bn():
    names = {}
    model = build(
        with_ordering(FULL_PREACTIVATION, shortcut=architectures.OPTION_B),
    )
    for layer in model.layers:
        names[layer.name] = layer
    assert "bn3a_branch1" not in names
    assert names["res3a_branch1"].input is names["res3a_branch2a_relu"].output


def test_a_signal_passes_fully_preactivated_units_unchanged():
    model = build(with_ordering(FULL_PREACTIVATION, blocks=(3,), filters=(4,)))
    for layer in model.layers:
        if "_branch2" in layer.name and isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.zeros(layer.kernel.shape)])
    start, end = (model.get_layer(name).output for name in ("conv1_relu", "res2c"))
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    before, after = keras.Model(model.input, [start, end]).predict(image, verbose=0)
    np.testing.assert_array_equal(before, after)


def test_features_of_a_preactivated_network_end_activated():
    model = build(with_ordering(FULL_PREACTIVATION))
    maps = features(model)
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    found = maps.predict(image, verbose=0)
    assert {name: value.shape for name, value in found.items()} == {
        "C2": (2, 32, 32, 4),
        "C3": (2, 16, 16, 8),
    }
    assert found["C3"].min() == 0 > found["C2"].min()


# --- what a shortcut may not do ---


def one_unit(manipulation, **changes):
    """A network of one identity unit, without preprocessing, whose input is the unit's."""
    return dataclasses.replace(
        TINY, blocks=(1,), filters=(4,), manipulation=manipulation, **changes
    )


def unit_parts(model, image):
    """Values of x, F(x), the addition's inputs and its output."""
    names = ("conv1_relu", "bn2a_branch2b", "res2a")
    outputs = [model.get_layer(name).output for name in names]
    outputs += model.get_layer("res2a").input
    return keras.Model(model.input, outputs).predict(image, verbose=0)


IMAGE = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))


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
    model = build(one_unit(manipulation), (8, 8, 3))
    if isinstance(manipulation, Gating):
        gate = model.get_layer("gate2a")
        np.testing.assert_array_equal(gate.bias, np.full(4, -1.5))
        gate.kernel.assign(np.zeros(gate.kernel.shape))
    x, branch, joined, *_ = unit_parts(model, IMAGE)
    np.testing.assert_allclose(joined, of_branch * branch + of_shortcut * x, atol=1e-5)


@pytest.mark.parametrize(
    "manipulation", [Scaling(), Gating(0.0, True), Gating(0.0, False), ShortcutDropout()]
)
@pytest.mark.parametrize("option", ["A", "B"])
def test_parameters_of_manipulated_networks(manipulation, option):
    architecture = dataclasses.replace(
        TINY, manipulation=manipulation, shortcut=SHORTCUT_OPTIONS[option]
    )
    assert build(architecture).count_params() == architecture.parameters().total


def test_a_gate_where_the_shape_changes_has_the_units_stride():
    architecture = dataclasses.replace(TINY, manipulation=Gating(-6.0, True))
    gate = build(architecture).get_layer("gate3a")
    assert gate.strides == (2, 2) and gate.filters == 8


def test_shortcut_dropout_drops_in_training_alone():
    model = build(one_unit(ShortcutDropout()), (8, 8, 3))
    dropout = model.get_layer("drop2a_branch1")
    ones = np.ones((2, 8, 8, 4))
    assert dropout.rate == 0.5
    assert set(np.unique(dropout(ones, training=True))) == {0.0, 2.0}
    np.testing.assert_array_equal(dropout(ones), ones)


# --- stochastic depth ---


def test_survival_falls_linearly_to_the_last_unit():
    architecture = dataclasses.replace(NETWORKS["resnet110"], final_survival=0.5)
    rates = [unit.junction.drop_rate for unit in architecture.units()]
    np.testing.assert_allclose(rates, 0.5 * np.arange(1, 55) / 54)


def test_stochastic_depth_keeps_or_drops_a_branch_for_the_whole_batch():
    model = build(dataclasses.replace(one_unit(None), final_survival=0.75), (8, 8, 3))
    drop = model.get_layer("drop2a")
    ones = np.ones((3, 8, 8, 4))
    draws = [np.unique(drop(ones, training=True)) for _ in range(60)]
    assert all(len(draw) == 1 for draw in draws)
    kept = np.array([draw[0] for draw in draws])
    np.testing.assert_allclose(kept[kept > 0], 1 / 0.75, rtol=1e-6)
    assert 0.5 < np.mean(kept > 0) < 0.95
    x, branch, joined, *_ = unit_parts(model, IMAGE)
    np.testing.assert_allclose(joined, x + branch, atol=1e-5)


@pytest.mark.parametrize("changes", [{"final_survival": 0.0}, {"final_survival": 1.5}])
def test_survival_out_of_range(changes):
    with pytest.raises(InputError, match=r"final_survival must lie in \(0, 1\]"):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize("changes", [{"final_survival": 0.5}, {"manipulation": Scaling()}])
def test_plain_networks_have_no_shortcut_to_manipulate(changes):
    with pytest.raises(InputError, match="need shortcuts"):
        dataclasses.replace(TINY, shortcut=architectures.NO_SHORTCUT, **changes)


def test_projections_are_not_manipulated():
    with pytest.raises(InputError, match="Received: option C"):
        dataclasses.replace(TINY, shortcut=architectures.OPTION_C, manipulation=Scaling())


def test_parts_of_another_kind_are_refused_by_name():
    with pytest.raises(
        InputError, match=r"shortcut is a value of architectures.Shortcut. Rec.*'C'"
    ):
        dataclasses.replace(TINY, shortcut="C")
    with pytest.raises(InputError, match="ordering is a value of architectures.Ordering"):
        dataclasses.replace(TINY.unit, ordering="full")
    with pytest.raises(InputError, match="create takes a name. Received: 'resnet20'"):
        build("resnet20")
    with pytest.raises(InputError, match="build takes an Architecture"):
        create(TINY)


# --- ResNeXt ---


@pytest.mark.parametrize("lacks_gradients", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"strides": 1, "padding": "valid"},
        {"strides": 2, "padding": "valid"},
        {"dilation_rate": 2, "padding": "same"},
        {"dilation_rate": (1, 3), "padding": "valid"},
    ],
)
def test_grouped_convolution_equals_stock(monkeypatch, options, lacks_gradients):
    if lacks_gradients:  # as TensorFlow does without oneDNN
        monkeypatch.setattr(layers, "_lacks_gradients_of_groups", lambda dtype: True)
    arguments = {"groups": 4, "use_bias": False, **options}
    ours = layers.Conv2D(8, 3, **arguments)
    stock = keras.layers.Conv2D(8, 3, **arguments)
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 12)).astype("float32")
    stock.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(stock.get_weights())

    def outputs_and_gradients(layer):
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(tf.square(outputs))
        return [outputs, *tape.gradient(loss, [inputs, layer.kernel.value])]

    found, expected = outputs_and_gradients(ours), outputs_and_gradients(stock)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_grouped_convolution_learns_in_half_precision(policy, dilation):
    # On processors without AVX-512 TensorFlow lacks these gradients though it has float32's.
    keras.utils.set_random_seed(0)
    half, full = (
        layers.Conv2D(8, 3, groups=4, padding="same", dilation_rate=dilation, dtype=dtype)
        for dtype in (policy, "float32")
    )
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 7, 12)), "float32")
    half.build(x.shape)
    full.build(x.shape)
    full.set_weights(half.get_weights())

    def gradient(layer):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.cast(layer(x), "float32")))
        return tape.gradient(loss, layer.kernel.value).numpy()

    expected = gradient(full)
    # A sum of 98 products has lost this much when each was rounded to 8 bits.
    np.testing.assert_allclose(gradient(half), expected, atol=0.06 * abs(expected).max())


def test_grouped_convolution_is_one_operation():
    layer = layers.Conv2D(8, 3, groups=4)
    layer.build((None, 7, 7, 12))
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 7, 7, 12)))
    operations = {node.op for node in traced.graph.as_graph_def().node}
    assert "Conv2D" in operations and not {"StatefulPartitionedCall", "XlaLaunch"} & operations


@pytest.mark.parametrize("network", ["resnext29-8x64d", "resnext50-32x4d"])
def test_resnext_groups_its_middle_convolutions(network):
    model = create(network)
    architecture = NETWORKS[network]
    grouped = [layer for layer in model.layers if getattr(layer, "groups", 1) > 1]
    assert len(grouped) == sum(architecture.blocks)
    assert {layer.groups for layer in grouped} == {architecture.unit.groups}
    assert model.get_layer("res3a_branch2b").strides == (2, 2)
    # 32x4d: 32 groups of 4 channels in stage 2; 8x64d: 8 of 64.
    width = model.get_layer("res2a_branch2b").filters // architecture.unit.groups
    assert width == {"resnext50-32x4d": 4, "resnext29-8x64d": 64}[network]


@pytest.mark.filterwarnings("ignore")  # tf2onnx is older than today's NumPy
def test_resnext_is_plain_onnx(tmp_path):
    unit = dataclasses.replace(NETWORKS["resnext50-32x4d"].unit, groups=4)
    architecture = dataclasses.replace(TINY, unit=unit, shortcut=OPTION_B, filters=(8, 16))
    model = build(architecture, (16, 16, 3), Classifier(3, activation=None))
    path = tmp_path / "resnext.onnx"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    expected = model.predict(pixels, verbose=0)
    model.export(path, format="onnx", verbose=False)
    graph = onnx.load(path).graph
    assert {node.domain for node in graph.node} == {""}
    groups = [
        attribute.i
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    ]
    assert groups.count(4) == sum(architecture.blocks)
    assert len(groups) == sum(node.op_type == "Conv" for node in graph.node)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# --- very deep ---


@pytest.mark.slow
def test_resnet1202_builds_learns_and_comes_back(tmp_path):
    limit = sys.getrecursionlimit()
    model = create("resnet1202", input_shape=(8, 8, 3))
    assert sys.getrecursionlimit() == limit
    # Layer by layer: a graph of this depth takes minutes, and `growth.py --very-deep` has those.
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    images, labels = IMAGE, np.array([1, 2])
    assert np.isfinite(model.train_on_batch(images, labels))
    expected = model(images, training=False)
    model.save(tmp_path / "deep.keras")
    found = load_model(tmp_path / "deep.keras")(images, training=False)
    assert sys.getrecursionlimit() == limit
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def low_recursion_limit():
    """Python's own; packages that other tests import have raised it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield 1000
    sys.setrecursionlimit(before)


def test_the_recursion_limit_is_put_back_after_an_error(monkeypatch, low_recursion_limit):
    limit = low_recursion_limit

    def fail(*_, **__):
        assert sys.getrecursionlimit() > limit
        raise RuntimeError

    monkeypatch.setattr(keras, "Model", fail)
    with pytest.raises(RuntimeError):
        build(TINY, head=Classifier(3))
    assert sys.getrecursionlimit() == limit


# Variants, by name


@pytest.mark.parametrize("variant", architectures.VARIANTS)
def test_a_variant_is_built_as_counted(variant):
    architecture = architectures.find(f"resnet20-{variant}")
    small = dataclasses.replace(architecture, filters=(4, 8, 16), stem=Stem(4, 3))
    model = build(small, (8, 8, 3))
    assert model.count_params() == small.parameters().total
    normalized = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert bool(normalized) == (variant != "without-bn")


def test_a_unit_of_a_single_layer_is_that_and_its_input():
    architecture = architectures.find("resnet20-single-layer")
    assert architecture.depth == 20
    assert drawing(build(architecture, (8, 8, 3)), "2a") == "conv bn + relu"


def test_without_normalization_convolutions_have_biases():
    model = create("plain20-without-bn", input_shape=(8, 8, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 19 and all(layer.use_bias for layer in convolutions)
