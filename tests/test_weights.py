"""Weights of other projects: the same answers, and clear words about files that do not fit."""

import functools
import json
import os
import pickle
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from kit import (
    TINY,
    TOLERANCE,
    answers,
    as_after_training,
    assert_alike,
    draw_images,
    randomize,
    refusal,
    tensors_of,
)
from safetensors import safe_open
from safetensors.numpy import save_file

from resnet_keras import architectures, backbone, create, load_model
from resnet_keras.architectures import (
    FULL_PREACTIVATION,
    IMAGENET_PREPROCESSING,
    IMAGENET_STEM,
    RESNET18,
    RESNET50,
    RESNET50_COURSE,
    RESNEXT50,
    find,
)
from resnet_keras.networks.conversion import convert
from resnet_keras.networks.loading import read_weights
from resnet_keras.networks.models import Classifier, Features, build
from resnet_keras.weights.metadata import imagenet_classes
from resnet_keras.weights.translate import CAFFE_PREPROCESSING

SIZES = (64, 97)  # of images; one of them leaves halves at every stride

SHRUNK = {
    "stem": replace(IMAGENET_STEM, filters=8),
    "blocks": (2, 1),
    "filters": (8, 12),
    "classes": 7,
    "input_size": 64,
}
NETWORKS = {
    "small18": replace(RESNET18, **SHRUNK),
    "small50": replace(RESNET50, **SHRUNK),
    # Its second stage labels its units as those of resnet101 and resnet152 do.
    "small50v1.5": replace(
        RESNET50, **SHRUNK, unit=find("resnet50v1.5").unit, numbered_stages=(2,)
    ),
    "smallnext": replace(RESNEXT50, **SHRUNK | {"unit": replace(RESNEXT50.unit, groups=4)}),
    "smallpre": replace(RESNET50, **SHRUNK, unit=find("preresnet200").unit),
    "smallcourse": replace(RESNET50_COURSE, **SHRUNK),
    # The stem of keras.applications has 64 filters.
    "application": replace(RESNET50, **SHRUNK | {"stem": IMAGENET_STEM}),
    "tiny-without-bn": replace(
        TINY, defaults=replace(TINY.defaults, normalized=False, use_bias=True)
    ),
}


@pytest.fixture(autouse=True, scope="module")
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        for name, architecture in NETWORKS.items():
            patch.setitem(architectures.NETWORKS, name, architecture)
        yield


def logits_of(network, weights, size):
    """What our network of these weights says of `draw_images(2, size)`."""
    model = create(
        network, weights=weights, input_shape=(size, size, 3), classifier_activation=None
    )
    return answers(model, draw_images(2, size))


@functools.cache
def ours(network):
    """A network of ours as after training, and its weights by torchvision's names."""
    architecture = find(network)
    head = Classifier(activation=None, class_names=tuple(f"class {number}" for number in range(7)))
    name = network.replace(".", "_")
    model = randomize(build(architecture, (None, None, 3), head, name))
    return model, tensors_of(model, architecture)


def read(network, source):
    """What a source has for a network of the table."""
    return read_weights(source, network, find(network))


def assert_same(found, expected):
    """Two sources have the same for a network."""
    assert found.architecture == expected.architecture
    assert found.class_names == expected.class_names
    assert found.weights.keys() == expected.weights.keys()
    for name, values in expected.weights.items():
        for one, other in zip(found.weights[name], values, strict=True):
            np.testing.assert_array_equal(one, other)


# The sources themselves, live.


def torch_network(network):
    pytest.importorskip("torch", reason="torch comes with the peers extra")
    import torch
    import torch_resnet

    architecture = find(network)
    torch.manual_seed(0)
    return torch_resnet.ResNet(
        architecture.stem.filters,
        architecture.blocks,
        [architecture.unit.filters(filters) for filters in architecture.filters],
        architecture.classes,
        architecture.unit.groups,
    )


def of_torch(network, size, mean=IMAGENET_PREPROCESSING.mean, std=IMAGENET_PREPROCESSING.std):
    """The logits of a torch network, normalised as its documentation says."""
    import torch

    images = ((draw_images(2, size) - np.array(mean)) / np.array(std)).astype("float32")
    with torch.no_grad():
        found = network(torch.tensor(images.transpose(0, 3, 1, 2)))
    return getattr(found, "logits", found).numpy()


