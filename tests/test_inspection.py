"""What is seen inside a network."""

import keras
import numpy as np
import pytest

from resnet_keras import create
from resnet_keras.inspection import responses

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype("uint8")


def inside(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output).predict(IMAGES, verbose=0)


def test_responses_are_those_after_normalization():
    model = create("resnet20", input_shape=(8, 8, 3))
    found = responses(model, IMAGES, batch_size=3)
    assert list(found)[:3] == ["conv1", "res2a_branch2a", "res2a_branch2b"]
    assert len(found) == 19  # as many as 3x3 layers
    for convolution, layer in (("conv1", "bn_conv1"), ("res3a_branch2b", "bn3a_branch2b")):
        assert found[convolution] == pytest.approx(inside(model, layer).std(), rel=1e-4)


@pytest.mark.parametrize("network", ["resnet20-full-preactivation", "plain20-without-bn"])
def test_responses_without_a_normalization_after_them(network):
    model = create(network, input_shape=(8, 8, 3))
    found = responses(model, IMAGES)["res3b_branch2b"]
    assert found == pytest.approx(inside(model, "res3b_branch2b").std(), rel=1e-4)


def test_projections_do_not_respond():
    found = responses(create("resnet18", input_shape=(32, 32, 3)), np.zeros((1, 32, 32, 3)))
    assert len(found) == 17 and not [name for name in found if "branch1" in name]
