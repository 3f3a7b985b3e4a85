"""Weights of other projects: the same answers, and clear words about files that do not fit."""

import json
import os
import pickle
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from conftest import TINY
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from safetensors import safe_open
from safetensors.numpy import save_file
from tiny_family import randomize

from resnet_keras import InputError, architectures, create, load_model
from resnet_keras.architectures import (
    FULL_PREACTIVATION,
    IMAGENET_STEM,
    RESNET18,
    RESNET50,
    RESNET50_COURSE,
    RESNEXT50,
    find,
)
from resnet_keras.conversion import convert
from resnet_keras.models import Classifier, build
from resnet_keras.weights.bridges import CAFFE_PREPROCESSING, TORCH_PREPROCESSING
from resnet_keras.weights.cards import imagenet_classes
from resnet_keras.weights.layouts import to_torch
from resnet_keras.weights.naming import TORCHVISION
from resnet_keras.weights.places import places

SIZES = (64, 97)  # of images; one of them leaves halves at every stride
TOLERANCE = 1e-4

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
    "small50v1.5": replace(RESNET50, **SHRUNK, unit=find("resnet50v1.5").unit),
    "smallnext": replace(RESNEXT50, **SHRUNK | {"unit": replace(RESNEXT50.unit, groups=4)}),
    "smallpre": replace(RESNET50, **SHRUNK, unit=find("preresnet200").unit),
    "smallcourse": replace(RESNET50_COURSE, **SHRUNK),
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    for name, architecture in NETWORKS.items():
        monkeypatch.setitem(architectures.NETWORKS, name, architecture)


