"""The input pipelines: TensorFlow's, and the one without it."""

import functools
import hashlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from kit import refusal, run_python
from PIL import Image
from sklearn.datasets import load_sample_image

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
from resnet_keras.data.images import resize
from resnet_keras.data.pipelines import numpy_pipeline, tf_pipeline
from resnet_keras.data.splits import ArraySplit, EncodedSplit
from resnet_keras.view import View

PIPELINES = pytest.mark.parametrize("pipeline", [tf_pipeline, numpy_pipeline])

CIFAR = Augmentation(PadAndCrop(1 / 4), flip=True)
EVERYTHING = Augmentation(
    RandomResizedCrop(),
    flip=True,
    randaugment=RandAugment(1, 6.0, 0.5),
    color=PCAColor(),
    erasing=RandomErasing(),
    mixup=MixUp(0.1),
    cutmix=CutMix(),
    label_smoothing=0.1,
)


def numbered(count):
    """Images whose every pixel is their label."""
    labels = np.arange(count)
    return ArraySplit(np.tile(labels[:, None, None, None], (1, 8, 8, 3)).astype(np.uint8), labels)


@functools.cache
def pictures(count, height=48, width=64):
    """Different parts of a photograph."""
    photo = load_sample_image("china.jpg")
    images = [photo[7 * n : 7 * n + height, 11 * n : 11 * n + width] for n in range(count)]
    return ArraySplit(np.stack(images), np.arange(count) % 3)


def encoded(split, folder, suffix=".png", **options):
    """The same images as files."""
    paths = [str(folder / f"{number}{suffix}") for number in range(len(split.labels))]
    for number, path in enumerate(paths):
        Image.fromarray(split.image(number)).save(path)

    def read(index):
        with open(paths[index], "rb") as file:
            return file.read()

    return EncodedSplit(read, split.labels, paths, **options)


def batches(split, augmentation=CIFAR, pipeline=tf_pipeline, **changes):
    options = {
        "image_size": 8,
        "classes": 3,
        "batch_size": 4,
        "seed": 1,
        "first_step": 0,
        "last_step": 9,
    }
    found = pipeline.training_batches(split, augmentation, **{**options, **changes})
    return [(np.asarray(images), np.asarray(labels)) for images, labels in found]


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[0].dtype == other[0].dtype and one[1].dtype == other[1].dtype


@PIPELINES
@pytest.mark.parametrize("crop", [None, RandomResizedCrop()])
def test_every_epoch_visits_every_image_once_in_its_own_order(pipeline, crop):
    found = batches(numbered(12), Augmentation(crop), pipeline)
    for images, labels in found:
        np.testing.assert_array_equal(images[:, 3, 5, 1], labels)
    order = np.concatenate([labels for _, labels in found]).reshape(3, 12)
    for epoch in order:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in order}) == 3


@PIPELINES
@pytest.mark.parametrize("crop", [PadAndCrop(1 / 4), RandomResizedCrop()])
def test_batches_depend_on_seed_and_step_alone(pipeline, crop):
    split, augmentation = pictures(13, 8, 8), Augmentation(crop, flip=True)
    whole = batches(split, augmentation, pipeline)
    assert len(whole) == 9 and whole[0][0].shape == (4, 8, 8, 3)
    # An epoch has 3 steps.
    assert_equal(whole[4:], batches(split, augmentation, pipeline, first_step=4))
    other = batches(split, augmentation, pipeline, seed=2)
    assert any((a[1] != b[1]).any() for a, b in zip(whole, other, strict=True))


@PIPELINES
def test_no_two_epochs_are_augmented_alike(pipeline):
    split = pictures(4, 16, 16)
    found = batches(split, Augmentation(RandomResizedCrop(), True), pipeline, batch_size=4)
    assert len({images[labels.argmax()].tobytes() for images, labels in found}) == 9


@PIPELINES
def test_a_batch_larger_than_the_data_is_the_data(pipeline):
    found = batches(numbered(3), pipeline=pipeline, batch_size=8, last_step=2)
    assert [len(labels) for _, labels in found] == [3, 3]


@PIPELINES
def test_without_augmentation_images_stay(pipeline):
    split = pictures(5, 8, 8)
    for images, labels in batches(split, Augmentation(), pipeline, batch_size=1):
        assert labels.dtype == np.int64 and images.dtype == np.uint8
        assert any((images[0] == image).all() for image in split.images)


def test_any_step_of_everything_at_once():
    split = pictures(10)
    whole = batches(split, EVERYTHING, image_size=32, last_step=12)
    images, labels = whole[0]
    assert images.shape == (4, 32, 32, 3) and images.dtype == np.float32
    assert labels.shape == (4, 3) and labels.dtype == np.float32
    for images, labels in whole:
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-5)
        assert images.min() >= 0 and images.max() <= 255
    assert_equal(whole[5:], batches(split, EVERYTHING, image_size=32, first_step=5, last_step=12))


