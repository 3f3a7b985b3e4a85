"""Networks that compute something else than ours are refused, though their weights would fit."""

import json

import numpy as np
import pytest
from kit import refusal, tensors_of, tiny
from safetensors.numpy import save_file

from resnet_keras.architectures import find
from resnet_keras.networks.loading import read_weights
from resnet_keras.networks.models import build

NETWORK = "resnet50v1.5"
ARCHITECTURE = tiny(find(NETWORK), (1, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weights of a network by torchvision's names."""
    folder = tmp_path_factory.mktemp("folder")
    save_file(tensors_of(build(ARCHITECTURE), ARCHITECTURE), folder / "model.safetensors")
    return folder


def read(folder, **files):
    for name in ("config", "preprocessor_config"):
        (folder / f"{name}.json").write_text(json.dumps(files.get(name, {})))
    return read_weights(folder, NETWORK, ARCHITECTURE)


# In timm's resnet.py the former have a plain stem and original units, the latter have not.
@pytest.mark.parametrize(
    "architecture",
    ["resnet50", "resnet26", "tv_resnet152", "resnext50_32x4d", "resnet50.a1_in1k"],
)
def test_timm_networks_that_compute_what_ours_do(architecture, folder):
    assert read(folder, config={"architecture": architecture}).weights


@pytest.mark.parametrize(
    "architecture",
    ["resnetblur50", "resnetaa50", "resnet50d", "resnet10t", "resnet50c", "resnet50_gn",
     "seresnet50", "ecaresnet50t", "resnetv2_50", "resnetrs50", "resnet51q", "resnext50d_32x4d",
     "vit_base_patch16_224"],
)  # fmt: skip
def test_other_networks_of_timm_are_refused(architecture, folder):
    error = refusal(read, folder, config={"architecture": architecture})
    assert repr(architecture) in error.received and "resnet18" in error.accepted


TRANSFORMERS = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
TIMM = {"architecture": "resnet50", "num_classes": 5, "global_pool": "avg"}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (TRANSFORMERS | {"downsample_in_first_stage": True}, "downsample_in_first_stage"),
        (TRANSFORMERS | {"hidden_act": "gelu"}, "gelu"),
        (TRANSFORMERS | {"architectures": ["ResNetWithAttention"]}, "ResNetWithAttention"),
        (TRANSFORMERS | {"model_type": "regnet"}, "regnet"),
        (TIMM | {"global_pool": "max"}, "max"),
        (TIMM | {"model_args": {"act_layer": "silu"}}, "silu"),
        (TIMM | {"model_args": {"output_stride": 8}}, "output_stride"),
        (TIMM | {"model_args": {"attn_layer": "se"}}, "attn_layer"),
        (TIMM | {"model_type": "timm_wrapper", "model_args": {"aa_layer": "blurpool"}}, "blurpool"),
    ],
)
def test_settings_that_change_the_function_are_refused(config, told, folder):
    assert told in refusal(read, folder, config=config).received


@pytest.mark.parametrize(
    "config",
    [
        TRANSFORMERS | {"hidden_act": "relu", "downsample_in_first_stage": False, "dtype": "bf16"},
        TIMM | {"model_args": {"act_layer": "relu", "drop_rate": 0.2}, "num_features": 32},
        {"model_type": "classifier", "learning_rate": 0.1},  # of a training script
    ],
    ids=["transformers", "timm", "script"],
)
def test_settings_that_do_not_are_read(config, folder):
    assert read(folder, config=config).weights


def test_labels_by_number_are_in_order(folder):
    names = {"1": "b", "0": "a", "2": "c", "4": "e", "3": "d"}
    assert read(folder, config=TIMM | {"label_names": names}).class_names == tuple("abcde")


def test_several_labels_at_once_make_a_sigmoid(folder):
    config = TRANSFORMERS | {"problem_type": "multi_label_classification"}
    assert read(folder, config=config).activation == "sigmoid"
    assert read(folder, config=TRANSFORMERS).activation == "softmax"


@pytest.mark.parametrize(
    ("config", "preprocessor"),
    [
        (TRANSFORMERS, {"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]}),
        (TRANSFORMERS, {"image_mean": [0.5] * 3, "image_std": [0.0] * 3}),
        (TIMM | {"pretrained_cfg": {"mean": [float("nan")] * 3, "std": [1, 1, 1]}}, {}),
        (TIMM | {"label_names": {"0": "a", "7": "b"}}, {}),
        (TIMM | {"model_args": 3}, {}),
    ],
)
def test_descriptions_that_are_damaged_are_told(config, preprocessor, folder):
    error = refusal(read, folder, config=config, preprocessor_config=preprocessor)
    assert "damaged" in error.problem


def test_a_description_that_is_too_deep_is_told(folder):
    read(folder)
    (folder / "config.json").write_text("[" * 100_000)
    assert "damaged" in refusal(read_weights, folder, NETWORK, ARCHITECTURE).problem


# Names in the state dicts of timm 1.0 and transformers 5.
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("conv1.0.weight", "conv1.1.weight", "conv1.3.weight", "bn1.running_mean"), "deep stem"),
        (("stem.conv.weight", "stages.0.blocks.0.norm1.weight"), "V2"),
        (("bit.embedder.convolution.weight",), "V2"),
        (("conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.bn1.weight"), "group"),
        (("conv1.weight", "bn1.running_mean", "layer1.0.se.fc1.weight"), "attention"),
        (("conv1.weight", "bn1.running_mean", "layer2.0.downsample.2.weight"), "ResNet-D"),
    ],
    ids=["deep-stem", "V2", "BiT", "group-norm", "squeeze", "average"],
)
def test_the_kind_of_another_network_is_told_by_its_names(names, reason, tmp_path):
    save_file({name: np.zeros(3, "float32") for name in names}, tmp_path / "x.safetensors")
    error = refusal(read_weights, tmp_path / "x.safetensors", NETWORK, ARCHITECTURE)
    assert reason in error.problem and any(name in error.received for name in names)


def test_arrays_that_a_layer_here_lacks_are_not_ignored(folder, tmp_path):
    tensors = tensors_of(build(ARCHITECTURE), ARCHITECTURE)
    save_file(
        tensors | {"layer1.0.conv1.weight_scale": np.ones(4, "float32")}, tmp_path / "x.safetensors"
    )
    error = refusal(read_weights, tmp_path / "x.safetensors", NETWORK, ARCHITECTURE)
    assert "weight_scale" in error.received
