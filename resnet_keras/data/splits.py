"""Labelled images with random access: arrays of one size, or image files that are still encoded."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np

from resnet_keras.data.images import (
    FORMATS,
    UnreadableImageError,
    collected_warnings,
    decode,
    resize,
    shorter_side,
)
from resnet_keras.errors import InputError

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")

_SPELLINGS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_ENDING = re.compile(r"[ _-]?(set|data|images)$")
ACCEPTED_SPLITS = "; ".join(f"{split}: {', '.join(them)}" for split, them in _SPELLINGS.items())

LONGEST_NAME = 40  # letters of a class's name in a line
SHOWN = 20  # bad images in a message
TYPICAL_OF = 64  # images are opened to learn how large the images of a set are


def split_called(name: str) -> SplitName | None:
    """The split that a folder or a TFDS split of this name holds: Train, testing, dev, val_set."""
    plain = _ENDING.sub("", name.strip().lower())
    return next((split for split, them in _SPELLINGS.items() if plain in them), None)


class MissingSplitError(InputError):
    """A source has no images for a split."""


@dataclass(frozen=True)
class BadImage:
    """Something in the data that cannot be used.

    Attributes:
        path: its file or folder, or "train image 17" where images are no files.
        reason: what is wrong with it.
    """

    path: str
    reason: str


def listed(bad: Sequence[BadImage]) -> list[str]:
    """A line for each of the first bad images, and how many more there are."""
    items = [f"{printable(image.path)}: {image.reason}" for image in bad[:SHOWN]]
    if len(bad) > SHOWN:
        items.append(f"and {len(bad) - SHOWN} more")
    return items


def in_words(names: Sequence[str], at_most: int) -> str:
    """The first names, separated by commas, and how many more there are."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"{', '.join(map(printable, names[:at_most]))}{more}"


def shortened(class_name: str) -> str:
    """The name of a class for a line of the terminal."""
    name = printable(class_name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def printable(path: str) -> str:
    """A path for a line of text: quoted where it has line breaks or is not UTF-8."""
    return path if path.isprintable() else ascii(path)


class Split(Protocol):
    """Labelled images.

    Attributes:
        labels: (n,) int64, indices into the source's class names.
    """

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """Gives one image, (height, width, 3) uint8, RGB pixels 0..255."""
        ...

    def take(self, indices: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Gives some of the images, in the order of `indices`; `labels` replace theirs."""
        ...


class Source(Protocol):
    """A data set by name."""

    @property
    def name(self) -> str:
        """As the command line's --data spells it."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        ...

    @property
    def image_size(self) -> int:
        """Side in pixels beyond which the images gain nothing by enlarging."""
        ...

    def load(self, split: SplitName) -> Split:
        """Gives one split, the images as they are.

        Raises:
            MissingSplitError: the source has no such split.
            InputError: it cannot be read.
        """
        ...


class _Labelled:
    """What every split has by its labels alone."""

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ArraySplit(_Labelled):
    """Images of one size, in memory.

    Attributes:
        images: (n, height, width, 3) uint8, RGB pixels 0..255.
        labels: (n,) int64.
    """

    images: np.ndarray
    labels: np.ndarray

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def take(self, indices: np.ndarray, labels: np.ndarray | None = None) -> "ArraySplit":
        return ArraySplit(self.images[indices], self.labels[indices] if labels is None else labels)


@dataclass(frozen=True)
class EncodedSplit(_Labelled):
    """Images of any sizes as JPEG, PNG or other files, decoded when they are needed.

    Attributes:
        read: the bytes of the image of an index; may be called from several threads at once.
        labels: (n,) int64.
        paths: where every image is a file of its own, so that a pipeline can read it by itself.
        plain: (n,) bool, where a decoder that knows nothing of CMYK and EXIF, such as TensorFlow's,
            reads the same image as `image` does (see `images.inspect`); the others have to come
            from `image`. None until `checks.check` has looked at them.
        stamp: changes when a file is replaced (sizes and dates, not contents); None if there are
            no files to look at.
        checked: when `checks.check` began to look at them, in seconds since 1970; None before.
    """

    read: Callable[[int], bytes]
    labels: np.ndarray
    paths: Sequence[str] | None = None
    plain: np.ndarray | None = None
    stamp: str | None = None
    checked: float | None = None

    def image(self, index: int) -> np.ndarray:
        """Gives one image, see `Split`.

        Raises:
            UnreadableImageError: it was deleted or damaged since it was checked; names its file.
        """
        try:
            return decode(self.read(index))
        except (UnreadableImageError, OSError) as error:
            reason = getattr(error, "reason", getattr(error, "strerror", None)) or str(error)
            place = self.paths[index] if self.paths else f"image {index}"
            raise UnreadableImageError(reason, place) from error

    def take(self, indices: np.ndarray, labels: np.ndarray | None = None) -> "EncodedSplit":
        read, paths = self.read, self.paths
        return replace(
            self,
            read=lambda index: read(int(indices[index])),
            labels=self.labels[indices] if labels is None else labels,
            paths=None if paths is None else [paths[index] for index in indices],
            plain=None if self.plain is None else self.plain[indices],
            stamp=None,
        )

    def typical_size(self) -> int:
        """The median of the shorter sides of some images, in pixels.

        Raises:
            InputError: none of them can be read.
        """
        sides = []
        for index in np.unique(np.linspace(0, len(self) - 1, TYPICAL_OF, dtype=int)):
            # The checks tell of these, and of what Pillow warns of.
            with suppress(UnreadableImageError, OSError), collected_warnings():
                sides.append(shorter_side(self.read(int(index))))
        if not sides:
            raise InputError(
                "no image can be read",
                received=f"{len(self)} images",
                accepted=", ".join(FORMATS),
            )
        return int(np.median(sides))


def resized(split: Split, image_size: int) -> ArraySplit:
    """Takes a split into memory, the centre square of every image resized.

    Args:
        split: few enough images; a tenth of a megabyte each at 192x192 pixels.
        image_size: the side to give them, in pixels.

    Returns:
        images (n, image_size, image_size, 3) uint8.
    """
    if isinstance(split, ArraySplit) and split.images.shape[1:3] == (image_size, image_size):
        return split
    images = np.empty((len(split), image_size, image_size, 3), np.uint8)
    for index in range(len(split)):
        images[index] = resize(split.image(index), image_size)
    return ArraySplit(images, split.labels)
