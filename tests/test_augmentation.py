"""Augmentation: the values, and every operation by itself, eagerly and traced."""

import dataclasses
import functools
import json
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from kit import refusal
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from resnet_keras.data import augmentation as values
from resnet_keras.data.augmentation import (
    Augmentation,
    CutMix,
    MixUp,
    PadAndCrop,
    PCAColor,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ScaleJitterCrop,
)
from resnet_keras.data.pipelines import tf_operations as operations
from resnet_keras.data.pipelines.tf_randaugment import OPERATIONS, rand_augment

SEED = tf.constant([3, 4])

EVERYTHING = Augmentation(
    RandomResizedCrop((0.2, 0.9)),
    flip=True,
    randaugment=RandAugment(3, 6.0, 0.5),
    color=PCAColor(),
    erasing=RandomErasing(),
    mixup=MixUp(),
    cutmix=CutMix(),
    label_smoothing=0.1,
)


@pytest.fixture(scope="module")
def photo():
    return load_sample_image("flower.jpg")[100:228, 200:328]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def as_traced(function, *arguments):
    return tf.function(lambda: function(*arguments))()


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        EVERYTHING,
        Augmentation(PadAndCrop(1 / 4)),
        Augmentation(ScaleJitterCrop(32, 64)),
    ],
)
def test_json_and_back(augmentation):
    text = json.dumps(dataclasses.asdict(augmentation))
    assert values.from_dict(json.loads(text)) == augmentation


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"crop": {"side": 3}}, "crop.PadAndCrop.side"),
        ({"blur": 1}, "blur"),
        ({"mixup": {"beta": 1}}, "mixup.beta"),
    ],
)
def test_unknown_values(content, field):
    assert field in refusal(values.from_dict, content).received


@pytest.mark.parametrize(
    ("make", "name", "received"),
    [
        (lambda: PadAndCrop(4), "pad", "4"),
        (lambda: ScaleJitterCrop(480, 256), "shortest", "shortest 480, longest 256"),
        (lambda: RandomResizedCrop((0.0, 1.0)), "area", "(0.0, 1.0)"),
        (lambda: RandomResizedCrop(aspect_ratio=(2, 1)), "aspect_ratio", "(2, 1)"),
        (lambda: RandAugment(0), "layers", "0"),
        (lambda: RandAugment(magnitude=11), "magnitude", "11"),
        (lambda: RandAugment(magnitude_std=-1), "magnitude_std", "-1"),
        (lambda: PCAColor(0), "std", "0"),
        (lambda: RandomErasing(0), "probability", "0"),
        (lambda: MixUp(0), "alpha", "0"),
        (lambda: CutMix(-1), "alpha", "-1"),
        (lambda: Augmentation(label_smoothing=1), "label_smoothing", "1"),
        (
            lambda: Augmentation(ScaleJitterCrop()).check_image_size(320),
            "320",
            "ScaleJitterCrop(256, 480)",
        ),
    ],
)
def test_refuses_values_that_make_no_sense(make, name, received):
    error = refusal(make)
    assert name in error.problem and error.received == received


@functools.cache
def traced_window(crop):
    return tf.function(lambda shape, seed: operations.window(shape, seed, crop, 224))


def windows(crop, height, width, count=300):
    draw, shape = traced_window(crop), tf.constant([height, width, 3])
    return np.array([draw(shape, tf.constant([0, number])) for number in range(count)])


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (1, 1), (3, 900), (900, 2)])
@pytest.mark.parametrize("crop", [None, ScaleJitterCrop(), RandomResizedCrop()])
def test_windows_lie_in_the_image(crop, size):
    found = windows(crop, *size, count=25)
    assert (found[:, :2] >= 0).all() and (found[:, 2:] >= 1).all()
    assert (found[:, :2] + found[:, 2:] <= size).all()


def test_scale_jitter_windows_are_squares_of_the_papers_scales():
    top, left, height, width = windows(ScaleJitterCrop(), 375, 500).T
    np.testing.assert_array_equal(height, width)
    lengths = 224 * 375 / height
    assert 255 <= lengths.min() < 262 and 474 < lengths.max() <= 481
    assert abs(lengths.mean() - 368) < 12
    for place, free in ((top, 375 - height), (left, 500 - width)):
        assert (place <= free).all() and abs((place / free).mean() - 0.5) < 0.06


