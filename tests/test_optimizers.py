"""SGD with the papers' L2 term, and the learning rate over a training."""

import dataclasses

import keras
import numpy as np
import pytest

from resnet_keras import optimizers
from resnet_keras.recipes import QUICK, Recipe


def test_l2_is_added_to_the_gradient_before_momentum():
    variable = keras.Variable([2.0, -1.0])
    optimizer = optimizers.SGD(0.1, momentum=0.9, l2=0.5)
    weight, momentum = np.array([2.0, -1.0]), np.zeros(2)
    for gradient in ([1.0, 0.0], [0.0, -2.0], [3.0, 1.0]):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        momentum = 0.9 * momentum - 0.1 * (np.array(gradient) + 0.5 * weight)
        weight = weight + momentum
        np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-6)


def test_l2_is_not_keras_decoupled_weight_decay():
    def after_three_steps(optimizer):
        variable = keras.Variable([1.0])
        for _ in range(3):
            optimizer.apply([keras.ops.zeros(1)], [variable])
        return float(variable.numpy()[0])

    coupled = after_three_steps(optimizers.SGD(0.1, momentum=0.9, l2=0.1))
    decoupled = after_three_steps(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1))
    assert 1 - coupled > 1.5 * (1 - decoupled)


def test_without_l2_it_is_keras_sgd():
    ours, stock = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    for optimizer, variable in (
        (optimizers.SGD(0.1, momentum=0.9), ours),
        (keras.optimizers.SGD(0.1, momentum=0.9), stock),
    ):
        for _ in range(3):
            optimizer.apply([keras.ops.convert_to_tensor([0.3, -0.2])], [variable])
    np.testing.assert_array_equal(ours.numpy(), stock.numpy())


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