@pytest.mark.parametrize(
    ("part", "images", "labels"),
    [
        ({"color": PCAColor()}, np.float32, np.int64),
        ({"erasing": RandomErasing(1.0)}, np.uint8, np.int64),
        ({"randaugment": RandAugment(1)}, np.uint8, np.int64),
        ({"mixup": MixUp()}, np.float32, np.float32),
        ({"cutmix": CutMix()}, np.uint8, np.float32),
        ({"label_smoothing": 0.1}, np.uint8, np.float32),
        ({"crop": ScaleJitterCrop(16, 32)}, np.uint8, np.int64),
    ],
)
def test_each_part_alone(part, images, labels):
    split = pictures(6, 16, 16)
    found = batches(split, Augmentation(**part), image_size=16)
    plain = batches(split, Augmentation(), image_size=16)
    assert found[0][0].dtype == images and found[0][1].dtype == labels
    assert found[0][0].shape == (4, 16, 16, 3)
    if part != {"label_smoothing": 0.1}:
        assert any((a[0] != b[0]).any() for a, b in zip(found, plain, strict=True))


def test_mixup_and_cutmix_take_turns():
    split = pictures(8, 16, 16)
    both = Augmentation(mixup=MixUp(), cutmix=CutMix())
    found = batches(split, both, image_size=16, last_step=30)
    mixed = sum(bool((images % 1).any()) for images, _ in found)
    assert 8 <= mixed <= 22


SHAPES = [(1, 1), (3, 200), (200, 2), (40, 30)]


@PIPELINES
@pytest.mark.parametrize(
    ("crop", "suffix"),
    [
        (None, ".jpg"),
        (PadAndCrop(), ".png"),
        (ScaleJitterCrop(32, 60), ".jpg"),
        (RandomResizedCrop(), ".jpg"),
    ],
)
def test_images_of_any_shape(pipeline, crop, suffix, tmp_path):
    noise = np.random.default_rng(0)
    paths = [tmp_path / f"{number}{suffix}" for number in range(len(SHAPES) + 1)]
    for path, shape in zip(paths, SHAPES, strict=False):
        Image.fromarray(noise.integers(0, 256, (*shape, 3), np.uint8)).save(path)
    Image.fromarray(noise.integers(0, 256, (50, 60), np.uint8)).save(paths[-1])  # grey
    split = EncodedSplit(lambda index: paths[index].read_bytes(), np.arange(5), paths)
    augmentation = Augmentation(crop, flip=True)
    found = batches(split, augmentation, pipeline, image_size=32, batch_size=5, last_step=3)
    for images, labels in found:
        assert images.shape == (5, 32, 32, 3) and sorted(labels) == [0, 1, 2, 3, 4]
        grey = images[labels.argmax()]
        np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


@PIPELINES
@pytest.mark.parametrize(
    ("augmentation", "plain"),
    [
        (CIFAR, None),
        (Augmentation(ScaleJitterCrop(32, 64)), np.ones(6, bool)),
        (Augmentation(RandomResizedCrop()), np.arange(6) % 2 == 0),
    ],
    ids=["no image plain", "all plain", "half of them plain"],
)
def test_png_files_equal_arrays(pipeline, augmentation, plain, tmp_path):
    split = pictures(6)
    options = {"image_size": 32, "pipeline": pipeline}
    files = encoded(split, tmp_path, plain=plain)
    arrays = batches(split, augmentation, **options)
    assert_equal(arrays, batches(files, augmentation, **options))


@PIPELINES
def test_encoded_images_in_memory_equal_arrays(pipeline, tmp_path):
    split = pictures(6)
    options = {"image_size": 32, "pipeline": pipeline, "last_step": 2}
    files = encoded(split, tmp_path)
    in_memory = EncodedSplit(files.read, files.labels)
    assert_equal(batches(split, **options), batches(in_memory, **options))


def test_files_equal_arrays_without_windows_too(tmp_path):
    split = pictures(6, 32, 32)
    augmentation = Augmentation(PadAndCrop(), color=PCAColor(), erasing=RandomErasing(0.5))
    arrays = batches(split, augmentation, image_size=32)
    files = encoded(split, tmp_path)
    assert_equal(arrays, batches(files, augmentation, image_size=32))


def test_jpegs_cropped_while_decoding_resemble_the_whole_ones(tmp_path):
    split = pictures(6, 150, 200)
    fused = encoded(split, tmp_path, ".jpg")
    whole = encoded(split, tmp_path, ".jpg", plain=np.zeros(6, bool))
    augmentation = Augmentation(RandomResizedCrop(), flip=True)
    found = batches(fused, augmentation, image_size=32)
    expected = batches(whole, augmentation, image_size=32)
    for (images, labels), (others, other_labels) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(labels, other_labels)
        assert np.abs(images.astype(int) - others).mean() < 12