def test_resized_windows_keep_to_area_and_aspect_ratio():
    _, _, height, width = windows(RandomResizedCrop(), 375, 500).T
    area, ratio = height * width / (375 * 500), width / height
    assert 0.078 < area.min() < 0.13 and 0.9 < area.max() <= 1
    assert 0.74 < ratio.min() < 0.8 and 1.27 < ratio.max() < 1.35


def test_a_very_wide_image_shows_its_middle():
    found = windows(RandomResizedCrop(), 10, 1000, count=5)
    np.testing.assert_array_equal(found, [[0, 493, 10, 14]] * 5)


def test_resizing_averages_where_pixels_would_be_left_out():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = operations.resize(tf.constant(stripes), 16).numpy()
    assert np.abs(shrunk[:, 1:-1].astype(int) - 128).max() < 12


def test_resizing_to_the_same_size_changes_nothing(photo):
    np.testing.assert_array_equal(operations.resize(tf.constant(photo), 128), photo)


def test_a_jpeg_window_is_that_of_the_whole(tmp_path):
    picture = load_sample_image("china.jpg")
    Image.fromarray(picture).save(tmp_path / "china.jpg", quality=95)
    content = tf.io.read_file(str(tmp_path / "china.jpg"))
    whole = np.asarray(Image.open(tmp_path / "china.jpg")).astype(int)
    part = tf.constant([34, 70, 300, 290])
    found = operations.decode_jpeg_window(content, part).numpy()
    expected = whole[34:334, 70:360]
    # Colours at the border are interpolated without what lies beyond it.
    np.testing.assert_array_equal(found[2:-2, 2:-2], expected[2:-2, 2:-2])
    fast = operations.decode_jpeg_window(content, part, 224).numpy()
    assert np.abs(fast.astype(int) - found).mean() < 2
    half = operations.decode_jpeg_window(content, part, 140).numpy()
    assert half.shape == (150, 145, 3)
    shrunk = Image.fromarray(expected.astype(np.uint8)).resize((145, 150), Image.Resampling.BOX)
    assert np.abs(half.astype(int) - np.asarray(shrunk)).mean() < 6
    assert operations.decode_jpeg_window(content, part, 30).shape == (37, 36, 3)


def test_pad_and_crop_moves_within_its_margin_on_black():
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, 4, 4] = 255
    places = set()
    for seed in range(60):
        shifted = operations.pad_and_crop(tf.constant(image), tf.constant([0, seed]), 2).numpy()
        (row, column) = np.argwhere(shifted[0, :, :, 0])[0]
        assert shifted.sum() == 3 * 255
        places.add((row, column))
    rows, columns = zip(*places, strict=True)
    assert {min(rows), max(rows), min(columns), max(columns)} == {2, 6}
    assert PadAndCrop().pixels(32) == 4