@pytest.mark.parametrize("network", ["small18", "small50v1.5", "smallnext"])
def test_torchvision_names_from_safetensors_and_pth(network, tmp_path):
    peer = torch_network(network)
    import torch
    import torch_resnet

    torch_resnet.as_after_training(peer)

    wrapped = {f"module.{name}": value for name, value in peer.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "checkpoint.pth")
    save_file(
        {name: value.numpy() for name, value in peer.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    model = create(
        network, weights=tmp_path, input_shape=(None, None, 3), classifier_activation=None
    )
    for size in SIZES:
        assert_alike(answers(model, draw_images(2, size)), of_torch(peer, size))
    assert_same(read(network, tmp_path / "checkpoint.pth"), read(network, tmp_path))


@pytest.mark.parametrize("network", ["small18", "small50v1.5", "smallnext"])
def test_torch_takes_what_is_converted_back(network, tmp_path):
    peer = torch_network(network)
    import torch
    from safetensors.torch import load_file

    model, _ = ours(network)
    convert(model, network, tmp_path / "back.safetensors")
    peer.load_state_dict(
        load_file(tmp_path / "back.safetensors")
        | {name: torch.tensor(0) for name in peer.state_dict() if name.endswith("batches_tracked")}
    )
    peer.eval()
    preprocessing = find(network).preprocessing
    expected = of_torch(peer, 64, preprocessing.mean, preprocessing.std)
    assert_alike(answers(model, draw_images(2, 64)), expected)


HUGGING_FACE = {
    "resnet18": ("basic", (2, 2, 2, 2), False),
    "resnet50": ("bottleneck", (3, 4, 6, 3), True),
    "resnet50v1.5": ("bottleneck", (3, 4, 6, 3), False),
}


def transformers_network(network):
    transformers = pytest.importorskip(
        "transformers", reason="transformers comes with the peers extra"
    )
    import torch
    import torch_resnet

    kind, blocks, in_first = HUGGING_FACE[network]
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_labels=1000,
        layer_type=kind,
        depths=list(blocks),
        hidden_sizes=[64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048],
        downsample_in_bottleneck=in_first,
    )
    return torch_resnet.as_after_training(transformers.ResNetForImageClassification(config))


@pytest.mark.slow
@pytest.mark.parametrize("network", HUGGING_FACE)
def test_transformers_networks_answer_alike(network, tmp_path):
    peer = transformers_network(network)
    peer.save_pretrained(tmp_path)  # a folder as on the hub: config.json, model.safetensors
    model = create(
        network, weights=tmp_path, input_shape=(None, None, 3), classifier_activation=None
    )
    for size in SIZES:
        found = answers(model, draw_images(2, size))
        assert_alike(found, of_torch(peer, size), f"transformers' {network} at {size}")


@pytest.mark.slow
def test_resnet50_of_keras_applications_answers_alike():
    size = SIZES[1]  # the small networks below are of the other one
    peer = as_after_training(
        keras.applications.ResNet50(
            weights=None, input_shape=(size, size, 3), classifier_activation=None
        ),
        for_caffe(draw_images(16, size)),
    )
    expected = answers(peer, for_caffe(draw_images(2, size)))
    found = logits_of("resnet50", peer, size)
    assert_alike(found, expected, f"keras.applications' resnet50 at {size}")


def for_caffe(images):
    return keras.applications.resnet.preprocess_input(images.astype("float32"))


# The same, small and at once: files of every kind.


def small_application(is_v2=False):
    """keras.applications' own code, on two short stages."""
    from keras.src.applications import resnet

    stack = resnet.stack_residual_blocks_v2 if is_v2 else resnet.stack_residual_blocks_v1

    def stages(x):
        x = stack(x, 8, 2, stride1=1, name="conv2")
        return stack(x, 12, 2 if is_v2 else 1, name="conv3")

    return resnet.ResNet(
        stages,
        preact=is_v2,
        use_bias=True,
        weights=None,
        input_shape=(64, 64, 3),
        classes=7,
        classifier_activation=None,
        weights_name="small",
    )


@pytest.fixture(scope="module")
def application():
    return as_after_training(small_application(), for_caffe(draw_images(8, 64)))


def of_application(model):
    return answers(model, for_caffe(draw_images(2, 64)))


def save_as_released(model, path):
    """In HDF5 as the released files are, whose classifier was called probs."""
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
        names = [
            "probs" if name in ("predictions", b"predictions") else name
            for name in file.attrs["layer_names"]
        ]
        file.attrs["layer_names"] = names
        file.move("predictions", "probs")


def test_a_live_model_of_keras_applications(application):
    assert_alike(logits_of("application", application, 64), of_application(application))


@pytest.mark.parametrize(
    ("file", "save"),
    [
        ("released.h5", save_as_released),
        ("whole.keras", keras.Model.save),
        ("whole.h5", keras.Model.save),
        ("new.weights.h5", keras.Model.save_weights),
    ],
)
def test_files_of_keras_applications_hold_what_the_model_has(application, file, save, tmp_path):
    save(application, tmp_path / file)
    assert_same(read("application", tmp_path / file), read("application", application))


def test_a_backbone_of_the_same_weights(application):
    maps = backbone("application", weights=application, output_stride=4)
    whole = keras.Model(application.input, application.get_layer("conv3_block1_out").output)
    expected = of_application(whole)
    found = np.asarray(maps(draw_images(2, 64))["C3"])[:, ::2, ::2]  # its stride is cut
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_v2_of_keras_applications_is_refused():
    error = refusal(create, "application", weights=small_application(is_v2=True))
    assert "V2" in error.problem and "V1" in error.accepted


@functools.cache
def caffe_network():
    """A network of ours, with the preprocessing of the Caffe release, and its answers."""
    architecture = replace(NETWORKS["small50"], preprocessing=CAFFE_PREPROCESSING)
    model = build(architecture, head=Classifier(activation=None))
    as_after_training(model, draw_images(8, 64))
    return model, answers(model, draw_images(2, 64))


def test_blobs_of_the_caffe_release(tmp_path):
    model, expected = caffe_network()
    blobs = {}
    for layer in model.layers:
        values = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = values
            for number, blob in enumerate((mean * 999, variance * 999, np.array([999.0]))):
                blobs[f"{layer.name}/{number}"] = blob
            scale = f"scale{layer.name.removeprefix('bn')}"
            blobs |= {f"{scale}/0": gamma, f"{scale}/1": beta}
        elif isinstance(layer, keras.layers.Conv2D):
            kernel = values[0][:, :, ::-1] if layer.name == "conv1" else values[0]  # BGR
            blobs[f"{layer.name}/0"] = kernel.transpose(3, 2, 0, 1)
        elif values:
            blobs |= {f"{layer.name}/0": values[0].T, f"{layer.name}/1": values[1]}
    np.savez(tmp_path / "caffe.npz", **blobs)
    assert_alike(logits_of("small50", tmp_path / "caffe.npz", 64), expected)


def test_hdf5_with_the_caffe_releases_names(tmp_path):
    model, expected = caffe_network()
    with h5py.File(tmp_path / "caffe.h5", "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value[:, :, ::-1] if layer.name == "conv1" else value
    assert_alike(logits_of("small50", tmp_path / "caffe.h5", 64), expected)


# What comes with the weights.


def test_a_model_of_ours_keeps_its_preprocessing_and_classes(tmp_path):
    model, _ = ours("small50")
    odd = replace(
        find("small50"),
        preprocessing=CAFFE_PREPROCESSING,
        defaults=replace(find("small50").defaults, bn_epsilon=1e-2),
    )
    head = Classifier(7, class_names=model.layers[-1].class_names)
    odd_model = build(odd, head=head)
    for layer, other in zip(odd_model.layers, model.layers, strict=True):
        layer.set_weights(other.get_weights()) if layer.name != "normalize" else None
    odd_model.save(tmp_path / "odd.keras")
    convert(tmp_path / "odd.keras", "small50", tmp_path / "odd.safetensors")
    convert(tmp_path / "odd.safetensors", "small50", tmp_path / "again.keras")
    again = load_model(tmp_path / "again.keras")
    images = draw_images(2, 64)
    expected = answers(odd_model, images)
    np.testing.assert_array_equal(answers(again, images), expected)
    assert again.layers[-1].class_names == tuple(f"class {number}" for number in range(7))
    usual = keras.ops.softmax(answers(model, images))
    assert not np.allclose(usual, expected, atol=TOLERANCE)
    with safe_open(tmp_path / "odd.safetensors", "np") as file:
        assert file.get_tensor("layer1.0.conv1.weight").shape == (8, 8, 1, 1)
    assert (tmp_path / "odd.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_the_activation_comes_back_from_safetensors(activation, tmp_path):
    model = build(NETWORKS["small18"], head=Classifier(activation=activation))
    convert(model, "small18", tmp_path / "x.safetensors")
    assert read("small18", tmp_path / "x.safetensors").activation == (activation or "linear")
    trunk = build(NETWORKS["small18"], head=Features())  # ends in a ReLU, which is no classifier's
    convert(trunk, "small18", tmp_path / "x.safetensors")
    assert read("small18", tmp_path / "x.safetensors").classes is None


def test_biases_are_folded_on_the_way_out(tmp_path):
    model = build(NETWORKS["smallcourse"], head=Classifier(activation=None))
    as_after_training(model, draw_images(8, 64))
    convert(model, "smallcourse", tmp_path / "course.safetensors")
    found = logits_of("smallcourse", tmp_path / "course.safetensors", 64)
    assert_alike(found, answers(model, draw_images(2, 64)))


V1 = {"model_type": "resnet", "downsample_in_bottleneck": True}


@pytest.mark.parametrize(
    ("network", "config", "names"),
    [
        ("small50", V1 | {"id2label": {str(number): f"a{number}" for number in range(7)}}, True),
        ("small50", V1 | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, False),
        ("small50", V1, False),
        ("small50v1.5", {"model_type": "bert", "id2label": "of another project"}, False),
    ],
    ids=["named", "by number", "unnamed", "foreign"],
)
def test_what_the_hub_tells_beside_the_weights(network, config, names, tmp_path):
    _, tensors = ours(network)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    found = read(network, tmp_path)
    expected = tuple(f"a{number}" for number in range(7)) if names else None
    assert found.class_names == expected
    std = 58.395 if config["model_type"] == "bert" else 0.25 * 255
    assert found.architecture.preprocessing.std[0] == pytest.approx(std)


def test_preprocessing_and_classes_that_timm_tells(tmp_path):
    _, tensors = ours("small50v1.5")
    save_file(tensors, tmp_path / "model.safetensors")
    config = {
        "architecture": "resnet50",
        "label_names": list("abcdefg"),
        "pretrained_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read("small50v1.5", tmp_path)
    assert found.class_names == tuple("abcdefg")
    assert found.architecture.preprocessing.mean == pytest.approx((102, 127.5, 153))
    assert found.architecture.preprocessing.std == pytest.approx((51, 51, 51))


def test_a_thousand_unnamed_classes_are_imagenets(tmp_path):
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench" and names[281] == "tabby" and names[999] == "toilet tissue"
    architecture = replace(NETWORKS["small18"], classes=1000)
    save_file(tensors_of(build(architecture), architecture), tmp_path / "x.safetensors")
    assert read("small18", tmp_path / "x.safetensors").class_names == names
    trunk = create("small18", include_top=False, weights=tmp_path / "x.safetensors")
    assert trunk.layers[-1].name == "res3a_relu"


def test_names_of_ones_own(tmp_path):
    model, tensors = ours("small18")
    save_file(tensors, tmp_path / "x.safetensors")
    convert(tmp_path / "x.safetensors", "small18", tmp_path / "x.keras", 96, tuple("abcdefg"))
    found = load_model(tmp_path / "x.keras")
    assert found.layers[-1].class_names == tuple("abcdefg")
    assert found.input_shape == (None, 96, 96, 3)
    images = draw_images(2, 96)
    expected = keras.ops.softmax(answers(model, images))
    np.testing.assert_allclose(answers(found, images), expected, atol=TOLERANCE)
    content = (tmp_path / "x.keras").read_bytes()
    error = refusal(
        convert, tmp_path / "x.safetensors", "small18", tmp_path / "x.keras", 96, ("a", "b")
    )
    assert "2" in error.received and "7" in error.accepted
    assert (tmp_path / "x.keras").read_bytes() == content


# What does not fit.


def test_weights_of_other_networks_name_the_first_layer(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = dict(ours("small50v1.5")[1])
    save_file(tensors, path)
    error = refusal(create, "small18", weights=path)
    assert "layer1.0.bn3" in error.received and "small50" in error.accepted
    del tensors["layer1.1.conv2.weight"]
    save_file(tensors, path)
    error = refusal(create, "small50v1.5", weights=path)
    assert "'res2b1_branch2b'" in error.problem and "layer1.1.conv2.weight" in error.received
    tensors["layer1.1.conv2.weight"] = np.zeros((9, 8, 3, 3), "float32")
    save_file(tensors, path)
    error = refusal(create, "small50v1.5", weights=path)
    assert "[(3, 3, 8, 9)]" in error.received and "[(3, 3, 8, 8)]" in error.accepted
    assert str(path) in error.received


def test_the_stride_of_a_bottleneck_has_to_be_where_the_weights_want_it(tmp_path):
    _, tensors = ours("small50v1.5")
    save_file(tensors, tmp_path / "x.safetensors")
    error = refusal(create, "small50", weights=tmp_path / "x.safetensors")
    assert "resnet50v1.5" in error.received and "1x1" in error.accepted
    # Our own file of a v1 network says so, and its names are torchvision's all the same.
    model, _ = ours("small50")
    convert(model, "small50", tmp_path / "v1.safetensors")
    error = refusal(create, "small50v1.5", weights=tmp_path / "v1.safetensors")
    assert "1x1" in error.received and "resnet50v1.5" in error.accepted
    assert read("small50", tmp_path / "v1.safetensors").weights


def test_other_classes_than_the_weights_are_told():
    model, _ = ours("small18")
    error = refusal(create, "small18", weights=model, classes=9)
    assert "9" in error.received and "7" in error.received
    assert create("small18", weights=model, include_top=False)


@pytest.mark.parametrize("network", ["smallpre", "tiny-without-bn"])
def test_networks_that_no_other_project_has(network, tmp_path):
    _, tensors = ours("small18")
    save_file(tensors, tmp_path / "x.safetensors")
    error = refusal(create, network, weights=tmp_path / "x.safetensors")
    assert "original units" in error.problem
    assert find("smallpre").unit.ordering == FULL_PREACTIVATION
    error = refusal(convert, build(find(network)), network, tmp_path / "y.safetensors")
    assert "original units" in error.problem
    assert not (tmp_path / "y.safetensors").exists()


class Mischief:
    def __reduce__(self):
        return (os.mkdir, ("mischief",))


def test_code_is_never_run(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="torch comes with the peers extra")
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": torch.zeros(1), "x": Mischief()}, "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Mischief()))
    np.savez("objects.npz", allow_pickle=True, **{"conv1/0": np.array([Mischief()], dtype=object)})
    for name in ("zip.pth", "plain.pth"):
        assert "code" in refusal(create, "small18", weights=tmp_path / name).problem
    assert "objects.npz" in refusal(create, "small18", weights=tmp_path / "objects.npz").received
    assert not (tmp_path / "mischief").exists()


@functools.cache
def weights_file(suffix, folder):
    """The bytes of an undamaged file of weights of small18."""
    model, tensors = ours("small18")
    path = folder / f"whole{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    elif suffix == ".keras":
        model.save(path)
    elif suffix == ".npz":
        np.savez(path, allow_pickle=False, **{"conv1/0": tensors["conv1.weight"]})
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, model)
    else:
        import torch

        torch.save({name: torch.tensor(value) for name, value in tensors.items()}, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize("suffix", [".safetensors", ".h5", ".npz", ".pth", ".keras"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated"])
def test_what_is_no_weights_is_told_in_a_line(suffix, damage, whole_files, tmp_path):
    if suffix == ".pth":
        pytest.importorskip("torch", reason="torch comes with the peers extra")
    path = tmp_path / f"x{suffix}"
    content = b""
    if damage == "text":
        content = b"hello\n"
    elif damage == "truncated":
        whole = weights_file(suffix, whole_files)
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    assert str(path) in refusal(create, "small18", weights=path).received


def test_files_and_folders_that_hold_nothing_of_the_kind(tmp_path):
    def refused(source):
        return refusal(create, "small18", weights=source)

    nothing = tmp_path / "nothing.safetensors"
    assert refused(nothing).received == str(nothing)
    assert "dict" in refused({}).received
    (tmp_path / "weights.txt").write_text("1 2 3")
    assert ".pth.tar" in refused(tmp_path / "weights.txt").accepted
    assert "model.safetensors" in refused(tmp_path).accepted
    save_file({"bert.encoder.weight": np.zeros(3, "float32")}, tmp_path / "model.safetensors")
    assert "bert.encoder.weight" in refused(tmp_path).received
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refused(tmp_path).received


# The shapes of the latter two are the same.
@pytest.mark.parametrize(("found", "wanted"), [("small18", "small50"), ("small50", "small50v1.5")])
def test_weights_of_another_network_are_told_by_name(found, wanted, tmp_path):
    model, _ = ours(found)
    model.save(tmp_path / "other.keras")
    for source in (model, tmp_path / "other.keras"):
        error = refusal(create, wanted, weights=source)
        assert found in error.problem and wanted in error.accepted
