"""Backbones: maps by name, dilated where strides are cut, frozen, loaded, exported; the page."""

import re
from dataclasses import replace
from pathlib import Path

import keras
import kit
import numpy as np
import pytest
from kit import draw_images, randomize, refusal

from resnet_keras import architectures, backbone
from resnet_keras.architectures import (
    BOTTLENECK,
    NETWORKS,
    OPTION_C,
    Architecture,
    Gating,
    Preprocessing,
    find,
)
from resnet_keras.evaluation.introspection import multiply_adds
from resnet_keras.networks.feature_maps import features
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import Classifier, build

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "detection-and-segmentation.md"
# As the Caffe release subtracts it, red first (He et al. 2016's own preprocessing).
CAFFE_PREPROCESSING = Preprocessing(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))


def tiny(network: str, **changes) -> Architecture:
    """The same stem, unit and shortcut, on as many short stages."""
    architecture = find(network)
    stages = len(architecture.blocks)
    return kit.tiny(architecture, (1, 2, 2, 2)[:stages], (4, 6, 8, 10)[:stages], **changes)


TINIES = {
    "basic": tiny("resnet18"),
    "bottleneck": tiny("resnet50"),
    "v1.5": tiny("resnet50v1.5"),
    "course": tiny("resnet50-course"),
    "resnext": tiny("resnext50-32x4d"),
    "preactivated": tiny("preresnet200"),
    "option-c": tiny("resnet18", shortcut=OPTION_C),
    "plain": tiny("plain18"),
    # Zero-padded shortcuts, and units with strides whose channels stay.
    "cifar": tiny("resnet20"),
    "cifar-preactivated": tiny("preresnet110"),
    "cifar-resnext": tiny("resnext29-8x64d"),
    "same-width": replace(tiny("resnet20"), filters=(4, 4, 4)),
    "same-width-projected": replace(tiny("resnet164"), filters=(4, 4, 4)),
    "single-layer": tiny("resnet20-single-layer"),
    "gated": tiny("resnet20", manipulation=Gating(-1.0, gates_branch=True)),
    "zero-padded-bottleneck": replace(tiny("resnet20"), unit=BOTTLENECK),
}


# With these there are all kinds of shortcuts and of places where the stride stands.
EVERY_KIND = ("basic", "v1.5", "resnext", "preactivated", "cifar")


@pytest.fixture(autouse=True, scope="module")
def tiny_networks():
    with pytest.MonkeyPatch.context() as patch:
        for name, architecture in TINIES.items():
            patch.setitem(architectures.NETWORKS, name, architecture)
        yield


def pixels(height, width, count=1):
    return draw_images(count, (height, width)).astype("float32")


def maps_of(model, images):
    return {name: keras.ops.convert_to_numpy(values) for name, values in model(images).items()}


