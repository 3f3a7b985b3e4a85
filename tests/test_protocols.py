"""Names of protocols and their scales, given and by default."""

import pytest

from resnet_keras.architectures import NETWORKS
from resnet_keras.errors import InputError
from resnet_keras.protocols import Protocol


def test_scales_are_the_papers_in_proportion():
    protocol = Protocol("multi-scale")
    assert protocol.scales_for(224) == (224, 256, 384, 480, 640)
    assert protocol.scales_for(32) == (32, 37, 55, 69, 91)
    assert protocol.at(448).scales == (448, 512, 768, 960, 1280)
    assert str(protocol.at(32)) == "multi-scale 32 37 55 69 91"
    assert Protocol("multi-scale", (30, 20)).at(224).scales == (30, 20)
    assert Protocol("ten-crop").at(224) == Protocol("ten-crop")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ten-crops",), "unknown protocol. Received: 'ten-crops'; did you mean ten-crop?"),
        (("x",), "unknown protocol. Received: 'x'; accepted: single, ten-crop, multi-scale"),
        (("single", (224,)), "only multi-scale testing takes scales. Received: scales 224 with"),
        (("ten-crop", (224, 256)), "with ten-crop; accepted: ten-crop without, or multi-scale"),
        (("multi-scale", ()), "scales are shorter sides in pixels. Received: none"),
        (("multi-scale", (224, 0)), "Received: 224 0; accepted: one or more, each at least 1"),
        (("multi-scale", (-224,)), "Received: -224; accepted"),
    ],
)
def test_what_is_no_protocol_is_refused(arguments, words):
    with pytest.raises(InputError) as error:
        Protocol(*arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scale_too_small_for_a_network_is_refused():
    resnet50 = NETWORKS["resnet50"]
    Protocol("multi-scale", (32, 224)).check(resnet50)
    Protocol("multi-scale").check(resnet50)
    with pytest.raises(InputError) as error:
        Protocol("multi-scale", (224, 31)).check(resnet50)
    assert "too small for the network. Received: 31 pixels; accepted: at least 32" in str(
        error.value
    )
