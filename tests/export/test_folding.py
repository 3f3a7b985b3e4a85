"""Networks folded for inference, against the networks that they came from."""

import functools
import sys

import keras
import kit
import numpy as np
import pytest
from kit import TINY_FAMILY, draw_images, randomize

from resnet_keras.architectures import CONCATENATION, NETWORKS, RESNET20, Gating, Scaling
from resnet_keras.export.folding import inference_model
from resnet_keras.networks import layers
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import Classifier, Features, build
from resnet_keras.networks.recomputation import RecomputingModel, recompute
from resnet_keras.networks.recursion import recursion_for

PIXELS = draw_images(8).astype("float32")
LOGITS = Classifier(activation=None)
SMALL = kit.tiny(RESNET20, (1, 1))


@functools.cache
def pair(name):
    """A network of logits, and the same folded; tests leave them as they are."""
    model = randomize(build(TINY_FAMILY[name], head=LOGITS))
    return model, inference_model(model)


def answers(model, images=PIXELS):
    return kit.answers(model, images)


def logits(model, images=PIXELS):
    """Of a folded model that was given a network of logits."""
    return answers(keras.Model(model.input, model.get_layer("probabilities").input), images)


def assert_equal_logits(found, expected):
    assert expected.std(0).max() > 1e-2  # or any network would do
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, abs(expected).max()))


def kinds(model):
    return [type(layer) for layer in model.layers]


def of_one_layer(*steps):
    """A small classifier that begins with the given layers on the pixels' map."""
    x = inputs = keras.Input((8, 8, 3))
    for step in steps:
        x = step(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(x), name="mine")


# --- the same answers ---


