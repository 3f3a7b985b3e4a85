"""The function `convolution`, and the layer Conv2D against Keras's: values, gradients, padding."""

import keras
import kit
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from resnet_keras.architectures import Convolution, LayerDefaults
from resnet_keras.networks.convolution import Conv2D
from resnet_keras.networks.layers import BatchNormalization, convolution, normalization

DEFAULTS = LayerDefaults()


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).normal(2, 3, shape).astype("float32")


# --- convolution and normalization ---


def conv_bn(x, filters, kernel_size, stride, branch, defaults, **bn):
    """Both, named as the networks name them."""
    conv_name, bn_name = (f"res{branch}", f"bn{branch}") if branch else ("conv1", "bn_conv1")
    x = convolution(x, Convolution(kernel_size, x.shape[-1], filters, stride), conv_name, defaults)
    return normalization(x, bn_name, defaults, **bn)


def conv_bn_model(kernel_size, stride, branch, defaults=DEFAULTS, size=9, **bn):
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, conv_bn(inputs, 6, kernel_size, stride, branch, defaults, **bn))


@pytest.mark.parametrize(
    ("kernel_size", "stride", "branch", "names"),
    [
        (7, 2, "", ["conv1_pad", "conv1", "bn_conv1"]),
        (3, 1, "", ["conv1", "bn_conv1"]),
        (3, 1, "2a_branch2a", ["res2a_branch2a", "bn2a_branch2a"]),
        (3, 2, "3a_branch2a", ["res3a_branch2a_pad", "res3a_branch2a", "bn3a_branch2a"]),
        (1, 2, "3a_branch1", ["res3a_branch1", "bn3a_branch1"]),
        (1, 1, "3a_branch1", ["res3a_branch1", "bn3a_branch1"]),
    ],
)
def test_conv_bn_names(kernel_size, stride, branch, names):
    model = conv_bn_model(kernel_size, stride, branch)
    assert [layer.name for layer in model.layers[1:]] == names
    assert type(model.layers[-1]) is BatchNormalization


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_conv_bn_pads_by_half_a_kernel_on_every_side(kernel_size, stride, size):
    model = conv_bn_model(kernel_size, stride, "2a", size=size)
    x = pixels(2, size, size, 3)
    kernel = model.get_layer("res2a").kernel
    pad = kernel_size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    expected = tf.nn.conv2d(padded, kernel, stride, "VALID")
    convolved = keras.Model(model.input, model.get_layer("res2a").output)(x)
    assert_allclose(convolved, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_a_dilated_convolution_does_on_every_grid_what_a_plain_one_does(
    kernel_size, dilation, size
):
    inputs = keras.Input((size, size, 3))
    outputs = convolution(
        inputs, Convolution(kernel_size, 3, 6, dilation=dilation), "res2a", DEFAULTS
    )
    x = pixels(2, size, size, 3)
    found = keras.Model(inputs, outputs)(x).numpy()
    kernel = keras.Model(inputs, outputs).get_layer("res2a").kernel
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    sides = ((0, 0), (before, after), (before, after), (0, 0))
    for row in range(dilation):
        for column in range(dilation):
            grid = np.pad(x[:, row::dilation, column::dilation], sides)
            expected = tf.nn.conv2d(grid, kernel, 1, "VALID")
            assert_allclose(found[:, row::dilation, column::dilation], expected, atol=1e-4)


@pytest.mark.parametrize("use_bias", [True, False])
def test_conv_bn_follows_style(use_bias):
    defaults = LayerDefaults(use_bias=use_bias, bn_epsilon=2e-4, bn_momentum=0.77)
    model = conv_bn_model(3, 1, "2a", defaults)
    assert model.get_layer("res2a").use_bias == use_bias
    assert len(model.get_layer("res2a").weights) == 1 + use_bias
    assert model.get_layer("bn2a").epsilon == 2e-4
    assert model.get_layer("bn2a").momentum == 0.77


def test_conv_bn_passes_arguments_to_the_normalization():
    model = conv_bn_model(3, 1, "2a", gamma_initializer="zeros")
    assert_array_equal(model.get_layer("bn2a").gamma, np.zeros(6))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_conv_bn_starts_he_normal(kernel_size):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 64))
    outputs = conv_bn(inputs, 256, kernel_size, 1, "2a", LayerDefaults(use_bias=True))
    kernel, bias = keras.Model(inputs, outputs).get_layer("res2a").get_weights()
    # Of 16,384 or more draws the deviation is known to about 1%.
    assert_allclose(kernel.std(), np.sqrt(2 / (kernel_size**2 * 64)), rtol=0.03)
    assert abs(kernel.mean()) < 0.03 * kernel.std()
    # Normal, cut off at two deviations: 2.27 of those that remain.
    assert_allclose(np.abs(kernel).max(), 2.27 * kernel.std(), rtol=0.03)
    assert_array_equal(bias, np.zeros(256))


