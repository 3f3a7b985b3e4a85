"""Folders as people have them: splits in all spellings, links, pipes, files of other kinds."""

import os
import sys
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from kit import of_files, refusal
from PIL import Image
from sample_images import PLAIN, photo, saved

from resnet_keras.data import images
from resnet_keras.data.checks import check, naming_lost_images
from resnet_keras.data.folder import Folder
from resnet_keras.data.images import UnreadableImageError, read_image
from resnet_keras.data.listing import Listing, describe_ignored
from resnet_keras.data.pipelines import numpy_pipeline, tf_pipeline
from resnet_keras.data.splits import SPLIT_NAMES, split_called
from resnet_keras.view import View


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def fill(root, *classes, count=4):
    """Class folders with so many images each."""
    for name in classes or ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(PLAIN["colour.png"])
    return root


def counts(source):
    """How many images each split has, and the classes."""
    return {name: len(source.load(name)) for name in SPLIT_NAMES}, source.class_names


def reasons(source):
    return {os.path.relpath(one.path, source.folder): one.reason for one in source.problems}


# Splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "TRAIN", "Training", "train_set", "train-images")),
        *((name, "validation") for name in ("Val", "valid", "VALIDATION", "validate", "dev")),
        *((name, "validation") for name in ("eval", "evaluation", "val_data")),
        *((name, "test") for name in ("Test", "testing", "TestSet")),
        *((name, None) for name in ("trains", "devices", "contest", "set", "images", "")),
    ],
)
def test_spellings_of_splits(name, split):
    assert split_called(name) == split


@pytest.mark.parametrize(
    ("training", "other"), [("Train", "Test"), ("training", "testing"), ("TRAIN", "VAL")]
)
def test_two_splits_are_no_classes(training, other, tmp_path):
    fill(tmp_path / training, count=10)
    fill(tmp_path / other, count=3)
    source = Folder(tmp_path)
    assert counts(source) == (
        {"train": 18, "validation": 2, "test": 6},
        ("cat", "dog"),
    )
    assert {os.path.relpath(path, tmp_path).split(os.sep)[0] for path in source.load("test").paths}
    assert source.notes == ()


def test_folders_called_like_splits_without_class_folders(tmp_path):
    fill(tmp_path, "bus", "train")  # which may be a class of vehicles
    (note,) = Folder(tmp_path).notes
    assert "the folder train " in note
    fill(tmp_path, "test")
    assert refusal(Folder, tmp_path).received == f"test, train in {tmp_path}"


def test_splits_without_training_images_are_not_told_to_hold_no_class_folders(tmp_path):
    fill(tmp_path / "val")
    fill(tmp_path / "test")
    assert "share cat, dog" in refusal(Folder, tmp_path).received


def test_classes_that_a_split_lacks_are_told(tmp_path):
    fill(tmp_path / "train", "Cat", "dog", "emu")
    fill(tmp_path / "val", "cat", "dog")
    error = refusal(check, Folder(tmp_path))
    assert "class cat: 4 test images" in str(error) and "some of Cat" in str(error)
    notes = check(Folder(tmp_path), skip_bad_images=True).notes
    assert notes == (
        "the classes Cat, cat differ in capitals alone",
        "no test image shows Cat, emu",
        "left out as bad: 4 images, 1 classes",
    )


def test_two_folders_of_one_split_are_refused(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "Training")
    received = refusal(Folder, tmp_path).received
    assert str(tmp_path / "train") in received and str(tmp_path / "Training") in received


@pytest.mark.parametrize(
    "paths",
    [
        ("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"),
        ("seg_train/a", "seg_train/b", "seg_train/c", "seg_test/a", "seg_test/b"),
        ("amazon/images/cat", "amazon/images/dog", "dslr/images/cat", "dslr/images/dog"),
        ("val/cat", "val/dog", "test/cat", "test/dog"),  # and no train
        ("cat/train", "cat/test", "dog/train", "dog/test"),
        ("train/cat", "train/dog", "augmented/cat", "augmented/dog"),
    ],
)
def test_folders_that_share_folders_are_not_taken_for_classes(paths, tmp_path):
    fill(tmp_path, *paths)
    first, last = (path.split("/")[0] for path in (paths[0], paths[-1]))
    received = refusal(Folder, tmp_path).received
    assert first in received and last in received and str(tmp_path) in received
    (tmp_path / paths[0].split("/")[0] / "overview.png").write_bytes(PLAIN["colour.png"])
    refusal(Folder, tmp_path)


