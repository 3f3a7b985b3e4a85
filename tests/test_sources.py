"""Where images come from: folders, TensorFlow Datasets, HDF5 files, and the names of them."""

import io
import itertools
import os
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from kit import of_arrays, of_files, refusal
from PIL import Image

from resnet_keras.data import sources
from resnet_keras.data.checks import check, naming_lost_images
from resnet_keras.data.folder import Folder
from resnet_keras.data.hdf5 import Hdf5
from resnet_keras.data.pipelines import tf_pipeline
from resnet_keras.data.splits import SPLIT_NAMES, MissingSplitError, SplitName, resized
from resnet_keras.data.tfds_source import Tfds
from resnet_keras.errors import NotDownloadedError
from resnet_keras.view import View


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def encoded(value, suffix=".png", size=(12, 9)):
    """A picture whose every pixel is a value."""
    file = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(file, Image.registered_extensions()[suffix])
    return file.getvalue()


def write_folder(root, counts, suffix=".png"):
    """Class folders with so many pictures; every pixel of a picture is its number."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}{suffix}").write_bytes(encoded(number, suffix))
    return root


def paths(source):
    return {
        name: [os.path.relpath(path, source.folder) for path in source.load(name).paths]
        for name in SPLIT_NAMES
    }


# Folders


def test_a_folder_of_splits(tmp_path):
    write_folder(tmp_path / "train", {"dog": 4, "cat": 6})
    write_folder(tmp_path / "val", {"cat": 2, "dog": 2})
    write_folder(tmp_path / "test", {"cat": 3, "dog": 1})
    source = Folder(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert source.image_size == 9
    assert {name: source.load(name).labels.tolist() for name in SPLIT_NAMES} == {
        "train": [0] * 6 + [1] * 4,
        "validation": [0, 0, 1, 1],
        "test": [0, 0, 0, 1],
    }
    split = source.load("test")
    assert split.labels.dtype == np.int64
    assert split.paths[2] == str(tmp_path / "test" / "cat" / "2.png")
    np.testing.assert_array_equal(split.image(2), np.full((9, 12, 3), 2))
    assert split.read(2) == (tmp_path / "test" / "cat" / "2.png").read_bytes()
    assert source.name == str(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_names_of_the_validation_folder(tmp_path, name):
    for split in ("train", name, "test"):
        write_folder(tmp_path / split, {"a": 2, "b": 2})
    assert all(path.startswith(name) for path in paths(Folder(tmp_path))["validation"])


def test_one_level_is_split_class_by_class(tmp_path):
    source = Folder(write_folder(tmp_path, {"a": 50, "b": 20, "c": 3, "d": 1}))
    counts = {n: np.bincount(source.load(n).labels, minlength=4).tolist() for n in SPLIT_NAMES}
    assert counts == {"train": [40, 16, 1, 1], "validation": [5, 2, 1, 0], "test": [5, 2, 1, 0]}
    everything = list(itertools.chain(*paths(source).values()))
    assert len(everything) == len(set(everything)) == 74


def test_the_split_is_of_seed_and_paths_alone(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "one", {"a": 30, "b": 30})
    here = paths(Folder(root))
    assert paths(Folder(root)) == here
    assert paths(Folder(root, seed=1)) != here
    assert paths(Folder(root, seed=1)) == paths(Folder(root, seed=1))
    elsewhere = tmp_path / "elsewhere"
    root.rename(elsewhere)
    walk = os.walk

    def backwards(top, **options):
        for parent, folders, files in walk(top, **options):
            yield parent, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert paths(Folder(elsewhere)) == here


def test_one_image_more_moves_few_others(tmp_path):
    source = Folder(write_folder(tmp_path, {"a": 40, "b": 40}))
    before = {path: split for split, some in paths(source).items() for path in some}
    (tmp_path / "a" / "new.png").write_bytes(encoded(0))
    after = {path: split for split, some in paths(Folder(tmp_path)).items() for path in some}
    assert sum(after[path] != split for path, split in before.items()) <= 2


def test_fractions(tmp_path):
    source = Folder(write_folder(tmp_path, {"a": 40, "b": 40}), validation=0.25, test=0.5)
    assert {name: len(source.load(name)) for name in SPLIT_NAMES} == {
        "train": 20,
        "validation": 20,
        "test": 40,
    }
    assert source.name == f"{tmp_path},validation=0.25,test=0.5"
    assert paths(sources.find(source.name)) == paths(source)


def test_without_test_images_the_validation_images_are_the_test(tmp_path):
    write_folder(tmp_path / "train", {"a": 20, "b": 20})
    write_folder(tmp_path / "val", {"a": 3, "b": 3})
    found = paths(Folder(tmp_path))
    assert {name: len(some) for name, some in found.items()} == {
        "train": 36,
        "validation": 4,
        "test": 6,
    }
    assert all(path.startswith("val") for path in found["test"])
    assert all(path.startswith("train") for path in found["validation"])


def test_a_folder_of_a_split_without_class_folders_is_none(tmp_path):
    write_folder(tmp_path / "train", {"a": 20, "b": 20})
    (tmp_path / "val").mkdir()
    found = paths(Folder(tmp_path))
    assert [len(found[name]) for name in SPLIT_NAMES] == [32, 4, 4]


def test_all_extensions_and_deeper_folders_and_nothing_else(tmp_path):
    write_folder(tmp_path, {"a": 2, "b": 2})
    deeper = tmp_path / "a" / "deeper"
    deeper.mkdir()
    for name in ("1.JPG", "2.jpeg", "3.WebP", "4.bmp", "5.gif", "6.png"):
        (deeper / name).write_bytes(encoded(9, os.path.splitext(name)[1].lower()))
    for name in (".hidden.png", "notes.txt", "Thumbs.db"):
        (deeper / name).write_bytes(b"no image")
    # Of these, only the last explains no image beside it.
    for name in ("6-grad-cam.png", "1-features.png", "3-responses.png", "7-features.png"):
        (deeper / name).write_bytes(encoded(9, ".png"))
    (tmp_path / ".git").mkdir()
    source = Folder(tmp_path)
    assert source.class_names == ("a", "b")
    names = {os.path.basename(path) for some in paths(source).values() for path in some}
    assert names == {
        "0.png",
        "1.png",
        "1.JPG",
        "2.jpeg",
        "3.WebP",
        "4.bmp",
        "5.gif",
        "6.png",
        "7-features.png",
    }


def test_a_class_may_be_called_train(tmp_path):
    source = Folder(write_folder(tmp_path, {"train": 4, "plane": 4}))
    assert source.class_names == ("plane", "train")


def test_a_folder_one_level_too_high_is_told(tmp_path):
    inner = write_folder(tmp_path / "mine" / "photos", {"cat": 2, "dog": 2})
    assert str(inner) in refusal(Folder, tmp_path / "mine").accepted
    (tmp_path / "mine" / "notes").mkdir()
    assert str(inner) in refusal(Folder, tmp_path / "mine").accepted
    assert Folder(inner).class_names == ("cat", "dog")


def test_folders_that_cannot_serve(tmp_path):
    assert f"{tmp_path}/CLASS/" in refusal(Folder, tmp_path).accepted
    write_folder(tmp_path, {"only": 2})
    assert refusal(Folder, tmp_path).received == f"{tmp_path} with the folder only"
    file = tmp_path / "only" / "0.png"
    assert str(file) in refusal(Folder, file).received
    write_folder(tmp_path, {"b": 2})
    for fraction in (0, 1, -1):
        error = refusal(Folder, tmp_path, validation=fraction)
        assert error.received == str(fraction) and "(0, 1)" in error.accepted
    assert "validation=0.5,test=0.5" in refusal(Folder, tmp_path, validation=0.5, test=0.5).received
    for split in ("train", "val"):
        write_folder(tmp_path / "split" / split, {"a": 2, "b": 2})
    write_folder(tmp_path / "split" / "test", {"a": 2, "b": 2})
    assert refusal(Folder, tmp_path / "split", test=0.5).received == "test=0.5"
    write_folder(tmp_path / "split" / "valid", {"a": 2, "b": 2})
    error = refusal(Folder, tmp_path / "split")
    assert all(str(tmp_path / "split" / name) in error.received for name in ("val", "valid"))


def test_a_split_without_images_is_missing(tmp_path):
    source = Folder(write_folder(tmp_path, {"a": 1, "b": 1}))
    assert len(source.load("train")) == 2
    with pytest.raises(MissingSplitError) as error:
        source.load("test")
    assert str(tmp_path) in error.value.received


def test_resized_takes_centre_squares_into_memory(tmp_path):
    split = Folder(write_folder(tmp_path, {"a": 6, "b": 6})).load("train")
    small = resized(split, 5)
    assert small.images.shape == (len(split), 5, 5, 3) and small.images.dtype == np.uint8
    np.testing.assert_array_equal(small.labels, split.labels)
    np.testing.assert_array_equal(small.image(1)[0, 0], split.image(1)[0, 0])
    assert resized(small, 5) is small
    assert len(small) == len(split)


def test_some_of_a_split(tmp_path):
    split = Folder(write_folder(tmp_path, {"a": 5, "b": 5})).load("train")
    for whole in (split, resized(split, 4)):
        some = whole.take(np.array([3, 1]))
        assert some.labels.tolist() == [whole.labels[3], whole.labels[1]]
        np.testing.assert_array_equal(some.image(0), whole.image(3))
        assert whole.take(np.array([2]), np.array([7])).labels.tolist() == [7]
    assert split.take(np.array([3])).paths == [split.paths[3]]


# TensorFlow Datasets


class Small(tfds.core.GeneratorBasedBuilder):
    """The layout of CIFAR, with fewer images: 32x32 PNG, ids, labels, train and test."""

    VERSION = tfds.core.Version("1.0.0")
    counts: ClassVar = {"train": 500, "test": 100}
    classes = 10

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=self.classes),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in self.counts}

    def _generate_examples(self, split) -> Iterator[tuple[str | int, dict[str, Any]]]:
        for number in range(self.counts[split]):
            image = np.full((32, 32, 3), number % 251, np.uint8)
            image[0, 0] = number % self.classes
            name = f"{split}_{number:05d}"
            yield name, {"id": name, "image": image, "label": number % self.classes}


class Contest(Small):
    """As ImageNet: sizes differ, and nobody knows the labels of the test images."""

    counts: ClassVar = {"train": 60, "validation": 20, "test": 10}

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, split):
        for number in range(self.counts[split]):
            label = -1 if split == "test" else number % 2
            image = io.BytesIO(encoded(number, ".jpg", (40 + number, 30)))
            yield number, {"image": image, "label": label, "file_name": f"{number}.jpg"}


class TrainOnly(Small):
    counts: ClassVar = {"train": 100}


class OtherNames(Small):
    counts: ClassVar = {"training": 60, "dev": 20, "extra": 10}


class Boxes(Small):
    def _info(self):
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(), "score": tfds.features.Scalar(np.float32)}
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, split):
        yield split, {"image": np.zeros((4, 4, 3), np.uint8), "score": 0.5}


FORMATS = ("tfrecord", "array_record")


def prepare(builder, folder, file_format, shards=None):
    """Prepares a set as users do; several files come of data that would be many gigabytes."""
    config = None
    if shards:
        config = tfds.download.DownloadConfig(num_shards=shards)
    builder(data_dir=str(folder), file_format=file_format).download_and_prepare(
        download_config=config
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of TFDS for either file format."""
    root = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    for file_format in FORMATS:
        prepare(Small, root / file_format, file_format, shards=3)
        prepare(Contest, root / file_format, file_format)
    prepare(TrainOnly, root / "tfrecord", "tfrecord")
    prepare(OtherNames, root / "tfrecord", "tfrecord")
    prepare(Boxes, root / "tfrecord", "tfrecord")
    return root


