"""IDX files, and the datasets that Keras downloads, such as Fashion-MNIST and CIFAR-10."""

import gzip
import re
import struct

import keras
import numpy as np
import pytest
from kit import of_arrays, refusal

from resnet_keras.data import keras_datasets, sources
from resnet_keras.data.idx import Idx
from resnet_keras.data.keras_datasets import PUBLISHED
from resnet_keras.data.splits import SPLIT_NAMES
from resnet_keras.errors import NotDownloadedError


def write_idx(folder, images=120, classes=10, compressed=True):
    """Four IDX files as MNIST's are written: a header of big-endian integers, then the bytes."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    written = {}
    for split, count in (("train", images), ("t10k", images // 6)):
        arrays = {
            "images-idx3": random.integers(0, 256, (count, 28, 28), np.uint8),
            "labels-idx1": (np.arange(count) % classes).astype(np.uint8),
        }
        for what, array in arrays.items():
            content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content += array.tobytes()
            file = folder / f"{split}-{what}-ubyte{'.gz' if compressed else ''}"
            file.write_bytes(gzip.compress(content) if compressed else content)
            written[split, what] = array
    return written


@pytest.mark.parametrize("compressed", [True, False])
def test_a_folder_of_idx_files(tmp_path, compressed):
    written = write_idx(tmp_path / "mine", compressed=compressed)
    source = sources.find(str(tmp_path / "mine"))
    assert isinstance(source, Idx) and source.class_names == tuple("0123456789")
    assert [len(source.load(name)) for name in SPLIT_NAMES] == [110, 10, 20]
    np.testing.assert_array_equal(
        of_arrays(source.load("test")).images[..., 1], written["t10k", "images-idx3"]
    )
    np.testing.assert_array_equal(source.load("test").labels, written["t10k", "labels-idx1"])
    assert "per_class" in refusal(sources.find, f"{tmp_path / 'mine'},seed=1").accepted


def test_the_first_training_images_of_each_class(tmp_path):
    folder = tmp_path / "mine"
    write_idx(folder)
    all_images = sources.find(str(folder)).load("train")
    source = sources.find(f"{folder},per_class=3")
    assert source.name == f"{folder},per_class=3"
    few = source.load("train")
    assert np.bincount(few.labels).tolist() == 10 * [3]
    for label in range(10):
        expected = of_arrays(all_images).images[all_images.labels == label][:3]
        np.testing.assert_array_equal(of_arrays(few).images[few.labels == label], expected)
    assert [len(source.load(name)) for name in ("validation", "test")] == [10, 20]
    assert sources.at_most(str(folder), 5) == f"{folder},per_class=5"
    for data in (str(folder), f"{folder},per_class=5"):  # few enough, or chosen by the user
        assert sources.at_most(data, 11 if data == str(folder) else 2) == data
    for number in (0, 12):
        assert refusal(sources.find(f"{folder},per_class={number}").load, "train").received
    for options in ("per_class=", "per_class=-1", "per_class=1,seed=2"):
        assert options in refusal(sources.find, f"{folder},{options}").received
    assert "tfds:cifar10,seed=1" in refusal(sources.find, "cifar10,seed=1").accepted


def test_idx_files_that_cannot_serve(tmp_path):
    folder = tmp_path / "mine"
    write_idx(folder)
    images = folder / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    for damaged in (whole[:-20], b"no gzip", gzip.compress(b"\0\0\x08"), gzip.compress(bytes(99))):
        images.write_bytes(damaged)
        assert str(images) in refusal(sources.find, str(folder)).received
    images.unlink()
    assert "train-images" in refusal(sources.find, str(folder)).accepted


def test_the_class_names_of_kerass_datasets():
    for name in ("fashion-mnist", "cifar10"):  # as the tables of Keras's documentation have them
        text = getattr(keras.datasets, name.replace("-", "_")).load_data.__doc__
        table = re.findall(r"\| *(\d) *\| *([^|]+?) *\|", text)
        assert [label for label, _ in table] == list("0123456789")
        assert PUBLISHED[name].class_names == tuple(class_name for _, class_name in table)
    names = PUBLISHED["cifar100"].class_names  # in the order of the alphabet
    assert len(names) == 100 and list(names) == sorted(set(names))


def test_kerass_datasets_come_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras_datasets, "DEBIAN", tmp_path / "nothing")
    for name in PUBLISHED:
        error = refusal(sources.find, name)
        assert isinstance(error, NotDownloadedError) and str(tmp_path) in error.received
    cached = tmp_path / "datasets" / "fashion-mnist"
    write_idx(cached)
    source = sources.find("fashion-mnist")
    assert source.name == "fashion-mnist" and source.class_names[-1] == "Ankle boot"
    assert [len(source.load(name)) for name in SPLIT_NAMES] == [110, 10, 20]
    (cached / "t10k-labels-idx1-ubyte.gz").unlink()  # as a download that was stopped leaves it
    assert isinstance(refusal(sources.find, "fashion-mnist"), NotDownloadedError)


@pytest.mark.slow
@pytest.mark.skipif(
    not (keras_datasets.DEBIAN / "fashion-mnist").exists(),
    reason="needs Debian's dataset-fashion-mnist",
)
def test_fashion_mnist_whole():
    splits = {name: sources.find("fashion-mnist").load(name) for name in SPLIT_NAMES}
    assert [len(split) for split in splits.values()] == [55_000, 5_000, 10_000]
    for split in splits.values():  # stratified
        assert set(np.bincount(split.labels)) == {len(split) // 10}
    folder = sources.find(str(keras_datasets.DEBIAN / "fashion-mnist"))
    assert folder.class_names == PUBLISHED["fashion-mnist"].class_names


# Names