@pytest.mark.parametrize("name", kit.family())
def test_logits_are_those_of_the_network(name):
    model, folded = pair(name)
    found = logits(folded)
    assert_equal_logits(found, answers(model))
    np.testing.assert_allclose(answers(folded), keras.ops.softmax(found), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_stay(activation):
    model = randomize(build(SMALL, head=Classifier(activation=activation)))
    folded = inference_model(model)
    assert folded.layers[-1].name == "fc5"
    np.testing.assert_allclose(answers(folded), answers(model), rtol=1e-4, atol=1e-7)


def test_a_softmax_of_its_own_stays_too():
    logits_model = randomize(build(SMALL, head=LOGITS))
    softmax = keras.layers.Activation("softmax", name="softmax")
    model = keras.Model(logits_model.input, softmax(logits_model.output))
    folded = inference_model(model)
    assert [layer.name for layer in folded.layers[-2:]] == ["fc5", "softmax"]
    np.testing.assert_allclose(answers(folded), answers(model), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("resnet50-course", "mixed_bfloat16"),
        ("exclusive-gating", "mixed_float16"),
        ("preresnet164", "bfloat16"),
        pytest.param("resnext29-8x64d", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("resnet20", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("preresnet164", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("exclusive-gating", "mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_half_precision_gives_the_float32_network_of_its_weights(name, policy):
    keras.config.set_dtype_policy(policy)
    half = randomize(build(TINY_FAMILY[name], head=LOGITS))
    folded = inference_model(half)
    assert keras.config.dtype_policy().name == policy
    keras.config.set_dtype_policy("float32")
    full = build(TINY_FAMILY[name], head=LOGITS)
    full.set_weights([np.asarray(weight, "float32") for weight in half.get_weights()])
    assert_equal_logits(logits(folded), answers(full))
    # Of an input layer, which computes nothing, Keras lets nobody choose the policy.
    computing = [folded, *folded.layers[1:]]
    assert {layer.dtype_policy.name for layer in computing} == {"float32"}
    assert {weight.dtype for weight in folded.weights} == {"float32"}
    assert folded.input.dtype == folded.output.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet50v1.5", (33, 27)),
        ("resnet20", (9, 16)),
        pytest.param("resnet18", (40, 27), marks=pytest.mark.slow),
    ],
)
def test_images_of_other_sizes(name, size):
    model = randomize(build(TINY_FAMILY[name], (*size, 3), LOGITS))
    folded = inference_model(model)
    assert folded.input_shape == (None, *size, 3)
    images = draw_images(8, size).astype("float32")
    assert_equal_logits(logits(folded, images), answers(model, images))


def test_bare_networks_take_what_they_took():
    model = randomize(build(SMALL, (32, 32, 4), LOGITS, include_preprocessing=False))
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 4)).astype("float32")
    assert_equal_logits(logits(inference_model(model), images), answers(model, images))


def test_a_recomputing_network_from_its_file(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    architecture = kit.tiny(RESNET20, (1, 1), final_survival=0.5)
    recompute(randomize(build(architecture, head=LOGITS))).save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = load_model(tmp_path / "model.keras")
    assert isinstance(loaded, RecomputingModel)
    folded = inference_model(loaded)
    assert not isinstance(folded, RecomputingModel)
    full = build(architecture, head=LOGITS)
    full.set_weights(loaded.get_weights())
    assert_equal_logits(logits(folded), answers(full))


@pytest.mark.slow
def test_a_thousand_layers():
    limit = sys.getrecursionlimit()
    architecture = kit.tiny(NETWORKS["resnet1001"], (115,), (4,), input_size=8)
    model = randomize(build(architecture, head=LOGITS))
    assert len(model.layers) > 1000
    for layer in model.layers:
        if layer.name.endswith("branch2c") and isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(layer.gamma * 0.1)  # a trained network keeps its signal in bounds
    folded = inference_model(model)
    assert sys.getrecursionlimit() == limit
    images = draw_images(4, 8).astype("float32")
    with recursion_for(len(folded.layers)):
        assert_equal_logits(logits(folded, images), answers(model, images))


# --- nothing that only training needs ---


@pytest.mark.parametrize("name", kit.family())
def test_layers_that_are_left(name):
    architecture = TINY_FAMILY[name]
    model, folded = pair(name)
    convolutions = [layer for layer in folded.layers if isinstance(layer, keras.layers.Conv2D)]
    expected = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.name for layer in convolutions} == {layer.name for layer in expected}
    assert all(layer.use_bias for layer in convolutions)
    for layer in convolutions:
        assert type(layer) is (layers.Conv2D if layer.groups > 1 else keras.layers.Conv2D)

    found = kinds(folded)
    assert not any(
        issubclass(kind, keras.layers.BatchNormalization | keras.layers.Dropout) for kind in found
    )
    # Normalisations after an addition: one for every unit, the network's end included. A dense
    # network's first unit has one too: what it normalises is read by its shortcut as it is.
    ordering = architecture.unit.ordering
    standing = sum(architecture.blocks) if "bn" in ordering.first + ordering.joined else 0
    standing += architecture.shortcut == CONCATENATION
    standing += sum(unit.reach for unit in architecture.units() if unit.shortcut == "dense")
    assert found.count(keras.layers.DepthwiseConv2D) == standing
    # A scaled branch folds; a scaled shortcut, or a gate's complement, cannot.
    manipulated = isinstance(architecture.manipulation, Scaling | Gating)
    kept = sum(unit.shortcut != "none" for unit in architecture.units())
    scalings = kept if manipulated else 0
    assert found.count(keras.layers.Rescaling) == 1 + scalings
    assert found.count(keras.layers.Add) == kinds(model).count(keras.layers.Add)
    softmax = 1
    activations = kinds(model).count(keras.layers.Activation)
    assert found.count(keras.layers.Activation) == activations + softmax


def test_names_and_signature():
    model = build(kit.tiny(NETWORKS["preresnet110"], (1, 1)), name="mine")
    folded = inference_model(model)
    assert folded.name == "mine"
    names = [layer.name for layer in folded.layers]
    assert names[:3] == ["pixels", "normalize", "conv1"] and names[-1] == "fc5"
    assert set(names) <= {layer.name for layer in model.layers}
    assert folded.input_shape == (None, 32, 32, 3) and folded.output_shape == (None, 5)


# --- what folds, and what cannot ---


def test_a_row_of_affine_layers_becomes_one():
    rescale = keras.layers.Rescaling
    model = randomize(
        of_one_layer(
            keras.layers.Activation("tanh"),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(name="first"),
            rescale(0.5, 2.0),
            keras.layers.BatchNormalization(scale=True, center=True),
        )
    )
    folded = inference_model(model)
    assert kinds(folded)[1:3] == [keras.layers.Activation, keras.layers.DepthwiseConv2D]
    assert folded.layers[2].name == "first"
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    assert_equal_logits(logits(folded, images), answers(model, images))


def test_a_row_of_rescalings_stays_a_rescaling():
    rescale = keras.layers.Rescaling
    folded = inference_model(of_one_layer(rescale(2.0, 1.0, name="first"), rescale([1, 2, 3], 4)))
    assert folded.layers[1].name == "first"
    np.testing.assert_array_equal(folded.layers[1].scale, [2, 4, 6])
    np.testing.assert_array_equal(folded.layers[1].offset, [5, 6, 7])


def test_everything_affine_after_a_convolution_folds():
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    normalize = [keras.layers.BatchNormalization(scale=a, center=b) for a in (0, 1) for b in (0, 1)]
    model = of_one_layer(
        keras.layers.Conv2D(4, 3, dilation_rate=2, name="conv"),
        keras.layers.Dropout(0.5),
        normalize[0],
        keras.layers.Rescaling(0.5, 2.0),
        *normalize[1:],
    )
    rng = np.random.default_rng(1)
    for layer in normalize:
        layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    folded = inference_model(model)
    assert [layer.name for layer in folded.layers[1:3]] == ["conv", "global_average_pooling2d"]
    assert_equal_logits(logits(folded, x), answers(model, x))


def test_a_convolution_that_others_read_is_left_as_it_is():
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    joined = keras.layers.Add()([x, keras.layers.BatchNormalization(name="bn")(x)])
    pooled = keras.layers.GlobalAveragePooling2D()(joined)
    model = randomize(keras.Model(inputs, keras.layers.Dense(3)(pooled)))
    folded = inference_model(model)
    np.testing.assert_array_equal(folded.get_layer("conv").kernel, model.get_layer("conv").kernel)
    assert isinstance(folded.get_layer("bn"), keras.layers.DepthwiseConv2D)
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    assert_equal_logits(logits(folded, images), answers(model, images))


def test_a_convolution_that_is_activated_does_not_fold():
    activated = keras.layers.Conv2D(4, 3, activation="relu", name="conv")
    model = randomize(of_one_layer(activated, keras.layers.BatchNormalization()))
    folded = inference_model(model)
    assert kinds(folded)[1:3] == [keras.layers.Conv2D, keras.layers.DepthwiseConv2D]
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    assert_equal_logits(logits(folded, images), answers(model, images))


def test_a_variance_of_nearly_nothing_folds_exactly():
    model = randomize(build(SMALL, head=LOGITS))
    layer = model.get_layer("bn2a_branch2a")
    layer.moving_variance.assign(layer.moving_variance * 1e-9)
    kernel, bias = (
        weight.numpy() for weight in inference_model(model).get_layer("res2a_branch2a").weights
    )
    gamma, beta, mean, variance = (weight.astype("float64") for weight in layer.get_weights())
    scale = gamma / np.sqrt(variance + layer.epsilon)
    (source,) = model.get_layer("res2a_branch2a").get_weights()
    np.testing.assert_array_equal(kernel, (source * scale).astype("float32"))
    np.testing.assert_allclose(bias, beta - mean * scale, rtol=1e-6)


# --- the network that was given ---


def test_the_network_stays_as_it_is():
    model = randomize(build(kit.tiny(NETWORKS["resnet50"], (1,), (4,))))
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(PIXELS, np.arange(8) % 5)
    weights, config, before = model.get_weights(), model.get_config(), answers(model)
    folded = inference_model(model)
    for weight in folded.weights:
        weight.assign(weight * 0)
    assert not {id(layer) for layer in folded.layers} & {id(layer) for layer in model.layers}
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.get_config() == config
    np.testing.assert_array_equal(answers(model), before)


def test_a_folded_network_folds_to_itself():
    folded = inference_model(randomize(build(SMALL)))
    again = inference_model(folded)
    assert [layer.name for layer in again.layers] == [layer.name for layer in folded.layers]
    np.testing.assert_array_equal(answers(again), answers(folded))


# --- what is refused ---


def refused(model):
    return kit.refusal(inference_model, model)


def test_open_image_sizes_are_refused():
    error = refused(build(SMALL, (None, None, 3)))
    assert error.received == "(None, None, 3)" and "(height, width" in error.accepted


@pytest.mark.parametrize(
    ("head", "last"),
    [
        (Features(), "'res3a_relu' (Activation)"),
        (Features("avg"), "'avg_pool'"),
        (Features("max"), "'max_pool'"),
        (Classifier(activation="relu"), "'fc5' (Dense)"),
    ],
)
def test_what_is_no_classifier_is_refused(head, last):
    error = refused(build(SMALL, head=head))
    assert error.received.startswith(last) and "softmax" in error.accepted


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (keras.layers.LayerNormalization(name="odd"), "'odd' (LayerNormalization)"),
        (keras.layers.Conv2DTranspose(3, 3, name="odd"), "'odd' (Conv2DTranspose)"),
        (keras.layers.SpatialDropout2D(0.5, name="odd"), "'odd' (SpatialDropout2D)"),
    ],
)
def test_unknown_layers_are_named(layer, named):
    error = refused(of_one_layer(layer))
    assert error.received == named and "Conv2D" in error.accepted