def test_folders_inside_class_folders_may_have_one_name(tmp_path):
    fill(tmp_path, "cat/images", "dog/images")
    fill(tmp_path, "cat/2021", "dog/2022", "cow")
    assert Folder(tmp_path).class_names == ("cat", "cow", "dog")


# What is not read


def test_files_that_are_not_read_are_told_by_kind(tmp_path):
    fill(tmp_path)
    for name in ("1.RAW", "2.raw", "notes.txt", "README", ".hidden", "Odd.Png"):
        (tmp_path / "cat" / name).touch()
    (tmp_path / "dog" / "loose").mkdir()
    (tmp_path / "dog" / "loose" / "3.raw").touch()
    listing = Listing()
    assert len(listing.images(tmp_path / "cat")) == 5
    assert listing.ignored == {".raw": 2, ".txt": 1, "": 1}
    (tmp_path / "cover.png").write_bytes(PLAIN["colour.png"])
    of_kinds, loose = Folder(tmp_path).notes
    assert all(kind in of_kinds for kind in ("3 .raw", "1 .txt", "1 without an extension"))
    assert "1 image" in loose and str(tmp_path) in loose
    assert describe_ignored(Counter()) == ""
    told = describe_ignored(Counter({".heic": 1200}))
    assert "1,200 .heic" in told and images.HEIC_EXTRA in told


def test_what_lies_beside_the_splits_is_told(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path, "unlabelled")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "1.png").write_bytes(PLAIN["colour.png"])
    notes = "\n".join(Folder(tmp_path).notes)
    assert "test, unlabelled" in notes
    assert f"1 image is not read: not in a class folder, but in {tmp_path / 'test'}" in notes


def test_folders_of_other_programs_are_neither_classes_nor_told(tmp_path):
    fill(tmp_path, "cat", "dog", "@eaDir", ".ipynb_checkpoints", "__MACOSX", "cat/@eaDir")
    source = Folder(tmp_path)
    assert sum(counts(source)[0].values()) == 8
    assert (source.class_names, source.notes, source.problems) == (("cat", "dog"), (), ())


