"""Files that declare terabytes, inflate, lead elsewhere or are none: one line, and no memory."""

import functools
import io
import json
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from kit import TINY, command_refusal, refusal

from resnet_keras.networks.loading import load_model, load_weights, read_weights
from resnet_keras.networks.models import build
from resnet_keras.weights.limits import INFLATION, SMALL

TERABYTES = 1 << 40


def read(path):
    return read_weights(path, "tiny", TINY)


def assert_refused(path, read=read):
    assert str(path) in refusal(read, path).received


# --- sizes that a file declares ---


def test_safetensors_of_a_terabyte(tmp_path):
    path = tmp_path / "x.safetensors"
    shape = [TERABYTES // 4]
    header = json.dumps(
        {"conv1.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, TERABYTES]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert_refused(path)
    os.truncate(path, path.stat().st_size + TERABYTES)  # takes no space on the disk
    assert_refused(path)


def test_hdf5_of_a_terabyte(tmp_path):
    old, new = tmp_path / "x.h5", tmp_path / "x.weights.h5"
    declared = {"shape": (TERABYTES // 4,), "dtype": "f4", "chunks": (1024,)}
    with h5py.File(old, "w") as file:
        file.attrs["layer_names"] = ["conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = ["kernel"]
        group.create_dataset("kernel", **declared)
    with h5py.File(new, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv1"
        group.create_dataset("0", **declared)
    assert_refused(old)
    assert_refused(new)
    assert str(new) in refusal(load_weights, build(TINY), new).received


def test_npz_of_a_terabyte(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (TERABYTES,)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("conv1/0.npy", header.getvalue())
    assert_refused(tmp_path / "x.npz")


# --- HDF5 that leads elsewhere, or holds something else ---


@pytest.mark.parametrize("link", ["external", "virtual", "text", "loop"])
def test_hdf5_gives_its_own_numbers_only(link, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["values"] = np.ones(4, "float32")
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv1"
        if link == "external":
            group["0"] = h5py.ExternalLink(tmp_path / "other.h5", "values")
        elif link == "loop":
            del file["layers/conv2d/vars"]
            file["layers/conv2d/layers"] = file["layers"]
        elif link == "virtual":
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "values", (4,))
            group.create_virtual_dataset("0", layout)
        else:
            group["0"] = ["a", "b"]
    assert_refused(path)


# --- .keras files ---


@functools.cache
def parts():
    """The members of a .keras file."""
    with tempfile.TemporaryDirectory() as folder:
        build(TINY).save(Path(folder, "x.keras"))
        with zipfile.ZipFile(Path(folder, "x.keras")) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def write_keras(path, compression=zipfile.ZIP_STORED, /, **changes):
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for name, content in (parts() | changes).items():
            archive.writestr(name, content)
    return path


def write_zeros(path, size, declared):
    """A .keras file with zeros in it, whose directory declares so many bytes of them."""
    write_keras(path, zipfile.ZIP_DEFLATED, **{"assets/zeros": bytes(size)})
    data = bytearray(path.read_bytes())
    # The size after inflation stands 24 bytes into the directory's entry, 46 before the name.
    entry = data.rfind(b"assets/zeros") - 46
    data[entry + 24 : entry + 28] = struct.pack("<I", declared)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["x.keras", "x.pth", "x.npz"])  # torch's are zip files, too
def test_a_zip_bomb_is_not_inflated(name, tmp_path):
    path = write_zeros(tmp_path / name, 1 << 20, SMALL)
    assert INFLATION * path.stat().st_size < SMALL
    assert f"in a file of {path.stat().st_size:,}" in refusal(read, path).received


def test_a_member_that_is_larger_than_it_declares_is_damaged(tmp_path):
    path = write_zeros(tmp_path / "x.keras", 1 << 20, 10)
    assert "assets/zeros" in refusal(load_model, path).received


def test_weights_in_a_model_file_that_declare_too_much(tmp_path):
    weights = io.BytesIO(parts()["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        variables = next(layer["vars"] for layer in file["layers"].values() if "0" in layer["vars"])
        del variables["0"]
        variables.create_dataset("0", (TERABYTES // 4,), "f4", chunks=(1024,))
    path = write_keras(tmp_path / "x.keras", **{"model.weights.h5": weights.getvalue()})
    assert_refused(path, load_model)


def config_with(**changes):
    """The model's description, with other values in its last layer, the classifier."""
    config = json.loads(parts()["config.json"])
    config["config"]["layers"][-1]["config"] |= changes
    return json.dumps(config)


@pytest.mark.parametrize(
    "config",
    [
        lambda: "[" * 100_000,
        lambda: '{"config":' * 100_000,
        lambda: '{"config": {"layers": 3}}',
        lambda: config_with(class_names=3),
    ],
    ids=["deep-list", "deep-dict", "no-layers", "names"],
)
def test_descriptions_of_no_model(config, tmp_path):
    assert_refused(write_keras(tmp_path / "x.keras", **{"config.json": config()}), load_model)


# --- what is no file ---


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.keras", "x.weights.h5"])
def test_pipes_are_told_and_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    error = refusal(read, tmp_path / name)
    assert "pipe" in error.problem and error.received == str(tmp_path / name)


def test_folders_and_names_that_cannot_be_are_told(tmp_path):
    (tmp_path / "x.keras").mkdir()
    assert "folder" in refusal(load_model, tmp_path / "x.keras").problem
    for name in ("a" * 5000 + ".pth", "null\0.pth"):
        assert name[:100] in refusal(read, name).received.replace("\\x00", "\0")
    assert "no such" in refusal(read, tmp_path / "missing.pth").problem


def test_the_command_line_refuses_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "x.pth")
    line = command_refusal(
        "convert", tmp_path / "x.pth", "--network", "resnet18", "-o", tmp_path / "x.keras"
    )
    assert str(tmp_path / "x.pth") in line and not (tmp_path / "x.keras").exists()


def test_faults_of_our_own_are_not_called_damage(tmp_path, monkeypatch):
    """Only the call of another package's reader is guarded."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    monkeypatch.setattr("resnet_keras.weights.metadata.inside", lambda *_: {}["ours"])
    with pytest.raises(KeyError, match="ours"):
        read(path)