# --- Conv2D ---


def conv_and_stock(monkeypatch, kernel_size=1, dtype="float32", **options):
    """Ours, made to take its own way with few weights, and Keras's; of the same weights."""
    monkeypatch.setattr("resnet_keras.networks.convolution.MANY_WEIGHTS", 1)
    arguments = {"kernel_initializer": "he_normal", "padding": "same", "dtype": dtype, **options}
    ours = Conv2D(5, kernel_size, **arguments)
    stock = keras.layers.Conv2D(5, kernel_size, **arguments)
    for layer in (ours, stock):
        layer.build((None, 7, 6, 16))
    values = [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(stock.weights)]
    ours.set_weights(values)
    stock.set_weights(values)
    return ours, stock


def in_training(layer, x):
    return layer(x, training=True) if type(layer) is Conv2D else layer(x)


def outputs_and_gradients(layer, x, upstream):
    """Of one step in training, and the types of all operations that compute them."""
    weights = [weight.value for weight in layer.weights]

    def forward_and_back(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = in_training(layer, x)
            loss = tf.reduce_sum(tf.cast(outputs, "float32") * upstream)
        return [outputs, *tape.gradient(loss, [x, *weights])]

    x = tf.constant(x)
    traced = tf.function(forward_and_back)
    graph = traced.get_concrete_function(x).graph
    operations = {operation.type for operation in graph.get_operations()}
    return [value.numpy() for value in traced(x)], operations


OF_KERNEL = "Conv2DBackpropFilter"

CONVOLUTIONS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "strides": 2},
    {"kernel_size": 1, "strides": (1, 2), "use_bias": False},
    {"kernel_size": 1, "padding": "valid", "activation": "relu"},
    # Half precision, as windows take matrix products only there.
    {"kernel_size": 3, "dtype": "mixed_bfloat16"},
    {"kernel_size": (3, 5), "dtype": "mixed_bfloat16", "use_bias": False},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_convolution_equals_stock(monkeypatch, options):
    ours, stock = conv_and_stock(monkeypatch, **options)
    generator = np.random.default_rng(5)
    x = generator.normal(size=(2, 7, 6, 16)).astype("float32")
    upstream = generator.normal(size=stock(x).shape).astype("float32")
    expected, stock_operations = outputs_and_gradients(stock, x, upstream)
    found, operations = outputs_and_gradients(ours, x, upstream)
    assert "MatMul" in operations and OF_KERNEL not in operations
    assert OF_KERNEL in stock_operations
    assert len(found) == 3 + ours.use_bias
    tolerance = 0.02 if "dtype" in options else 1e-5
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        other = other.astype("float32")
        assert_allclose(one.astype("float32"), other, rtol=0, atol=tolerance * abs(other).max())


@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
@pytest.mark.parametrize(
    ("channels", "training"), [(1, True), (3, False), (7, True), (8, False), (15, True)]
)
def test_kernel_gradient_of_strided_1x1_convolution(channels, strides, training):
    layer = Conv2D(5, 1, strides=strides, padding="same", use_bias=False)
    generator = np.random.default_rng(7)
    x = generator.normal(size=(5, 14, 14, channels)).astype("float32")
    upstream = generator.normal(size=layer(x).shape).astype("float32")
    for _ in range(5):  # oneDNN's is right now and then
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=training) * upstream)
        read = x[:, :: strides[0], :: strides[1]]
        assert_allclose(
            tape.gradient(loss, layer.kernel.value)[0, 0],
            np.einsum("bhwc,bhwf->cf", read, upstream),
            rtol=0,
            atol=1e-4,
        )


