"""Bad data, every kind as a real file, and what is no bad data though it looks like it."""

import io
import os
import shutil
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mislabelled
import numpy as np
import pytest
import sample_images
import tensorflow as tf
from kit import known, of_files, refusal, run_python
from PIL import Image
from sample_images import BAD, ORIENTATION, PLAIN, RED, folder_with, photo, saved

from resnet_keras.data import checks, images, sources
from resnet_keras.data.arrays import Arrays
from resnet_keras.data.budget import PIXELS, Budget
from resnet_keras.data.checks import check
from resnet_keras.data.folder import Folder
from resnet_keras.data.images import UnreadableImageError, decode, inspect, read_image
from resnet_keras.data.splits import SPLIT_NAMES, BadImage, MissingSplitError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "resnet-keras"


def deep_colour():
    """16 bits a channel, which Pillow reads and does not write."""
    pixels = tf.constant(np.asarray(photo()).astype(np.uint16) * 257)
    return tf.io.encode_png(pixels).numpy()


NOT_PLAIN = {**sample_images.NOT_PLAIN, "deep-colour.png": deep_colour()}


def reasons(error):
    """From the listing, file names and why they are bad."""
    lines = str(error).splitlines()[1:]
    return {Path(path.strip()).name: why for path, _, why in (li.partition(": ") for li in lines)}


# What decoding makes of images


@pytest.mark.parametrize("name", [*PLAIN, *NOT_PLAIN])
def test_good_images_are_decoded(name):
    data = {**PLAIN, **NOT_PLAIN}[name]
    assert inspect(data).is_plain == (name in PLAIN)
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((24, 16, 3) if name.startswith("rotated") else (16, 24, 3))


@pytest.mark.parametrize("name", PLAIN)
def test_tensorflow_reads_plain_images_alike(name):
    theirs = tf.io.decode_image(PLAIN[name], channels=3).numpy()
    ours = decode(PLAIN[name])
    assert np.abs(theirs.astype(int) - ours).max() <= (3 if PLAIN[name][:2] == b"\xff\xd8" else 0)


def test_adobes_cmyk_comes_out_in_its_colours():
    # Red in CMYK is no cyan, all magenta and yellow, no black; in Adobe's JPEG all are inverted.
    data = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
    assert np.abs(decode(data).astype(int) - RED).max() <= 8
    colours = decode(NOT_PLAIN["cmyk.jpg"]).astype(int)
    assert np.abs(colours - np.asarray(photo())).mean() < 12


def test_deep_pixels_are_scaled():
    grey = decode(NOT_PLAIN["deep-grey.png"])
    assert grey[0, 0, 0] == 0 and grey[-1, -1, 0] == 255
    np.testing.assert_array_equal(decode(NOT_PLAIN["deep-colour.png"]), np.asarray(photo()))


@pytest.mark.parametrize(
    ("rotated", "upright"), [("rotated.jpg", "colour.jpg"), ("rotated.tiff", "colour.png")]
)
def test_rotation_is_the_cameras(rotated, upright):
    expected = np.rot90(decode(PLAIN[upright]), -1)
    np.testing.assert_array_equal(decode(NOT_PLAIN[rotated]), expected)


def deep_colour_of_12_bits():
    return tf.io.encode_png(tf.constant(np.asarray(photo()).astype(np.uint16) * 16)).numpy()


@pytest.mark.parametrize(
    ("data", "is_told"),
    [
        (sample_images.deep_grey(brightest=4095), True),
        (sample_images.deep_grey("TIFF", brightest=4095), True),
        (deep_colour_of_12_bits(), True),
        (sample_images.deep_grey(brightest=4096), False),
        (sample_images.deep_grey("TIFF"), False),
        (deep_colour(), False),
        (saved(Image.new("L", (24, 16)), "PNG"), False),  # dark, of 8 bits
    ],
)
def test_12_bits_in_16_are_told_and_not_scaled(data, is_told, tmp_path):
    assert bool(inspect(data).remarks) == is_told
    assert decode(data).max() <= 15 or not is_told
    (tmp_path / "deep.png").write_bytes(data)
    with warnings.catch_warnings(record=True, action="always") as told:
        read_image(tmp_path / "deep.png")
    assert [str(tmp_path / "deep.png") in str(one.message) for one in told] == [True] * is_told


