"""Highway networks, DenseNets and dense shortcuts, rivals of ResNets, against other sources.

[1] Srivastava et al. 2015, "Training Very Deep Networks"; [2] Huang et al. 2017, "Densely Connected
Convolutional Networks"; [3] Zhang et al. 2021, "ResNet or DenseNet? Introducing Dense Shortcuts to
ResNet".
"""

from dataclasses import replace

import keras
import kit
import numpy as np
import pytest
from keras.src.applications.densenet import DenseNet
from kit import TINY_FAMILY, answers, draw_images, randomize, refusal, tiny

from resnet_keras import backbone
from resnet_keras.architectures import (
    CONCATENATION,
    DENSE_TRANSITION,
    NETWORKS,
    OPTION_B,
    RESNET20,
    LayerDefaults,
    Scaling,
    Shortcut,
    find,
)
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.models import Classifier, build
from resnet_keras.weights.translate import to_torchvision

HIGHWAY, DENSENET = NETWORKS["highway19"], NETWORKS["densenet100-k12"]
LOGITS = Classifier(7, activation=None)


def assert_densenets_agree(blocks, theirs, side):
    """Logits of our network of so many layers in each block are those of Keras's, same weights."""
    architecture = replace(
        NETWORKS["densenet121"],
        blocks=(blocks[0], *(1 + count for count in blocks[1:])),
        defaults=LayerDefaults(bn_epsilon=1.001e-5),
        numbered_stages=(),
    )
    ours = build(architecture, (side, side, 3), LOGITS, include_preprocessing=False)
    images = draw_images(4, side).astype("float32") / 127.5 - 1
    kit.as_after_training(theirs, images)
    pairs = [[layer for layer in model.layers if layer.weights] for model in (ours, theirs)]
    for mine, other in zip(*pairs, strict=True):
        mine.set_weights(other.get_weights())
    kit.assert_alike(answers(ours, images), answers(theirs, images))


def test_a_densenet_is_keras_s():
    theirs = DenseNet(
        [2, 1, 2, 1],
        weights=None,
        input_shape=(32, 32, 3),
        classes=7,
        classifier_activation=None,
    )
    assert_densenets_agree((2, 1, 2, 1), theirs, 32)


@pytest.mark.slow
def test_densenet121_is_keras_s():
    theirs = keras.applications.DenseNet121(
        weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None
    )
    assert_densenets_agree((6, 12, 24, 16), theirs, 64)


def test_a_densenet_for_small_images_begins_with_a_bare_convolution():
    # [2, section 3, "Implementation Details"]: 2k channels enter the first dense block.
    model = build(tiny(DENSENET, (2, 2)), (32, 32, 3))
    names = [layer.name for layer in model.layers]
    assert names[names.index("conv1") + 1 :][:2] == ["bn2a_branch2a", "res2a_branch2a_relu"]
    assert DENSENET.stem.filters == 24 and NETWORKS["densenet190-k40"].stem.filters == 80


def test_a_dense_unit_s_output_begins_with_its_input():
    model = randomize(build(TINY_FAMILY["densenet100-k12"]))
    ends = [model.get_layer(name).output for name in ("conv1", "res2a", "res2b")]
    before, first, second = (answers(keras.Model(model.input, end), draw_images(2)) for end in ends)
    assert [x.shape[-1] for x in (before, first, second)] == [4, 8, 12]
    np.testing.assert_array_equal(first[..., :4], before)
    np.testing.assert_array_equal(second[..., :8], first)