def give_weights(source, target):
    """By name, since the order of the layers is the graph's."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
    return target


def assert_equal_maps(found, expected):
    assert expected.std() > 1e-2  # or the comparison would tell nothing
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


# --- maps ---


# Of the 3x3s in the first and second unit of stages 3 to 5.
@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [
        (None, (4, 8, 16, 32), (1, 1, 1, 1, 1, 1)),
        (16, (4, 8, 16, 16), (1, 1, 1, 1, 2, 2)),
        (8, (4, 8, 8, 8), (1, 1, 2, 2, 4, 4)),
        (4, (4, 4, 4, 4), (2, 2, 4, 4, 8, 8)),
    ],
)
def test_strides_and_channels_of_the_maps(output_stride, strides, dilations):
    model = backbone("bottleneck", output_stride=output_stride)
    shapes = model.compute_output_shape((1, 64, 96, 3))
    assert shapes == {
        name: (1, 64 // stride, 96 // stride, channels)
        for name, stride, channels in zip(
            ("C2", "C3", "C4", "C5"), strides, (16, 24, 32, 40), strict=True
        )
    }
    units = ("3a", "3b", "4a", "4b", "5a", "5b")
    found = [model.get_layer(f"res{unit}_branch2b").dilation_rate[0] for unit in units]
    assert tuple(found) == dilations
    architecture = replace(TINIES["bottleneck"], output_stride=output_stride)
    assert architecture.strides == strides
    assert architecture.channels == (16, 24, 32, 40)


@pytest.mark.slow
def test_resnet101_of_stride_8():
    model = backbone("resnet101", outputs=("C3", "C4", "C5"), output_stride=8)
    shapes = model.compute_output_shape((2, 160, 200, 3))
    channels = {"C3": 512, "C4": 1024, "C5": 2048}
    assert shapes == {name: (2, 20, 25, filters) for name, filters in channels.items()}
    # Of the first, second and last 3x3 of stages 4 and 5.
    places = ("4a", "4b1", "4b22", "5a", "5b", "5c")
    found = [model.get_layer(f"res{place}_branch2b").dilation_rate[0] for place in places]
    assert found == [2, 2, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("network", "output_stride"),
    [
        pytest.param(
            name,
            output_stride,
            marks=() if name in EVERY_KIND and output_stride == strides[-3] else pytest.mark.slow,
        )
        for name, architecture in TINIES.items()
        for strides in [architecture.undilated_strides]
        for output_stride in strides[:-1]
    ],
)
def test_a_dilated_map_is_the_plain_one_at_every_second_place(network, output_stride):
    plain = randomize(backbone(network))
    dilated = give_weights(plain, backbone(network, output_stride=output_stride))
    assert len(dilated.weights) == len(plain.weights)
    images = pixels(64, 35)  # an even side and an odd one
    expected, found = maps_of(plain, images), maps_of(dilated, images)
    strides = TINIES[network].undilated_strides
    for (name, values), stride in zip(expected.items(), strides, strict=True):
        step = max(1, stride // output_stride)
        assert found[name].shape[1] > values.shape[1] or step == 1
        assert_equal_maps(found[name][:, ::step, ::step], values)


def test_maps_come_by_the_names_that_were_asked_for():
    model = backbone("cifar", outputs=["C4", "C2"])
    maps = maps_of(model, pixels(16, 16))
    assert set(maps) == {"C2", "C4"}
    every = maps_of(give_weights(model, backbone("cifar")), pixels(16, 16))
    for name, values in maps.items():
        np.testing.assert_array_equal(values, every[name])


def test_later_stages_than_asked_for_are_not_computed():
    model = backbone("cifar-preactivated", outputs=("C3",))
    stages = {match[1] for layer in model.layers if (match := re.match(r"\D+(\d)", layer.name))}
    assert stages == {"1", "2", "3"}
    assert not any("final" in layer.name for layer in model.layers)
    # Its own last map has passed the activation at the network's end, as the classifier's input.
    names = {layer.name for layer in backbone("cifar-preactivated").layers}
    assert {"bn_final", "res_final_relu"} <= names


def test_names_and_preprocessing():
    bare = backbone("cifar", name="trunk", include_preprocessing=False)
    model = give_weights(bare, backbone("cifar"))
    assert (bare.name, model.name) == ("trunk", "cifar_backbone")
    preprocessing = TINIES["cifar"].preprocessing
    images = pixels(16, 16)
    normalized = (images - preprocessing.mean) / preprocessing.std
    for name, values in maps_of(bare, normalized.astype("float32")).items():
        np.testing.assert_allclose(maps_of(model, images)[name], values, atol=1e-4)


def test_maps_are_in_the_compute_dtype():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = backbone("cifar", output_stride=2)
    images = pixels(16, 16)
    half = model(images)
    assert {keras.backend.standardize_dtype(values.dtype) for values in half.values()} == {
        "bfloat16"
    }
    keras.config.set_dtype_policy("float32")
    full = maps_of(give_weights(model, backbone("cifar", output_stride=2)), images)
    for name, values in full.items():
        found = keras.ops.convert_to_numpy(keras.ops.cast(half[name], "float32"))
        assert abs(found - values).mean() < 0.02 * abs(values).mean()


@pytest.mark.parametrize(
    ("network", "arguments", "received", "accepted"),
    [
        ("resnet17", {}, "'resnet17'", "resnet"),
        ("cifar", {"outputs": ("C3", "C7")}, "('C3', 'C7')", "C2, C3, C4"),
        ("cifar", {"outputs": "C5"}, "('C5',)", "C2, C3, C4"),
        ("cifar", {"outputs": ()}, "()", "C2, C3, C4"),
        ("bottleneck", {"output_stride": 2}, "2", "4, 8, 16, 32"),
        ("bottleneck", {"output_stride": 64}, "64", "4, 8, 16, 32"),
        ("cifar", {"output_stride": 8}, "8", "1, 2, 4"),
        ("bottleneck", {"output_stride": 0}, "0", "4, 8, 16, 32"),
        ("bottleneck", {"weights": "lost.keras"}, "lost.keras", ".keras"),
        ("bottleneck", {"input_shape": (16, 16, 3)}, "16x16", "32x32"),
    ],
)
def test_bad_arguments_are_refused(network, arguments, received, accepted):
    error = refusal(backbone, network, **arguments)
    assert received in error.received
    assert accepted in error.accepted


# --- weights ---


def save_caffe(model, path):
    """The trunk's blobs as in the Caffe release: kernels (out, in, height, width), blue first."""
    blobs = {}
    for layer in model.layers:
        arrays = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = arrays
            arrays = [mean, variance]
            blobs[f"scale{layer.name.removeprefix('bn')}/0"] = gamma
            blobs[f"scale{layer.name.removeprefix('bn')}/1"] = beta
        elif isinstance(layer, keras.layers.Conv2D):
            [kernel] = arrays
            if layer.name == "conv1":
                kernel = kernel[:, :, ::-1]
            arrays = [kernel.transpose(3, 2, 0, 1)]
        else:
            continue
        for index, array in enumerate(arrays):
            blobs[f"{layer.name}/{index}"] = array
    np.savez(path, **blobs)