def test_strips_make_the_same_pixels(monkeypatch):
    names = [name for name in NOT_PLAIN if name != "deep-colour.png"]
    whole = [decode(NOT_PLAIN[name]) for name in names]
    monkeypatch.setattr(images, "_STRIP", 100)  # four rows of 24
    for name, expected in zip(names, whole, strict=True):
        np.testing.assert_array_equal(decode(NOT_PLAIN[name]), expected)


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused_with_their_reason(name, tmp_path):
    data, reason = BAD[name]
    if "placeholder" not in reason:
        with pytest.raises(UnreadableImageError) as unreadable:
            decode(data)
        assert reason in unreadable.value.reason and "\n" not in str(unreadable.value)
    found = reasons(refusal(check, Folder(folder_with(tmp_path, {name: data}))))
    assert list(found) == [name] and reason in found[name]


def test_a_decompression_bomb(tmp_path):
    """24,000 bytes that would fill 588 MB."""
    bomb = saved(Image.new("1", (14_000, 14_000)), "PNG")
    assert len(bomb) < 50_000
    error = refusal(check, Folder(folder_with(tmp_path, {"bomb.png": bomb})))
    assert "decompression bomb" in reasons(error)["bomb.png"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on odd EXIF data
@pytest.mark.parametrize(
    "name", ["colour.jpg", "colour.png", "still.gif", "photo.webp", "photo.bmp"]
)
def test_damage_of_any_kind_is_told_or_survived(name):
    random = np.random.default_rng(0)
    whole = np.frombuffer({**PLAIN, **NOT_PLAIN}[name], np.uint8)
    refused = 0
    for _ in range(150):
        damaged = whole.copy()
        places = random.integers(0, len(whole), random.integers(1, 6))
        damaged[places] = random.integers(0, 256, len(places))
        try:
            pixels = decode(damaged[: random.integers(1, len(whole) + 1)].tobytes())
        except UnreadableImageError:
            refused += 1
        else:
            assert pixels.ndim == 3 and pixels.dtype == np.uint8
    assert refused > 50


# The check of a whole source


def test_good_data_passes_and_knows_its_plain_images(tmp_path):
    source = Folder(folder_with(tmp_path, {**PLAIN, **NOT_PLAIN}))
    checked = check(source)
    assert checked.skipped == ()
    assert (checked.name, checked.class_names) == (source.name, source.class_names)
    assert checked.image_size == source.image_size == 16
    seen = set()
    for name in SPLIT_NAMES:
        split = of_files(checked.load(name))
        assert split.paths == source.load(name).paths
        for path, plain in zip(known(split.paths), known(split.plain), strict=True):
            assert plain == (os.path.basename(path) not in NOT_PLAIN)
            seen.add(os.path.basename(path))
    assert seen >= {*PLAIN, *NOT_PLAIN}


def test_all_offenders_are_told_at_once_and_skipped_on_demand(tmp_path):
    files = {name: data for name, (data, _) in BAD.items()}
    source = Folder(folder_with(tmp_path, files))
    error = refusal(check, source)
    assert f"{source.name} with {len(BAD)} " in error.received
    assert set(reasons(error)) == set(BAD)
    checked = check(source, skip_bad_images=True)
    assert {Path(image.path).name for image in checked.skipped} == set(BAD)
    left = [path for name in SPLIT_NAMES for path in known(of_files(checked.load(name)).paths)]
    assert len(left) == 12 and not {os.path.basename(path) for path in left} & set(BAD)
    for name in SPLIT_NAMES:
        split = of_files(checked.load(name))
        assert known(split.plain).all() and len(known(split.plain)) == len(split)
        for index in range(len(split)):
            label = source.class_names.index(Path(split.paths[index]).parent.name)
            assert split.labels[index] == label
            np.testing.assert_array_equal(split.image(index), np.asarray(photo()))


def test_twenty_are_shown_and_all_counted(tmp_path):
    files = {f"{number}.jpg": b"" for number in range(33)}
    error = refusal(check, Folder(folder_with(tmp_path, files)))
    lines = str(error).splitlines()
    assert "33" in error.received
    assert len(lines) == 22 and lines[-1].strip() == "and 13 more"


def test_a_name_that_would_break_the_listing(tmp_path):
    error = refusal(check, Folder(folder_with(tmp_path, {"two\nlines.jpg": b""})))
    assert len(str(error).splitlines()) == 2


@pytest.fixture
def nobody():
    """Somebody who may not read what root may; and a folder that everybody may enter."""
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    root.chmod(0o755)
    was_root = os.geteuid() == 0
    yield root, lambda: os.seteuid(65534) if was_root else None
    os.seteuid(0) if was_root else None
    for folder in (root / "a", root / "b"):
        folder.chmod(0o755)
    shutil.rmtree(root)


def test_unreadable_files_and_folders(nobody):
    root, become_nobody = nobody
    folder_with(root, {"secret.png": PLAIN["colour.png"]})
    (root / "a" / "secret.png").chmod(0)
    (root / "a" / "dangling.png").symlink_to(root / "nowhere.png")
    become_nobody()
    assert reasons(refusal(check, Folder(root))) == {
        "secret.png": "Permission denied",
        "dangling.png": "No such file or directory",
    }
    os.seteuid(os.getuid())
    (root / "a" / "secret.png").chmod(0o644)
    (root / "a" / "dangling.png").unlink()
    (root / "b" / "closed").mkdir(mode=0)
    become_nobody()
    assert reasons(refusal(check, Folder(root))) == {"closed": "Permission denied"}


def test_empty_class_folders(tmp_path):
    folder_with(tmp_path, {})
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "scan.pdf").touch()
    source = Folder(tmp_path)
    assert source.class_names == ("a", "b", "empty", "texts")
    assert reasons(refusal(check, source)) == {
        "empty": "a class folder without images",
        "texts": "a class folder without images (files of other kinds: 1)",
    }
    checked = check(source, skip_bad_images=True)
    assert checked.class_names == ("a", "b") and len(checked.skipped) == 2
    assert set(checked.load("train").labels) == {0, 1}