@pytest.fixture(params=FORMATS)
def data_dir(prepared, request, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared / request.param))
    return prepared / request.param


@pytest.fixture
def tfrecords(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared / "tfrecord"))
    return prepared / "tfrecord"


def identities(split):
    """Which of the images of `Small` they are."""
    return [int(split.image(index)[5, 5, 0]) for index in range(len(split))]


def test_a_tfds_set_as_tfds_reads_it(data_dir):
    assert len(list((data_dir / "small" / "1.0.0").glob("small-train*-of-00003"))) == 3
    source = sources.find("tfds:small")
    assert (source.image_size, len(source.class_names)) == (32, 10)
    builder = tfds.builder_from_directory(str(data_dir / "small" / "1.0.0"))
    if data_dir.name == "tfrecord":
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        expected = builder.as_dataset(split="test", read_config=in_order).as_numpy_iterator()
    else:
        expected = builder.as_data_source(split="test")
    split = source.load("test")
    assert len(split) == 100 and split.labels.dtype == np.int64
    for index, example in enumerate(expected):
        np.testing.assert_array_equal(split.image(index), example["image"])
        assert split.labels[index] == example["label"]
        assert of_files(split).read(index)[:4] == b"\x89PNG"


def test_the_last_tenth_validates_as_tfds_spells_it(data_dir):
    source = sources.find("tfds:small")
    spelled = sources.find("tfds:small,train=train[:450],validation=train[450:],test=test")
    counts: dict[SplitName, int] = {"train": 450, "validation": 50, "test": 100}
    for name, count in counts.items():
        split, other = source.load(name), spelled.load(name)
        assert len(split) == count
        assert identities(split) == identities(other)
        np.testing.assert_array_equal(split.labels, other.labels)
    both = identities(source.load("train")) + identities(source.load("validation"))
    assert sorted(both) == sorted(number % 251 for number in range(500))


