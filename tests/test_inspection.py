"""What is seen inside a network."""

import keras
import numpy as np
import pytest

from resnet_keras import architectures, create
from resnet_keras.inspection import multiply_adds, responses

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


@pytest.mark.parametrize(
    ("network", "size"), [("resnet18", 224), ("resnet20", 32), ("resnext29-8x64d", 32)]
)
def test_multiply_adds_are_those_of_the_architecture(network, size):
    architecture = architectures.find(network)
    assert multiply_adds(create(network)) == architecture.multiply_adds(size)


def test_multiply_adds_of_vgg_are_the_published_ones():
    # He et al. 2016, section 3.3, has 19.6e9 of VGG-19. Without the dense layers: 120e6 of them.
    model = keras.applications.VGG19(weights=None, include_top=False, input_shape=(224, 224, 3))
    dense = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    assert multiply_adds(model) + dense == pytest.approx(19.6e9, rel=3e-3)


def test_multiply_adds_of_a_depthwise_convolution():
    inputs = keras.Input((8, 8, 6))
    outputs = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(inputs)
    assert multiply_adds(keras.Model(inputs, outputs)) == 4 * 4 * 3 * 3 * 6