SAVERS = {
    "mine.keras": lambda model, path: model.save(path),
    "mine.weights.h5": lambda model, path: model.save_weights(path),
    "caffe.npz": save_caffe,
}


OTHER_PREPROCESSING = Preprocessing(mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0))


@pytest.mark.parametrize("file", SAVERS)
def test_weights_of_a_plain_network_are_taken(tmp_path, file):
    """With the preprocessing and the epsilon that they were trained with, as far as a file says."""
    architecture = TINIES["same-width-projected"]
    if file == "mine.keras":
        defaults = replace(architecture.defaults, bn_epsilon=0.1)
        architecture = replace(architecture, preprocessing=OTHER_PREPROCESSING, defaults=defaults)
    elif file == "caffe.npz":
        architecture = replace(architecture, preprocessing=CAFFE_PREPROCESSING)
    plain = randomize(build(architecture))
    SAVERS[file](plain, tmp_path / file)
    model = backbone("same-width-projected", output_stride=2, weights=tmp_path / file)
    expected, found = (maps_of(one, pixels(32, 32)) for one in (features(plain), model))
    for (name, values), step in zip(expected.items(), (1, 1, 2), strict=True):
        assert_equal_maps(found[name][:, ::step, ::step], values)


def test_a_dilated_network_s_weights_fit_the_plain_one(tmp_path):
    dilated = randomize(backbone("cifar", output_stride=1))
    dilated.save_weights(tmp_path / "dilated.weights.h5")
    plain = backbone("cifar", weights=tmp_path / "dilated.weights.h5")
    found = maps_of(dilated, pixels(16, 16))["C4"][:, ::4, ::4]
    assert_equal_maps(found, maps_of(plain, pixels(16, 16))["C4"])


def test_another_network_s_weights_are_refused(tmp_path):
    path = tmp_path / "cifar.weights.h5"
    build(TINIES["cifar"]).save_weights(path)
    error = refusal(backbone, "same-width", weights=path, outputs=("C2",))
    assert "res3a" in error.problem and str(path) in error.received


def test_a_saved_backbone_is_the_same_when_loaded(tmp_path):
    model = randomize(backbone("cifar-resnext", ("C2", "C4"), output_stride=2, freeze_bn=True))
    model.save(tmp_path / "backbone.keras")
    loaded = load_model(tmp_path / "backbone.keras")
    expected = maps_of(model, pixels(16, 17))
    found = maps_of(loaded, pixels(16, 17))
    assert set(found) == {"C2", "C4"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)
    assert [layer.trainable for layer in loaded.layers] == [
        layer.trainable for layer in model.layers
    ]


# --- training ---