def test_a_class_only_in_the_test(tmp_path):
    folder_with(tmp_path / "train", {})
    folder_with(tmp_path / "val", {})
    folder_with(tmp_path / "test", {})
    (tmp_path / "test" / "aardvark").mkdir()
    for number in range(3):
        (tmp_path / "test" / "aardvark" / f"{number}.png").write_bytes(PLAIN["colour.png"])
    source = Folder(tmp_path)
    assert source.class_names == ("a", "aardvark", "b")
    assert reasons(refusal(check, source)) == {
        "class aardvark": "3 test images of a class without training images"
    }
    checked = check(source, skip_bad_images=True)
    assert checked.class_names == ("a", "b")
    assert checked.load("test").labels.tolist() == [0] * 6 + [1] * 6
    assert len(checked.skipped) == 1


def test_a_class_whose_training_images_are_all_bad(tmp_path):
    folder_with(tmp_path / "train", {})
    folder_with(tmp_path / "test", {})
    for file in (tmp_path / "train" / "b").iterdir():
        file.write_bytes(b"")
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "good.png").write_bytes(PLAIN["grey.png"])
    (tmp_path / "train" / "c" / "better.png").write_bytes(PLAIN["grey.png"])
    checked = check(Folder(tmp_path), skip_bad_images=True)
    assert checked.class_names == ("a", "c")
    assert set(checked.load("train").labels) == {0, 1}
    assert checked.load("test").labels.tolist() == [0] * 6


def test_nothing_good_is_left(tmp_path):
    folder_with(tmp_path, {}, others=4)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"")
    error = refusal(check, Folder(tmp_path), skip_bad_images=True)
    assert f"{tmp_path} with " in error.received