def test_operations_that_are_no_layers_are_named():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.exp(inputs))
    assert "(Exp)" in refused(keras.Model(inputs, keras.layers.Dense(3)(x))).received


def test_normalizations_of_anything_but_channels_are_refused():
    normalization = keras.layers.BatchNormalization(axis=1, name="rows")
    assert "'rows', axis 1" in refused(of_one_layer(normalization)).received


def test_rescalings_of_pixels_are_refused():
    for numbers in ([0.5, np.ones((8, 8, 3)).tolist()], [np.ones((8, 8, 3)).tolist(), 0.5]):
        error = refused(of_one_layer(keras.layers.Rescaling(*numbers, name="map")))
        assert "'map'" in error.received and "(8, 8, 3)" in error.received


def test_channels_first_is_refused():
    convolution = keras.layers.Conv2D(3, 1, data_format="channels_first", name="conv")
    assert refused(of_one_layer(convolution)).received == "'conv' (channels_first)"


def test_models_of_another_kind_are_refused():
    network = build(SMALL, name="tiny")
    assert refused(features(network)).received == "'tiny_features'"
    two = keras.Model([network.input, keras.Input((3,))], network.output, name="two")
    assert refused(two).received == "'two'"
    sequence = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="sequence")
    assert refused(sequence).received == "'sequence'"
    assert refused(keras.Model(name="subclass")).received == "'subclass'"
    inputs = keras.Input((8, 8, 3))
    assert refused(keras.Model(inputs, inputs, name="nothing")).received == "'nothing'"


def test_layers_called_twice_are_refused():
    inputs = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(3, 1)
    x = keras.layers.GlobalAveragePooling2D()(layer(layer(inputs)))
    error = refused(keras.Model(inputs, keras.layers.Dense(3)(x), name="twice"))
    assert error.received == "'twice'" and "once" in error.accepted
