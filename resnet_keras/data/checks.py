"""Finds what is wrong with the images of a source before any training starts."""

import hashlib
import os
import re
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image

from resnet_keras.data.cache import remember, remembered
from resnet_keras.data.folder import Folder
from resnet_keras.data.images import FORMATS, UnreadableImageError, collected_warnings, inspect
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
    in_words,
    listed,
    printable,
)
from resnet_keras.errors import InputError

SMALLEST_SIDE = 2
NAMED_CLASSES = 10  # in a line
CLOCKS_DIFFER = 60  # seconds, between a file server and this machine
CHUNK = 64  # images that a thread takes at a time
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class CheckedSource:
    """A source whose images can all be used.

    Attributes:
        name, class_names, image_size: as of any source; classes that have lost all their training
            images are gone, and the labels count without them.
        splits: those that there are; encoded ones know which images are plain.
        skipped: what was left out.
        notes: lines on what is not read, and on images that are used and look odd.
        fingerprint: another one if images are added, removed, replaced by ones of another size in
            bytes, or labelled otherwise; the same if the data moves to another place.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    splits: Mapping[SplitName, Split]
    skipped: tuple[BadImage, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def load(self, split: SplitName) -> Split:
        if split not in self.splits:
            raise MissingSplitError(
                f"{self.name} has no {split} images",
                received=f"a source of {', '.join(self.splits)} images",
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
    Progress is shown on a terminal. `notes` tell what Pillow warns of, and images of 16 bits whose
    values are those of 12.

    Args:
        source: the images.
        skip_bad_images: leave what is bad out, and tell it in `skipped`.

    Raises:
        InputError: something is bad, the first 20 of it with path and reason and how many in all;
            or nothing good is left to train on, or of another split.
    """
    bad: list[BadImage] = list(source.problems) if isinstance(source, Folder) else []
    started = time.time()
    splits: dict[SplitName, Split] = {}
    good: dict[SplitName, np.ndarray] = {}
    odd: list[BadImage] = []
    for name, split in _splits_of(source):
        reasons = _bad_labels(split, len(source.class_names))
        if isinstance(split, EncodedSplit):
            decoded = _decoded(split, name)
            split = replace(split, plain=decoded.plain, checked=started)
            reasons |= dict(decoded.bad)
            odd += _placed(split, name, decoded.odd)
        bad += _placed(split, name, sorted(reasons.items()))
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
            items=listed(bad),
        )
    usable = _without(source, splits, good, kept, tuple(bad))
    lost = sum(len(splits[name]) - len(good[name]) for name in splits)
    notes = [*getattr(source, "notes", ()), *_summary(odd), *_missing_classes(usable)]
    if bad:
        notes.append(f"left out as bad: {lost:,} images, {(~kept).sum()} classes")
    return replace(usable, notes=tuple(notes))


def _splits_of(source: Source) -> Iterator[tuple[SplitName, Split]]:
    """The splits that there are; MissingSplitError if there are no training images."""
    for name in SPLIT_NAMES:
        try:
            yield name, source.load(name)
        except MissingSplitError:
            if name == "train":
                raise


def _bad_labels(split: Split, classes: int) -> dict[int, str]:
    """What is wrong with labels outside of the classes, by the images' indices."""
    return {
        int(index): f"label {split.labels[index]}, of {classes} classes"
        for index in np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    }


def _missing_classes(source: CheckedSource) -> Iterator[str]:
    """A line for each split that lacks classes which the training images have."""
    trained = np.unique(source.splits["train"].labels)
    for name, split in source.splits.items():
        if len(missing := np.setdiff1d(trained, split.labels)):
            names = [source.class_names[label] for label in missing]
            yield f"no {name} image shows {in_words(names, NAMED_CLASSES)}"