def test_both_file_formats_hold_the_same(prepared, monkeypatch):
    found = []
    for file_format in FORMATS:
        monkeypatch.setenv("TFDS_DATA_DIR", str(prepared / file_format))
        split = Tfds("small").load("train")
        found.append([*identities(split), *split.labels])
    assert found[0] == found[1]


def test_a_second_load_reads_no_records(data_dir, monkeypatch):
    split = Tfds("small").load("train")

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("resnet_keras.data.tfds_source._found", refuse)
    again = Tfds("small").load("train")
    np.testing.assert_array_equal(again.labels, split.labels)
    assert again.read(17) == split.read(17)


def test_records_are_read_by_many_threads(data_dir):
    split = Tfds("small").load("train")
    order = np.random.default_rng(0).permutation(len(split))
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(split.image, order))
    for index, image in zip(order, images, strict=True):
        assert image[0, 0, 0] == split.labels[index]


def test_a_damaged_cache_is_found_out_again(tfrecords, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    labels = Tfds("small").load("train").labels
    (file,) = tmp_path.glob("resnet-keras/*.npz")
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(Tfds("small").load("train").labels, labels)
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # where nothing can be written
    np.testing.assert_array_equal(Tfds("small").load("train").labels, labels)


def test_unlabelled_test_images_leave_the_validation_images_to_test(data_dir):
    source = sources.find("tfds:contest:1.0.0")
    assert source.class_names == ("cat", "dog")
    assert source.image_size == 30
    splits = {name: source.load(name) for name in SPLIT_NAMES}
    assert [len(splits[name]) for name in SPLIT_NAMES] == [54, 6, 20]
    assert splits["test"].image(0).shape == (30, 40 + splits["test"].image(0)[0, 0, 0], 3)
    assert of_files(splits["train"]).read(0)[:2] == b"\xff\xd8"
    papers = Tfds("contest", {"validation": "validation", "test": "validation"})
    assert [len(papers.load(name)) for name in SPLIT_NAMES] == [60, 20, 20]


def test_one_split_is_divided_in_three(tfrecords):
    splits = {name: Tfds("train_only").load(name) for name in SPLIT_NAMES}
    assert [len(splits[name]) for name in SPLIT_NAMES] == [80, 10, 10]
    assert sorted(itertools.chain(*map(identities, splits.values()))) == list(range(100))


def test_splits_go_by_other_names_and_the_rest_is_told(tfrecords):
    source = Tfds("other_names")
    assert [len(source.load(name)) for name in SPLIT_NAMES] == [54, 6, 20]
    assert len(source.notes) == 1 and source.notes[0].endswith("extra")
    assert Tfds("other_names", {"test": "extra"}).notes == ()


def test_training_images_are_of_no_other_split(tfrecords):
    for choice in ("validation=train[450:]", "train=train[:50%],test=train[40%:60%]", "test=train"):
        assert choice in refusal(sources.find, f"tfds:small,{choice}").received


def test_a_set_that_is_not_downloaded_can_be(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "it's here"))
    error = refusal(sources.find, "tfds:small")
    assert isinstance(error, NotDownloadedError) and "--download" in error.accepted
    error.download()
    assert len(sources.find("tfds:small").load("train")) == 450


