"""Networks as Keras builds them, against their architectures, the papers, NumPy and their files."""

import functools
import inspect
import json
import re
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_family import randomize

from resnet_keras import models
from resnet_keras.architectures import (
    BASIC,
    BOTTLENECK,
    BOTTLENECK_V15,
    CIFAR_STEM,
    COURSE_STEM,
    IMAGENET_STEM,
    NETWORKS,
    NO_SHORTCUT,
    OPTION_A,
    OPTION_B,
    OPTION_C,
    RESNET20,
    RESNET50,
    SHORTCUT_OPTIONS,
    Stem,
    Style,
)
from resnet_keras.errors import InputError
from resnet_keras.layers import BatchNormalization
from resnet_keras.loading import load_model, load_weights
from resnet_keras.models import (
    Classifier,
    Features,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    build,
    create,
    features,
)

GOLDEN = Path(__file__).parent / "fixtures" / "golden_model"

TINY = replace(RESNET20, blocks=(1, 1, 1), filters=(4, 8, 16), stem=Stem(4, 3))
# Four stages of bottlenecks with projections under the ImageNet stem.
TINY_IMAGENET = replace(
    RESNET50,
    stem=replace(IMAGENET_STEM, filters=4),
    blocks=(2, 2, 2, 2),
    filters=(2, 4, 6, 8),
    input_size=64,
    classes=5,
)
TINY_COURSE = replace(
    NETWORKS["resnet50-course"],
    stem=replace(COURSE_STEM, filters=4),
    blocks=(1, 1, 1, 1),
    filters=(2, 4, 6, 8),
)
TINIES = {"cifar": TINY, "imagenet": TINY_IMAGENET, "course": TINY_COURSE}

slow = pytest.mark.slow


def marked_by_cost(network):
    """Very deep networks are slow to build; so are the largest, of which v1.5 are near-copies."""
    architecture = NETWORKS[network]
    is_copy = architecture.unit.stride_at == 1 and architecture.depth > 50
    return pytest.param(network, marks=slow if is_copy or architecture.depth > 152 else ())


@pytest.fixture
def mixed_bfloat16(fresh_keras):
    # The next test's fresh_keras takes it back.
    keras.config.set_dtype_policy("mixed_bfloat16")


@functools.cache
def named(network):
    """A named network, built once for all tests that only look at it."""
    keras.utils.set_random_seed(0)
    return create(network)


@pytest.fixture(scope="module", autouse=True)
def forget_named_networks():
    yield
    named.cache_clear()


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def independent_multiply_adds(model):
    """Counts over the layers that Keras built: kernel elements times output positions."""
    count = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            count += (
                int(np.prod(layer.kernel.shape)) * layer.output.shape[1] * layer.output.shape[2]
            )
        elif isinstance(layer, keras.layers.Dense):
            count += int(np.prod(layer.kernel.shape))
    return count


# --- every network ---


@pytest.mark.parametrize("network", [marked_by_cost(network) for network in NETWORKS])
def test_every_network_is_built_as_counted(network):
    architecture = NETWORKS[network]
    model = named(network)
    count = architecture.parameters()
    assert model.count_params() == count.total
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == count.trainable
    assert independent_multiply_adds(model) == architecture.multiply_adds()
    side = architecture.input_size
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, architecture.classes)


@pytest.mark.parametrize("tiny", TINIES)
@pytest.mark.parametrize("size", [37, 50, 97])
def test_counts_hold_at_other_sizes_and_classes(tiny, size):
    architecture = TINIES[tiny]
    model = build(architecture, (size, size, 3), Classifier(7))
    count = architecture.parameters(classes=7, input_size=size)
    assert model.count_params() == count.total
    assert independent_multiply_adds(model) == architecture.multiply_adds(size, classes=7)


@pytest.mark.parametrize("option", SHORTCUT_OPTIONS)
@pytest.mark.parametrize("tiny", TINIES)
def test_shortcut_options_build_and_run(tiny, option):
    architecture = replace(TINIES[tiny], shortcut=SHORTCUT_OPTIONS[option])
    model = build(architecture)
    assert model.count_params() == architecture.parameters().total
    assert independent_multiply_adds(model) == architecture.multiply_adds()
    scores = np.asarray(model(pixels(2, *model.input_shape[1:])))
    assert scores.shape == (2, architecture.classes)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "option"),
    [
        ("resnet18", "A"),
        ("resnet18", "C"),
        ("resnet20", "B"),
        ("resnet20", "C"),
        ("resnet50", "A"),
        ("resnet50", "C"),
    ],
)
def test_named_networks_take_the_other_shortcut_options(network, option):
    architecture = replace(NETWORKS[network], shortcut=SHORTCUT_OPTIONS[option])
    size = architecture.minimum_input_size
    model = build(architecture, (size, size, 3))
    assert model.count_params() == architecture.parameters().total
    scores = model(pixels(1, size, size, 3))
    assert scores.shape == (1, architecture.classes)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"shortcut": NO_SHORTCUT},
        {"unit": BOTTLENECK},
        {"unit": BOTTLENECK_V15, "shortcut": OPTION_B},
        {"unit": BASIC, "blocks": (2, 1), "filters": (4, 8)},
        {"stem": IMAGENET_STEM, "shortcut": OPTION_B},
        {"stem": replace(CIFAR_STEM, filters=3)},
        {"style": Style(use_bias=True, zero_init_last_gamma=True)},
        {"blocks": (27, 1, 1)},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_variants_are_made_by_replacing_parts(changes):
    architecture = replace(TINY, **changes)
    model = randomize(build(architecture))
    assert model.count_params() == architecture.parameters().total
    assert independent_multiply_adds(model) == architecture.multiply_adds()
    assert np.isfinite(model(pixels(1, 32, 32, 3))).all()