def test_a_highway_layer_by_hand():
    # [1, equation 3]: y = H(x) T(x) + x (1 - T(x)), H and T of the same 3x3 pixels.
    model = randomize(build(tiny(HIGHWAY, (1, 1))))
    x, y = (
        answers(keras.Model(model.input, model.get_layer(name).output), draw_images(2))
        for name in ("conv1_relu", "res2a")
    )

    def convolve(layer):
        kernel, bias = model.get_layer(layer).get_weights()
        padded = np.pad(x.astype("float64"), ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.einsum("nhwcij,ijcf->nhwf", windows, kernel) + bias

    block = np.maximum(convolve("res2a_branch2a"), 0)
    gate = 1 / (1 + np.exp(-convolve("gate2a")))
    np.testing.assert_allclose(y, block * gate + x * (1 - gate), rtol=1e-4, atol=1e-4)


def test_gates_of_a_highway_network_start_nearly_shut():
    # [1, section 2.2] names -1 and -3 as biases.
    model = build(tiny(HIGHWAY))
    (bias,) = set(model.get_layer("gate2a").get_weights()[1].tolist())
    assert bias == -1


def test_highway_19_pools_where_fitnet_4_does():
    # Romero et al. 2015: 32 32 32 48 48, pool, six of 80, pool, six of 128.
    widths = [HIGHWAY.stem.filters]
    for unit in HIGHWAY.units():
        widths += ["pool"] * (unit.pool is not None) + [unit.out_filters]
    assert widths == [32] * 3 + [48] * 2 + ["pool"] + [80] * 6 + ["pool"] + [128] * 6
    maps = features(build(tiny(HIGHWAY, (1, 1, 2, 1), (4, 4, 6, 8)))).output
    assert [x.shape[1:] for x in maps.values()] == [
        (32, 32, 4), (32, 32, 4), (16, 16, 6), (8, 8, 8)
    ]  # fmt: skip


@pytest.mark.parametrize("architecture", [HIGHWAY, DENSENET], ids=["highway", "densenet"])
def test_odd_maps_are_halved_as_counted(architecture):
    small = tiny(architecture, (1, 1, 1), (4, 4, 8))
    model = build(small, (13, 9, 3))
    assert model.layers[-2].input.shape[1:3] == tuple(map(small.map_size, (13, 9)))


def test_dense_shortcuts_by_hand():
    # [3]: to the branch, every map of the stage so far is added, normalised and weighted.
    architecture = TINY_FAMILY["dense-shortcuts"]
    model = randomize(build(architecture))
    ends = ("conv1_relu", "res2a_relu", "res2b_relu", "bn2c_branch2b", "res2c")
    *maps, branch, joined = (
        answers(keras.Model(model.input, model.get_layer(end).output), draw_images(2))
        for end in ends
    )
    expected = branch.astype("float64")
    for index, x in enumerate(maps):
        gamma, beta, mean, variance = model.get_layer(f"bn2c_branch1_from{index}").get_weights()
        expected += gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(joined, expected, rtol=1e-4, atol=1e-4)
    # Where the shape changes the option's shortcut stays, and the sums begin anew.
    reaches = [(unit.name, unit.shortcut, unit.reach) for unit in architecture.units()]
    assert reaches[1:] == [
        ("2b", "dense", 2), ("2c", "dense", 3), ("3a", "zero-padded", 1), ("3b", "dense", 1)
    ]  # fmt: skip


def test_dense_shortcuts_cost_a_gamma_and_a_beta_for_every_channel_they_read():
    # Three units a stage: six shortcuts of 16 channels, and three of 32 and of 64.
    added = 2 * (6 * 16 + 3 * 32 + 3 * 64)
    plain, dense = RESNET20, find("resnet20-dense-shortcuts")
    assert dense.parameters().trainable == plain.parameters().trainable + added
    assert dense.parameters().non_trainable == plain.parameters().non_trainable + added
    assert dense.multiply_adds() == plain.multiply_adds()


@pytest.mark.parametrize(
    "arguments",
    [
        ("densenet121", "A"),
        ("highway19", "B"),
        ("densenet121-constant-scaling",),
        ("densenet121-dense-shortcuts",),
        ("densenet121-single-layer",),
        ("highway19-conv-shortcut",),
        ("highway19-dense-shortcuts",),
    ],
)
def test_shortcuts_that_do_not_fit_are_refused(arguments):
    refusal(find, *arguments)


@pytest.mark.parametrize("network", ["resnet20-exclusive-gating-6", "resnet20-dense-shortcuts"])
def test_shortcuts_with_weights_have_no_names_elsewhere(network):
    architecture = find(network)
    layers = build(architecture).layers
    weights = {layer.name: layer.get_weights() for layer in layers if layer.weights}
    refusal(to_torchvision, weights, architecture, None, "softmax")


def test_a_branch_without_a_shortcut_does_not_start_empty():
    defaults = LayerDefaults(zero_init_last_gamma=True)
    model = build(tiny(RESNET20, shortcut=Shortcut("none", "identity"), defaults=defaults))
    gammas = {name: model.get_layer(name).gamma for name in ("bn2a_branch2b", "bn3a_branch2b")}
    assert [float(np.sum(gamma)) for gamma in gammas.values()] == [0, 8]


def test_what_needs_additions_or_transitions_is_refused():
    assert "concatenates" in refusal(replace, DENSENET, final_survival=0.5).received
    assert "concatenated" in refusal(replace, DENSENET, manipulation=Scaling()).received
    assert "no transition" in refusal(replace, RESNET20, shortcut=CONCATENATION).received
    assert "a transition" in refusal(replace, HIGHWAY, shortcut=OPTION_B).received


@pytest.mark.parametrize("compression", [0, 1.5])
def test_a_transition_keeps_some_channels_and_adds_none(compression):
    error = refusal(replace, DENSE_TRANSITION, compression=compression)
    assert error.received == str(compression)


def test_pools_are_not_dilated():
    error = refusal(backbone, "densenet121", output_stride=8)
    assert (error.received, error.accepted) == ("8", "32")
