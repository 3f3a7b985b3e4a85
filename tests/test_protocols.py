"""Names of protocols and their scales, given and by default."""

import kit
import pytest

from resnet_keras.architectures import NETWORKS
from resnet_keras.evaluation.protocols import Protocol


def test_scales_are_the_papers_in_proportion():
    protocol = Protocol("multi-scale")
    assert protocol.scales_for(224) == (224, 256, 384, 480, 640)
    assert protocol.scales_for(32) == (32, 37, 55, 69, 91)
    assert protocol.at(448).scales == (448, 512, 768, 960, 1280)
    assert str(protocol.at(32)) == "multi-scale 32 37 55 69 91"
    assert Protocol("multi-scale", (30, 20)).at(224).scales == (30, 20)
    assert Protocol("ten-crop").at(224) == Protocol("ten-crop")


@pytest.mark.parametrize(
    ("arguments", "received", "accepted"),
    [
        (("ten-crops",), "'ten-crops'", "ten-crop"),  # did you mean that?
        (("x",), "'x'", "single, ten-crop, multi-scale"),
        (("single", (224,)), "224", "multi-scale"),
        (("ten-crop", (224, 256)), "224 256", "multi-scale"),
        (("multi-scale", ()), "none", "one or more"),
        (("multi-scale", (224, 0)), "(224, 0)", "from 1 to 8,192"),
        (("multi-scale", (999_999_999,)), "999999999", "8,192"),
        (("multi-scale", (-224,)), "-224", "1"),
    ],
)
def test_what_is_no_protocol_is_refused(arguments, received, accepted):
    error = kit.refusal(Protocol, *arguments)
    assert received in error.received and accepted in error.accepted


def test_a_scale_too_small_for_a_network_is_refused():
    resnet50 = NETWORKS["resnet50"]
    Protocol("multi-scale", (32, 224)).check(resnet50)
    Protocol("multi-scale").check(resnet50)
    error = kit.refusal(Protocol("multi-scale", (224, 31)).check, resnet50)
    assert "31" in error.received and "32" in error.accepted
