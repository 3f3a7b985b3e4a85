"""Winograd's convolutions against TensorFlow's, and where layers take them."""

from fractions import Fraction

import keras
import kit
import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.architectures import RESNET20
from resnet_keras.networks import convolution, winograd
from resnet_keras.networks.backend import Tensor
from resnet_keras.networks.models import build
from resnet_keras.networks.recomputation import recompute
from resnet_keras.training.optimizers import SGD


@pytest.fixture
def without_xla():
    """XLA takes seconds for a shape, and the arithmetic is the same without it."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("filtering", [winograd.TWO, winograd.FOUR])
def test_filtering_is_a_correlation(filtering):
    generator = np.random.default_rng(0)
    inputs = [Fraction(int(i)) for i in generator.integers(-9, 9, filtering.products)]
    taps = [Fraction(int(i)) for i in generator.integers(-9, 9, 3)]

    def times(matrix, vector):
        exact = [[Fraction(entry).limit_denominator(24) for entry in row] for row in matrix]
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in exact]

    products = [
        a * b
        for a, b in zip(
            times(filtering.of_taps, taps), times(filtering.of_inputs, inputs), strict=True
        )
    ]
    assert times(filtering.of_products, products) == [
        sum(inputs[start + tap] * taps[tap] for tap in range(3))
        for start in range(filtering.outputs)
    ]


def random_convolution(height, width, channels=5, filters=4, batch=3):
    generator = np.random.default_rng(height * width)
    shapes = [
        (batch, height, width, channels),
        (3, 3, channels, filters),
        (batch, height, width, filters),
    ]
    return [generator.normal(size=shape).astype("float32") for shape in shapes]


def outputs_and_gradients(convolve, x, kernel, upstream) -> tuple[Tensor, ...]:
    x, kernel = tf.constant(x), tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        outputs = convolve(x, kernel)
    return outputs, *tape.gradient(outputs, (x, kernel), upstream)


def exact(x, kernel, upstream):
    """In double precision, by TensorFlow."""
    return outputs_and_gradients(
        lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"),
        *(array.astype("float64") for array in (x, kernel, upstream)),
    )


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == tf.float32
        error = np.abs(one.numpy() - other.numpy()).max()
        assert error < tolerance * np.std(other)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (4, 2), (2, 4), (7, 7), (8, 8), (5, 9), (14, 3)]
)
def test_outputs_and_gradients_of_any_size(height, width, without_xla):
    arguments = random_convolution(height, width)
    assert_close(outputs_and_gradients(winograd.convolve, *arguments), exact(*arguments), 2e-5)


@pytest.mark.slow
def test_outputs_and_gradients_as_compiled():
    arguments = random_convolution(8, 8)
    assert_close(outputs_and_gradients(winograd.convolve, *arguments), exact(*arguments), 2e-5)


def test_rounding_errors_of_many_channels(without_xla):
    arguments = random_convolution(8, 8, channels=256, filters=128)
    assert_close(outputs_and_gradients(winograd.convolve, *arguments), exact(*arguments), 3e-5)


def test_unknown_shapes():
    """Of the batch, of its channels, and of what comes back from the operations after it."""

    @tf.function(input_signature=[tf.TensorSpec((None, 6, 7, None)), tf.TensorSpec((3, 3, 5, 4))])
    def kernel_gradient(x, kernel) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            outputs = winograd.convolve(x, kernel)
            forgotten = tf.transpose(outputs, tf.argsort(tf.range(4)))
        return tape.gradient(forgotten, kernel)

    x, kernel, _ = random_convolution(6, 7)
    _, _, expected = exact(x, kernel, np.ones((len(x), 6, 7, 4)))
    np.testing.assert_allclose(kernel_gradient(x, kernel), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kernel", [(1, 9, 5, 4), (3, 3, 6, 4)])
def test_kernels_that_do_not_fit_are_refused(kernel):
    with pytest.raises(tf.errors.InvalidArgumentError, match="compatible"):
        winograd.convolve(tf.zeros((1, 8, 8, 5)), tf.zeros(kernel))
    with pytest.raises(ValueError, match="Shapes are"):
        tf.function(winograd.convolve)(tf.zeros((1, 8, 8, 5)), tf.zeros(kernel))


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"]
)
def test_gradients_of_gradients(request, compiled):
    if not compiled:
        request.getfixturevalue("without_xla")
    x, kernel, _ = random_convolution(4, 4)

    def gradient_of_gradient(convolve, dtype):
        inputs, taps = tf.constant(x, dtype), tf.constant(kernel, dtype)
        with tf.GradientTape() as outer:
            outer.watch(taps)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                loss = tf.reduce_sum(tf.sin(convolve(inputs, taps)))
            slope: Tensor = inner.gradient(loss, inputs)
            penalty = tf.reduce_sum(slope**2)
        return outer.gradient(penalty, taps)

    found = gradient_of_gradient(winograd.convolve, "float32")
    expected = gradient_of_gradient(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), "float64")
    assert_close([found], [expected], 1e-3)


def test_a_large_value_spoils_its_tile_and_no_other(without_xla):
    x, kernel, upstream = random_convolution(8, 4)
    x[0, 1, 1] = 1e6
    found, expected = winograd.convolve(x, kernel), exact(x, kernel, upstream)[0]
    errors = np.abs(found.numpy() - expected.numpy())
    assert errors.max() > 1e-2
    assert max(errors[1:].max(), errors[0, 4:, 2:].max()) < 1e-4


def test_convolutions_of_a_size_share_what_is_compiled(monkeypatch, without_xla):
    made = []
    function = tf.function
    monkeypatch.setattr(tf, "function", lambda *a, **k: made.append(1) or function(*a, **k))
    for expected in (True, False):
        made.clear()
        outputs_and_gradients(winograd.convolve, *random_convolution(3, 11))
        assert bool(made) is expected


def test_multiplications_saved():
    assert winograd.saving(4, 2) == winograd.saving(224, 224) == 3
    assert winograd.saving(7, 7) == pytest.approx(441 / 192)
    assert winograd.saving(1, 1) < 1


# --- Layers ---


@pytest.fixture
def few_suffice(monkeypatch):
    """Layers take it for few channels and multiplications."""
    monkeypatch.setattr(convolution, "MANY_CHANNELS", 1)
    monkeypatch.setattr(convolution, "MANY_MULTIPLICATIONS", 1)


@pytest.fixture
def called(monkeypatch):
    """Grows with every call."""
    called = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *a: called.append(1) or convolve(*a))
    return called


def outputs_and_gradients_of_layer(call, layer, x) -> tuple[Tensor, ...]:
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = call(x)
        loss = tf.reduce_sum(tf.sin(outputs))
    return outputs, *tape.gradient(loss, (x, layer.kernel.value, layer.bias.value))


def takes_winograd(
    shape=(None, 8, 8, 4),
    filters=4,
    training=True,
    compiled=False,
    kind=convolution.Conv2D,
    **options,
):
    """Whether a layer calls it."""
    layer = kind(filters, **{"kernel_size": 3, "padding": "same", **options})
    called = []

    def convolve(x, kernel):
        called.append(x)
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "convolve", convolve)
        signature = [tf.TensorSpec(shape, layer.compute_dtype)]
        tf.function(
            lambda x: layer(x, training=training),
            input_signature=signature,
            jit_compile=compiled or None,
        ).get_concrete_function()
    return bool(called)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("wrap", [lambda layer: layer, tf.function], ids=["eager", "graph"])
def test_layers_answer_and_learn_as_stock(few_suffice, called, wrap, activation):
    options = {"padding": "same", "activation": activation, "bias_initializer": "normal"}
    ours = convolution.Conv2D(4, 3, **options)
    stock = keras.layers.Conv2D(4, 3, **options)
    x, kernel, _ = random_convolution(8, 8)
    for layer in (ours, stock):
        layer.build(x.shape)
        layer.set_weights([kernel / 8, np.arange(4) / 4])
    found = outputs_and_gradients_of_layer(wrap(lambda x: ours(x, training=True)), ours, x)
    assert called
    expected = outputs_and_gradients_of_layer(stock, stock, x)
    np.testing.assert_allclose(found[0], ours(x), rtol=0, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def test_bfloat16_that_is_not_cast_is_refused_as_by_stock(few_suffice):
    x = tf.zeros((8, 8, 8, 4), "bfloat16")
    layer = convolution.Conv2D(4, 3, padding="same", autocast=False)
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        layer(x, training=True)


def test_layers_take_it_in_training(few_suffice):
    assert takes_winograd()
    assert takes_winograd(activation="relu", use_bias=False)


class Standardized(convolution.Conv2D):
    """As a user might derive one."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - tf.reduce_mean(kernel))