# --- the course's network and the layers' names ---


def names(model):
    return {layer.name for layer in model.layers}


def test_course_network_is_the_walkthrough_s():
    model = named("resnet50-course")
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 6)
    assert model.count_params() == 23_600_006
    assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == 53_120
    assert model.get_layer("conv1_pad").padding == ((3, 3), (3, 3))
    assert model.get_layer("conv1").padding == "valid"
    assert model.get_layer("conv1").output.shape == (None, 32, 32, 64)
    # 15, not 16: the course's pool has no padding.
    assert "pool1_pad" not in names(model)
    assert model.get_layer("pool1").output.shape == (None, 15, 15, 64)
    assert model.get_layer("avg_pool").pool_size == (2, 2)
    assert model.get_layer("flatten").output.shape == (None, 2048)
    assert model.get_layer("fc6").units == 6
    assert model.get_layer("fc6").activation is keras.activations.softmax
    # Stage 5's identity blocks have 512, 512 and 2048 filters, not 256, 256 and 2048.
    branches = [model.get_layer(f"res5{block}_branch2{at}") for block in "bc" for at in "abc"]
    assert [layer.filters for layer in branches] == [512, 512, 2048] * 2


def test_course_network_at_224_flattens_nine_windows():
    model = create("resnet50-course", input_shape=(224, 224, 3))
    assert model.get_layer("avg_pool").output.shape == (None, 3, 3, 2048)
    assert model.get_layer("flatten").output.shape == (None, 9 * 2048)
    assert model.get_layer("fc6").kernel.shape == (9 * 2048, 6)


def test_course_network_at_any_size_averages_the_whole_map():
    # The weights fit the net of 64 pixels, where the window is the whole map.
    fixed = randomize(build(TINY_COURSE))
    open_size = build(TINY_COURSE, (None, None, 3))
    open_size.set_weights(fixed.get_weights())
    x = pixels(2, 64, 64, 3)
    np.testing.assert_allclose(open_size(x), fixed(x), atol=1e-6)
    assert open_size(pixels(1, 90, 70, 3)).shape == (1, 6)


def test_course_network_runs_from_37_pixels():
    assert build(TINY_COURSE, (37, 37, 3))(pixels(1, 37, 37, 3)).shape == (1, 6)
    with pytest.raises(InputError) as error:
        build(TINY_COURSE, (37, 36, 3))
    assert "Received: 37x36 pixels; accepted: at least 37x37" in one_line(error)


def expected_names(labels_of_stages, projections):
    expected = {"conv1", "bn_conv1"}
    for stage, labels in enumerate(labels_of_stages, start=2):
        for label in labels:
            branches = ["2a", "2b", "2c"] + ["1"] * (f"{stage}{label}" in projections)
            for branch in branches:
                expected |= {
                    f"res{stage}{label}_branch{branch}",
                    f"bn{stage}{label}_branch{branch}",
                }
    return expected


def counted(count):
    return ["a", *(f"b{index}" for index in range(1, count))]


@pytest.mark.parametrize(
    ("network", "labels", "classifier"),
    [
        ("resnet50-course", ("abc", "abcd", "abcdef", "abc"), "fc6"),
        ("resnet50", ("abc", "abcd", "abcdef", "abc"), "fc1000"),
        ("resnet101", ("abc", counted(4), counted(23), "abc"), "fc1000"),
        ("resnet152", ("abc", counted(8), counted(36), "abc"), "fc1000"),
    ],
)
def test_layers_have_the_names_of_the_caffe_release(network, labels, classifier):
    weighted = {layer.name for layer in named(network).layers if layer.weights}
    assert weighted == expected_names(labels, {"2a", "3a", "4a", "5a"}) | {classifier}


def test_named_examples_of_the_caffe_release():
    assert "bn4b22_branch2c" in names(named("resnet101"))
    assert "res4f_branch2a" in names(named("resnet50"))