def test_labels_out_of_range(tmp_path, monkeypatch):
    mislabelled.prepare(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = sources.find("tfds:mislabelled")
    error = refusal(check, source)
    assert "mislabelled with 2 " in error.received
    assert set(reasons(error).values()) == {"label -1, of 2 classes"}
    checked = check(source, skip_bad_images=True)
    lost = {image.path.split()[0] for image in checked.skipped}
    assert "test" in lost and len(checked.skipped) == 2
    assert sum(len(checked.load(name)) for name in SPLIT_NAMES) == 48
    assert all(of_files(checked.load(name)).plain.all() for name in SPLIT_NAMES)


def test_arrays_pass_and_unused_class_names_stay():
    images, labels = np.zeros((40, 4, 4, 3), np.uint8), np.arange(40) % 2
    source = Arrays((images, labels), class_names=("a", "b", "never"))
    checked = check(source)
    assert checked.class_names == ("a", "b", "never")
    assert len(checked.load("validation")) == 4
    with pytest.raises(MissingSplitError) as missing:
        checked.load("test")
    assert missing.value.received == "a source of train, validation images"
    error = refusal(check, Arrays((images, labels), (images, labels + 1)))
    assert reasons(error) == {"class 2": "20 test images of a class without training images"}


def test_digits_pass():
    assert check(sources.find("digits")).skipped == ()


def test_a_second_check_decodes_nothing_until_a_file_changes(tmp_path, monkeypatch, cache):
    folder_with(tmp_path, {"text.jpg": b"no image", **NOT_PLAIN})
    first = check(Folder(tmp_path), skip_bad_images=True)
    assert list(cache.glob("*.npz")) and not list(cache.glob("*.part"))

    def refuse(_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(checks, "inspect", refuse)
    second = check(Folder(tmp_path), skip_bad_images=True)
    assert (
        second.skipped
        == first.skipped
        == (BadImage(str(tmp_path / "a" / "text.jpg"), first.skipped[0].reason),)
    )
    for name in SPLIT_NAMES:
        np.testing.assert_array_equal(
            of_files(second.load(name)).plain, of_files(first.load(name)).plain
        )
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    (tmp_path / "a" / "text.jpg").write_bytes(PLAIN["colour.jpg"])
    assert check(Folder(tmp_path)).skipped == ()


def test_what_is_odd_is_told_by_name_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 16)
    large = saved(photo(size=(25, 16)), "PNG")
    files = {"large1.png": large, "large2.png": large}
    files |= {"deep.png": sample_images.deep_grey(brightest=4095)}
    root = folder_with(tmp_path, {**files, "scan.pdf": b""})
    told = check(Folder(root)).notes
    assert any("1 .pdf" in note for note in told)
    assert any(str(root / "a" / "deep.png") in note for note in told)
    assert any(str(root / "a" / "large1.png") in note and "400 pixels" in note for note in told)
    assert check(Folder(root)).notes == told


def test_threads_wait_until_their_pixels_fit():
    budget, at_once, most = Budget(100), [], []

    def decode(pixels):
        with budget.take(pixels):
            at_once.append(pixels)
            most.append(sum(at_once))
            time.sleep(0.002)
            at_once.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [30, 60, 1, 99, 10, 10, 10, 10] * 4))
    assert max(most) <= 100 and len(most) == 32
    with budget.take(1000):  # more than there is: alone
        pass


@pytest.mark.slow
def test_the_check_of_large_images_needs_little_memory(tmp_path):
    """Eight threads that decode 64 megapixels each would take 2 GB, and laid on white 8."""
    large = saved(Image.new("RGBA", (8000, 8000), (9, 200, 9, 99)), "PNG", compress_level=1)
    root = folder_with(tmp_path, {f"{number}.png": large for number in range(8)})
    script = (
        "import resource, sys; from concurrent.futures import ThreadPoolExecutor; "
        "from resnet_keras.data import checks, progress; "
        "from resnet_keras.data.folder import Folder; checks.CHUNK = 1; "
        "progress.ThreadPoolExecutor = lambda: ThreadPoolExecutor(8); "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "checks.check(Folder(sys.argv[1])); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    kilobytes = int(run_python(script, root))
    assert kilobytes < 4 * PIXELS / 1024 + 200_000


def test_an_interruption_stops_the_check(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "CHUNK", 1)
    files = {f"{number}.png": PLAIN["colour.png"] for number in range(300)}
    source = Folder(folder_with(tmp_path, files))
    looked_at = 0

    def interrupted(_):
        nonlocal looked_at
        looked_at += 1
        time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "inspect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(source)
    assert looked_at < 60


def test_a_right_that_is_granted_later_counts(nobody):
    root, become_nobody = nobody
    folder_with(root, {"secret.png": PLAIN["colour.png"]})
    (root / "a" / "secret.png").chmod(0)
    become_nobody()
    refusal(check, Folder(root))
    os.seteuid(os.getuid())
    (root / "a" / "secret.png").chmod(0o644)
    become_nobody()
    assert check(Folder(root)).skipped == ()


def test_fingerprints_tell_data_apart_and_not_its_place(tmp_path):
    def fingerprint(root):
        return check(Folder(root)).fingerprint

    root = folder_with(tmp_path / "one", {"c.jpg": PLAIN["colour.jpg"]})
    before = fingerprint(root)
    root.rename(tmp_path / "two")
    root = tmp_path / "two"
    assert fingerprint(root) == before
    (root / "a" / "c.jpg").write_bytes(PLAIN["grey.jpg"])
    assert fingerprint(root) != before
    (root / "a" / "c.jpg").rename(root / "b" / "c.jpg")
    (root / "b" / "c.jpg").write_bytes(PLAIN["colour.jpg"])
    assert fingerprint(root) != before
    images, labels = np.zeros((40, 4, 4, 3), np.uint8), np.arange(40) % 2
    assert (
        check(Arrays((images, labels))).fingerprint
        != check(Arrays((images + 1, labels))).fingerprint
    )


def test_a_rotation_that_is_none():
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    data = saved(photo(), "JPEG", exif=exif)
    assert inspect(data).remarks == () and decode(data).shape == (16, 24, 3)