@pytest.mark.parametrize(
    "options",
    [
        {"training": False},
        {"compiled": True},
        {"shape": (None, None, 8, 4)},
        {"shape": (None, 8, None, 4)},
        {"shape": (None, 2, 2, 4)},  # saves too little
        {"data_format": "channels_first", "shape": (None, 4, 8, 8)},
        {"kind": Standardized},
        {"dtype": "mixed_bfloat16"},
        {"kernel_size": 5},
        {"kernel_size": (3, 1)},
        {"strides": 2},
        {"padding": "valid"},
        {"dilation_rate": 2},
        {"groups": 2},
    ],
    ids=str,
)
def test_layers_else_convolve(few_suffice, options):
    assert not takes_winograd(**options)


def test_layers_convolve_where_tensorflow_lacks_xla(few_suffice, monkeypatch):
    monkeypatch.setattr(tf.test, "is_built_with_xla", lambda: False)
    assert not takes_winograd()


def test_layers_convolve_where_the_environment_says_so(few_suffice, monkeypatch):
    monkeypatch.setenv("RESNET_KERAS_WINOGRAD", "0")
    assert not takes_winograd()
    monkeypatch.setenv("RESNET_KERAS_WINOGRAD", "1")
    assert takes_winograd()


@pytest.mark.parametrize(
    ("channels", "filters", "size", "gains"),
    [
        (64, 64, 56, True),
        (512, 512, 7, True),
        (64, 64, 32, True),
        (32, 64, 112, False),  # few channels
        (64, 32, 112, False),
        (32, 32, 56, False),
        (64, 64, 28, False),  # few multiplications
        (64, 64, 16, False),
    ],
)
def test_small_convolutions_are_stock(channels, filters, size, gains):
    assert takes_winograd((None, size, size, channels), filters) is gains


