"""What is seen inside a network."""

import keras
import kit
import numpy as np
import pytest

from resnet_keras import architectures, build
from resnet_keras.evaluation.introspection import multiply_adds, responses

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype("uint8")


def inside(model, layer):
    return kit.answers(keras.Model(model.input, model.get_layer(layer).output), IMAGES)


def test_responses_are_those_after_normalization():
    model = build(kit.tiny(architectures.RESNET20, input_size=8))
    found = responses(model, IMAGES, batch_size=3)
    assert list(found)[:3] == ["conv1", "res2a_branch2a", "res2a_branch2b"]
    assert len(found) == 1 + 4 * 2  # as many as 3x3 layers
    for convolution, layer in (("conv1", "bn_conv1"), ("res3a_branch2b", "bn3a_branch2b")):
        assert found[convolution] == pytest.approx(inside(model, layer).std(), rel=1e-4)


@pytest.mark.parametrize("network", ["preresnet110", "plain20-without-bn"])
def test_responses_without_a_normalization_after_them(network):
    model = build(kit.tiny(architectures.find(network), input_size=8))
    found = responses(model, IMAGES)["res3b_branch2b"]
    assert found == pytest.approx(inside(model, "res3b_branch2b").std(), rel=1e-4)


def test_projections_do_not_respond():
    model = build(kit.TINY_FAMILY["resnet18"])
    assert model.get_layer("res3a_branch1").weights
    found = responses(model, kit.draw_images(1))
    assert len(found) == 1 + 4 * 2 and not [name for name in found if "branch1" in name]


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 48), ("resnet20", 32), ("resnext29-8x64d", 32)]
)
def test_multiply_adds_are_those_of_the_architecture(name, size):
    architecture = kit.TINY_FAMILY[name]
    model = build(architecture, (size, size, 3))
    assert multiply_adds(model) == architecture.multiply_adds(size) > 0


def test_multiply_adds_of_vgg_are_the_published_ones():
    # He et al. 2016, section 3.3, has 19.6e9 of VGG-19. Without the dense layers: 120e6 of them.
    model = keras.applications.VGG19(weights=None, include_top=False, input_shape=(224, 224, 3))
    dense = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    assert multiply_adds(model) + dense == pytest.approx(19.6e9, rel=3e-3)


def test_multiply_adds_of_a_depthwise_convolution():
    inputs = keras.Input((8, 8, 6))
    outputs = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(inputs)
    assert multiply_adds(keras.Model(inputs, outputs)) == 4 * 4 * 3 * 3 * 6