def test_a_set_that_has_to_be_fetched_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    error = refusal(sources.find, "imagenet2012")
    assert not isinstance(error, NotDownloadedError)
    assert f"{tmp_path}/downloads/manual" in error.accepted
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "part", "value"),
    [
        ("tfds:smal", "received", "tfds:smal"),
        ("tfds:cifar01", "accepted", "'tfds:cifar10'"),
        ("tfds:small:9.9.9", "received", "tfds:small:9.9.9"),
        ("tfds:small,train=training", "received", "'training'"),
        ("tfds:small,train=train[", "received", "'train['"),
        ("tfds:small,epochs=3", "received", "'epochs=3'"),
        ("tfds:boxes", "accepted", "one Image and one ClassLabel"),
        ("tfds:what is this", "received", "tfds:what is this"),
    ],
)
def test_tfds_spellings_that_mean_nothing(tfrecords, data, part, value):
    assert value in getattr(refusal(sources.find, data), part)


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    error = refusal(sources.find, "imagenet2012")
    assert "pip install 'resnet-keras[tensorflow]'" in error.accepted
    assert sources.find("digits").name == "digits"


def read_all(split):
    with naming_lost_images(split):
        list(tf_pipeline.evaluation_batches(split, view=View(8, 8), batch_size=99))