# --- Networks ---

NETWORK = kit.tiny(RESNET20, blocks=(1,), filters=(4,), classes=3, input_size=8)


@pytest.mark.slow
def test_networks_learn_the_same(few_suffice, monkeypatch, called):
    """Whether they recompute or not."""
    monkeypatch.setattr(convolution, "MANY_CHANNELS", 4)  # all but the stem

    def learnt(wrap, switch, **how):
        monkeypatch.setenv("RESNET_KERAS_WINOGRAD", switch)
        called.clear()
        keras.utils.set_random_seed(0)
        model = wrap(build(NETWORK))
        model.compile(SGD(0.1), "sparse_categorical_crossentropy", **how)
        images, labels = kit.draw_images(3, 8), np.arange(3)
        losses = [float(model.train_on_batch(images, labels)) for _ in range(3)]
        assert bool(called) is (switch == "1")
        return losses, model.get_weights()

    losses, weights = learnt(lambda model: model, "0", run_eagerly=True)
    for wrap in (lambda model: model, recompute):
        with_winograd, learnt_weights = learnt(wrap, "1", jit_compile=False)
        np.testing.assert_allclose(with_winograd, losses, rtol=1e-5)
        for one, other in zip(learnt_weights, weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * max(1, np.abs(other).max()))


@pytest.mark.slow
def test_several_replicas_learn_as_one():
    """By our layers and SGD, with MirroredStrategy: it needs devices that this process has not."""
    kit.run_python("""
import keras, numpy as np, tensorflow as tf
from resnet_keras.networks import convolution, winograd
from resnet_keras.training.optimizers import SGD
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
convolution.MANY_CHANNELS = convolution.MANY_MULTIPLICATIONS = 1
called = []
convolve = winograd.convolve
winograd.convolve = lambda *arguments: called.append(1) or convolve(*arguments)
x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
def fit(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layer = convolution.Conv2D(4, 3, padding="same")
        model = keras.Sequential([keras.Input((8, 8, 3)), layer])
        model.compile(SGD(0.01, momentum=0.9, l2=0.1), "mse", jit_compile=False)
    called.clear()
    model.fit(x, x[..., :1], batch_size=8, epochs=3, verbose=0, shuffle=False)
    assert len(called) >= strategy.num_replicas_in_sync
    return model.get_weights()
two = fit(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
one = fit(tf.distribute.get_strategy())
for a, b in zip(one, two):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
""")
