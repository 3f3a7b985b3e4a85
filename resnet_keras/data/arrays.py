"""Images that are in memory already."""

import zlib
from collections.abc import Sequence

import numpy as np

from resnet_keras.data.splits import ArraySplit, MissingSplitError, SplitName
from resnet_keras.errors import InputError

UNNAMED_CLASSES = 1000


class Arrays:
    """Images and labels that are in memory already, as in a notebook.

        (x, y), test = keras.datasets.cifar10.load_data()
        source = Arrays((x, y), test, class_names=("airplane", "automobile", …))

    Images are (n, height, width, 3), or (n, height, width) and (n, height, width, 1) for grey ones,
    of dtype uint8, pixels 0..255. Labels are (n,) or (n, 1) integers from 0.

    Args:
        train: images and labels to train on.
        test: those to measure the finished network on; without them it cannot be evaluated.
        validation: those to choose the best epoch by. If None, some of the training images are
            set aside for it, stratified by class, the same ones every time.
        class_names: in the order of the labels; the labels themselves if None, which are then
            below 1,000 or the number of images.
        validation_fraction: of the training images, in (0, 1), where `validation` is None.

    Raises:
        InputError: an array is of another kind, lengths differ, or a label is without a class.
    """

    prefix = "arrays-"  # of the name

    def __init__(
        self,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray] | None = None,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        class_names: Sequence[str] | None = None,
        *,
        validation_fraction: float = 0.1,
    ) -> None:
        given = {"train": train, "validation": validation, "test": test}
        self._splits: dict[str, ArraySplit] = {
            name: _split_of(name, *pair) for name, pair in given.items() if pair is not None
        }
        self.class_names = self._names(class_names)
        self.image_size = min(self._splits["train"].images.shape[1:3])
        self.name = f"{self.prefix}{self._checksum():08x}"
        if validation is None:
            self._set_validation_aside(validation_fraction)

    def load(self, split: SplitName) -> ArraySplit:
        if split not in self._splits:
            raise MissingSplitError(
                "no such split",
                received=repr(split),
                accepted=f"{', '.join(self._splits)}, or Arrays with {split}=(images, labels)",
            )
        return self._splits[split]

    def _names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        """The names of the classes; of unnamed ones there are not many more than images."""
        classes = 1 + max(int(split.labels.max()) for split in self._splits.values())
        images = sum(map(len, self._splits.values()))
        if classes > (len(given) if given else max(images, UNNAMED_CLASSES)):
            raise InputError(
                "some labels have no class name",
                received=f"labels up to {classes - 1}, {len(given or ())} class names, "
                f"{images} images",
                accepted=f"{classes} class names or more, or labels that count the classes from 0",
            )
        return tuple(given or map(str, range(classes)))

    def _checksum(self) -> int:
        """Tells data apart, so that a run is not continued with other images."""
        checksum = 0
        for split in self._splits.values():
            for array in (split.images, split.labels):
                checksum = zlib.crc32(array.tobytes(), checksum)
        return checksum

    def _set_validation_aside(self, fraction: float) -> None:
        from sklearn.model_selection import train_test_split

        whole = self._splits["train"]
        try:
            train, validation = train_test_split(
                np.arange(len(whole)),
                test_size=fraction,
                stratify=whole.labels,
                random_state=0,
            )
        except ValueError as error:  # too few of a class
            raise InputError(
                "no training images can be set aside for validation",
                received=f"a fraction of {fraction:g} of {len(whole)} training images ({error})",
                accepted="validation images and labels, or more training images of each class",
            ) from error
        for name, chosen in (("train", train), ("validation", validation)):
            self._splits[name] = ArraySplit(whole.images[chosen], whole.labels[chosen])


def _split_of(name: str, images: np.ndarray, labels: np.ndarray) -> ArraySplit:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InputError(
            f"{name} images are not pixels 0..255",
            received=f"{images.dtype} of shape {images.shape}",
            accepted="uint8 (n, height, width, 3), or (n, height, width) for grey",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{name} labels are not class numbers",
            received=f"{labels.dtype} of shape {labels.shape}",
            accepted="integers from 0, (n,) or (n, 1)",
        )
    if not 0 < len(images) == len(labels):
        raise InputError(
            f"{name} images and labels do not match",
            received=f"{len(images)} images, {len(labels)} labels",
            accepted="one image or more, and one label for each image",
        )
    numbers = labels.astype(np.int64)
    if (numbers < 0).any():  # as the largest of 64 bits without sign become
        index = int(numbers.argmin())
        raise InputError(
            f"{name} labels are out of range",
            received=f"{labels[index]} for image {index}",
            accepted="integers from 0",
        )
    return ArraySplit(np.broadcast_to(images, (*images.shape[:3], 3)), numbers)