def pixels(size, count=2):
    """Random images: patches of random colours, and noise.

    Of noise alone every image is like another to a deep network, and batch normalisation blows up
    rounding errors.
    """
    random = np.random.default_rng(0)
    patches = random.integers(0, 256, (count, 5, 5, 3))
    side = -(-size // 5)
    large = patches.repeat(side, axis=1).repeat(side, axis=2)[:, :size, :size]
    noise = random.integers(-40, 41, large.shape)
    return np.clip(large + noise, 0, 255).astype("uint8")


def answers(model, size):
    return model.predict(pixels(size), verbose=0)


def logits_of(network, weights, size):
    """What our network of these weights says of `pixels`."""
    model = create(
        network, weights=weights, input_shape=(size, size, 3), classifier_activation=None
    )
    return answers(model, size)


def ours(network):
    """A network of ours as after training, and its weights by torchvision's names."""
    architecture = find(network)
    head = Classifier(class_names=tuple(f"class {number}" for number in range(7)))
    model = randomize(build(architecture, head=head, name=network.replace(".", "_")))
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    return model, to_torch(weights, TORCHVISION, places(architecture, 7))


def assert_alike(found, expected, network, size):
    """Logits of a network and of its source; docs/weights.md has what is printed."""
    difference, largest = np.abs(found - expected).max(), np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 0.1  # it heeds the images
    print(f"{network} at {size}: largest difference {difference:.1e}, largest logit {largest:.2f}")
    assert largest < 100  # as a trained network's: rounding errors grow with it
    assert difference <= TOLERANCE


def refused(source, network):
    with pytest.raises(InputError) as error:
        create(network, weights=source)
    message = str(error.value)
    assert "\n" not in message
    return message


# The sources themselves, live.


def torch_network(network):
    pytest.importorskip("torch", reason="torch comes with the peers extra")
    import torch
    import torch_resnet

    architecture = find(network)
    torch.manual_seed(0)
    return torch_resnet.as_after_training(
        torch_resnet.ResNet(
            architecture.stem.filters,
            architecture.blocks,
            [architecture.unit.filters(filters) for filters in architecture.filters],
            architecture.classes,
            architecture.unit.groups,
        )
    )


def of_torch(network, size, mean=TORCH_PREPROCESSING.mean, std=TORCH_PREPROCESSING.std):
    """The logits of a torch network, normalised as its documentation says."""
    import torch

    images = ((pixels(size) - np.array(mean)) / np.array(std)).astype("float32")
    with torch.no_grad():
        found = network(torch.tensor(images.transpose(0, 3, 1, 2)))
    return getattr(found, "logits", found).numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("network", ["small18", "small50v1.5", "smallnext"])
def test_torchvision_names_from_pth_and_safetensors(network, size, tmp_path):
    peer = torch_network(network)
    import torch

    wrapped = {f"module.{name}": value for name, value in peer.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "checkpoint.pth")
    save_file(
        {name: value.numpy() for name, value in peer.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    expected = of_torch(peer, size)
    for source in (tmp_path / "checkpoint.pth", tmp_path):
        np.testing.assert_allclose(
            logits_of(network, source, size), expected, rtol=0, atol=TOLERANCE
        )


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
    preprocessing = find(network).preprocessing
    expected = of_torch(peer, 64, preprocessing.mean, preprocessing.std)
    np.testing.assert_allclose(logits_of(network, model, 64), expected, rtol=0, atol=TOLERANCE)


HUGGING_FACE = {
    "resnet18": ("basic", (2, 2, 2, 2), False),
    "resnet34": ("basic", (3, 4, 6, 3), False),
    "resnet50": ("bottleneck", (3, 4, 6, 3), True),
    "resnet50v1.5": ("bottleneck", (3, 4, 6, 3), False),
    "resnet101v1.5": ("bottleneck", (3, 4, 23, 3), False),
    "resnet152v1.5": ("bottleneck", (3, 8, 36, 3), False),
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
    for size in SIZES:
        expected = of_torch(peer, size)
        assert_alike(logits_of(network, tmp_path, size), expected, network, size)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet50", "resnet152"])
def test_networks_of_keras_applications_answer_alike(network):
    applications = {name.lower(): name for name in ("ResNet50", "ResNet101", "ResNet152")}
    maker = getattr(keras.applications, applications[network])
    for size in SIZES:
        peer = as_after_training(
            maker(weights=None, input_shape=(size, size, 3), classifier_activation=None),
            for_caffe(pixels(size, 16)),
        )
        expected = peer.predict(for_caffe(pixels(size)), verbose=0)
        assert_alike(logits_of(network, peer, size), expected, network, size)


def as_after_training(model, images, seed=0):
    """With random biases, gammas, betas, and statistics about those of some images."""
    random = np.random.default_rng(seed)
    normalizations = []
    for layer in model.layers:
        values = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            normalizations.append(layer)
            gamma = random.uniform(0.1, 0.5, values[0].shape)
            if layer.name.endswith("_3_bn"):  # where a branch ends they are small, once trained
                gamma *= 0.3
            layer.set_weights([gamma, random.normal(0, 0.1, gamma.shape), *values[2:]])
            layer.momentum = 0.0
        elif len(values) == 2:
            layer.set_weights([values[0], random.normal(0, 0.3, values[1].shape)])
    model(images, training=True)
    for layer in normalizations:
        gamma, beta, mean, variance = layer.get_weights()
        mean = mean + np.sqrt(variance) * random.uniform(-0.3, 0.3, mean.shape)
        layer.set_weights([gamma, beta, mean, variance * random.uniform(0.7, 1.5, mean.shape)])
    return model


def for_caffe(images):
    return keras.applications.resnet.preprocess_input(images.astype("float32"))


# The same, small and at once: files of every kind.


def small_application():
    """keras.applications' own code, on two short stages."""
    from keras.src.applications import resnet

    def stages(x):
        x = resnet.stack_residual_blocks_v1(x, 8, 2, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 12, 1, name="conv3")

    model = resnet.ResNet(
        stages,
        preact=False,
        use_bias=True,
        weights=None,
        input_shape=(64, 64, 3),
        classes=7,
        classifier_activation=None,
        weights_name="small",
    )
    return as_after_training(model, for_caffe(pixels(64, 8)))


@pytest.fixture
def application(monkeypatch):
    # Its stem has 64 filters.
    stem = replace(IMAGENET_STEM, filters=64)
    monkeypatch.setitem(
        architectures.NETWORKS, "application", replace(NETWORKS["small50"], stem=stem)
    )
    return small_application()


def of_application(model):
    return model.predict(for_caffe(pixels(64)), verbose=0)


def test_files_of_keras_applications(application, tmp_path):
    expected = of_application(application)
    with h5py.File(tmp_path / "released.h5", "w") as file:
        save_weights_to_hdf5_group(file, application)
        # The released files' classifier was called so.
        names = [
            "probs" if name in ("predictions", b"predictions") else name
            for name in file.attrs["layer_names"]
        ]
        file.attrs["layer_names"] = names
        file.move("predictions", "probs")
    application.save(tmp_path / "whole.keras")
    application.save_weights(tmp_path / "new.weights.h5")
    for source in (application, *sorted(tmp_path.iterdir())):
        found = logits_of("application", source, 64)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=str(source))


def test_a_whole_model_in_the_old_format(application, tmp_path):
    application.save(tmp_path / "whole.h5")
    np.testing.assert_allclose(
        logits_of("application", tmp_path / "whole.h5", 64),
        of_application(application),
        rtol=0,
        atol=TOLERANCE,
    )


def test_a_backbone_of_the_same_weights(application):
    import resnet_keras

    maps = resnet_keras.backbone("application", weights=application, output_stride=4)
    whole = keras.Model(application.input, application.get_layer("conv3_block1_out").output)
    expected = of_application(whole)
    found = maps.predict(pixels(64), verbose=0)["C3"][:, ::2, ::2]  # its stride is cut
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_v2_of_keras_applications_is_refused():
    peer = keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3))
    assert "another architecture" in refused(peer, "resnet50")


def caffe_network():
    """A network of ours, with the preprocessing of the Caffe release."""
    architecture = replace(NETWORKS["small50"], preprocessing=CAFFE_PREPROCESSING)
    model = build(architecture, head=Classifier(activation=None))
    return as_after_training(model, pixels(64, 8))


def test_blobs_of_the_caffe_release(tmp_path):
    model = caffe_network()
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
    found = logits_of("small50", tmp_path / "caffe.npz", 64)
    np.testing.assert_allclose(found, answers(model, 64), rtol=0, atol=TOLERANCE)


def test_hdf5_with_the_caffe_releases_names(tmp_path):
    model = caffe_network()
    with h5py.File(tmp_path / "caffe.h5", "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value[:, :, ::-1] if layer.name == "conv1" else value
    found = logits_of("small50", tmp_path / "caffe.h5", 64)
    np.testing.assert_allclose(found, answers(model, 64), rtol=0, atol=TOLERANCE)


# What comes with the weights.


def test_a_model_of_ours_keeps_its_preprocessing_and_classes(tmp_path):
    model, _ = ours("small50")
    odd = replace(
        find("small50"),
        preprocessing=CAFFE_PREPROCESSING,
        style=replace(find("small50").style, bn_epsilon=1e-2),
    )
    head = Classifier(7, class_names=model.layers[-1].class_names)
    odd_model = build(odd, head=head)
    for layer, other in zip(odd_model.layers, model.layers, strict=True):
        layer.set_weights(other.get_weights()) if layer.name != "normalize" else None
    odd_model.save(tmp_path / "odd.keras")
    convert(tmp_path / "odd.keras", "small50", tmp_path / "odd.safetensors")
    convert(tmp_path / "odd.safetensors", "small50", tmp_path / "again.keras")
    again = load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(answers(again, 64), answers(odd_model, 64))
    assert again.layers[-1].class_names == tuple(f"class {number}" for number in range(7))
    assert not np.array_equal(answers(again, 64), answers(model, 64))
    with safe_open(tmp_path / "odd.safetensors", "np") as file:
        assert file.get_tensor("layer1.0.conv1.weight").shape == (8, 8, 1, 1)
    assert (tmp_path / "odd.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_biases_are_folded_on_the_way_out(tmp_path):
    model = build(NETWORKS["smallcourse"], head=Classifier(activation=None))
    as_after_training(model, pixels(64, 8))
    convert(model, "smallcourse", tmp_path / "course.safetensors")
    found = logits_of("smallcourse", tmp_path / "course.safetensors", 64)
    np.testing.assert_allclose(found, answers(model, 64), rtol=0, atol=TOLERANCE)


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
    found = create(network, weights=tmp_path)
    expected = tuple(f"a{number}" for number in range(7)) if names else None
    assert found.layers[-1].class_names == expected
    std = 58.395 if config["model_type"] == "bert" else 0.25 * 255
    assert found.get_layer("normalize").scale[0] == pytest.approx(1 / std)


def test_preprocessing_and_classes_that_timm_tells(tmp_path):
    _, tensors = ours("small50v1.5")
    save_file(tensors, tmp_path / "model.safetensors")
    config = {
        "architecture": "resnet50",
        "label_names": list("abcdefg"),
        "pretrained_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = create("small50v1.5", weights=tmp_path)
    assert found.layers[-1].class_names == tuple("abcdefg")
    offset = found.get_layer("normalize").offset
    np.testing.assert_allclose(offset, [-2, -2.5, -3])


def test_a_thousand_unnamed_classes_are_imagenets(tmp_path):
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench" and names[281] == "tabby" and names[999] == "toilet tissue"
    architecture = replace(NETWORKS["small18"], classes=1000)
    model = randomize(build(architecture))
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    save_file(
        to_torch(weights, TORCHVISION, places(architecture, 1000)), tmp_path / "x.safetensors"
    )
    assert create("small18", weights=tmp_path / "x.safetensors").layers[-1].class_names == names
    for weights in (None, tmp_path / "x.safetensors"):
        trunk = create("small18", include_top=False, weights=weights)
        assert trunk.layers[-1].name == "res3a_relu"


def test_names_of_ones_own(tmp_path):
    model, tensors = ours("small18")
    save_file(tensors, tmp_path / "x.safetensors")
    convert(tmp_path / "x.safetensors", "small18", tmp_path / "x.keras", 96, tuple("abcdefg"))
    found = load_model(tmp_path / "x.keras")
    assert found.layers[-1].class_names == tuple("abcdefg")
    assert found.input_shape == (None, 96, 96, 3)
    np.testing.assert_allclose(
        found.predict(pixels(96), verbose=0),
        create("small18", weights=model, input_shape=(96, 96, 3)).predict(pixels(96), verbose=0),
        atol=TOLERANCE,
    )
    with pytest.raises(InputError, match="Received: 2 names; accepted: 7"):
        convert(tmp_path / "x.safetensors", "small18", tmp_path / "x.keras", 96, ("a", "b"))
    assert load_model(tmp_path / "x.keras").layers[-1].class_names == tuple("abcdefg")


# What does not fit.


def test_weights_of_other_networks_name_the_first_layer(tmp_path):
    _, tensors = ours("small50v1.5")
    save_file(tensors, tmp_path / "x.safetensors")
    message = refused(tmp_path / "x.safetensors", "small18")
    assert "layer1.0.bn3" in message and "these layers are those of small50" in message
    del tensors["layer1.1.conv2.weight"]
    save_file(tensors, tmp_path / "x.safetensors")
    message = refused(tmp_path / "x.safetensors", "small50v1.5")
    assert "layer 'res2b_branch2b'" in message
    assert "Expected: layer1.1.conv2.weight; found: no such name" in message
    tensors["layer1.1.conv2.weight"] = np.zeros((9, 8, 3, 3), "float32")
    save_file(tensors, tmp_path / "x.safetensors")
    message = refused(tmp_path / "x.safetensors", "small50v1.5")
    assert "Expected shapes: [(3, 3, 8, 8)]; found: [(3, 3, 8, 9)]" in message


def test_the_stride_of_a_bottleneck_has_to_be_where_the_weights_want_it(tmp_path):
    _, tensors = ours("small50v1.5")
    save_file(tensors, tmp_path / "x.safetensors")
    message = refused(tmp_path / "x.safetensors", "small50")
    assert "3x3" in message and "resnet50v1.5" in message
    # Our own file of a v1 network says so, and its names are torchvision's all the same.
    model, _ = ours("small50")
    convert(model, "small50", tmp_path / "v1.safetensors")
    assert "1x1" in refused(tmp_path / "v1.safetensors", "small50v1.5")
    assert create("small50", weights=tmp_path / "v1.safetensors")


def test_other_classes_than_the_weights_are_told(tmp_path):
    model, _ = ours("small18")
    with pytest.raises(InputError, match="classes=9, and 7 in the model"):
        create("small18", weights=model, classes=9)
    assert create("small18", weights=model, include_top=False)


@pytest.mark.parametrize("network", ["smallpre", "tiny-without-bn"])
def test_networks_that_no_other_project_has(network, tmp_path, monkeypatch):
    bare = replace(TINY, style=replace(TINY.style, normalized=False, use_bias=True))
    monkeypatch.setitem(architectures.NETWORKS, "tiny-without-bn", bare)
    _, tensors = ours("small18")
    save_file(tensors, tmp_path / "x.safetensors")
    assert "original units" in refused(tmp_path / "x.safetensors", network)
    assert find("smallpre").unit.ordering == FULL_PREACTIVATION
    with pytest.raises(InputError, match="original units"):
        convert(build(find(network)), network, tmp_path / "y.safetensors")
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
    np.savez("objects.npz", **{"conv1/0": np.array([Mischief()], dtype=object)})
    for name in ("zip.pth", "plain.pth"):
        assert "code" in refused(tmp_path / name, "small18")
    assert "cannot be read" in refused(tmp_path / "objects.npz", "small18")
    assert not (tmp_path / "mischief").exists()


@pytest.mark.parametrize("kind", ["x.safetensors", "x.h5", "x.npz", "x.pth", "x.keras"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated"])
def test_what_is_no_weights_is_told_in_a_line(kind, damage, tmp_path):
    if kind == "x.pth":
        pytest.importorskip("torch", reason="torch comes with the peers extra")
    model, tensors = ours("small18")
    path = tmp_path / kind
    if kind == "x.safetensors":
        save_file(tensors, path)
    elif kind == "x.keras":
        model.save(path)
    elif kind == "x.npz":
        np.savez(path, **{"conv1/0": tensors["conv1.weight"]})
    elif kind == "x.h5":
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, model)
    else:
        import torch

        torch.save({name: torch.tensor(value) for name, value in tensors.items()}, path)
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "text": b"hello\n", "truncated": content[: len(content) // 2]}[damage]
    )
    assert str(path) in refused(path, "small18")


def test_files_and_folders_that_hold_nothing_of_the_kind(tmp_path):
    assert "no such weights file" in refused(tmp_path / "nothing.safetensors", "small18")
    assert "Received: a dict" in refused({}, "small18")
    (tmp_path / "weights.txt").write_text("1 2 3")
    assert ".safetensors, .pth" in refused(tmp_path / "weights.txt", "small18")
    assert "model.safetensors" in refused(tmp_path, "small18")
    save_file({"bert.encoder.weight": np.zeros(3, "float32")}, tmp_path / "model.safetensors")
    assert "names in these weights are not known: bert.encoder.weight" in refused(
        tmp_path, "small18"
    )
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refused(tmp_path, "small18")


@pytest.mark.parametrize(("found", "wanted"), [("resnet20", "resnet32"), ("plain20", "resnet20")])
def test_weights_of_another_network_are_told_by_name(found, wanted, tmp_path):
    model = create(found, input_shape=(8, 8, 3))
    model.save(tmp_path / "other.keras")
    for source in (model, tmp_path / "other.keras"):
        with pytest.raises(InputError, match=rf"these are weights of {found}\. .* for {wanted}; "):
            create(wanted, input_shape=(8, 8, 3), weights=source)
