"""The structure of networks as Keras builds them: counts, layers, names, arguments.

tests/test_model_outputs.py is about what networks compute, tests/test_model_files.py about files.
"""

import functools
import inspect
from dataclasses import replace

import keras
import kit
import numpy as np
import pytest
from kit import TINY, answers, pixels, randomize, refusal, tiny

from resnet_keras import architectures, backbone, convolutional_block, identity_block, load_model
from resnet_keras.architectures import (
    BASIC,
    BOTTLENECK,
    BOTTLENECK_V15,
    CIFAR_STEM,
    IMAGENET_STEM,
    NETWORKS,
    NO_SHORTCUT,
    OPTION_B,
    RESNET50,
    SHORTCUT_OPTIONS,
    LayerDefaults,
)
from resnet_keras.networks import models
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.layers import BatchNormalization
from resnet_keras.networks.models import (
    Classifier,
    Features,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    build,
    create,
)

# Four stages of bottlenecks with projections under the stem of the ImageNet networks, and under
# that of the course.
TINY_IMAGENET = tiny(RESNET50, (2, 1, 1, 1), (2, 4, 6, 8), input_size=64)
TINY_COURSE = tiny(NETWORKS["resnet50-course"], (1, 1, 1, 1), (2, 4, 6, 8), input_size=64)
TINIES = {"cifar": TINY, "imagenet": TINY_IMAGENET, "course": TINY_COURSE}

slow = pytest.mark.slow


@functools.cache
def named(network):
    """A named network, built once for all tests that only look at its structure.

    Its convolutions have zeros as weights: to draw random ones takes longer than all the rest.
    """

    def zeros(initializer, shape, dtype=None, **_):
        return keras.ops.zeros(shape, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.HeNormal, "__call__", zeros)
        return create(network)


@pytest.fixture(scope="module", autouse=True)
def forget_named_networks():
    yield
    named.cache_clear()


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def names(model):
    return {layer.name for layer in model.layers}


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


def assert_built_as_counted(model, architecture):
    count = architecture.parameters()
    assert model.count_params() == count.total
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == count.trainable
    assert independent_multiply_adds(model) == architecture.multiply_adds()


# --- counts ---

FAST_NETWORKS = ("resnet18", "resnet20", "plain20", "resnet50", "resnet50-course")
# The first of each kind, and one with long stages. The others are the same with more units, which
# test_architectures.py counts.
SLOW_NETWORKS = sorted({*kit.TINY_FAMILY, "resnet152"} & {*NETWORKS} - {*FAST_NETWORKS})


@pytest.mark.parametrize(
    "network",
    [*FAST_NETWORKS, *(pytest.param(network, marks=slow) for network in SLOW_NETWORKS)],
)
def test_named_networks_are_built_as_counted(network):
    architecture = NETWORKS[network]
    model = named(network)
    assert_built_as_counted(model, architecture)
    side = architecture.input_size
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, architecture.classes)


@pytest.mark.parametrize("network", kit.TINY_FAMILY)
def test_every_kind_of_network_is_built_as_counted(network):
    architecture = tiny(kit.TINY_FAMILY[network], blocks=(1, 2))
    assert_built_as_counted(build(architecture), architecture)


@pytest.mark.parametrize(
    ("network", "size"),
    [("cifar", 37), ("imagenet", 37), ("imagenet", 50), ("course", 50), ("course", 97)],
)
def test_counts_hold_at_other_sizes_and_classes(network, size):
    architecture = TINIES[network]
    model = build(architecture, (size, size, 3), Classifier(7))
    count = architecture.parameters(classes=7, input_size=size)
    assert model.count_params() == count.total
    assert independent_multiply_adds(model) == architecture.multiply_adds(size, classes=7)


@pytest.mark.parametrize(
    ("network", "option"),
    [
        ("resnet18", "A"),
        ("resnet18", "C"),
        ("resnet20", "B"),
        ("resnet20", "C"),
        ("resnet50", "A"),
        ("resnet50", "C"),
        ("resnet50-course", "A"),
    ],
)
def test_the_other_shortcut_options_build_and_run(network, option):
    shortcut = SHORTCUT_OPTIONS[option]
    architecture = tiny(NETWORKS[network], shortcut=shortcut)
    model = build(architecture)
    assert_built_as_counted(model, architecture)
    scores = answers(model, pixels(2, 32, 32, 3))
    assert scores.shape == (2, architecture.classes)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"shortcut": NO_SHORTCUT},
        {"unit": BOTTLENECK},
        {"unit": BOTTLENECK_V15, "shortcut": OPTION_B},
        {"unit": BASIC, "blocks": (2, 1), "filters": (4, 8)},
        {"stem": IMAGENET_STEM, "shortcut": OPTION_B},
        {"stem": replace(CIFAR_STEM, filters=3)},
        {"defaults": LayerDefaults(use_bias=True, zero_init_last_gamma=True)},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_variants_are_made_by_replacing_parts(changes):
    architecture = replace(TINY, **changes)
    model = randomize(build(architecture))
    assert_built_as_counted(model, architecture)
    assert np.isfinite(answers(model, pixels(1, 32, 32, 3))).all()


