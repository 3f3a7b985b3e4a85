"""Images of a page as data URLs: samples of the training set, mistakes, what a network looks at."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from PIL import Image

from resnet_keras.data import pipelines
from resnet_keras.data.augmentation import Augmentation
from resnet_keras.data.checks import naming_lost_images
from resnet_keras.data.images import resize
from resnet_keras.data.splits import Split
from resnet_keras.errors import InputError
from resnet_keras.evaluation import plots
from resnet_keras.evaluation.explanation import heat_of_mistakes
from resnet_keras.evaluation.results import Mistake
from resnet_keras.recipes import Recipe

SAMPLES = 8
VARIANTS = 3  # augmented images beside each sample
LARGEST = 160  # pixels of a side
LARGEST_PNG = 64  # pixels of a side; larger images are JPEG, a tenth of the size
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Sample:
    """A training image and what augmentation makes of it, as data URLs.

    Attributes:
        label: index of its class.
        original: the centre square.
        augmented: as in the first epochs of a training.
    """

    label: int
    original: str
    augmented: tuple[str, ...]


@dataclass(frozen=True)
class Heat:
    """A mistake as data URLs: the image, and its regions that speak for either class.

    Attributes:
        mistake: the wrongly classified image.
        image: as the network sees it.
        of_predicted, of_label: Grad-CAM of the predicted and of the true class.
    """

    mistake: Mistake
    image: str
    of_predicted: str
    of_label: str


def image_url(image: np.ndarray) -> str:
    """An image (height, width, 3) uint8 as a data URL, not larger than a page needs."""
    picture = Image.fromarray(image)
    picture.thumbnail((LARGEST, LARGEST))
    if max(picture.size) <= LARGEST_PNG:
        return _encoded(picture, "png")
    return _encoded(picture, "jpeg", quality=JPEG_QUALITY)


def matrix_url(matrix: Sequence[Sequence[int]]) -> str:
    """A confusion matrix as a data URL: one pixel a cell, as opaque as its share of the row."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pixels = np.empty((*counts.shape, 4), np.uint8)
    pixels[..., :3] = (31, 111, 235)
    pixels[..., 3] = np.rint(255 * np.sqrt(shares))  # so that a few mistakes show
    return _encoded(Image.fromarray(pixels), "png")


def _encoded(picture: Image.Image, kind: str, **options: object) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def samples(training: Split, recipe: Recipe, image_size: int) -> list[Sample]:
    """Training images of classes spread over all classes, with their augmented versions.

    Args:
        training: the training set.
        recipe: with the augmentation.
        image_size: side of the network's images, in pixels.

    Returns:
        Samples in the order of their classes. Without augmentation, and where the augmentation
        needs a package that is not installed, they have no augmented versions.
    """
    by_class = np.argsort(training.labels, kind="stable")
    places = np.linspace(0, len(by_class) - 1, min(SAMPLES, len(by_class))).round().astype(int)
    chosen = by_class[places]
    with naming_lost_images(training):
        originals = [resize(training.image(index), image_size) for index in chosen]
        numbered = training.take(chosen, np.arange(len(chosen)))
        variants = _augmented(numbered, recipe, image_size)
    return [
        Sample(
            int(training.labels[index]),
            image_url(original),
            tuple(image_url(images[number]) for images in variants),
        )
        for number, (index, original) in enumerate(zip(chosen, originals, strict=True))
    ]


def _augmented(split: Split, recipe: Recipe, image_size: int) -> list[list[np.ndarray]]:
    """Augmented versions of images whose labels are 0, 1, …: a list in their order per epoch."""
    count = len(split)
    if recipe.augmentation == Augmentation():
        return []
    try:
        batches = pipelines.pipeline().training_batches(
            split,
            recipe.augmentation,
            image_size=image_size,
            classes=count,
            batch_size=count,
            seed=recipe.seed,
            first_step=0,
            last_step=VARIANTS,
        )
    except InputError:  # without TensorFlow
        return []
    found = []
    for images, labels in list(batches):
        pixels = np.rint(np.asarray(images)).clip(0, 255).astype(np.uint8)
        labels = np.asarray(labels)
        # Each image's share in each augmented one: MixUp and CutMix blend two.
        shares = labels if labels.ndim == 2 else labels[:, None] == np.arange(count)
        found.append([pixels[place] for place in shares.argmax(axis=0)])
    return found


def mistake_urls(mistakes: Sequence[Mistake], test: Split, image_size: int) -> list[str]:
    """The centre squares of wrongly classified images as data URLs."""
    with naming_lost_images(test):
        return [image_url(resize(test.image(one.image), image_size)) for one in mistakes]


def heats(model: keras.Model, mistakes: Sequence[Mistake], test: Split) -> list[Heat]:
    """Where a network sees the predicted and the true class in its worst mistakes.

    Args:
        model: a classifier with an input of a fixed size.
        mistakes: the model's mistakes; the first ones are explained.
        test: the images.

    Returns:
        An empty list if the model's layers are not named as this package names them.
    """
    found = heat_of_mistakes(model, test, mistakes)
    return [
        Heat(
            mistake,
            image_url(image),
            image_url(plots.with_heat(image, of_predicted)),
            image_url(plots.with_heat(image, of_label)),
        )
        for mistake, image, of_predicted, of_label in found
    ]