@pytest.mark.parametrize("content", [(), ("1.heicx", "2.pdf")])
def test_folders_without_images_are_refused_in_a_line(content, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for file in content:
            (tmp_path / name / file).touch()
    error = refusal(Folder, tmp_path)
    assert f"{tmp_path} with 2 class folders" in error.received
    assert ("2 .pdf" in error.received) == bool(content)
    assert ".jpg" in error.accepted and "\n" not in str(error)


# Links, pipes and names


def test_images_behind_links_are_found_once(tmp_path):
    fill(tmp_path / "store")
    data = tmp_path / "data"
    (data / "b").mkdir(parents=True)
    (data / "a").symlink_to(tmp_path / "store" / "cat")
    (data / "b" / "dogs").symlink_to(tmp_path / "store" / "dog")
    for name in ("0", "1"):  # of another folder, by a name of their own
        (data / "b" / f"copy{name}.png").symlink_to(tmp_path / "store" / "dog" / f"{name}.png")
    source = check(Folder(data))
    assert sum(len(source.load(name)) for name in SPLIT_NAMES) == 8
    (note,) = source.notes
    assert "2 links" in note


def test_an_image_in_two_classes_or_splits_is_refused(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    (tmp_path / "test" / "dog" / "seen.png").symlink_to(tmp_path / "train" / "dog" / "0.png")
    (tmp_path / "train" / "dog" / "cat.png").symlink_to(tmp_path / "train" / "cat" / "0.png")
    source = Folder(tmp_path)
    assert {path: reason.split()[-1] for path, reason in reasons(source).items()} == {
        "test/dog/seen.png": str(tmp_path / "train" / "dog" / "0.png"),
        "train/dog/cat.png": str(tmp_path / "train" / "cat" / "0.png"),
    }
    assert len(str(refusal(check, source)).splitlines()) == 3
    assert len(check(source, skip_bad_images=True).load("test")) == 8


def test_loops_and_folders_that_are_there_twice(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "twin").symlink_to("dog")
    (tmp_path / "cat" / "round").symlink_to("round")
    source = Folder(tmp_path)
    assert set(reasons(source)) == {"cat/up", "self", "twin"}
    assert sum(counts(source)[0].values()) == 8


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_and_devices_are_never_opened(tmp_path):
    fill(tmp_path)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "zeros.png").symlink_to("/dev/zero")
    assert set(reasons(Folder(tmp_path))) == {"cat/pipe.png", "cat/zeros.png"}
    assert len(str(refusal(check, Folder(tmp_path))).splitlines()) == 3
    for name in ("pipe.png", "zeros.png"):
        with pytest.raises(UnreadableImageError) as error:
            read_image(tmp_path / "cat" / name)
        assert str(tmp_path / "cat" / name) in error.value.received


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text")
def test_names_that_are_not_utf8(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    folder, name = tmp_path / "train" / "cat", os.fsdecode(b"caf\xe9.png")
    (folder / "0.png").rename(folder / name)
    split = of_files(check(Folder(tmp_path, validation=0.2)).load("train"))
    assert any(path.endswith(name) for path in split.paths)
    for pipeline in (tf_pipeline, numpy_pipeline):
        batches = pipeline.evaluation_batches(split, view=View(8, 8), batch_size=99)
        assert [len(labels) for _, labels in batches] == [len(split)]
    folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    assert "'caf\\udce9'" in refusal(Folder, tmp_path).received


# Kinds of files


def test_the_pipelines_show_files_of_every_kind_as_pillow_reads_them(tmp_path):
    for name in ("train", "val", "test"):
        fill(tmp_path / name)
    picture = photo(size=(60, 40))
    for suffix in images.EXTENSIONS:
        kind = Image.registered_extensions().get(suffix, "HEIF")
        write(tmp_path / "train" / "cat" / f"photo{suffix}", saved(picture, kind))
    data, view = check(Folder(tmp_path)), View(16, 16)
    split = of_files(data.load("train"))
    assert {os.path.splitext(path)[1] for path in split.paths} == set(images.EXTENSIONS)
    expected = np.stack([view.show(read_image(path)) for path in split.paths])
    for pipeline in (tf_pipeline, numpy_pipeline):
        batches = pipeline.evaluation_batches(split, view=view, batch_size=99)
        (found,) = (np.asarray(shown) for shown, _ in batches)
        assert np.abs(found.astype(int) - expected).max() <= 1
    assert data.notes == ()


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs the extra heic")
def test_heic_is_read_and_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    read_image(write(tmp_path / "any.png", PLAIN["colour.png"]))  # makes HEIF known to Pillow
    path = write(tmp_path / "photo.heic", saved(photo(size=(64, 48)), "HEIF", exif=exif.tobytes()))
    found = read_image(path).astype(int)
    assert np.abs(found - np.rot90(np.asarray(photo(size=(64, 48))), -1)).mean() < 4


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="is about its absence")
def test_heic_without_the_extra_tells_how_to_install_it(tmp_path):
    path = write(tmp_path / "photo.heic", b"\0\0\0\x18ftypheic" + bytes(100))
    assert images.HEIC_EXTRA in refusal(read_image, path).received


def write(path, data):
    path.write_bytes(data)
    return path


# Files that change later


@pytest.mark.parametrize("pipeline", [tf_pipeline, numpy_pipeline])
@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("photo.jpg", lambda path: path.unlink(), "No such file"),
        ("photo.jpg", lambda path: path.write_bytes(path.read_bytes()[:-40]), "truncated"),
        ("photo.webp", lambda path: path.write_bytes(b"no image"), "no image format"),
    ],
)
def test_an_image_that_is_lost_after_the_check_is_named(pipeline, name, damage, reason, tmp_path):
    fill(tmp_path)
    content = saved(photo(size=(64, 48)), Image.registered_extensions()[f".{name[6:]}"])
    for number in range(6):
        write(tmp_path / "dog" / f"{number}{name}", content)
    split = of_files(check(Folder(tmp_path)).load("train"))
    path = next(path for path in split.paths if path.endswith(name))
    damage(tmp_path / "dog" / os.path.basename(path))

    def go_through():
        with naming_lost_images(split):
            list(pipeline.evaluation_batches(split, view=View(8, 8), batch_size=3))

    received = refusal(go_through).received
    assert path in received and reason in received


def test_other_errors_stay_what_they_are(tmp_path):
    split = check(Folder(fill(tmp_path))).load("train")
    with pytest.raises(ZeroDivisionError), naming_lost_images(split):
        raise ZeroDivisionError
