"""State dicts out of what training scripts save around them, and files that hold none."""

import pickle
from argparse import Namespace

import numpy as np
import pytest
from kit import TINY, randomize, refusal, tensors_of

from resnet_keras.networks.loading import read_weights
from resnet_keras.networks.models import build

torch = pytest.importorskip("torch", reason="torch comes with the peers extra")


@pytest.fixture(scope="module")
def tensors():
    """Those of a network by torchvision's names, whose stem is all twos."""
    tensors = tensors_of(randomize(build(TINY)), TINY)
    tensors["conv1.weight"] = np.full_like(tensors["conv1.weight"], 2)
    return {name: torch.tensor(value) for name, value in tensors.items()}


def read(path):
    return read_weights(path, "tiny", TINY)


def prefixed(tensors, prefix):
    return {f"{prefix}{name}": value for name, value in tensors.items()}


@pytest.mark.parametrize("name", ["checkpoint.pth.tar", "last.ckpt", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.module.", "module._orig_mod.", "model._orig_mod."]
)
def test_prefixes_and_endings_of_training_scripts(name, prefix, tensors, tmp_path):
    script = Namespace(lr=0.1, arch="resnet18")
    content = {"state_dict": prefixed(tensors, prefix), "epoch": 3, "arch": "resnet18"}
    torch.save(content | {"args": script}, tmp_path / name)
    found = read(tmp_path / name).weights
    assert found.keys() == read_of(tensors, tmp_path).keys() and (found["conv1"][0] == 2).all()


def read_of(tensors, folder):
    torch.save(tensors, folder / "plain.pt")
    return read(folder / "plain.pt").weights


# Of timm's and torchvision's training scripts.
@pytest.mark.parametrize(
    ("averaged", "other"), [("state_dict_ema", "state_dict"), ("model_ema", "model")]
)
def test_averages_of_the_weights_come_first_and_this_is_told(
    averaged, other, tensors, tmp_path, capsys
):
    last = tensors | {"conv1.weight": tensors["conv1.weight"] * 0}
    counted = prefixed(tensors, "module.") | {"n_averaged": torch.tensor(7)}
    torch.save({other: last, averaged: counted}, tmp_path / "x.pth")
    assert (read(tmp_path / "x.pth").weights["conv1"][0] == 2).all()
    printed = capsys.readouterr().out
    assert repr(averaged) in printed and repr(other) in printed
    torch.save({other: tensors, averaged: None}, tmp_path / "x.pth")
    assert read(tmp_path / "x.pth").weights
    assert not capsys.readouterr().out


def test_an_architecture_that_the_checkpoint_states_is_heeded(tensors, tmp_path):
    for stated, told in (
        ({"arch": "resnetblur50"}, "resnetblur50"),
        ({"args": Namespace(model_kwargs={"act_layer": "gelu"})}, "gelu"),
        ({"args": Namespace(bn_eps=1e-3)}, "0.001"),
        ({"args": Namespace(model_kwargs=3)}, "x.pth"),
    ):
        torch.save({"state_dict": tensors} | stated, tmp_path / "x.pth")
        assert told in refusal(read, tmp_path / "x.pth").received


SELF = {}
SELF["model"] = SELF


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        {3: torch.zeros(3)},
        {"state_dict": 3},
        SELF,
        {"conv1.weight": torch.zeros(3).to_sparse()},
        {"conv1.weight": torch.zeros(3, device="meta")},
        {"conv1.weight": torch.zeros(3, dtype=torch.complex64)},
        {"conv1.weight": torch.tensor(1.0), "fc.bias": torch.tensor(1.0)},
        {"conv1.weight": torch.zeros(1).expand(10**7, 10**7)},  # of four bytes
        {"conv1.weight": torch.zeros(1), "module.conv1.weight": torch.ones(1)},
    ],
    ids=["tensor", "list", "numbers", "no-dict", "itself", "sparse", "meta", "complex", "scalar",
         "expanded", "twice"],
)  # fmt: skip
def test_files_without_a_state_dict_of_a_network(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    assert "x.pth" in refusal(read, tmp_path / "x.pth").received


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02K",  # pickles that end early, or take from an empty stack
        b"\x80\x02.",
        b"\x80\x02J\x01",
        b".",
        b"\x80\x02h\x00.",
        b"X\xff\xff\xff\xff",
        b"PK\x03\x04" + bytes(100),
        pickle.dumps(3),
        bytes(range(256)),
    ],
)
def test_bytes_that_are_no_file_of_torch(content, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    assert "x.pth" in refusal(read, tmp_path / "x.pth").received