# --- the course's network ---


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
    model = build(TINY_COURSE, (224, 224, 3))
    (channels,) = {layer.filters for layer in model.layers if layer.name == "res5a_branch2c"}
    assert model.get_layer("avg_pool").output.shape == (None, 3, 3, channels)
    assert model.get_layer("flatten").output.shape == (None, 9 * channels)
    assert model.layers[-1].kernel.shape == (9 * channels, 5)


def test_course_network_takes_37_pixels_and_more():
    assert build(TINY_COURSE, (37, 37, 3)).output_shape == (None, 5)
    error = refusal(build, TINY_COURSE, (37, 36, 3))
    assert "37x36" in error.received and "37x37" in error.accepted


# --- the layers' names and settings ---


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
    ("network", "labels", "classifier", "example"),
    [
        ("resnet50-course", ("abc", "abcd", "abcdef", "abc"), "fc6", "res4f_branch2a"),
        ("resnet50", ("abc", "abcd", "abcdef", "abc"), "fc1000", "res4f_branch2a"),
        pytest.param(
            *("resnet101", ("abc", counted(4), counted(23), "abc"), "fc1000", "bn4b22_branch2c"),
            marks=slow,
        ),
        pytest.param(
            *("resnet152", ("abc", counted(8), counted(36), "abc"), "fc1000", "bn4b35_branch2c"),
            marks=slow,
        ),
    ],
)
def test_layers_have_the_names_of_the_caffe_release(network, labels, classifier, example):
    weighted = {layer.name for layer in named(network).layers if layer.weights}
    assert example in weighted
    assert weighted == expected_names(labels, {"2a", "3a", "4a", "5a"}) | {classifier}


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


@pytest.mark.parametrize(
    ("network", "strides"), [("resnet50", [2, 1, 1]), ("resnet50v1.5", [1, 2, 1])]
)
def test_strides_sit_on_the_first_1x1_and_in_v15_on_the_3x3(network, strides):
    model = build(tiny(NETWORKS[network], blocks=(1, 1)))
    assert [model.get_layer(f"res3a_branch2{at}").strides[0] for at in "abc"] == strides