@pytest.mark.parametrize(
    ("network", "bias", "epsilon", "momentum"),
    [
        ("resnet50-course", True, 1e-3, 0.99),
        ("resnet50", False, 1e-5, 0.9),
        ("resnet20", False, 1e-5, 0.9),
    ],
)
def test_bias_epsilon_and_momentum_are_the_network_s(network, bias, epsilon, momentum):
    model = named(network)
    convolutions = layers_of(model, keras.layers.Conv2D)
    norms = layers_of(model, keras.layers.BatchNormalization)
    assert {layer.use_bias for layer in convolutions} == {bias}
    assert {(layer.epsilon, layer.momentum) for layer in norms} == {(epsilon, momentum)}
    assert all(isinstance(layer, BatchNormalization) for layer in norms)
    assert len(norms) == len(convolutions)


def test_strides_sit_on_the_first_1x1_and_in_v15_on_the_3x3():
    def strides(network):
        model = named(network)
        return [model.get_layer(f"res3a_branch2{at}").strides[0] for at in "abc"]

    assert strides("resnet50") == [2, 1, 1]
    assert strides("resnet50v1.5") == [1, 2, 1]


# --- padding ---


@pytest.mark.parametrize("tiny", TINIES)
@pytest.mark.parametrize("unit", [BOTTLENECK, BOTTLENECK_V15, BASIC])
def test_padding_is_explicit_wherever_there_is_a_stride(tiny, unit):
    model = build(replace(TINIES[tiny], unit=unit))
    strided = [
        layer
        for layer in layers_of(model, (keras.layers.Conv2D, keras.layers.MaxPooling2D))
        if layer.strides != (1, 1)
    ]
    assert len(strided) >= 2
    for layer in strided:
        assert layer.padding == "valid"
        size = (layer.kernel_size if isinstance(layer, keras.layers.Conv2D) else layer.pool_size)[0]
        if size == 1 or (tiny == "course" and layer.name == "pool1"):
            assert f"{layer.name}_pad" not in names(model)
        else:
            assert model.get_layer(f"{layer.name}_pad").padding == ((size // 2,) * 2,) * 2


def test_mirrored_image_under_mirrored_kernels_gives_mirrored_maps():
    # 65 pixels stay odd under every stride (33, 17, 9, 5, 3), so that the grid has a centre.
    architecture = replace(TINY_IMAGENET, unit=BOTTLENECK_V15)
    model = randomize(build(architecture, (65, 65, 3), Features()))
    x = pixels(1, 65, 65, 3)
    maps = np.asarray(model(x))
    assert maps.shape == (1, 3, 3, 32)
    for layer in layers_of(model, keras.layers.Conv2D):
        layer.set_weights([layer.get_weights()[0][::-1, ::-1]])
    mirrored = np.asarray(model(x[:, ::-1, ::-1]))
    np.testing.assert_allclose(mirrored, maps[:, ::-1, ::-1], rtol=1e-4, atol=1e-4)
    assert not np.allclose(mirrored, maps, rtol=1e-2)


def test_stem_on_even_sizes_pads_both_sides_alike():
    # Keras's "same" would pad 2 before and 3 after here; this compares with 3 and 3 in NumPy.
    model = build(TINY_IMAGENET, (32, 32, 3), include_preprocessing=False)
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    kernel = model.get_layer("conv1").get_weights()[0]
    patches = [
        [padded[:, row : row + 7, column : column + 7] for column in range(0, 32, 2)]
        for row in range(0, 32, 2)
    ]
    expected = np.einsum("hwnijc,ijcf->nhwf", np.array(patches), kernel)
    convolved = keras.Model(model.input, model.get_layer("conv1").output)(x)
    np.testing.assert_allclose(convolved, expected, atol=1e-4)


# --- sizes, heads, features ---


@pytest.mark.parametrize("tiny", ["cifar", "imagenet"])
@pytest.mark.parametrize("size", [(33, 47), (32, 32), (64, 51)])
def test_open_sizes_give_what_fixed_sizes_give(tiny, size):
    architecture = TINIES[tiny]
    open_size = randomize(build(architecture, (None, None, 3)))
    fixed = build(architecture, (*size, 3))
    fixed.set_weights(open_size.get_weights())
    x = pixels(2, *size, 3)
    np.testing.assert_allclose(open_size(x), fixed(x), atol=1e-6)
    half_open = build(architecture, (size[0], None, 3))
    half_open.set_weights(open_size.get_weights())
    np.testing.assert_allclose(half_open(x), fixed(x), atol=1e-6)


@pytest.mark.parametrize("network", ["resnet18", "resnet50-course"])
def test_named_networks_take_any_size(network):
    model = create(network, input_shape=(None, None, 3))
    # 4 to 47 pixels suffice for all but the course's, which wants 37.
    scores = model(pixels(1, 39, 47, 3))
    assert scores.shape == (1, NETWORKS[network].classes)
    assert np.isfinite(scores).all()


def test_pooling_shapes_and_values():
    shape = (64, 96, 3)
    x = pixels(2, *shape)
    maps_model = randomize(build(TINY_IMAGENET, shape, Features()))
    maps = np.asarray(maps_model(x))
    assert maps_model.output_shape == (None, 2, 3, 32) == (None, *maps.shape[1:])
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = build(TINY_IMAGENET, shape, Features(pooling))
        model.set_weights(maps_model.get_weights())
        assert model.output_shape == (None, 32)
        np.testing.assert_allclose(model(x), reduce(maps, axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "shape"), [(None, (None, 12, 16, 64)), ("avg", (None, 64)), ("max", (None, 64))]
)
def test_include_top_false(pooling, shape):
    model = create("resnet20", False, input_shape=(48, 64, 3), pooling=pooling)
    assert model.output_shape == shape
    assert not any(name.startswith("fc") for name in names(model))


def test_logits_are_what_softmax_takes():
    x = pixels(3, 32, 32, 3)
    logits = build(TINY, head=Classifier(activation=None))
    scores = build(TINY)
    scores.set_weights(logits.get_weights())
    np.testing.assert_allclose(scores(x), keras.ops.softmax(logits(x)), atol=1e-6)
    assert not np.allclose(np.sum(logits(x), axis=-1), 1)


@pytest.mark.parametrize(
    ("tiny", "size", "strides", "channels"),
    [
        ("imagenet", 96, (4, 8, 16, 32), (8, 16, 24, 32)),
        ("cifar", 32, (1, 2, 4), (4, 8, 16)),
    ],
)
def test_features_are_the_stages_ends(tiny, size, strides, channels):
    model = randomize(build(TINIES[tiny], (size, size, 3)))
    maps = features(model)(pixels(2, size, size, 3))
    assert list(maps) == [f"C{stage}" for stage in range(2, 2 + len(strides))]
    for values, stride, filters in zip(maps.values(), strides, channels, strict=True):
        assert values.shape == (2, size // stride, size // stride, filters)


@pytest.mark.parametrize(
    ("network", "ends"),
    [
        ("resnet50", ("2c", "3d", "4f", "5c")),
        ("resnet101", ("2c", "3b3", "4b22", "5c")),
        ("plain20", ("2c", "3c", "4c")),
    ],
)
def test_features_of_named_networks(network, ends):
    architecture = NETWORKS[network]
    model = features(named(network))
    for end, output in zip(ends, model.output.values(), strict=True):
        assert output is named(network).get_layer(f"res{end}_relu").output
    shapes = [tuple(output.shape[1:]) for output in model.output.values()]
    first = architecture.input_size // architecture.stem.total_stride
    assert shapes == [
        (first // 2**stage, first // 2**stage, architecture.unit.filters(filters)[-1])
        for stage, filters in enumerate(architecture.filters)
    ]


def test_features_end_in_the_trunk_s_map_and_share_its_weights():
    x = pixels(2, 64, 64, 3)
    trunk = randomize(build(TINY_IMAGENET, (64, 64, 3), Features()))
    maps = features(trunk)
    np.testing.assert_array_equal(maps(x)["C5"], trunk(x))
    # The last unit of every stage, after its last activation.
    for stage, values in maps(x).items():
        end = trunk.get_layer(f"res{stage[1]}b_relu").output
        np.testing.assert_array_equal(values, keras.Model(trunk.input, end)(x))
    before = np.asarray(maps(x)["C2"])
    trunk.get_layer("conv1").set_weights([2 * trunk.get_layer("conv1").get_weights()[0]])
    assert not np.allclose(maps(x)["C2"], before)


def test_features_of_a_loaded_network(tmp_path):
    model = randomize(build(TINY))
    model.save(tmp_path / "tiny.keras")
    x = pixels(1, 32, 32, 3)
    expected = features(model)(x)
    loaded = features(load_model(tmp_path / "tiny.keras"))(x)
    for stage in ("C2", "C3", "C4"):
        np.testing.assert_allclose(loaded[stage], expected[stage], atol=1e-6)


def test_features_of_another_model_are_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other")
    with pytest.raises(InputError) as error:
        features(model)
    assert "Received: 'other'" in one_line(error)


# --- preprocessing ---


@pytest.mark.parametrize("tiny", TINIES)
def test_uint8_and_float_pixels_give_the_same(tiny):
    model = randomize(build(TINIES[tiny]))
    x = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)
    as_float = x.astype("float32")
    np.testing.assert_array_equal(model(x), model(as_float))
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(as_float, verbose=0))


@pytest.mark.parametrize("tiny", TINIES)
def test_preprocessing_normalises_by_mean_and_deviation(tiny):
    architecture = TINIES[tiny]
    model = randomize(build(architecture))
    bare = build(architecture, include_preprocessing=False)
    bare.set_weights(model.get_weights())
    x = pixels(2, *model.input_shape[1:])
    mean, std = np.array(architecture.preprocessing.mean), np.array(architecture.preprocessing.std)
    np.testing.assert_allclose(model(x), bare((x - mean) / std), atol=1e-5)
    assert "normalize" not in names(bare)


def test_course_preprocessing_is_division_by_255():
    model = named("resnet50-course")
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    x = pixels(1, 64, 64, 3)
    np.testing.assert_allclose(normalized(x), x / 255, atol=1e-6)


def test_preprocessing_and_scores_are_float32_under_a_mixed_policy(mixed_bfloat16):
    model = randomize(build(TINY))
    assert model.get_layer("conv1").compute_dtype == "bfloat16"
    assert model.get_layer("bn2a_branch2a").compute_dtype == "bfloat16"
    assert model.get_layer("res2a").compute_dtype == "bfloat16"
    assert model.get_layer("normalize").compute_dtype == "float32"
    assert model.get_layer("avg_pool").compute_dtype == "float32"
    assert model.get_layer("fc10").compute_dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    # Fractions of a pixel, as resizing gives them, which bfloat16's 8 bits would round away.
    x = pixels(2, 32, 32, 3)
    mean, std = np.array(TINY.preprocessing.mean), np.array(TINY.preprocessing.std)
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    for values in (normalized(x), normalized.predict(x, verbose=0)):
        np.testing.assert_allclose(values, (x - mean) / std, atol=1e-5)
    scores = model(x)
    assert scores.dtype == "float32"
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        (TINY, Classifier(activation=None)),
        (TINY, Features("avg")),
        (TINY, Features("max")),
        (TINY_COURSE, Classifier()),
    ],
)
def test_heads_are_float32_under_a_mixed_policy(mixed_bfloat16, architecture, head):
    model = build(architecture, head=head)
    assert model(pixels(1, *model.input_shape[1:])).dtype == "float32"
    # The pool as well: a mean in bfloat16 would lose what the float32 classifier is for.
    pools = [la for la in model.layers if la.name in ("avg_pool", "max_pool")]
    assert [layer.compute_dtype for layer in pools] == ["float32"]


