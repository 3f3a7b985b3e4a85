"""What networks compute, against NumPy and against each other: sizes, heads, pixels, policies."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from kit import TINY, answers, pixels, randomize, tiny

from resnet_keras.architectures import (
    BOTTLENECK_V15,
    NETWORKS,
    RESNET20,
    RESNET50,
    LayerDefaults,
)
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.layers import BatchNormalization
from resnet_keras.networks.models import Classifier, Features, build

TINY_IMAGENET = tiny(RESNET50, (1, 1, 1, 1), (2, 4, 6, 8), input_size=64)
TINY_COURSE = tiny(NETWORKS["resnet50-course"], (1, 1, 1, 1), (2, 4, 6, 8), input_size=64)
TINIES = {"cifar": TINY, "imagenet": TINY_IMAGENET, "course": TINY_COURSE}


def names(model):
    return {layer.name for layer in model.layers}


def values(model, layers, x):
    """What layers give for images, by their names."""
    outputs = {name: model.get_layer(name).output for name in layers}
    found = keras.Model(model.input, outputs)(x)
    return {name: np.asarray(value) for name, value in found.items()}


# --- padding ---


def test_mirrored_image_under_mirrored_kernels_gives_mirrored_maps():
    # 65 pixels stay odd under every stride (33, 17, 9, 5, 3), so that the grid has a centre.
    architecture = replace(TINY_IMAGENET, unit=BOTTLENECK_V15)
    model = randomize(build(architecture, (65, 65, 3), Features()))
    x = pixels(1, 65, 65, 3)
    maps = answers(model, x)
    assert maps.shape == (1, 3, 3, 32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([layer.get_weights()[0][::-1, ::-1]])
    mirrored = answers(model, x[:, ::-1, ::-1])
    np.testing.assert_allclose(mirrored, maps[:, ::-1, ::-1], rtol=1e-4, atol=1e-4)
    assert not np.allclose(mirrored, maps, rtol=1e-2)


def test_stem_on_even_sizes_pads_both_sides_alike():
    # Keras's "same" would pad 2 before and 3 after here; this compares with 3 and 3 in NumPy.
    model = build(tiny(RESNET50, (1,), (2,)), (32, 32, 3), include_preprocessing=False)
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    kernel = model.get_layer("conv1").get_weights()[0]
    patches = [
        [padded[:, row : row + 7, column : column + 7] for column in range(0, 32, 2)]
        for row in range(0, 32, 2)
    ]
    expected = np.einsum("hwnijc,ijcf->nhwf", np.array(patches), kernel)
    np.testing.assert_allclose(values(model, ["conv1"], x)["conv1"], expected, atol=1e-4)


# --- sizes and heads ---


@pytest.mark.parametrize(
    ("network", "sizes"),
    [("cifar", [(33, 47), (32, 32)]), ("imagenet", [(33, 47), (64, 51)])],
)
def test_open_sizes_give_what_fixed_sizes_give(network, sizes):
    architecture = TINIES[network]
    open_size = randomize(build(architecture, (None, None, 3)))
    half_open = build(architecture, (sizes[0][0], None, 3))
    half_open.set_weights(open_size.get_weights())
    for size in sizes:
        fixed = build(architecture, (*size, 3))
        fixed.set_weights(open_size.get_weights())
        x = pixels(2, *size, 3)
        expected = answers(fixed, x)
        np.testing.assert_allclose(answers(open_size, x), expected, atol=1e-6)
        if size == sizes[0]:
            np.testing.assert_allclose(answers(half_open, x), expected, atol=1e-6)


def test_course_network_at_any_size_averages_the_whole_map():
    # The weights fit the net of 64 pixels, where the window is the whole map.
    fixed = randomize(build(TINY_COURSE))
    open_size = build(TINY_COURSE, (None, None, 3))
    open_size.set_weights(fixed.get_weights())
    x = pixels(2, 64, 64, 3)
    np.testing.assert_allclose(answers(open_size, x), answers(fixed, x), atol=1e-6)
    assert answers(open_size, pixels(1, 90, 70, 3)).shape == (1, 5)


def test_pooling_takes_the_average_or_the_maximum_of_the_last_map():
    x = pixels(2, 16, 24, 3)
    maps_model = randomize(build(TINY, (16, 24, 3), Features()))
    maps = answers(maps_model, x)
    assert maps_model.output_shape == (None, 4, 6, 16) == (None, *maps.shape[1:])
    for head, reduce in ((Features("avg"), np.mean), (Features("max"), np.max)):
        model = build(TINY, (16, 24, 3), head)
        model.set_weights(maps_model.get_weights())
        assert model.output_shape == (None, 16)
        expected = reduce(maps, axis=(1, 2))
        np.testing.assert_allclose(answers(model, x), expected, rtol=1e-4, atol=1e-5)


def test_logits_are_what_softmax_takes():
    x = pixels(3, 32, 32, 3)
    logits = build(TINY, head=Classifier(activation=None))
    scores = build(TINY)
    scores.set_weights(logits.get_weights())
    found = answers(logits, x)
    np.testing.assert_allclose(answers(scores, x), keras.ops.softmax(found), atol=1e-6)
    assert not np.allclose(found.sum(axis=-1), 1)


def test_features_end_in_the_trunk_s_map_and_share_its_weights():
    x = pixels(2, 16, 16, 3)
    trunk = randomize(build(replace(TINY, blocks=(2, 1, 2)), (16, 16, 3), Features()))
    maps = features(trunk)
    found = {name: np.asarray(map) for name, map in maps(x).items()}
    np.testing.assert_array_equal(found["C4"], answers(trunk, x))
    # The last unit of every stage, after its last activation.
    ends = {"C2": "res2b_relu", "C3": "res3a_relu", "C4": "res4b_relu"}
    expected = values(trunk, ends.values(), x)
    for stage, end in ends.items():
        np.testing.assert_array_equal(found[stage], expected[end])
    trunk.get_layer("conv1").set_weights([2 * trunk.get_layer("conv1").get_weights()[0]])
    assert not np.allclose(maps(x)["C2"], found["C2"])


# --- preprocessing ---


@pytest.mark.parametrize("network", TINIES)
def test_pixels_are_normalised_by_mean_and_deviation(network):
    architecture = TINIES[network]
    model = randomize(build(architecture))
    bare = build(architecture, include_preprocessing=False)
    bare.set_weights(model.get_weights())
    assert "normalize" not in names(bare)
    x = pixels(2, *model.input_shape[1:]).astype("uint8")
    scores = answers(model, x)
    np.testing.assert_array_equal(answers(model, x.astype("float32")), scores)
    mean, std = np.array(architecture.preprocessing.mean), np.array(architecture.preprocessing.std)
    normalized = ((x - mean) / std).astype("float32")
    np.testing.assert_allclose(scores, answers(bare, normalized), atol=1e-5)


def test_predict_takes_uint8_and_float_pixels():
    model = randomize(build(TINY))
    x = pixels(2, 32, 32, 3).astype("uint8")
    expected = answers(model, x)
    for dtype in ("uint8", "float32"):
        found = model.predict(x.astype(dtype), verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_course_preprocessing_is_division_by_255():
    model = build(tiny(NETWORKS["resnet50-course"], (1,), (2,)))
    x = pixels(1, 32, 32, 3)
    np.testing.assert_allclose(values(model, ["normalize"], x)["normalize"], x / 255, atol=1e-6)


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
    for found in (normalized(x), normalized.predict(x, verbose=0)):
        np.testing.assert_allclose(found, (x - mean) / std, atol=1e-5)
    scores = answers(model, x)
    assert scores.dtype == "float32"
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


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
    assert model.output.dtype == "float32"
    # The pool as well: a mean in bfloat16 would lose what the float32 classifier is for.
    pools = [la for la in model.layers if la.name in ("avg_pool", "max_pool")]
    assert [layer.compute_dtype for layer in pools] == ["float32"]


def test_mixed_policy_predicts_nearly_the_same(mixed_bfloat16):
    half = randomize(build(TINY))
    keras.config.set_dtype_policy("float32")
    full = build(TINY)
    full.set_weights(half.get_weights())
    x = pixels(4, 32, 32, 3)
    np.testing.assert_allclose(answers(half, x), answers(full, x), atol=0.05)


# --- initialisation ---


@pytest.mark.parametrize("architecture", [RESNET20, tiny(RESNET50, (1, 2), (16, 32))])
def test_convolutions_start_as_he_et_al_propose(architecture):
    keras.utils.set_random_seed(0)
    for layer in build(architecture).layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = layer.get_weights()[0]
            fan_in = np.prod(kernel.shape[:3])
            # Four standard errors of a deviation estimated from so many weights.
            tolerance = 4 / np.sqrt(2 * kernel.size)
            assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_in), rel=tolerance), layer.name
            assert abs(np.mean(kernel)) < 5 * np.sqrt(2 / fan_in / kernel.size), layer.name


def test_zero_init_last_gamma_makes_units_the_identity():
    defaults = LayerDefaults(zero_init_last_gamma=True)
    model = build(tiny(RESNET50, blocks=(2, 2), defaults=defaults))
    ends = [f"res{unit}_relu" for unit in ("2a", "2b", "3a", "3b")]
    found = values(model, ends, pixels(1, 32, 32, 3))
    for stage in (2, 3):
        np.testing.assert_array_equal(found[f"res{stage}b_relu"], found[f"res{stage}a_relu"])
    gammas = {
        layer.name: layer.get_weights()[0]
        for layer in model.layers
        if isinstance(layer, BatchNormalization)
    }
    zeros = {name for name, gamma in gammas.items() if not gamma.any()}
    assert zeros == {f"bn{unit}_branch2c" for unit in ("2a", "2b", "3a", "3b")}
    assert all((gamma == 1).all() for name, gamma in gammas.items() if name not in zeros)


def test_a_random_seed_repeats_the_initialisation():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build(TINY).get_weights()

    first = weights(3)
    for one, other in zip(first, weights(3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], weights(4)[0])