@pytest.mark.parametrize("options", [CONVOLUTIONS[1], CONVOLUTIONS[4]])
def test_convolution_of_unknown_size(monkeypatch, options):
    ours, stock = conv_and_stock(monkeypatch, **options)
    x = np.random.default_rng(6).normal(size=(2, 7, 6, 16)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 16), "float32")])
    def kernel_gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(ours(x, training=True), "float32"))
        return tape.gradient(loss, ours.kernel.value)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(stock(x), "float32"))
    expected = tape.gradient(loss, stock.kernel.value)
    assert_allclose(kernel_gradient(x), expected, rtol=0.02, atol=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},  # float32
        {"kernel_size": 3, "strides": 2, "dtype": "mixed_bfloat16"},
        {"kernel_size": 3, "padding": "valid", "dtype": "mixed_bfloat16"},
        {"kernel_size": 2, "dtype": "mixed_bfloat16"},
        {"kernel_size": 3, "dilation_rate": 2, "dtype": "mixed_bfloat16"},
    ],
)
def test_other_convolutions_are_stock(monkeypatch, options):
    ours, _ = conv_and_stock(monkeypatch, **options)
    _, operations = outputs_and_gradients(ours, np.ones((1, 7, 6, 16), "float32"), 1.0)
    assert OF_KERNEL in operations and "MatMul" not in operations


def test_convolution_is_stock_in_inference_and_of_few_weights(monkeypatch):
    ours, _ = conv_and_stock(monkeypatch)

    def operations_of_gradient(training):
        def gradient(x):
            with tf.GradientTape() as tape:
                outputs = ours(x, training=training)
            return tape.gradient(outputs, ours.kernel.value)

        graph = tf.function(gradient).get_concrete_function(tf.ones((1, 7, 6, 16))).graph
        return {operation.type for operation in graph.get_operations()}

    assert OF_KERNEL not in operations_of_gradient(training=True)
    in_inference = operations_of_gradient(training=False)
    assert OF_KERNEL in in_inference
    assert "IdentityN" not in in_inference  # that of a gradient of our own
    monkeypatch.setattr("resnet_keras.networks.convolution.MANY_WEIGHTS", 81)
    assert OF_KERNEL in operations_of_gradient(training=True)


def test_convolution_survives_its_config():
    layer = Conv2D(5, 1, strides=2, use_bias=False, name="res2a_branch1")
    config = keras.saving.serialize_keras_object(layer)
    copied = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert type(copied) is Conv2D
    assert copied.get_config() == layer.get_config()


# --- grouped convolutions ---


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
    if lacks_gradients:
        # As TensorFlow does without oneDNN, which only another process could be without: see
        # test_grouped_convolution_learns_without_onednn. No public name simulates that.
        monkeypatch.setattr(
            "resnet_keras.networks.convolution._lacks_gradients_of_groups", lambda dtype: True
        )
    arguments = {"groups": 4, "use_bias": False, **options}
    ours = Conv2D(8, 3, **arguments)
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
        assert_allclose(one, other, rtol=1e-4, atol=1e-5)


WITHOUT_ONEDNN = """
import keras, numpy as np, tensorflow as tf
from resnet_keras.networks.convolution import Conv2D

layer = Conv2D(4, 3, groups=2, padding="same")
x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 7, 6)), "float32")

def kernel_gradient(convolve):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(convolve(x)))
    return tape.gradient(loss, layer.kernel.value)

def one_after_another(x):
    pairs = zip(tf.split(x, 2, axis=-1), tf.split(layer.kernel.value, 2, axis=-1))
    return tf.concat([tf.nn.conv2d(part, kernel, 1, "SAME") for part, kernel in pairs], axis=-1)

layer.build(x.shape)
try:
    kernel_gradient(lambda x: tf.nn.conv2d(x, layer.kernel.value, 1, "SAME"))
except tf.errors.OpError:
    pass
else:
    raise SystemExit("TensorFlow does not lack the gradient")
expected = kernel_gradient(one_after_another)
np.testing.assert_allclose(kernel_gradient(layer), expected, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.slow
def test_grouped_convolution_learns_without_onednn():
    kit.run_python(WITHOUT_ONEDNN, TF_ENABLE_ONEDNN_OPTS="0", CUDA_VISIBLE_DEVICES="")


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_grouped_convolution_learns_in_half_precision(policy, dilation):
    # On processors without AVX-512 TensorFlow lacks these gradients though it has float32's.
    keras.utils.set_random_seed(0)
    half, full = (
        Conv2D(8, 3, groups=4, padding="same", dilation_rate=dilation, dtype=dtype)
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
    assert_allclose(gradient(half), expected, atol=0.06 * abs(expected).max())


def test_grouped_convolution_is_one_operation():
    layer = Conv2D(8, 3, groups=4)
    layer.build((None, 7, 7, 12))
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 7, 7, 12)))
    operations = {node.op for node in traced.graph.as_graph_def().node}
    assert "Conv2D" in operations and not {"StatefulPartitionedCall", "XlaLaunch"} & operations
