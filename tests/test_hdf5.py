"""HDF5 files of others: nothing that they hold makes this machine's other files part of them."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
from kit import TINY, refusal

from resnet_keras.data.arrays import Arrays
from resnet_keras.data.hdf5 import Hdf5
from resnet_keras.files.hdf5 import check_self_contained
from resnet_keras.networks.loading import load_model, load_weights
from resnet_keras.networks.models import build
from resnet_keras.weights import reading


def external_link(group, name, shape, dtype, other):
    group[name] = h5py.ExternalLink(str(other), "content")


def external_dataset(group, name, shape, dtype, other):
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    group.create_dataset(name, shape, dtype, external=[(str(other), 0, size)])


def virtual_dataset(group, name, shape, dtype, other):
    layout = h5py.VirtualLayout(shape, dtype)
    layout[:] = h5py.VirtualSource(str(other), "content", shape)
    group.create_virtual_dataset(name, layout)


WAYS = pytest.mark.parametrize("refer", [external_link, external_dataset, virtual_dataset])


def replace(file, path, refer, other):
    """Puts a reference to another file in a dataset's place; the other file has such data."""
    dataset = file[path]
    shape, dtype = dataset.shape, dataset.dtype
    with h5py.File(other, "w") as secret:
        secret["content"] = np.ones(shape, dtype)
    group, name = dataset.parent, path.rpartition("/")[-1]
    del group[name]
    refer(group, name, shape, dtype, other)


@pytest.fixture
def course_file(tmp_path):
    with h5py.File(tmp_path / "course.h5", "w") as file:
        for split, count in (("train", 40), ("test", 4)):
            file[f"{split}_set_x"] = np.zeros((count, 4, 4, 3), np.uint8)
            file[f"{split}_set_y"] = np.arange(count) % 2
    return tmp_path / "course.h5"


@WAYS
def test_images_come_from_the_file_alone(refer, course_file, tmp_path):
    Hdf5(course_file)
    with h5py.File(course_file, "a") as file:
        replace(file, "train_set_x", refer, tmp_path / "other.h5")
    received = refusal(Hdf5, course_file).received
    assert str(course_file) in received and "/train_set_x" in received


@WAYS
def test_weights_come_from_the_file_alone(refer, tmp_path):
    model = build(TINY)
    model.save_weights(tmp_path / "ours.weights.h5")
    with h5py.File(tmp_path / "ours.weights.h5", "a") as file:
        name = next(name for name, layer in file["layers"].items() if "0" in layer["vars"])
        replace(file, f"layers/{name}/vars/0", refer, tmp_path / "other.h5")
    received = refusal(load_weights, model, tmp_path / "ours.weights.h5").received
    assert f"/layers/{name}/vars/0" in received
    with h5py.File(tmp_path / "keras2.h5", "w") as file:
        file.attrs["layer_names"] = ["conv1"]
        file.create_group("conv1").attrs["weight_names"] = ["kernel"]
        file["conv1/kernel"] = np.zeros(4, "float32")
    assert list(reading.read(tmp_path / "keras2.h5").values) == ["conv1"]
    with h5py.File(tmp_path / "keras2.h5", "a") as file:
        replace(file, "conv1/kernel", refer, tmp_path / "other.h5")
    assert "/conv1/kernel" in refusal(reading.read, tmp_path / "keras2.h5").received


@WAYS
def test_models_come_from_the_file_alone(refer, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        replace(file, "layers/dense/vars/0", refer, tmp_path / "other.h5")
    with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
        for name, content in {**parts, "model.weights.h5": weights.getvalue()}.items():
            archive.writestr(name, content)
    received = refusal(load_model, tmp_path / "changed.keras").received
    assert str(tmp_path / "changed.keras") in received


def test_links_inside_a_file_are_good_and_loops_end(tmp_path):
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["a/data"] = np.arange(3)
        file["b"] = h5py.SoftLink("/a/data")
        file["nowhere"] = h5py.SoftLink("/c")
        file["a/again"] = file["a"]
        check_self_contained(file, "links.h5")


@pytest.mark.parametrize(
    ("labels", "names", "received"),
    [
        (np.array([0, 10**9]), None, "labels up to 1000000000"),
        (np.array([0, 1000]), None, "labels up to 1000"),
        (np.array([0, 2]), ("a", "b"), "labels up to 2"),
        (np.array([0, 2**63 + 1], np.uint64), None, f"{2**63 + 1} for image 1"),
    ],
)
def test_labels_beyond_all_classes_are_refused_before_they_are_named(labels, names, received):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    test = images, np.array([0, 1])
    assert received in refusal(Arrays, (images, labels), test, class_names=names).received


def test_hdf5_names_that_are_not_utf8(course_file):
    with h5py.File(course_file, "a") as file:
        file["list_classes"] = np.array([b"cat", b"caf\xe9"])
    assert "caf\\xe9" in refusal(Hdf5, course_file).received