@pytest.mark.parametrize(
    ("network", "unit"),
    [
        ("cifar", BASIC),
        ("cifar", BOTTLENECK_V15),
        ("imagenet", BOTTLENECK),
        ("imagenet", BASIC),
        ("course", BOTTLENECK_V15),
    ],
)
def test_padding_is_explicit_wherever_there_is_a_stride(network, unit):
    model = build(replace(TINIES[network], unit=unit))
    strided = [
        layer
        for layer in layers_of(model, (keras.layers.Conv2D, keras.layers.MaxPooling2D))
        if layer.strides != (1, 1)
    ]
    assert len(strided) >= 2
    for layer in strided:
        assert layer.padding == "valid"
        size = (layer.kernel_size if isinstance(layer, keras.layers.Conv2D) else layer.pool_size)[0]
        if size == 1 or (network == "course" and layer.name == "pool1"):
            assert f"{layer.name}_pad" not in names(model)
        else:
            assert model.get_layer(f"{layer.name}_pad").padding == ((size // 2,) * 2,) * 2


# --- heads and features ---


@pytest.mark.parametrize(
    ("pooling", "shape"), [(None, (None, 12, 16, 16)), ("avg", (None, 16)), ("max", (None, 16))]
)
def test_include_top_false(pooling, shape, tiny_network):
    model = create("tiny", False, input_shape=(48, 64, 3), pooling=pooling)
    assert model.output_shape == shape
    assert not any(name.startswith("fc") for name in names(model))


@pytest.mark.parametrize(
    ("network", "size", "strides", "channels"),
    [
        ("imagenet", 96, (4, 8, 16, 32), (8, 16, 24, 32)),
        ("cifar", 32, (1, 2, 4), (4, 8, 16)),
    ],
)
def test_features_are_the_stages_ends(network, size, strides, channels):
    maps = features(build(TINIES[network], (size, size, 3)))
    assert list(maps.output) == [f"C{stage}" for stage in range(2, 2 + len(strides))]
    assert maps.compute_output_shape((2, size, size, 3)) == {
        name: (2, size // stride, size // stride, filters)
        for name, stride, filters in zip(maps.output, strides, channels, strict=True)
    }


@pytest.mark.parametrize(
    ("network", "ends"),
    [
        ("resnet50", ("2c", "3d", "4f", "5c")),
        ("plain20", ("2c", "3c", "4c")),
        pytest.param("resnet101", ("2c", "3b3", "4b22", "5c"), marks=slow),
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


def test_features_of_another_model_are_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other")
    assert "'other'" in refusal(features, model).received


# --- the signature of keras.applications ---

BUILDERS = {
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "resnet101": ResNet101,
    "resnet152": ResNet152,
}


@pytest.mark.parametrize("network", BUILDERS)
def test_keywords_are_those_of_keras_applications(network):
    ours = inspect.signature(BUILDERS[network]).parameters
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


@pytest.mark.parametrize("network", BUILDERS)
def test_builders_build_what_they_are_named_for(network, monkeypatch):
    monkeypatch.setattr(models, "build", lambda *arguments: arguments)
    builder = BUILDERS[network]
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


def test_keywords_are_obeyed(tiny_network):
    model = create("tiny", weights=None, input_shape=(48, 64, 3), classes=7, name="mine")
    assert model.name == "mine"
    assert model.input_shape == (None, 48, 64, 3)
    assert model.output_shape == (None, 7)
    assert model.layers[-1].activation is keras.activations.softmax


@slow
def test_keywords_of_keras_applications_are_obeyed():
    keywords = {"weights": None, "input_shape": (48, 64, 3), "classes": 7, "name": "mine"}
    ours, theirs = ResNet50(**keywords), keras.applications.ResNet50(**keywords)
    assert ours.name == theirs.name == "mine"
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape == (None, 7)
    assert ours.layers[-1].activation is theirs.layers[-1].activation


@pytest.mark.parametrize(
    ("network", "name"),
    [("tinyv1.5", "tinyv1_5"), ("tiny-course", "tiny_course"), ("tiny", "tiny")],
)
def test_create_takes_names_that_keras_would_refuse(network, name, monkeypatch):
    monkeypatch.setitem(architectures.NETWORKS, network, TINY)
    assert create(network).name == name


# --- refused arguments ---


@pytest.mark.parametrize(
    ("network", "arguments", "received", "accepted"),
    [
        ("resnet51", {}, "'resnet51'", "resnet50"),
        ("tiny", {"input_shape": (3, 32, 3)}, "3x32", "4x4"),
        ("tiny", {"input_shape": (None, 3, 3)}, "Nonex3", "4x4"),
        ("tiny", {"input_shape": (0, 0, 3)}, "0x0", "4x4"),
        ("tiny", {"input_shape": (-8, 32, 3)}, "-8x32", "4x4"),
        ("resnet50", {"input_shape": (31, 32, 3)}, "31x32", "32x32"),
        ("resnet50-course", {"input_shape": (36, 36, 3)}, "36x36", "37x37"),
        ("tiny", {"input_shape": (32, 32)}, "(32, 32)", "(height, width, channels)"),
        ("tiny", {"input_shape": (32, 32, None)}, "(32, 32, None)", "(height, width, channels)"),
        ("tiny", {"input_shape": (32, 32, 1)}, "1 channels", "3"),
        ("tiny", {"classes": 0}, "classes=0", "1"),
        ("tiny", {"classes": -1}, "classes=-1", "1"),
        ("tiny", {"include_top": False, "pooling": "mean"}, "'mean'", "None, 'avg' or 'max'"),
        ("tiny", {"weights": "imagenet"}, "'tiny'", "resnet50"),
        ("tiny", {"weights": "lost.keras"}, "lost.keras", ".keras"),
        ("tiny", {"weights": "lost.weights.h5"}, "lost.weights.h5", ".weights.h5"),
    ],
)
def test_bad_arguments_are_refused(network, arguments, received, accepted, tiny_network):
    error = refusal(create, network, **arguments)
    assert received in error.received
    assert accepted in error.accepted


def test_channels_first_is_refused(tmp_path):
    build(TINY).save(tmp_path / "x.keras")
    keras.config.set_image_data_format("channels_first")
    try:
        for call in (
            lambda: build(TINY),
            lambda: create("plain20", input_shape=(3, 32, 32)),
            lambda: backbone("resnet18"),
            lambda: load_model(tmp_path / "x.keras"),
            lambda: identity_block(keras.Input((8, 8, 8)), 3, (4, 4, 8), 2, "b"),
            lambda: convolutional_block(keras.Input((8, 8, 8)), 3, (4, 4, 8), 2, "a"),
        ):
            assert "channels_first" in refusal(call).received
    finally:
        keras.config.set_image_data_format("channels_last")


def test_four_channels_need_the_bare_network():
    error = refusal(build, TINY, (32, 32, 4))
    assert "4 channels" in error.received and "include_preprocessing=False" in error.accepted
    model = build(TINY, (32, 32, 4), include_preprocessing=False)
    assert model.get_layer("conv1").kernel.shape == (3, 3, 4, 4)
    assert model.output_shape == (None, 10)


def test_the_classifiers_weights_are_drawn_as_goyal_et_al_draw_them():
    """Goyal et al. 2017, section 5.1: a zero-mean Gaussian with a standard deviation of 0.01."""
    kernel, bias = build(TINY, head=Classifier(1000, kernel_std=0.01)).layers[-1].get_weights()
    assert kernel.std() == pytest.approx(0.01, rel=0.05) and abs(kernel.mean()) < 5e-4
    assert np.abs(kernel).max() > 0.025  # he_normal ends at two standard deviations
    assert not bias.any()