def test_a_truncated_file_of_records(tfrecords, tmp_path, monkeypatch):
    prepare(TrainOnly, tmp_path, "tfrecord")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (file,) = tmp_path.glob("train_only/1.0.0/*.tfrecord*")
    split = check(Tfds("train_only")).load("train")
    whole = file.read_bytes()
    file.write_bytes(whole[:6000])
    error = refusal(Tfds("train_only").load, "train")
    assert str(file) in error.received and error.accepted == "100 records"
    assert str(file) in refusal(of_files(split).read, 79).received
    assert str(file) in refusal(read_all, split).received
    file.write_bytes(struct.pack("<Q", 5) + bytes(4) + b"trash" + bytes(4) + whole)
    assert "damaged" in refusal(Tfds("train_only").load, "train").problem


def test_records_are_framed_as_tensorflow_writes_them(tfrecords):
    (*_, file) = sorted((tfrecords / "small" / "1.0.0").glob("small-train*"))
    expected = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    split = Tfds("small").load("validation")
    parsed = [tf.train.Example.FromString(record) for record in expected[-50:]]
    for index, example in enumerate(parsed):
        assert split.read(index) == example.features.feature["image"].bytes_list.value[0]


@pytest.mark.slow
def test_the_45000_and_5000_of_cifar(tmp_path, monkeypatch):
    class Cifar10(Small, skip_registration=True):  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]
        counts: ClassVar = {"train": 50_000, "test": 10_000}

        def _generate_examples(self, split):
            images = [encoded(label, ".png", (32, 32)) for label in range(self.classes)]
            for number in range(self.counts[split]):
                label = number % self.classes
                name = f"{split}_{number:05d}"
                yield name, {"id": name, "image": io.BytesIO(images[label]), "label": label}

    tfds.disable_progress_bar()
    prepare(Cifar10, tmp_path, "tfrecord")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = sources.find("tfds:cifar10")
    assert [len(source.load(name)) for name in SPLIT_NAMES] == [45_000, 5_000, 10_000]
    split = source.load("validation")
    builder = tfds.builder_from_directory(str(tmp_path / "cifar10" / "1.0.0"))
    config = tfds.ReadConfig(interleave_cycle_length=1)
    papers = builder.as_dataset(split="train[45000:]", read_config=config)
    assert [int(example["label"]) for example in papers] == split.labels.tolist()
    assert split.image(9).shape == (32, 32, 3)


# HDF5


def write_course_files(folder, names=(b"non-cat", b"cat"), one_file=False, labels=(1, -1)):
    random = np.random.default_rng(0)
    written = {}
    for split, count in (("train", 40), ("test", 10)):
        images = random.integers(0, 256, (count, 16, 16, 3), np.uint8)
        classes = np.arange(count) % 2
        written[split] = images, classes
        with h5py.File(folder / ("all.h5" if one_file else f"{split}_catvnoncat.h5"), "a") as file:
            file[f"{split}_set_x"] = images
            file[f"{split}_set_y"] = classes.reshape(labels)
            if names is not None and "list_classes" not in file:
                file["list_classes"] = np.array(names)
    return written