def test_what_is_not_plain_is_decoded_by_the_split(tmp_path):
    image = Image.fromarray(pictures(1, 40, 60).images[0])
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    content = (tmp_path / "turned.jpg").read_bytes()
    split = EncodedSplit(lambda index: content, np.array([0]), None)
    [(images, _)] = tf_pipeline.evaluation_batches(split, view=View(40, 40), batch_size=1)
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    expected = resize(upright, 40)
    assert np.abs(images[0].numpy().astype(int) - expected).mean() < 4


def digest_of_batches(folder):
    """Of batches from JPEG files, with everything that there is."""
    split = EncodedSplit(
        lambda index: (folder / f"{index}.jpg").read_bytes(),
        np.arange(10) % 3,
        [str(folder / f"{index}.jpg") for index in range(10)],
    )
    digest = hashlib.sha256()
    found = batches(split, EVERYTHING, image_size=32, batch_size=5, first_step=3)
    for array in itertools.chain.from_iterable(found):
        digest.update(array.tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
    encoded(pictures(10), tmp_path, ".jpg")
    script = (
        "import sys, pathlib; from test_pipeline import digest_of_batches; "
        "print(digest_of_batches(pathlib.Path(sys.argv[1])))"
    )
    assert run_python(script, tmp_path).split()[-1] == digest_of_batches(tmp_path)


@PIPELINES
def test_evaluation_shows_every_image_once_in_order(pipeline, tmp_path):
    split = pictures(7, 40, 60)
    expected = np.stack([resize(image, 32) for image in split.images])
    for given in (split, encoded(split, tmp_path), encoded(split, tmp_path, ".jpg")):
        found = list(pipeline.evaluation_batches(given, view=View(32, 32), batch_size=3))
        assert [len(labels) for _, labels in found] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), split.labels)
        images = np.concatenate([images for images, _ in found])
        assert images.dtype == np.uint8
        difference = np.abs(images.astype(int) - expected)
        assert difference.mean() < 5 if isinstance(given, EncodedSplit) else difference.max() <= 2


@PIPELINES
def test_evaluation_crops_the_centre(pipeline):
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[:, 16:48, 16:48] = 200
    split = ArraySplit(image, np.array([0]))
    view = View(16, 16, centre=0.5)
    [(images, _)] = list(pipeline.evaluation_batches(split, view=view, batch_size=1))
    np.testing.assert_array_equal(images, np.full((1, 16, 16, 3), 200))


@PIPELINES
def test_crops_must_fit_the_resized_image(pipeline):
    augmentation = Augmentation(ScaleJitterCrop())
    error = refusal(batches, numbered(3), augmentation, pipeline, image_size=320)
    assert "256" in error.received and "320" in error.accepted


def test_without_tensorflow_there_are_crops_and_flips():
    error = refusal(batches, numbered(3), EVERYTHING, numpy_pipeline)
    asked = ["randaugment", "color", "erasing", "mixup", "cutmix", "label_smoothing"]
    assert error.received.split(", ") == asked


def test_numpy_crops_have_the_same_statistics():
    random = np.random.default_rng(0)

    def draw(crop, *size):
        height, width = size
        boxes = [
            numpy_pipeline.draw_window(height, width, random, Augmentation(crop), 224)
            for _ in range(500)
        ]
        left, top, right, bottom = np.array(boxes).T
        assert (left >= 0).all() and (top >= 0).all()
        assert (bottom <= height).all() and (right <= width).all()
        return bottom - top, right - left

    height, width = draw(ScaleJitterCrop(), 375, 500)
    np.testing.assert_array_equal(height, width)
    lengths = 224 * 375 / height
    assert 255 <= lengths.min() < 262 and 474 < lengths.max() <= 481
    height, width = draw(RandomResizedCrop(), 375, 500)
    assert 0.07 < (height * width).min() / 187500 < 0.12
    assert (width / height).min() > 0.74 and (width / height).max() < 1.35
    height, width = draw(RandomResizedCrop(), 10, 1000)
    assert set(height) == {10} and set(width) == {14}


def test_a_network_trains_on_the_batches():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    found = tf_pipeline.training_batches(
        pictures(10),
        Augmentation(RandomResizedCrop(), mixup=MixUp()),
        image_size=16,
        classes=3,
        batch_size=4,
        seed=0,
        first_step=0,
        last_step=4,
    )
    assert isinstance(found, tf.data.Dataset)
    assert next(iter(found))[0].shape == (4, 16, 16, 3)
    history = model.fit(found, epochs=2, steps_per_epoch=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2