def test_mixed_policy_predicts_nearly_the_same(mixed_bfloat16):
    half = randomize(build(TINY))
    keras.config.set_dtype_policy("float32")
    full = build(TINY)
    full.set_weights(half.get_weights())
    x = pixels(4, 32, 32, 3)
    np.testing.assert_allclose(half(x), full(x), atol=0.05)


def test_four_channels_need_the_bare_network():
    with pytest.raises(InputError) as error:
        build(TINY, (32, 32, 4))
    assert "Received: 4 channels; accepted: 3, or include_preprocessing=False" in one_line(error)
    model = build(TINY, (32, 32, 4), include_preprocessing=False)
    assert model.get_layer("conv1").kernel.shape == (3, 3, 4, 4)
    assert model(np.zeros((1, 32, 32, 4), "float32")).shape == (1, 10)


# --- initialisation ---


@pytest.mark.parametrize("network", ["resnet18", "resnet56", "resnet50"])
def test_convolutions_start_as_he_et_al_propose(network):
    for layer in layers_of(named(network), keras.layers.Conv2D):
        kernel = layer.get_weights()[0]
        fan_in = np.prod(kernel.shape[:3])
        # Four standard errors of a deviation estimated from so many weights.
        tolerance = 4 / np.sqrt(2 * kernel.size)
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_in), rel=tolerance), layer.name
        assert abs(np.mean(kernel)) < 5 * np.sqrt(2 / fan_in / kernel.size), layer.name


