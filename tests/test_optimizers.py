"""SGD with the papers' L2 term, and the learning rate over a training."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from resnet_keras.recipes import QUICK, Recipe
from resnet_keras.training import optimizers
from resnet_keras.training.callbacks import swap_averages


def test_l2_is_added_to_the_gradient_before_momentum():
    variable = keras.Variable([2.0, -1.0])
    optimizer = optimizers.SGD(0.1, momentum=0.9, l2=0.5)
    weight, momentum = np.array([2.0, -1.0]), np.zeros(2)
    for gradient in ([1.0, 0.0], [0.0, -2.0], [3.0, 1.0]):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        momentum = 0.9 * momentum - 0.1 * (np.array(gradient) + 0.5 * weight)
        weight = weight + momentum
        np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-6)


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.LAMB])
def test_l2_leaves_batch_normalisation_alone_where_it_is_told_to(kind):
    """Goyal et al. 2017, section 5.1; biases keep the term."""
    layers = [keras.layers.Dense(2), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((2,)), *layers])
    start = [np.full(weight.shape, 2.0) for weight in model.trainable_variables]
    moved = {}
    for l2_on_bn in (True, False):
        for weight, value in zip(model.trainable_variables, start, strict=True):
            weight.assign(value)
        optimizer = kind(0.1, l2=0.5, l2_on_bn=l2_on_bn)
        optimizer.apply([keras.ops.zeros_like(value) for value in start], model.trainable_variables)
        moved[l2_on_bn] = {w.name for w in model.trainable_variables if np.any(np.array(w) != 2)}
    assert moved == {True: {"kernel", "bias", "gamma", "beta"}, False: {"kernel", "bias"}}


def test_l2_is_not_keras_decoupled_weight_decay():
    def after_three_steps(optimizer):
        variable = keras.Variable([1.0])
        for _ in range(3):
            optimizer.apply([keras.ops.zeros(1)], [variable])
        return float(variable.numpy()[0])

    coupled = after_three_steps(optimizers.SGD(0.1, momentum=0.9, l2=0.1))
    decoupled = after_three_steps(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1))
    assert 1 - coupled > 1.5 * (1 - decoupled)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.0}]
)
def test_without_l2_it_is_keras_sgd(options):
    ours, stock = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    for optimizer, variable in (
        (optimizers.SGD(0.1, **options), ours),
        (keras.optimizers.SGD(0.1, **options), stock),
    ):
        for _ in range(3):
            optimizer.apply([keras.ops.convert_to_tensor([0.3, -0.2])], [variable])
    np.testing.assert_allclose(ours.numpy(), stock.numpy(), rtol=1e-6)


def rates(recipe, steps_per_epoch):
    schedule = optimizers.schedule(recipe, steps_per_epoch)
    return np.array([float(schedule(s)) for s in range(recipe.epochs * steps_per_epoch)])


def test_cosine_after_warmup():
    values = rates(Recipe(epochs=10, learning_rate=0.4, warmup_epochs=2), 5)
    np.testing.assert_allclose(values[:10], 0.4 * np.arange(1, 11) / 10, rtol=1e-6)
    expected = 0.4 * (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
    np.testing.assert_allclose(values[10:], expected, atol=1e-6)


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_steps_come_at_fractions_of_all_epochs(warmup_epochs):
    recipe = Recipe(epochs=8, learning_rate=0.1, decay="steps", warmup_epochs=warmup_epochs)
    values = rates(recipe, 10)
    start = 10 * warmup_epochs
    np.testing.assert_allclose(values[start:40], 0.1, rtol=1e-6)
    np.testing.assert_allclose(values[40:60], 0.01, rtol=1e-6)
    np.testing.assert_allclose(values[60:], 0.001, rtol=1e-6)


def test_warmup_longer_than_training_never_passes_the_peak():
    values = rates(dataclasses.replace(QUICK, epochs=1), 4)
    assert np.all(np.diff(values) > 0)
    assert values.max() <= QUICK.learning_rate + 1e-9


@pytest.mark.parametrize("decay", ["cosine", "steps"])
def test_optimizer_survives_its_config(decay):
    recipe = Recipe(epochs=4, decay=decay, warmup_epochs=1, l2=3e-4)
    optimizer = optimizers.optimizer(recipe, 5)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is optimizers.SGD
    assert copy.get_config() == optimizer.get_config()
    assert copy.l2 == 3e-4


def applied(optimizer, gradients, kernel, bias):
    """The variables after some steps, beside the gradients as NumPy sees them."""
    variables = [keras.Variable(kernel, name="kernel"), keras.Variable(bias, name="bias")]
    for of_kernel, of_bias in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in (of_kernel, of_bias)], variables)
    return [np.array(variable) for variable in variables]


KERNEL, BIAS = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([1.0, -1.0])
GRADIENTS = [
    (np.random.default_rng(i).normal(size=(2, 2)), np.random.default_rng(9 + i).normal(size=2))
    for i in range(4)
]


def test_decoupled_decay_shrinks_kernels_alone():
    kernel, bias = KERNEL.copy(), BIAS.copy()
    velocities = [np.zeros((2, 2)), np.zeros(2)]
    for of_kernel, of_bias in GRADIENTS:
        kernel = kernel - 0.1 * 0.05 * kernel
        velocities = [
            0.9 * v - 0.1 * g for v, g in zip(velocities, (of_kernel, of_bias), strict=True)
        ]
        kernel, bias = kernel + velocities[0], bias + velocities[1]
    found = applied(optimizers.SGD(0.1, momentum=0.9, kernel_decay=0.05), GRADIENTS, KERNEL, BIAS)
    np.testing.assert_allclose(found[0], kernel, rtol=1e-5)
    np.testing.assert_allclose(found[1], bias, rtol=1e-5)


def test_corrected_momentum_is_that_of_a_rate_outside_of_it():
    """Goyal et al. 2017, equations 9 and 10 with remark 2."""
    rates = [0.1, 0.2, 0.05, 0.4]
    weight, velocity = KERNEL.copy(), np.zeros((2, 2))
    for rate, (gradient, _) in zip(rates, GRADIENTS, strict=True):
        velocity = 0.9 * velocity + gradient
        weight = weight - rate * velocity
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1, 2], rates)
    optimizer = optimizers.SGD(schedule, momentum=0.9, momentum_correction=True)
    found = applied(optimizer, GRADIENTS, KERNEL, BIAS)
    np.testing.assert_allclose(found[0], weight, rtol=1e-5)


def test_lamb_is_the_papers_algorithm():
    """You et al. 2020, algorithm 2; biases take Adam's step."""
    weights, decays = [KERNEL.copy(), BIAS.copy()], (0.1, 0.0)
    means, squares = [np.zeros((2, 2)), np.zeros(2)], [np.zeros((2, 2)), np.zeros(2)]
    for step, gradients in enumerate(GRADIENTS, start=1):
        for i, gradient in enumerate(gradients):
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            mean, square = means[i] / (1 - 0.9**step), squares[i] / (1 - 0.999**step)
            update = mean / (np.sqrt(square) + 1e-7) + decays[i] * weights[i]
            norms = np.linalg.norm(weights[i]), np.linalg.norm(update)
            ratio = norms[0] / norms[1] if i == 0 else 1.0
            weights[i] = weights[i] - 0.01 * ratio * update
    found = applied(optimizers.LAMB(0.01, kernel_decay=0.1), GRADIENTS, KERNEL, BIAS)
    np.testing.assert_allclose(found[0], weights[0], rtol=1e-4)
    np.testing.assert_allclose(found[1], weights[1], rtol=1e-4)


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.LAMB])
def test_accumulated_gradients_are_averaged_into_one_update(kind):
    averages = [
        tuple((a + b) / 2 for a, b in zip(one, other, strict=True))
        for one, other in zip(GRADIENTS[::2], GRADIENTS[1::2], strict=True)
    ]
    options: dict[str, Any] = {"momentum": 0.9} if kind is optimizers.SGD else {}
    accumulating = kind(0.1, gradient_accumulation_steps=2, **options)
    found = applied(accumulating, GRADIENTS, KERNEL, BIAS)
    expected = applied(kind(0.1, **options), averages, KERNEL, BIAS)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_averages_are_exchanged_and_brought_back():
    optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    variables = [keras.Variable(KERNEL)]
    for gradient, _ in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], variables)
    weights = np.array(variables[0])
    swap_averages(optimizer)
    assert np.abs(np.array(variables[0]) - weights).max() > 1e-3
    swap_averages(optimizer)
    np.testing.assert_array_equal(variables[0], weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "stock", "options"),
    [
        (optimizers.SGD, keras.optimizers.SGD, {"momentum": 0.9}),
        (optimizers.SGD, keras.optimizers.SGD, {"ema_overwrite_frequency": 3}),
        (optimizers.LAMB, keras.optimizers.Lamb, {"ema_overwrite_frequency": 3}),
    ],
)
def test_a_plain_fit_with_averages_ends_as_keras_does(ours, stock, options):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 3))
    kernel = rng.normal(size=(4, 3)).astype("float32")

    def fitted(kind, **averaging):
        dense = keras.layers.Dense(3, use_bias=False)  # Keras's LAMB scales biases, ours does not
        model = keras.Sequential([keras.Input((4,)), dense])
        dense.set_weights([kernel])
        model.compile(kind(0.05, **averaging), "mse")
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return dense.get_weights()[0]

    averaging = {"use_ema": True, "ema_momentum": 0.8, **options}
    found = fitted(ours, **averaging)
    np.testing.assert_allclose(found, fitted(stock, **averaging), rtol=1e-5)
    plain = {name: value for name, value in options.items() if name == "momentum"}
    assert np.abs(found - fitted(stock, **plain)).max() > 1e-3


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(momentum_correction=True, weight_decay=0.1, ema=0.9, accumulate=2, clip_norm=1.0),
        Recipe(optimizer="lamb", weight_decay=0.1),
        Recipe(warmup="constant", warmup_epochs=1, decay="steps"),
        Recipe(warmup_start=0.1, warmup_epochs=1, l2_on_bn=False),
    ],
)
def test_optimizers_are_saved_with_everything(recipe):
    made = optimizers.optimizer(recipe, steps_per_epoch=10)
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert loaded.get_config() == made.get_config()
    assert loaded.get_config()["kernel_decay"] == recipe.weight_decay
