"""Finds what is wrong with the images of a source before any training starts."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL

from resnet_keras.data.cache import remember, remembered
from resnet_keras.data.folder import Folder
from resnet_keras.data.images import UnreadableImageError, inspect
from resnet_keras.data.progress import shown, threads
from resnet_keras.data.splits import (
    SPLIT_NAMES,
    ArraySplit,
    BadImage,
    EncodedSplit,
    MissingSplitError,
    Source,
    Split,
    SplitName,
)
from resnet_keras.errors import InputError

SHOWN = 20
SMALLEST_SIDE = 2
CHUNK = 64  # images that a thread takes at a time


@dataclass(frozen=True)
class CheckedSource:
    """A source whose images can all be used.

    Attributes:
        name, class_names, image_size: as of any source; classes that have lost all their training
            images are gone, and the labels count without them.
        splits: those that there are; encoded ones know which images are plain.
        skipped: what was left out.
        fingerprint: another one if images are added, removed, replaced by ones of another size in
            bytes, or labelled otherwise; the same if the data moves to another place.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    splits: Mapping[SplitName, Split]
    skipped: tuple[BadImage, ...]
    fingerprint: str

    def load(self, split: SplitName) -> Split:
        if split not in self.splits:
            raise MissingSplitError(
                f"{self.name} has no {split} images",
                received=", ".join(self.splits),
                accepted=f"a {split} split, or at least three images of a class, "
                "of which some are set aside",
            )
        return self.splits[split]

    def in_order(self, class_names: tuple[str, ...]) -> "CheckedSource":
        """The same images, whose labels number the same classes in another order."""
        order = np.array([class_names.index(name) for name in self.class_names])
        splits = {
            name: split.take(np.arange(len(split)), order[split.labels])
            for name, split in self.splits.items()
        }
        return replace(self, class_names=class_names, splits=splits)


def check(source: Source, skip_bad_images: bool = False) -> CheckedSource:
    """Decodes every encoded image of a source once, and looks at its labels and classes.

    Bad are: files that cannot be read, are empty, are no image whatever their name says, are
    truncated or damaged, or decode to so many pixels that they can only be meant to fill the
    memory; images with a side of one pixel, which are placeholders and not photographs; labels
    outside of the classes; class folders without images; validation and test images of a class that
    has no training images. Grey, CMYK, transparent and rotated images are good, and so is one with
    another format's extension.

    What it found out is remembered until a file changes, so that the next check takes seconds.
    Progress is shown on a terminal.

    Args:
        source: the images.
        skip_bad_images: leave what is bad out, and tell it in `skipped`.

    Raises:
        InputError: something is bad, the first 20 of it with path and reason and how many in all;
            or nothing good is left to train on, or of another split.
    """
    bad: list[BadImage] = list(source.problems) if isinstance(source, Folder) else []
    classes = len(source.class_names)
    splits: dict[SplitName, Split] = {}
    good: dict[SplitName, np.ndarray] = {}
    for name in SPLIT_NAMES:
        try:
            split = source.load(name)
        except MissingSplitError:
            if name == "train" and not bad:
                raise
            continue
        reasons = {
            int(index): f"label {split.labels[index]}, of {classes} classes"
            for index in np.flatnonzero((split.labels < 0) | (split.labels >= classes))
        }
        if isinstance(split, EncodedSplit):
            plain, undecodable = _decoded(split, name)
            split = replace(split, plain=plain)
            reasons |= undecodable
        bad += [BadImage(_place(split, name, i), reason) for i, reason in sorted(reasons.items())]
        splits[name] = split
        good[name] = np.setdiff1d(np.arange(len(split)), list(reasons))
    kept = _kept_classes(source, splits, good)
    for name, split in splits.items():
        strangers = ~kept[split.labels[good[name]]]
        bad += _strangers(source, name, split, good[name][strangers])
        good[name] = good[name][~strangers]
    bad = list(dict.fromkeys(bad))
    if bad and not skip_bad_images:
        raise InputError(
            "the source has data that cannot be used",
            received=_count(source, bad),
            accepted="images that decode, of classes to train on, "
            "or --skip-bad-images to train without the bad ones",
            items=_items(bad),
        )
    return _without(source, splits, good, kept, tuple(bad))


