"""Sources and image files."""

import hashlib

import numpy as np
import pytest
from kit import refusal
from PIL import Image
from sklearn.datasets import load_digits

from resnet_keras.data import sources
from resnet_keras.data.images import read_image, resize, resize_whole
from resnet_keras.data.splits import resized

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def digits():
    return {name: sources.find("digits").load(name) for name in SPLITS}


def test_digits_are_split_without_overlap_and_stratified(digits):
    assert {name: len(split) for name, split in digits.items()} == {
        "train": 1257,
        "validation": 180,
        "test": 360,
    }
    shares = np.bincount(load_digits().target) / 1797
    for split in digits.values():
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        assert np.abs(np.bincount(split.labels) - shares * len(split)).max() <= 1
    together = np.concatenate([split.images[..., 0] for split in digits.values()])
    original = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, together)) == sorted(map(bytes, original))


def test_the_test_split_never_moves(digits):
    labels = digits["test"].labels.astype(np.uint8)
    assert hashlib.sha256(labels.tobytes()).hexdigest() == TEST_LABELS


TEST_LABELS = "70ee2850bb25b543ca4112717fd4396c3fb90bcb54d8015bd3f9c7c900966072"


def test_digits_at_64_pixels():
    split = resized(sources.find("digits").load("validation"), 64)
    assert split.images.shape == (180, 64, 64, 3)
    assert split.images.max() == 255


def test_unknown_data():
    error = refusal(sources.find, "mnis")
    assert "'mnis'" in error.received and "digits" in error.accepted


RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "bmp", "gif"])
def test_reads_image_formats(tmp_path, suffix):
    Image.new("RGB", (7, 5), RED).save(tmp_path / f"image.{suffix}")
    pixels = read_image(tmp_path / f"image.{suffix}")
    assert pixels.shape == (5, 7, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - RED).max() <= 3


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 128, (128, 128, 128)),
        ("LA", (0, 0), WHITE),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("1", 1, WHITE),
        ("I;16", 128 << 8, (128, 128, 128)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_reads_image_modes(tmp_path, mode, color, expected):
    Image.new(mode, (4, 4), color).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png")[0, 0], expected)


def test_applies_the_cameras_rotation(tmp_path):
    image = Image.new("RGB", (6, 3), RED)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "image.jpg", exif=exif)
    assert read_image(tmp_path / "image.jpg").shape == (6, 3, 3)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_refuses_what_is_no_image(tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    assert str(path) in refusal(read_image, path).received


def test_refuses_a_truncated_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    assert "truncated" in refusal(read_image, tmp_path / "half.jpg").received


def test_refuses_a_missing_image_and_a_folder(tmp_path):
    assert refusal(read_image, tmp_path / "image.png").received == str(tmp_path / "image.png")
    assert str(tmp_path) in refusal(read_image, tmp_path).received


def test_resize_keeps_the_centre_square():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    np.testing.assert_array_equal(resize(image, 10), np.full((10, 10, 3), 200))
    assert resize(image, 20).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("height", "width", "side", "shape"),
    [
        (375, 500, 256, (256, 341)),  # 341.3
        (500, 375, 256, (341, 256)),
        (8, 8, 37, (37, 37)),
        (2, 300, 32, (32, 4800)),
    ],
)
def test_resize_whole_keeps_the_aspect_ratio(height, width, side, shape):
    image = np.full((height, width, 3), 90, np.uint8)
    np.testing.assert_array_equal(resize_whole(image, side), np.full((*shape, 3), 90))


def test_resize_whole_shows_in_the_middle_what_resize_shows():
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    np.testing.assert_array_equal(resize_whole(image, 64), resize(image, 64))
    image = image[:, :60]
    middle = resize_whole(image, 40)[10:50].astype(int)
    # Pillow rounds between its passes; at its edges, what was cut out does not see beyond them.
    np.testing.assert_allclose(middle[1:-1], resize(image, 40)[1:-1], atol=1)
