"""Networks folded for inference, against the networks that they came from."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tiny_family import TINY_FAMILY, draw_images, randomize, trained

from export.folding import inference_model
from resnet_keras import layers
from resnet_keras.architectures import Gating, Scaling
from resnet_keras.errors import InputError
from resnet_keras.loading import load_model
from resnet_keras.models import Classifier, Features, build, create, features
from resnet_keras.recomputation import RecomputingModel, recompute
from resnet_keras.recursion import recursion_for

PIXELS = draw_images(8).astype("float32")
LOGITS = Classifier(activation=None)
# What differs in how it is folded: a projection, biases and groups, gates, pre-activations.
DIFFERENT = ("resnet50", "resnet50-course", "resnext50-32x4d", "exclusive-gating", "preresnet110")


def answers(model, images=PIXELS):
    return keras.ops.convert_to_numpy(model(images))


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


@pytest.mark.parametrize("name", TINY_FAMILY)
def test_logits_are_those_of_the_network(name):
    model = randomize(build(TINY_FAMILY[name], head=LOGITS))
    folded = inference_model(model)
    assert_equal_logits(logits(folded), answers(model))
    np.testing.assert_allclose(
        answers(folded), keras.ops.softmax(logits(folded)), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_stay(activation):
    model = randomize(build(TINY_FAMILY["resnet20"], head=Classifier(activation=activation)))
    folded = inference_model(model)
    assert folded.layers[-1].name == "fc5"
    np.testing.assert_allclose(answers(folded), answers(model), rtol=1e-4, atol=1e-7)


def test_a_softmax_of_its_own_stays_too():
    logits_model = randomize(build(TINY_FAMILY["resnet20"], head=LOGITS))
    softmax = keras.layers.Activation("softmax", name="softmax")
    model = keras.Model(logits_model.input, softmax(logits_model.output))
    folded = inference_model(model)
    assert [layer.name for layer in folded.layers[-2:]] == ["fc5", "softmax"]
    np.testing.assert_allclose(answers(folded), answers(model), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        *((name, "mixed_bfloat16") for name in DIFFERENT),
        ("preresnet110", "mixed_float16"),
        ("preresnet110", "bfloat16"),
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
    ("name", "size"), [("resnet18", (40, 27)), ("resnet50v1.5", (33, 33)), ("resnet20", (9, 16))]
)
def test_images_of_other_sizes(name, size):
    model = randomize(build(TINY_FAMILY[name], (*size, 3), LOGITS))
    folded = inference_model(model)
    assert folded.input_shape == (None, *size, 3)
    images = draw_images(8, max(size)).astype("float32")[:, : size[0], : size[1]]
    assert_equal_logits(logits(folded, images), answers(model, images))


def test_bare_networks_take_what_they_took():
    model = randomize(
        build(TINY_FAMILY["resnet20"], (32, 32, 4), LOGITS, include_preprocessing=False)
    )
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 4)).astype("float32")
    assert_equal_logits(logits(inference_model(model), images), answers(model, images))


def test_a_recomputing_network_from_its_file(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    architecture = TINY_FAMILY["stochastic-depth"]
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
    model = randomize(create("resnet1001", input_shape=(8, 8, 3), classifier_activation=None))
    for layer in model.layers:
        if layer.name.endswith("branch2c") and isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(layer.gamma * 0.1)  # a trained network keeps its signal in bounds
    folded = inference_model(model)
    assert sys.getrecursionlimit() == limit
    images = draw_images(4, 8).astype("float32")
    with recursion_for(len(folded.layers)):
        assert_equal_logits(logits(folded, images), answers(model, images))


# --- nothing that only training needs ---


@pytest.mark.parametrize("name", TINY_FAMILY)
def test_layers_that_are_left(name):
    architecture = TINY_FAMILY[name]
    model = build(architecture)
    folded = inference_model(model)
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
    # Normalisations that follow an addition: one for every unit, the network's end included.
    ordering = architecture.unit.ordering
    standing = sum(architecture.blocks) if "bn" in ordering.first + ordering.joined else 0
    assert found.count(keras.layers.DepthwiseConv2D) == standing
    # A scaled branch folds; a scaled shortcut, or a gate's complement, cannot.
    manipulated = isinstance(architecture.manipulation, Scaling | Gating)
    scalings = sum(architecture.blocks) if manipulated else 0
    assert found.count(keras.layers.Rescaling) == 1 + scalings
    assert found.count(keras.layers.Add) == kinds(model).count(keras.layers.Add)
    assert found.count(keras.layers.Activation) == kinds(model).count(keras.layers.Activation)


def test_names_and_signature():
    model = build(TINY_FAMILY["preresnet110"], name="mine")
    folded = inference_model(model)
    assert folded.name == "mine"
    names = [layer.name for layer in folded.layers]
    assert names[:3] == ["pixels", "normalize", "conv1"] and names[-1] == "fc5"
    assert set(names) <= {layer.name for layer in model.layers}
    assert folded.input_shape == (None, 32, 32, 3) and folded.output_shape == (None, 5)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's converter and the tools about it
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_litert_file_has_an_operation_for_a_convolution_and_none_for_its_normalization(
    name, tmp_path
):
    architecture = TINY_FAMILY[name]
    folded = inference_model(trained(architecture))
    folded.export(
        tmp_path / "model.tflite",
        format="litert",
        verbose=False,
        input_signature=[keras.InputSpec(shape=(1, 32, 32, 3), dtype="float32")],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
    )
    interpreter = Interpreter(
        str(tmp_path / "model.tflite"),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    found = [operation["op_name"] for operation in interpreter._get_ops_details()]
    assert found.count("CONV_2D") == kinds(folded).count(keras.layers.Conv2D) + kinds(folded).count(
        layers.Conv2D
    )
    units = sum(architecture.blocks)
    gates = units if isinstance(architecture.manipulation, Gating) else 0
    assert found.count("DEPTHWISE_CONV_2D") == (units if name == "preresnet110" else 0)
    assert found.count("MUL") == 1 + 3 * gates
    assert found.count("ADD") == units + gates + (name != "resnet50-course")  # whose mean is 0
    assert not {"RELU", "SUB", "SHAPE"} & set(found)


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
    model = randomize(build(TINY_FAMILY["resnet20"], head=LOGITS))
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
    model = randomize(build(TINY_FAMILY["resnet50"]))
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
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
    folded = inference_model(randomize(build(TINY_FAMILY["resnet18"])))
    again = inference_model(folded)
    assert [layer.name for layer in again.layers] == [layer.name for layer in folded.layers]
    np.testing.assert_array_equal(answers(again), answers(folded))


# --- what is refused ---


def refusal(model):
    with pytest.raises(InputError) as error:
        inference_model(model)
    message = str(error.value)
    assert "\n" not in message and "Received: " in message
    return message


def test_open_image_sizes_are_refused():
    message = refusal(build(TINY_FAMILY["resnet20"], (None, None, 3)))
    assert "image's size. Received: (None, None, 3); accepted: (height, width" in message


@pytest.mark.parametrize(
    ("head", "last"),
    [
        (Features(), "'res3b_relu'"),
        (Features("avg"), "'avg_pool'"),
        (Features("max"), "'max_pool'"),
    ],
)
def test_features_are_no_classifier(head, last):
    message = refusal(build(TINY_FAMILY["resnet20"], head=head))
    assert f"ends in a classifier. Received: {last}" in message
    assert "accepted: a Dense layer of logits, softmax or sigmoid" in message


def test_a_hidden_layer_is_no_classifier():
    model = build(TINY_FAMILY["resnet20"], head=Classifier(activation="relu"))
    assert "Received: 'fc5' (Dense)" in refusal(model)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (keras.layers.LayerNormalization(name="odd"), "'odd' (LayerNormalization)"),
        (keras.layers.Conv2DTranspose(3, 3, name="odd"), "'odd' (Conv2DTranspose)"),
        (keras.layers.SpatialDropout2D(0.5, name="odd"), "'odd' (SpatialDropout2D)"),
    ],
)
def test_unknown_layers_are_named(layer, named):
    message = refusal(of_one_layer(layer))
    assert f"Received: {named}; accepted: Activation, Add, " in message


def test_operations_that_are_no_layers_are_named():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.exp(inputs))
    assert "(Exp)" in refusal(keras.Model(inputs, keras.layers.Dense(3)(x)))


def test_normalizations_of_anything_but_channels_are_refused():
    normalization = keras.layers.BatchNormalization(axis=1, name="rows")
    assert "Received: 'rows', axis 1" in refusal(of_one_layer(normalization))


def test_rescalings_of_pixels_are_refused():
    for numbers in ([0.5, np.ones((8, 8, 3)).tolist()], [np.ones((8, 8, 3)).tolist(), 0.5]):
        rescaling = keras.layers.Rescaling(*numbers, name="map")
        assert "Received: 'map', scale and offset of" in refusal(of_one_layer(rescaling))


def test_channels_first_is_refused():
    convolution = keras.layers.Conv2D(3, 1, data_format="channels_first", name="conv")
    assert "Received: 'conv' (channels_first)" in refusal(of_one_layer(convolution))


def test_models_of_another_kind_are_refused():
    network = build(TINY_FAMILY["resnet20"], name="tiny")
    one = "a functional model from one tensor to one. Received:"
    assert f"{one} 'tiny_features'" in refusal(features(network))
    two = keras.Model([network.input, keras.Input((3,))], network.output, name="two")
    assert f"{one} 'two'" in refusal(two)
    sequence = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="sequence")
    assert f"{one} 'sequence'" in refusal(sequence)
    assert f"{one} 'subclass'" in refusal(keras.Model(name="subclass"))
    inputs = keras.Input((8, 8, 3))
    assert f"{one} 'nothing'" in refusal(keras.Model(inputs, inputs, name="nothing"))


def test_layers_called_twice_are_refused():
    inputs = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(3, 1)
    x = keras.layers.GlobalAveragePooling2D()(layer(layer(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(x), name="twice")
    assert "called once each. Received: 'twice'" in refusal(model)