def train_a_step(trunk):
    """What a step changes of a trunk under a small head: layers by name, before and after."""
    pixels_of_any_size = keras.Input((None, None, 3))
    maps = trunk(pixels_of_any_size)
    pooled = [keras.layers.GlobalAveragePooling2D()(values) for values in maps.values()]
    scores = keras.layers.Dense(2)(keras.layers.Concatenate()(pooled))
    detector = keras.Model(pixels_of_any_size, scores)
    # Eagerly: to trace a step would take longer than the step.
    detector.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    before = {layer.name: layer.get_weights() for layer in trunk.layers if layer.weights}
    loss = detector.train_on_batch(pixels(16, 16, count=4), np.eye(4, 2))
    assert np.isfinite(loss)
    after = {layer.name: layer.get_weights() for layer in trunk.layers if layer.weights}
    return before, after


def test_frozen_normalizations_stay_and_the_rest_learns():
    trunk = randomize(backbone("cifar-resnext", output_stride=2, freeze_bn=True))
    before, after = train_a_step(trunk)
    for name, values in before.items():
        for one, other in zip(values, after[name], strict=True):
            assert np.array_equal(one, other) == name.startswith("bn"), name


def test_normalizations_learn_and_count_unless_frozen():
    before, after = train_a_step(randomize(backbone("cifar")))
    for name, values in before.items():
        for one, other in zip(values, after[name], strict=True):
            assert not np.array_equal(one, other), name


def test_frozen_normalizations_infer_in_training():
    model = randomize(backbone("cifar-preactivated", freeze_bn=True))
    images = pixels(16, 16)
    for name, values in model(images, training=True).items():
        np.testing.assert_allclose(values, maps_of(model, images)[name], rtol=1e-5, atol=1e-4)


# --- elsewhere ---


def test_a_classifier_may_be_dilated_too():
    architecture = replace(TINIES["cifar"], output_stride=2)
    model = build(architecture, (16, 16, 3), Classifier(3))
    assert model.get_layer("res4b_relu").output.shape[1:3] == (8, 8)
    assert model.count_params() == architecture.parameters(classes=3).total
    assert multiply_adds(model) == architecture.multiply_adds(16, classes=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # tf2onnx is older than today's NumPy
def test_a_dilated_backbone_of_groups_is_plain_onnx(tmp_path):
    import onnx
    import onnxruntime

    model = randomize(backbone("resnext", output_stride=8, input_shape=(64, 96, 3)))
    images = pixels(64, 96)
    expected = maps_of(model, images)  # Keras exports what was called once
    path = tmp_path / "backbone.onnx"
    model.export(path, format="onnx", verbose=False)
    graph = onnx.load(path).graph
    assert {node.domain for node in graph.node} == {""}
    convolutions = [
        {attribute.name: attribute for attribute in node.attribute}
        for node in graph.node
        if node.op_type == "Conv"
    ]
    dilations = {tuple(how["dilations"].ints) for how in convolutions}
    assert dilations == {(1, 1), (2, 2), (4, 4)}
    grouped = [how for how in convolutions if how["group"].i == 2]
    assert len(grouped) == sum(TINIES["resnext"].blocks)
    assert not {"SpaceToDepth", "DepthToSpace"} & {node.op_type for node in graph.node}
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: images})
    assert len(found) == len(expected)
    for values in expected.values():
        same = [one for one in found if one.shape == values.shape]
        assert min(abs(one - values).max() for one in same) < 1e-5 * abs(values).max()


@pytest.mark.slow
def test_a_dilated_backbone_is_a_saved_model(tmp_path):
    import tensorflow as tf

    model = randomize(backbone("resnext", output_stride=8))
    model.export(tmp_path / "saved", verbose=False)
    images = pixels(67, 65)
    saved = tf.saved_model.load(tmp_path / "saved")
    found = saved.serve(images)
    for name, values in maps_of(model, images).items():
        assert_equal_maps(found[name].numpy(), values)


# --- the page ---


def test_the_page_s_table_holds_every_network():
    rows = re.findall(
        r"^\| (.*?) \| C2 to (C\d) \| (.*?) \| (.*?) \|$", PAGE.read_text("utf-8"), re.M
    )
    listed = {name: facts for names, *facts in rows for name in names.split(", ")}
    assert listed == {
        name: [
            f"C{1 + len(network.blocks)}",
            ", ".join(map(str, network.undilated_strides)),
            ", ".join(map(str, network.channels)),
        ]
        for name, network in NETWORKS.items()
        if name not in TINIES
    }