def test_zero_init_last_gamma_makes_units_the_identity():
    style = Style(zero_init_last_gamma=True)
    model = build(replace(TINY_IMAGENET, style=style), (64, 64, 3))
    x = pixels(1, 64, 64, 3)

    def values(layer):
        return np.asarray(keras.Model(model.input, model.get_layer(layer).output)(x))

    for stage in range(2, 6):
        np.testing.assert_array_equal(values(f"res{stage}b_relu"), values(f"res{stage}a_relu"))
    gammas = {la.name: la.get_weights()[0] for la in layers_of(model, BatchNormalization)}
    zeros = {name for name, gamma in gammas.items() if not gamma.any()}
    assert zeros == {f"bn{stage}{block}_branch2c" for stage in range(2, 6) for block in "ab"}
    assert all((gamma == 1).all() for name, gamma in gammas.items() if name not in zeros)


def test_a_random_seed_repeats_the_initialisation():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build(TINY).get_weights()

    for first, second in zip(weights(3), weights(3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(weights(3)[0], weights(4)[0])


# --- the signature of keras.applications ---


@pytest.mark.parametrize("builder", [ResNet18, ResNet34, ResNet50, ResNet101, ResNet152])
def test_keywords_are_those_of_keras_applications(builder):
    ours = inspect.signature(builder).parameters
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    shared = {
        "include_top",
        "weights",
        "input_shape",
        "pooling",
        "classes",
        "classifier_activation",
        "name",
    }
    assert shared <= set(theirs)
    # input_tensor is left out; the preprocessing switch is ours.
    assert set(ours) == shared | {"include_preprocessing"}
    for name in ("include_top", "input_shape", "pooling", "classifier_activation"):
        assert ours[name].default == theirs[name].default


@pytest.mark.parametrize(
    ("builder", "network"),
    [
        (ResNet18, "resnet18"),
        (ResNet34, "resnet34"),
        (ResNet50, "resnet50"),
        (ResNet101, "resnet101"),
        (ResNet152, "resnet152"),
    ],
)
def test_builders_build_what_they_are_named_for(builder, network, monkeypatch):
    monkeypatch.setattr(models, "build", lambda *arguments: arguments)
    assert builder(include_top=False, pooling="max", input_shape=(32, 32, 3)) == (
        NETWORKS[network],
        (32, 32, 3),
        Features("max"),
        network,
        True,
    )
    assert builder(classes=7, name="mine", include_preprocessing=False)[2:] == (
        Classifier(7, "softmax"),
        "mine",
        False,
    )


def test_keywords_of_keras_applications_are_obeyed():
    keywords = {"weights": None, "input_shape": (48, 64, 3), "classes": 7, "name": "mine"}
    ours, theirs = ResNet50(**keywords), keras.applications.ResNet50(**keywords)
    assert ours.name == theirs.name == "mine"
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape == (None, 7)
    assert ours.layers[-1].activation is theirs.layers[-1].activation


def test_create_takes_names_that_keras_would_refuse():
    assert named("resnet50v1.5").name == "resnet50v1_5"
    assert named("resnet50-course").name == "resnet50_course"


# --- errors ---


@pytest.mark.parametrize(
    ("network", "arguments", "words"),
    [
        ("resnet51", {}, ["Received: 'resnet51'", "did you mean ", "resnet50"]),
        ("resnet20", {"input_shape": (3, 32, 3)}, ["3x32 pixels", "accepted: at least 4x4"]),
        ("resnet20", {"input_shape": (None, 3, 3)}, ["Nonex3 pixels", "accepted: at least 4x4"]),
        ("resnet20", {"input_shape": (0, 0, 3)}, ["Received: 0x0 pixels"]),
        ("resnet20", {"input_shape": (-8, 32, 3)}, ["Received: -8x32 pixels"]),
        ("resnet50", {"input_shape": (31, 32, 3)}, ["31x32 pixels", "at least 32x32"]),
        ("resnet50-course", {"input_shape": (36, 36, 3)}, ["36x36 pixels", "at least 37x37"]),
        ("resnet20", {"input_shape": (32, 32)}, ["(height, width, channels)", "(32, 32)"]),
        ("resnet20", {"input_shape": (32, 32, None)}, ["Received: (32, 32, None)"]),
        ("resnet20", {"input_shape": (32, 32, 1)}, ["Received: 1 channels", "accepted: 3"]),
        ("resnet20", {"classes": 0}, ["at least one class", "Received: classes=0"]),
        ("resnet20", {"classes": -1}, ["at least one class", "Received: classes=-1"]),
        (
            "resnet20",
            {"include_top": False, "pooling": "mean"},
            ["None, 'avg' or 'max'", "Received: 'mean'"],
        ),
        ("resnet20", {"weights": "imagenet"}, ["no weights on ImageNet", "Received: 'resnet20'"]),
        ("resnet20", {"weights": "lost.keras"}, ["no such model file", "Received: lost.keras"]),
        ("resnet20", {"weights": "lost.weights.h5"}, ["no such weights file", "lost.weights.h5"]),
    ],
)
def test_bad_arguments_are_told_in_one_line(network, arguments, words):
    with pytest.raises(InputError) as error:
        create(network, **arguments)
    message = one_line(error)
    for word in words:
        assert word in message


def snapshot(model):
    return [weight.copy() for weight in model.get_weights()]


def assert_unchanged(model, before):
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


SUFFIXES = (".keras", ".weights.h5")


def save(model, folder, suffix):
    path = folder / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_of_other_shapes_are_refused_and_nothing_changes(tmp_path, suffix):
    path = save(build(replace(TINY, filters=(4, 8, 12))), tmp_path, suffix)
    model = randomize(build(TINY))
    before = snapshot(model)
    with pytest.raises(InputError) as error:
        load_weights(model, path)
    message = one_line(error)
    assert "layer 'res4a_branch2a'" in message
    assert "Expected shapes: [(3, 3, 8, 16)]; found: [(3, 3, 8, 12)]" in message
    assert_unchanged(model, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_for_other_classes_are_refused(tmp_path, suffix):
    path = save(build(TINY), tmp_path, suffix)
    model = build(TINY, head=Classifier(5))
    before = snapshot(model)
    with pytest.raises(InputError, match=r"layer 'fc5'.*found: no such layer"):
        load_weights(model, path)
    assert_unchanged(model, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_of_a_shallower_network_are_refused(tmp_path, suffix):
    path = save(build(TINY), tmp_path, suffix)
    model = build(replace(TINY, blocks=(1, 2, 1)))
    before = snapshot(model)
    with pytest.raises(InputError, match=r"layer 'res3b_branch2a'.*found: no such layer"):
        load_weights(model, path)
    assert_unchanged(model, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("other", [{"blocks": (1, 2, 1)}, {"shortcut": OPTION_B}], ids=str)
def test_weights_of_a_larger_network_are_refused(tmp_path, suffix, other):
    # Its file has every layer of the smaller network: only what is left over tells them apart.
    path = save(build(replace(TINY, **other)), tmp_path, suffix)
    model = build(TINY)
    before = snapshot(model)
    with pytest.raises(InputError) as error:
        load_weights(model, path)
    message = one_line(error)
    assert "another network" in message
    assert re.search(r"Received: layer '(res|bn)3", message)
    assert_unchanged(model, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "header"])
def test_damaged_weights_are_refused(tmp_path, suffix, damage):
    path = save(build(TINY), tmp_path, suffix)
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "garbage": b"not a model at all\n" * 100,
            "truncated": data[: len(data) // 2],
            "header": b"\0" * 16 + data[16:],
        }[damage]
    )
    model = build(TINY)
    before = snapshot(model)
    with pytest.raises(InputError) as error:
        load_weights(model, path)
    assert str(path) in one_line(error)
    assert_unchanged(model, before)


def rewrite(path, name, change):
    """Writes a .keras file again with one of its parts changed, or left out if that gives None."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    data = change(parts.pop(name))
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
        if data is not None:
            archive.writestr(name, data)


def without_classifier(data):
    config = json.loads(data)
    config["config"]["layers"].pop()
    return json.dumps(config)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("config.json", lambda data: None),
        ("config.json", lambda data: b"[]"),
        ("config.json", lambda data: b"{"),
        ("config.json", lambda data: b"\xff\xfe"),
        ("config.json", lambda data: data.replace(b"BatchNormalization", b"NoNormalization")),
        ("config.json", without_classifier),
        ("model.weights.h5", lambda data: None),
        ("model.weights.h5", lambda data: b""),
        ("model.weights.h5", lambda data: data[:1000]),
    ],
    ids=[
        "no-config",
        "list",
        "half",
        "bytes",
        "unknown-layer",
        "lost-layer",
        "no-weights",
        "empty",
        "cut",
    ],
)
def test_model_files_with_bad_parts_are_refused(tmp_path, part, change):
    path = save(build(TINY), tmp_path, ".keras")
    rewrite(path, part, change)
    with pytest.raises(InputError) as error:
        load_model(path)
    assert f"Received: {path}" in one_line(error)


def test_flipped_bytes_are_noticed_before_hdf5_sees_them(tmp_path):
    path = save(build(TINY), tmp_path, ".keras")
    data = bytearray(path.read_bytes())
    # Into the weights, which fill the file's second half: HDF5 keeps no checksum of them.
    middle = len(data) * 3 // 4
    data[middle] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"model\.weights\.h5 is damaged"):
        load_model(path)


def test_python_code_in_a_model_file_is_refused(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(InputError) as error:
        load_model(tmp_path / "lambda.keras")
    assert "cannot be loaded" in one_line(error)


def test_load_model_of_a_folder_and_of_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing.keras"):
        with pytest.raises(InputError, match="no such model file"):
            load_model(path)


@pytest.mark.parametrize(
    "content",
    [
        lambda file: None,
        lambda file: file.create_dataset("layers", data=[1, 2]),
        lambda file: file.create_dataset("layers/conv2d", data=[1, 2]),
        lambda file: file.create_dataset("layers/conv2d/vars", data=[1, 2]),
        lambda file: file.create_group("layers/conv2d/vars"),
    ],
    ids=["empty", "layers", "layer", "vars", "no-name"],
)
def test_hdf5_files_of_something_else_are_refused(tmp_path, content):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "other.weights.h5"
    with h5py.File(path, "w") as file:
        content(file)
    with pytest.raises(InputError, match="not a Keras weights file") as error:
        load_weights(build(TINY), path)
    one_line(error)


# --- files ---


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_are_loaded_from_both_formats(tmp_path, suffix):
    model = randomize(create("resnet20"))
    path = save(model, tmp_path, suffix)
    for weights in (path, str(path)):
        loaded = create("resnet20", weights=weights)
        assert_unchanged(loaded, model.get_weights())
    x = pixels(2, 32, 32, 3)
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_of_a_compiled_and_trained_model_are_loaded(tmp_path, suffix):
    # The optimizer's slots lie in the same file.
    model = build(TINY)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.train_on_batch(pixels(4, 32, 32, 3), np.arange(4))
    loaded = build(TINY)
    load_weights(loaded, save(model, tmp_path, suffix))
    assert_unchanged(loaded, model.get_weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trunk_takes_the_weights_of_a_classifier(tmp_path, suffix):
    model = randomize(build(TINY))
    trunk = build(TINY, (None, None, 3), Features())
    load_weights(trunk, save(model, tmp_path, suffix))
    assert_unchanged(trunk, model.get_weights()[:-2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_kept_in_bfloat16_are_loaded(tmp_path, suffix):
    keras.config.set_dtype_policy("bfloat16")
    half = build(TINY)
    keras.config.set_dtype_policy("float32")
    model = build(TINY)
    load_weights(model, save(half, tmp_path, suffix))
    assert_unchanged(model, [np.asarray(weight, "float32") for weight in half.get_weights()])


@pytest.mark.parametrize("tiny", TINIES)
@pytest.mark.parametrize("option", [OPTION_A, OPTION_C], ids=["A", "C"])
def test_saved_models_predict_the_same_when_loaded(tmp_path, tiny, option):
    model = randomize(build(replace(TINIES[tiny], shortcut=option)))
    path = save(model, tmp_path, ".keras")
    x = pixels(3, *model.input_shape[1:])
    loaded = load_model(path)
    assert loaded.name == model.name
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


def test_saved_models_keep_a_mixed_policy(tmp_path, mixed_bfloat16):
    model = randomize(build(TINY))
    path = save(model, tmp_path, ".keras")
    x = pixels(3, 32, 32, 3)
    expected = model(x)
    # The policy is the file's, whatever the process has.
    keras.config.set_dtype_policy("float32")
    loaded = load_model(path)
    assert loaded.get_layer("conv1").compute_dtype == "bfloat16"
    assert loaded.get_layer("normalize").compute_dtype == "float32"
    assert loaded.get_layer("fc10").compute_dtype == "float32"
    np.testing.assert_array_equal(loaded(x), expected)


def test_the_policy_of_the_weights_file_does_not_matter(tmp_path, mixed_bfloat16):
    path = save(randomize(build(TINY)), tmp_path, ".keras")
    keras.config.set_dtype_policy("float32")
    model = build(TINY)
    load_weights(model, path)
    assert model.get_layer("conv1").compute_dtype == "float32"


@pytest.mark.parametrize(
    "imports",
    ["import resnet_keras, keras", "import keras, resnet_keras"],
    ids=["ours-first", "keras-first"],
)
def test_keras_alone_loads_our_files_after_importing_us(tmp_path, imports):
    expected = {}
    x = pixels(3, 32, 32, 3)
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = randomize(build(TINY))
        model.save(tmp_path / f"{policy}.keras")
        expected[policy] = model(x)
    np.save(tmp_path / "x.npy", x)
    program = (
        f"{imports}\n"
        "import numpy as np\n"
        "for policy in ('float32', 'mixed_bfloat16'):\n"
        "    model = keras.saving.load_model(f'{policy}.keras', safe_mode=True)\n"
        "    np.save(f'{policy}.npy', model(np.load('x.npy')))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for policy, scores in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{policy}.npy"), scores, atol=1e-6)


# --- the golden models ---


@pytest.mark.parametrize(
    ("file", "expected"),
    [("model.keras", "expected.npy"), ("bottleneck.keras", "bottleneck_expected.npy")],
)
def test_golden_models_predict_what_they_did(file, expected):
    """Files of earlier versions load and mean the same; tests/make_golden.py wrote them once."""
    model = load_model(GOLDEN / file)
    scores = model.predict(np.load(GOLDEN / "inputs.npy"), verbose=0)
    np.testing.assert_allclose(scores, np.load(GOLDEN / expected), atol=1e-5)


@pytest.mark.parametrize("file", ["model.keras", "bottleneck.keras"])
def test_golden_models_weights_fit_today_s_networks(file):
    golden = runpy.run_path(str(GOLDEN.parents[1] / "make_golden.py"))
    model = build(golden["MODELS"][file.removesuffix(".keras")])
    load_weights(model, GOLDEN / file)
    assert_unchanged(model, load_model(GOLDEN / file).get_weights())


def test_golden_models_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 200_000