def test_the_courses_two_files(tmp_path):
    written = write_course_files(tmp_path)
    source = sources.find(str(tmp_path))
    assert isinstance(source, Hdf5)
    assert source.class_names == ("non-cat", "cat")
    assert source.image_size == 16 and source.name == str(tmp_path)
    test = source.load("test")
    np.testing.assert_array_equal(of_arrays(test).images, written["test"][0])
    np.testing.assert_array_equal(test.labels, written["test"][1])
    assert np.bincount(source.load("train").labels).tolist() == [18, 18]
    assert np.bincount(source.load("validation").labels).tolist() == [2, 2]
    again = sources.find(str(tmp_path))
    np.testing.assert_array_equal(
        of_arrays(again.load("train")).images, of_arrays(source.load("train")).images
    )


@pytest.mark.parametrize("labels", [(-1,), (1, -1), (-1, 1)])
def test_one_file_and_any_shape_of_labels(tmp_path, labels):
    written = write_course_files(tmp_path, one_file=True, labels=labels, names=(3, 5))
    source = sources.find(str(tmp_path / "all.h5"))
    assert source.class_names == ("3", "5")
    np.testing.assert_array_equal(source.load("test").labels, written["test"][1])


def test_without_names_the_labels_are_the_names(tmp_path):
    write_course_files(tmp_path, names=None)
    assert Hdf5(tmp_path).class_names == ("0", "1")


def test_hdf5_files_that_cannot_serve(tmp_path):
    write_course_files(tmp_path)
    train = tmp_path / "train_catvnoncat.h5"
    error = refusal(Hdf5, train)
    assert "test_set_x, test_set_y" in error.problem and "list_classes" in error.received
    assert refusal(sources.find, f"{tmp_path},seed=1").accepted == repr(str(tmp_path))
    (tmp_path / "text.h5").write_text("no HDF5")
    error = refusal(sources.find, str(tmp_path / "text.h5"))
    assert str(tmp_path / "text.h5") in error.received
    with h5py.File(train, "a") as file:
        file["train_set_y"][0, 0] = 2
    assert "labels up to 2, 2 class names" in refusal(Hdf5, tmp_path).received
    with h5py.File(train, "a") as file:
        file["train_set_y"][0, 0] = -1
    assert "-1 for image 0" in refusal(Hdf5, tmp_path).received
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "train_x.h5").touch()
    error = refusal(sources.find, str(tmp_path / "alone"))
    assert "train_x.h5" in error.received and "test_*.h5" in error.received
    with h5py.File(train, "a") as file:
        del file["train_set_x"]
        file["train_set_x"] = np.zeros((40, 16, 16, 3), np.float32)
    assert "float32" in refusal(Hdf5, tmp_path).received
    write_course_files(tmp_path, one_file=True)
    (tmp_path / "train_signs.h5").touch()
    error = refusal(sources.find, str(tmp_path))
    assert "train_catvnoncat.h5, train_signs.h5" in error.received


# Spellings


def test_find_tells_the_spellings_and_what_is_near(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spellings = refusal(sources.find, "what").accepted
    assert all(word in spellings for word in ("digits", "cifar10", "tfds:NAME", "folder", "h5"))
    assert "''" in refusal(sources.find, "").received
    assert "did you mean 'digits'" in refusal(sources.find, "digit").accepted
    assert "did you mean 'cifar100'" in refusal(sources.find, "cifar1000").accepted
    write_folder(tmp_path / "flowers", {"rose": 2, "tulip": 2})
    assert "did you mean 'flowers'" in refusal(sources.find, "flower").accepted
    assert refusal(sources.find, "./flower").received == "'./flower'"
    error = refusal(sources.find, "flowers,size=3")
    assert error.received == "'size=3'" and "validation=0.1" in error.accepted


def test_find_takes_folders_by_any_spelling(tmp_path, monkeypatch):
    write_folder(tmp_path / "with, comma", {"rose": 6, "tulip": 6})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = paths(sources.find("with, comma"))
    for spelling in ("./with, comma", "~/with, comma", str(tmp_path / "with, comma")):
        assert paths(sources.find(spelling)) == whole
        assert sources.find(spelling).name == str(tmp_path / "with, comma")
    (tmp_path / "with, comma").rename(tmp_path / "flowers")
    seeded = sources.find("flowers,seed=3,test=0.5")
    assert len(seeded.load("test")) == 6
    assert seeded.name == f"{tmp_path / 'flowers'},test=0.5,seed=3"
