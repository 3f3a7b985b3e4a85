"""Probabilities averaged over several views of every image, as protocols.py describes them."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import keras
import numpy as np

from resnet_keras.architectures import Architecture
from resnet_keras.data.images import resize_whole
from resnet_keras.data.progress import shown, threads
from resnet_keras.data.splits import Split
from resnet_keras.evaluation.protocols import (
    MULTI_SCALE,
    PAPER_TEN_CROP_SIDE,
    Protocol,
    proportional,
)
from resnet_keras.networks.feature_maps import fully_convolutional

# Images whose views wait for the network; as many more are loaded meanwhile.
IMAGES_AT_ONCE = 32
# Go through the network together, but for a view of more, which goes with its mirror image alone.
PIXELS_AT_ONCE = 32 * 224**2

Views = Callable[[np.ndarray], list[np.ndarray]]  # of an image, (height, width, 3) uint8 each


def ten_crop(model: keras.Model, split: Split) -> np.ndarray:
    """Probabilities averaged over four corners, the centre, and their mirror images.

    They are cut from the image resized to a shorter side of 256 pixels for a network of 224, in
    proportion for others. Smaller images are enlarged.

    Args:
        model: from square images of a fixed size to probabilities (batch, classes).
        split: images of any size.

    Returns:
        (n, classes) float32.
    """
    size = model.input_shape[1]

    def views(image: np.ndarray) -> list[np.ndarray]:
        image = resize_whole(image, proportional(PAPER_TEN_CROP_SIDE, size))
        return [
            image[top : top + size, left : left + size]
            for top, left in five_crops(image.shape, size)
        ]

    return _average_over_views(model, split, views, "ten-crop testing")


def five_crops(shape: Sequence[int], size: int) -> tuple[tuple[int, int], ...]:
    """Top and left of the corners' and the centre's squares, in pixels.

    Args:
        shape: of the image: height, width and perhaps channels.
        size: side of the squares.
    """
    bottom, right = shape[0] - size, shape[1] - size
    return (0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)


def multi_scale(
    model: keras.Model, architecture: Architecture, split: Split, scales: Sequence[int]
) -> np.ndarray:
    """Probabilities averaged over whole images at several scales, and their mirror images.

    The network is applied to all of an image at once, whatever its aspect ratio, see
    `feature_maps.fully_convolutional`.

    Args:
        model: from images to probabilities (batch, classes).
        architecture: of which it is.
        split: images of any size.
        scales: their shorter sides, in pixels.

    Returns:
        (n, classes) float32.

    Raises:
        InputError: the network cannot take any size, or a scale is too small for it.
    """
    Protocol(MULTI_SCALE, tuple(scales)).check(architecture)
    model = fully_convolutional(model, architecture)

    def views(image: np.ndarray) -> list[np.ndarray]:
        return [resize_whole(image, side) for side in scales]

    return _average_over_views(model, split, views, "multi-scale testing")


def _average_over_views(model: keras.Model, split: Split, views: Views, what: str) -> np.ndarray:
    """Probabilities (n, classes) float32, averaged over the views of an image and their mirrors.

    Args:
        what: is going on, for the bar on a terminal.
    """
    averages = np.zeros((len(split), model.output_shape[-1]), np.float32)
    with shown(what, len(split)) as done, threads() as pool:
        for indices, views_of in _loaded(pool, split, views):
            for rows, batch in _batches(indices, views_of):
                np.add.at(averages, rows, _with_mirrored(model, batch))
            averages[indices] /= len(views_of[0])
            done(len(indices))
    return averages


def _loaded(
    pool: Executor, split: Split, views: Views
) -> Iterator[tuple[range, list[list[np.ndarray]]]]:
    """Indices of some images and their views; the next ones are loaded meanwhile."""

    def load(index: int) -> list[np.ndarray]:
        return views(split.image(index))

    loading: deque[tuple[range, Iterator[list[np.ndarray]]]] = deque()
    for start in range(0, len(split), IMAGES_AT_ONCE):
        indices = range(start, min(start + IMAGES_AT_ONCE, len(split)))
        loading.append((indices, pool.map(load, indices)))
        if len(loading) > 1:
            indices, images = loading.popleft()
            yield indices, list(images)
    for indices, images in loading:
        yield indices, list(images)


def _batches(
    indices: range, views_of: list[list[np.ndarray]]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Views of one shape (n, height, width, 3), and of which images they are."""
    of_shape: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = defaultdict(list)
    for index, its_views in zip(indices, views_of, strict=True):
        for view in its_views:
            of_shape[view.shape].append((index, view))
    for (height, width, _), members in of_shape.items():
        at_once = max(PIXELS_AT_ONCE // (2 * height * width), 1)
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            yield [index for index, _ in part], np.stack([view for _, view in part])


def _with_mirrored(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of images (n, height, width, 3), averaged with their mirrors'."""
    both = np.concatenate([images, images[:, :, ::-1]])
    one, other = np.split(model.predict_on_batch(both), 2)
    return (one + other) / 2
