"""Losses and metrics that take shares of classes as well as class numbers."""

import keras
import numpy as np
import pytest

from resnet_keras.training import losses

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], "float32")
NUMBERS = np.array([0, 1])
SHARES = np.array([[0.75, 0.0, 0.25], [0.0, 1.0, 0.0]], "float32")


def test_shares_and_numbers_of_one_meaning_have_one_loss():
    loss = losses.ShareCrossentropy()
    of_numbers = float(loss(NUMBERS, PROBABILITIES))
    assert of_numbers == pytest.approx(float(loss(np.eye(3)[NUMBERS], PROBABILITIES)))
    assert of_numbers == pytest.approx(-np.log([0.7, 0.3]).mean(), rel=1e-5)


def test_cross_entropy_of_shares():
    expected = -(0.75 * np.log(0.7) + 0.25 * np.log(0.1) + np.log(0.3)) / 2
    assert float(losses.ShareCrossentropy()(SHARES, PROBABILITIES)) == pytest.approx(
        expected, rel=1e-5
    )


def test_every_class_of_a_mixture_is_present():
    loss = float(losses.PresenceCrossentropy()(SHARES, PROBABILITIES))
    present = np.array([[0.7, 1 - 0.2, 0.1], [1 - 0.1, 0.3, 1 - 0.6]])
    assert loss == pytest.approx(-np.log(present).mean(), rel=1e-5)


@pytest.mark.parametrize("labels", [NUMBERS, NUMBERS[:, None], SHARES])
def test_top1_accuracy(labels):
    top1, _ = losses.metrics(6)
    top1.update_state(labels, PROBABILITIES)
    assert float(top1.result()) == 0.5


def test_top5_is_measured_where_it_tells_anything():
    assert [metric.name for metric in losses.metrics(5)] == ["accuracy"]


def test_top5_accuracy():
    _, top5 = losses.metrics(6)
    falling = np.arange(10, 0, -1, dtype="float32")[None].repeat(2, axis=0)
    for labels in (np.array([4, 5]), np.eye(10)[[4, 5]]):
        top5.reset_state()
        top5.update_state(labels, falling)
        assert float(top5.result()) == 0.5


@pytest.mark.parametrize("loss", [losses.ShareCrossentropy(), losses.PresenceCrossentropy()])
def test_losses_are_saved(loss):
    config = keras.saving.serialize_keras_object(loss)
    assert type(keras.saving.deserialize_keras_object(config)) is type(loss)