def _without(
    source: Source,
    splits: Mapping[SplitName, Split],
    good: Mapping[SplitName, np.ndarray],
    kept: np.ndarray,
    bad: tuple[BadImage, ...],
) -> CheckedSource:
    if kept.sum() < min(2, len(kept)) or not all(map(len, good.values())):
        left = ", ".join(f"{len(indices)} {name}" for name, indices in good.items())
        raise InputError(
            "too few images are left",
            received=f"{left or 'no'} images of {kept.sum()} classes that can be used, "
            f"in {_count(source, bad)}",
            accepted="usable images of two classes or more, some in every split",
            items=_items(bad),
        )
    new_labels = np.cumsum(kept) - 1
    whole = kept.all() and all(len(good[name]) == len(splits[name]) for name in splits)
    taken: dict[SplitName, Split] = {
        name: split if whole else split.take(good[name], new_labels[split.labels[good[name]]])
        for name, split in splits.items()
    }
    names = tuple(name for name, keep in zip(source.class_names, kept, strict=True) if keep)
    return CheckedSource(
        source.name, names, source.image_size, taken, bad, _fingerprint(names, taken)
    )


def _fingerprint(class_names: tuple[str, ...], splits: Mapping[SplitName, Split]) -> str:
    digest = hashlib.sha256(repr(class_names).encode("utf-8", "surrogateescape"))
    for name, split in splits.items():
        digest.update(f"{name} {len(split)}".encode())
        digest.update(np.ascontiguousarray(split.labels).data)
        if isinstance(split, ArraySplit):
            digest.update(np.ascontiguousarray(split.images).data)
        elif isinstance(split, EncodedSplit):
            for path in split.paths or ():
                told = f"{os.path.basename(path)} {os.path.getsize(path)}\n"
                digest.update(told.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _kept_classes(
    source: Source, splits: Mapping[SplitName, Split], good: Mapping[SplitName, np.ndarray]
) -> np.ndarray:
    """Which classes are to be told apart, (classes,) bool.

    A class without any image is one that the source knows nothing of (ImageNet's, say, of which a
    smaller set has only some), and stays; an empty folder is a mistake.
    """
    classes = len(source.class_names)
    counts = {
        name: np.bincount(splits[name].labels[indices], minlength=classes)
        for name, indices in good.items()
    }
    trained = counts.get("train", np.zeros(classes, int)) > 0
    if isinstance(source, Folder):
        return trained
    return trained | (sum(counts.values(), np.zeros(classes, int)) == 0)


def _strangers(
    source: Source, name: SplitName, split: Split, indices: np.ndarray
) -> Iterator[BadImage]:
    for label, count in zip(*np.unique(split.labels[indices], return_counts=True), strict=True):
        reason = f"{count} {name} images of a class without training images"
        yield BadImage(f"class {source.class_names[label]}", reason)


def _count(source: Source, bad: Sequence[BadImage]) -> str:
    return f"{source.name} with {len(bad)} bad files or classes"


def _items(bad: Sequence[BadImage]) -> list[str]:
    items = [f"{_printable(image.path)}: {image.reason}" for image in bad[:SHOWN]]
    if len(bad) > SHOWN:
        items.append(f"and {len(bad) - SHOWN} more")
    return items


def _printable(path: str) -> str:
    return path if path.isprintable() else repr(path)


def _place(split: Split, name: SplitName, index: int) -> str:
    if isinstance(split, EncodedSplit) and split.paths is not None:
        return split.paths[index]
    return f"{name} image {index}"


def _decoded(split: EncodedSplit, name: SplitName) -> tuple[np.ndarray, dict[int, str]]:
    """Which images are plain, and why others cannot be decoded."""
    key = f"checks {PIL.__version__} {split.stamp}"
    known = remembered(key, ("plain", "bad", "reasons")) if split.stamp else None
    if known is not None and len(known["plain"]) == len(split):
        return known["plain"], dict(
            zip(known["bad"].tolist(), known["reasons"].tolist(), strict=True)
        )
    plain = np.zeros(len(split), bool)
    reasons: dict[int, str] = {}
    unread: dict[int, str] = {}

    def look_at(start: int) -> int:
        indices = range(start, min(start + CHUNK, len(split)))
        for index in indices:
            try:
                pixels, plain[index] = inspect(split.read(index))
            except UnreadableImageError as error:
                reasons[index] = error.reason
            except OSError as error:
                unread[index] = error.strerror or str(error)
            else:
                if min(pixels.shape[:2]) < SMALLEST_SIDE:
                    height, width, _ = pixels.shape
                    reasons[index] = f"{width}x{height} pixels, a placeholder"
        return len(indices)

    with shown(f"checking the {name} images", len(split)) as done, threads() as pool:
        for count in pool.map(look_at, range(0, len(split), CHUNK)):
            done(count)
    if split.stamp and not unread:  # a right that was granted would not show in the stamp
        bad = sorted(reasons)
        told = np.array([reasons[index] for index in bad], str)
        remember(key, {"plain": plain, "bad": np.array(bad, np.int64), "reasons": told})
    return plain, reasons | unread
