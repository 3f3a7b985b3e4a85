import kit
import pytest

from resnet_keras.architectures.layer_names import (
    is_classifier,
    is_convolution,
    parse,
    part_of,
    path_of,
)
from resnet_keras.networks.models import build


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ("pixels", "stem/pixels"),
        ("normalize", "stem/normalize"),
        ("bn_conv1", "stem/bn_conv1"),
        ("pool1", "stem/pool1"),
        ("res2a_branch2a", "stage2/2a/res2a_branch2a"),
        ("bn2a", "stage2/2a/bn2a"),
        ("res4b22", "stage4/4b22/res4b22"),
        ("drop2a", "stage2/2a/drop2a"),
        ("scale2a_branch1", "stage2/2a/scale2a_branch1"),
        ("gate3b17_complement", "stage3/3b17/gate3b17_complement"),
        ("bn_final", "head/bn_final"),
        ("avg_pool", "head/avg_pool"),
        ("fc1000", "head/fc1000"),
    ],
)
def test_a_layer_is_folded_into_its_part_and_unit(layer, path):
    assert path_of(layer) == path
    assert part_of(layer) == path.split("/")[0]


def test_convolutions_of_the_stem_and_of_residual_branches():
    assert is_convolution("conv1") and is_convolution("res3b7_branch2c")
    for layer in ("res3a_branch1", "res3a_branch2", "res3a_branch2a_relu", "bn3a_branch2a", "fc10"):
        assert not is_convolution(layer)


def test_classifiers():
    assert is_classifier("fc10") and not is_classifier("fc") and not is_classifier("fc10_softmax")


@pytest.mark.parametrize("network", kit.EVERY_PART)
def test_parts_follow_one_another_from_the_input_on(network):
    model = build(kit.TINY_FAMILY[network])
    parts = ["stem", "stage2", "stage3", "stage4", "stage5", "head"]
    units: list[str] = []
    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        before = [tensor._keras_history.operation.name for tensor in inputs]
        assert max(map(parts.index, map(part_of, before))) <= parts.index(part_of(layer.name))
        name = parse(layer.name)
        if name and name.unit not in units:
            units.append(name.unit)
        if name and name.is_output:
            assert name.unit == units[-1]
    assert units == [unit.name for unit in kit.TINY_FAMILY[network].units()]
