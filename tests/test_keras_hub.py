"""Weights of KerasHub: its own networks beside ours, in every form that it saves them in."""

import functools
from dataclasses import replace

import keras
import numpy as np
import pytest
from kit import answers, as_after_training, assert_alike, draw_images, randomize, refusal

from resnet_keras import architectures, create
from resnet_keras.architectures import IMAGENET_PREPROCESSING, IMAGENET_STEM, RESNET18, find
from resnet_keras.networks.loading import read_weights

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub comes with the peers extra")

SHRUNK = {
    "stem": IMAGENET_STEM,
    "blocks": (2, 1),
    "filters": (64, 8),  # 64 is the least that KerasHub takes
    "classes": 7,
    "input_size": 64,
}
NETWORKS = {
    "basic_block": replace(RESNET18, **SHRUNK),
    "bottleneck_block": replace(find("resnet50v1.5"), **SHRUNK, numbered_stages=()),
}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)  # of pixels 0..1, none that is assumed


@pytest.fixture(autouse=True, scope="module")
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        for name, architecture in NETWORKS.items():
            patch.setitem(architectures.NETWORKS, name, architecture)
        yield


def hub_backbone(block_type, **changes):
    arguments = {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 8],
        "stackwise_num_blocks": [2, 1],
        "stackwise_num_strides": [1, 2],
    }
    return keras_hub.models.ResNetBackbone(block_type=block_type, **arguments | changes)


def hub_classifier(block_type, **options):
    converter = keras_hub.layers.ResNetImageConverter(
        scale=[1 / 255 / std for std in STD],
        offset=[-mean / std for mean, std in zip(MEAN, STD, strict=True)],
    )
    return keras_hub.models.ResNetImageClassifier(
        backbone=randomize(hub_backbone(block_type)),
        num_classes=7,
        preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=converter),
        **options,
    )


@functools.cache
def classifier():
    return hub_classifier("bottleneck_block")


def read(source, network="bottleneck_block"):
    return read_weights(source, network, find(network))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_live_classifier_answers_alike(network):
    peer = classifier() if network == "bottleneck_block" else hub_classifier(network)
    images = draw_images(2, 65)  # an odd size leaves halves at every stride
    expected = answers(peer, peer.preprocessor(images))  # as its `predict` does
    model = create(network, weights=peer, input_shape=(65, 65, 3), classifier_activation=None)
    found = answers(model, images)
    assert np.ptp(expected, axis=0).max() > 0.1  # it heeds the images
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "save", "states_preprocessing"),
    [
        ("whole.keras", lambda model, path: model.save(path), True),
        ("x.weights.h5", lambda model, path: model.save_weights(path), False),
        ("preset", lambda model, path: model.save_to_preset(str(path)), True),
    ],
)
def test_files_and_presets_hold_what_the_classifier_has(name, save, states_preprocessing, tmp_path):
    save(classifier(), tmp_path / name)
    found, expected = read(tmp_path / name), read(classifier())
    assert found.classes == 7 and found.weights.keys() == expected.weights.keys()
    for layer, values in expected.weights.items():
        for one, other in zip(found.weights[layer], values, strict=True):
            np.testing.assert_array_equal(one, other)
    assert found.architecture.defaults.bn_epsilon == 1e-5
    preprocessing = found.architecture.preprocessing
    if states_preprocessing:
        assert preprocessing.mean == pytest.approx([255 * mean for mean in MEAN])
        assert preprocessing.std == pytest.approx([255 * std for std in STD])
    else:
        assert preprocessing == IMAGENET_PREPROCESSING


def test_a_backbone_alone_has_no_classifier(tmp_path):
    classifier().backbone.save_to_preset(str(tmp_path / "preset"))
    for source in (classifier().backbone, tmp_path / "preset"):
        found = read(source)
        assert found.classes is None and found.architecture.preprocessing == IMAGENET_PREPROCESSING


def test_a_sigmoid_stays_one():
    multi_label = keras_hub.models.ResNetImageClassifier(
        backbone=classifier().backbone, num_classes=7, activation="sigmoid"
    )
    assert read(multi_label).activation == "sigmoid"
    assert read(classifier()).activation == "softmax"  # of logits, as of keras.applications


DEEP_STEM = {"input_conv_filters": [32, 32, 64], "input_conv_kernel_sizes": [3, 3, 3]}


@pytest.mark.parametrize(
    ("block_type", "changes", "told"),
    [
        ("bottleneck_block", {"use_pre_activation": True}, "V2"),
        ("bottleneck_block_vd", {}, "Vd"),
        ("bottleneck_block", DEEP_STEM, "deep stem"),
        ("bottleneck_block", {"stackwise_num_strides": [2, 2]}, "stackwise_num_strides"),
    ],
    ids=["V2", "Vd", "D", "strides"],
)
def test_other_networks_of_keras_hub_are_refused_by_name(block_type, changes, told, tmp_path):
    other = hub_backbone(block_type, **{"stackwise_num_blocks": [1, 1]} | changes)
    assert told in refusal(read, other).received
    if told == "Vd":
        other.save(tmp_path / "x.keras")
        assert told in refusal(read, tmp_path / "x.keras").received
    elif told in ("V2", "deep stem"):  # the names in a file of weights alone tell these
        other.save_weights(tmp_path / "x.weights.h5")
        assert told in refusal(read, tmp_path / "x.weights.h5").problem


def test_preprocessing_of_ones_own_is_refused():
    other = keras_hub.models.ResNetImageClassifier(
        backbone=classifier().backbone, num_classes=7, preprocessor=keras.layers.Rescaling(1 / 255)
    )
    assert "Rescaling" in refusal(read, other).received


def test_another_pooling_than_the_average_is_refused():
    other = keras_hub.models.ResNetImageClassifier(
        backbone=classifier().backbone, num_classes=7, pooling="max"
    )
    assert "'max'" in refusal(read, other).received


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "block_type", "blocks"),
    [
        ("resnet18", "basic_block", [2, 2, 2, 2]),
        ("resnet50v1.5", "bottleneck_block", [3, 4, 6, 3]),
    ],
)
def test_networks_of_its_presets_answer_alike(network, block_type, blocks):
    """docs/reference/weights.md has what is printed."""
    backbone = hub_backbone(
        block_type,
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=blocks,
        stackwise_num_strides=[1, 2, 2, 2],
    )
    peer = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=1000)
    mean, std = np.array(IMAGENET_PREPROCESSING.mean), np.array(IMAGENET_PREPROCESSING.std)

    def seen(images):
        return ((images - mean) / std).astype("float32")

    as_after_training(backbone, seen(draw_images(16, 97)))
    for size in (64, 97):
        images = draw_images(2, size)
        expected = answers(peer, seen(images))
        model = create(
            network, weights=peer, input_shape=(size, size, 3), classifier_activation=None
        )
        assert_alike(answers(model, images), expected, f"KerasHub's {network} at {size}")