@contextmanager
def naming_lost_images(*splits: Split) -> Iterator[None]:
    """Inside, errors over images that were deleted or damaged since the check name the file.

    The pipelines read the files again, and their errors may name none. What Pillow warns of is not
    repeated: the check has told it.

    Raises:
        InputError: an error came, and a file of the splits is not what it was.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            yield
    except Exception as error:
        for split in splits:
            if lost := _first_lost(split, error):
                raise InputError(
                    "an image was deleted or damaged after it was checked",
                    received=f"{printable(lost.path)} ({lost.reason})",
                    accepted="the file as it was; then run the same command to resume",
                ) from error
        raise


def _first_lost(split: Split, error: Exception) -> BadImage | None:
    if not isinstance(split, EncodedSplit) or split.checked is None:
        return None
    if split.paths is None:  # TensorFlow tells of our error in its own
        return _first_lost_record(split) if InputError.__name__ in str(error) else None
    for index, path in enumerate(split.paths):
        try:
            status = os.stat(path)
            if max(status.st_mtime, status.st_ctime) >= split.checked - CLOCKS_DIFFER:
                split.image(index)
        except OSError as error:
            return BadImage(path, error.strerror or str(error))
        except UnreadableImageError as error:
            return BadImage(path, error.reason)
    return None


def _first_lost_record(split: EncodedSplit) -> BadImage | None:
    for index in range(len(split)):
        try:
            split.read(index)
        except InputError as error:
            return BadImage(error.received, error.problem)
    return None


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
            items=listed(bad),
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
        called = source.class_names[label]
        alike = [one for one in source.class_names if one != called]
        alike = [one for one in alike if one.casefold() == called.casefold()]
        hint = f" (there are some of {alike[0]})" if alike else ""
        reason = f"{count} {name} images of a class without training images{hint}"
        yield BadImage(f"class {called}", reason)


def _count(source: Source, bad: Sequence[BadImage]) -> str:
    return f"{source.name} with {len(bad)} bad files or classes"


def _summary(odd: Sequence[BadImage]) -> list[str]:
    """A line for each kind of remark, with the first image that it is on."""
    of_kind: dict[str, list[str]] = defaultdict(list)
    for image in odd:
        of_kind[_NUMBERS.sub("N", image.reason)].append(f"{printable(image.path)}: {image.reason}")
    return [
        f"{first}{f' (and {len(others)} images more like it)' if others else ''}"
        for first, *others in of_kind.values()
    ]


Remarks = list[tuple[int, str]]  # indices of images, and what there is to say of them


def _placed(split: Split, name: SplitName, told: Remarks) -> list[BadImage]:
    """The same by the images' paths, where they have any."""
    paths = split.paths if isinstance(split, EncodedSplit) else None
    return [
        BadImage(paths[index] if paths else f"{name} image {index}", text) for index, text in told
    ]


@dataclass(frozen=True)
class _Decoded:
    """What decoding a split tells.

    Attributes:
        plain: (n,) bool.
        bad: images that cannot be used.
        odd: images that can.
    """

    plain: np.ndarray
    bad: Remarks
    odd: Remarks


REMEMBERED = ("plain", "bad", "bad-texts", "odd", "odd-texts")


def _decoded(split: EncodedSplit, name: SplitName) -> _Decoded:
    key = f"checks 2 {PIL.__version__} {FORMATS} {split.stamp}"
    known = remembered(key, REMEMBERED) if split.stamp else None
    if known is not None and len(known["plain"]) == len(split):
        return _Decoded(known["plain"], _pairs(known, "bad"), _pairs(known, "odd"))
    plain = np.zeros(len(split), bool)
    bad: Remarks = []
    unread: Remarks = []
    odd: Remarks = []

    def look_at(start: int) -> int:
        indices = range(start, min(start + CHUNK, len(split)))
        for index in indices:
            try:
                found = inspect(split.read(index))
            except UnreadableImageError as error:
                bad.append((index, error.reason))
            except OSError as error:
                unread.append((index, error.strerror or str(error)))
            else:
                plain[index] = found.is_plain
                odd.extend((index, remark) for remark in (*warned(), *found.remarks))
                if min(found.width, found.height) < SMALLEST_SIDE:
                    bad.append((index, f"{found.width}x{found.height} pixels, a placeholder"))
            warned()  # of images that are bad anyway
        return len(indices)

    with (
        collected_warnings() as warned,
        shown(f"checking the {name} images", len(split)) as done,
        threads() as pool,
    ):
        for count in pool.map(look_at, range(0, len(split), CHUNK)):
            done(count)
    bad.sort()
    odd.sort()
    if split.stamp and not unread:  # a right that was granted would not show in the stamp
        remember(key, {"plain": plain, **_arrays("bad", bad), **_arrays("odd", odd)})
    return _Decoded(plain, bad + unread, odd)


def _arrays(name: str, told: Remarks) -> dict[str, np.ndarray]:
    indices, texts = [index for index, _ in told], [text for _, text in told]
    return {name: np.array(indices, np.int64), f"{name}-texts": np.array(texts, str)}


def _pairs(arrays: Mapping[str, np.ndarray], name: str) -> Remarks:
    return list(zip(arrays[name].tolist(), arrays[f"{name}-texts"].tolist(), strict=True))