def test_flip_mirrors_half_of_the_images():
    images = np.tile(np.arange(8, dtype=np.uint8)[:, None], (400, 8, 1, 3))
    flipped = operations.flip(tf.constant(images), SEED).numpy()
    mirrored = flipped[:, 0, 0, 0] == 7
    np.testing.assert_array_equal(flipped[mirrored], images[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(flipped[~mirrored], images[~mirrored])
    assert 150 < mirrored.sum() < 250
    flip_one = tf.function(lambda number: operations.flip_one(images[0], tf.stack([7, number])))
    alone = np.array([flip_one(number) for number in tf.range(400)])
    mirrored = alone[:, 0, 0, 0] == 7
    np.testing.assert_array_equal(alone[mirrored], images[mirrored][:, :, ::-1])
    assert 150 < mirrored.sum() < 250


def test_pca_color_follows_alexnets_formula():
    images = noise(64, 6, 6, 3) // 2 + 64
    found = operations.pca_color(tf.constant(images), SEED, 0.1).numpy()
    assert found.dtype == np.float32
    shift = (found - images)[:, 0, 0]
    np.testing.assert_allclose(
        found - images, np.broadcast_to(shift[:, None, None], found.shape), atol=1e-3
    )
    shares = tf.random.stateless_normal([64, 3], SEED).numpy() * 0.1
    axes, eigenvalues = np.array(values.PCA_EIGENVECTORS), np.array(values.PCA_EIGENVALUES)
    expected = [axes @ (share * eigenvalues) * 255 for share in shares]
    np.testing.assert_allclose(shift, expected, atol=1e-3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-3)


def test_pca_color_stays_within_the_pixels_range():
    images = tf.concat([tf.zeros([32, 2, 2, 3]), tf.fill([32, 2, 2, 3], 255.0)], 0)
    found = operations.pca_color(images, SEED, 1.0).numpy()
    assert found.min() == 0 and found.max() == 255


def test_erasing_fills_one_rectangle_of_some_images():
    images = np.zeros((400, 20, 30, 3), np.uint8)
    erasing = RandomErasing(0.4, area=(0.1, 0.3), aspect_ratio=(0.5, 2))
    found = operations.erase(tf.constant(images), SEED, erasing).numpy()
    assert found.dtype == np.uint8
    erased = [image for image in found if image.any()]
    assert 120 < len(erased) < 200
    for image in erased:
        rows, columns = (np.flatnonzero(image.any(axis=(axis, 2))) for axis in (1, 0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inside > 0).mean() > 0.9
        assert 0.08 < height * width / 600 < 0.33 and 0.4 < height / width < 2.4
    together = np.concatenate([image[image > 0] for image in erased])
    assert abs(together.mean() - 128) < 3 and together.max() == 255


def test_erasing_fits_the_smallest_image():
    found = operations.erase(tf.zeros([50, 1, 1, 3]), SEED, RandomErasing(1.0)).numpy()
    assert found.shape == (50, 1, 1, 3)


def test_labels_are_smoothed():
    found = operations.smooth_labels(tf.constant([0, 2], tf.int64), 4, 0.2).numpy()
    np.testing.assert_allclose(found, [[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.85, 0.05]])


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0])
def test_mixup_blends_images_as_it_blends_labels(alpha):
    labels = tf.one_hot(tf.range(100), 100)
    images = np.tile(np.arange(100, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    mixed, found = operations.mixup(tf.constant(images), labels, SEED, alpha)
    mixed, found = mixed.numpy(), found.numpy()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert mixed.dtype == np.float32 and (found >= 0).all()
    share = found[np.arange(100), np.arange(100)]
    expected = share * np.arange(100) + (1 - share) * np.arange(99, -1, -1)
    np.testing.assert_allclose(mixed[:, 1, 2, 0], expected, atol=1e-3)
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
    assert abs(share.mean() - 0.5) < 0.13 and abs(share.var() - variance) < 0.06


def test_cutmix_labels_have_the_areas_share():
    labels = tf.one_hot(tf.range(200), 200)
    images = np.tile(np.arange(200, dtype=np.uint8)[:, None, None, None], (1, 12, 16, 3))
    cut, found = operations.cutmix(tf.constant(images), labels, SEED, 1.0)
    cut, found = cut.numpy(), found.numpy()
    assert cut.dtype == np.uint8
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    for index, image in enumerate(cut[..., 0]):
        assert set(np.unique(image)) <= {index, 199 - index}
        assert found[index, index] == pytest.approx((image == index).mean(), abs=1e-6)
        rows, columns = (np.flatnonzero((image != index).any(axis)) for axis in (1, 0))
        assert (image != index).sum() == len(rows) * len(columns)
        assert all(b - a == 1 for places in (rows, columns) for a, b in pairwise(places))
    assert 0.5 < found[np.arange(200), np.arange(200)].mean() < 0.75  # the border cuts off some


LEVEL = tf.constant(0.6)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_the_image_and_nothing_else(photo, name):
    narrow = photo[:, 30:90] // 2 + 40
    for image in (photo, narrow):
        for level in (0.6, -0.6):
            found = OPERATIONS[name](tf.constant(image), tf.constant(level))
            assert found.shape == image.shape and found.dtype == tf.uint8
    traced = as_traced(OPERATIONS[name], tf.constant(narrow), tf.constant(-0.6))
    np.testing.assert_array_equal(traced, found)
    changes = (found.numpy() != narrow).any()
    assert changes == (name != "identity")
    single = OPERATIONS[name](tf.constant(photo[:1, :1]), LEVEL)
    assert single.shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("name", "level", "pillow"),
    [
        ("autocontrast", 0.6, ImageOps.autocontrast),
        ("equalize", 0.6, ImageOps.equalize),
        ("posterize", 0.6, lambda image: ImageOps.posterize(image, 2)),
        ("posterize", 1.0, lambda image: ImageOps.posterize(image, 1)),
        ("solarize", 0.5, lambda image: ImageOps.solarize(image, 128)),
        ("color", 0.6, lambda image: ImageEnhance.Color(image).enhance(1.54)),
        ("contrast", -0.6, lambda image: ImageEnhance.Contrast(image).enhance(0.46)),
        ("brightness", 0.6, lambda image: ImageEnhance.Brightness(image).enhance(1.54)),
        ("sharpness", 0.6, lambda image: ImageEnhance.Sharpness(image).enhance(1.54)),
        ("sharpness", -0.6, lambda image: ImageEnhance.Sharpness(image).enhance(0.46)),
    ],
)
def test_operations_do_what_pillow_does(photo, name, level, pillow):
    image = photo // 2 + 40
    found = OPERATIONS[name](tf.constant(image), tf.constant(level)).numpy()
    expected = np.asarray(pillow(Image.fromarray(image)))
    tolerance = 0 if name in ("equalize", "posterize", "solarize") else 1
    assert np.abs(found.astype(int) - expected).max() <= tolerance


def test_operations_move_pixels_where_they_should():
    image = np.zeros((21, 21, 3), np.uint8)
    image[10, 10] = 255  # the centre
    image[10, 15] = 100
    image[15, 10] = 200

    def place(name, level, value):
        moved = OPERATIONS[name](tf.constant(image), tf.constant(level)).numpy()[..., 0]
        return tuple(np.argwhere(moved == value)[0])

    third = 1 / 0.45 / 21  # a level that translates by a pixel
    assert place("translate-x", 3 * third, 255) == (10, 13)
    assert place("translate-y", -2 * third, 255) == (8, 10)
    for name in ("rotate", "shear-x", "shear-y"):
        assert place(name, 0.9, 255) == (10, 10)
    assert place("shear-x", 2 / 3, 200) == (15, 9)
    assert place("shear-y", 2 / 3, 100) == (9, 15)
    moved = OPERATIONS["translate-x"](tf.constant(image), tf.constant(1.0)).numpy()
    assert (moved[:, :9] == 128).all()


def test_equal_pixels_survive_what_stretches_them():
    flat = np.full((5, 5, 3), 77, np.uint8)
    for name in ("autocontrast", "equalize"):
        np.testing.assert_array_equal(OPERATIONS[name](tf.constant(flat), LEVEL), flat)


def test_randaugment_draws_for_each_image_and_is_stateless(photo):
    draw = tf.function(lambda seed: rand_augment(tf.constant(photo), seed, RandAugment(2, 9.0)))
    found = [draw(tf.constant([1, number])).numpy() for number in range(40)]
    assert all(image.shape == photo.shape and image.dtype == np.uint8 for image in found)
    np.testing.assert_array_equal(found[7], draw(tf.constant([1, 7])))
    assert len({image.tobytes() for image in found}) > 30
    eager = rand_augment(tf.constant(photo), tf.constant([1, 5]), RandAugment(2, 9.0)).numpy()
    assert np.abs(eager.astype(int) - found[5]).max() <= 1  # a sum may be taken in another order


@pytest.mark.parametrize(
    "operation",
    [
        lambda images: operations.pad_and_crop(images, SEED, 2),
        lambda images: operations.flip(images, SEED),
        lambda images: operations.flip_one(images[0], SEED),
        lambda images: operations.pca_color(images, SEED, 0.1),
        lambda images: operations.erase(images, SEED, RandomErasing(0.5)),
        lambda images: operations.mixup(images, tf.one_hot(tf.range(6), 6), SEED, 0.2),
        lambda images: operations.cutmix(images, tf.one_hot(tf.range(6), 6), SEED, 1.0),
    ],
)
def test_operations_are_the_same_eagerly_and_traced(operation):
    images = tf.constant(noise(6, 8, 8, 3))
    eager, traced = operation(images), as_traced(operation, images)
    for one, other in zip(tf.nest.flatten(eager), tf.nest.flatten(traced), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 if one.dtype.is_floating else 0)
