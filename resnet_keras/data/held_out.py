"""Images that are set aside from the training images, where a folder has no such split."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_keras.data.splits import SplitName
from resnet_keras.errors import InputError

SET_ASIDE = 0.1  # of the training images, where the data has no split of its own
SET_ASIDE_AT_MOST = 10_000

LabelledFile = tuple[str, int]
"""An image's path and the index of its class."""


def complete(
    files: Mapping[SplitName, list[LabelledFile]],
    fractions: Mapping[SplitName, float | None],
    seed: int,
    folder: Path,
) -> dict[SplitName, list[LabelledFile]]:
    """Sets aside the splits that are not there.

    Validation images are the test where there are no test images.

    Args:
        files: of the splits that are there, the training images among them.
        fractions: of all images, to set aside for "validation" and "test"; None for a tenth, and
            10,000 images at most.
        seed: another one sets other images aside.
        folder: that the paths lie in: a folder that moves keeps its splits.

    Raises:
        InputError: a fraction is out of range or of a split that is there, or nothing is left.
    """
    found = dict(files)
    if "test" not in found and "validation" in found and fractions["test"] is None:
        found["test"] = found.pop("validation")
    _check(found, fractions, folder)
    whole = len(found["train"])
    default = min(SET_ASIDE, SET_ASIDE_AT_MOST / whole)
    missing: dict[SplitName, float] = {
        split: fractions[split] or default for split in ("test", "validation") if split not in found
    }
    if sum(missing.values()) >= 1:
        asked = [f"{split}={share}" for split, share in fractions.items() if share is not None]
        raise InputError(
            "nothing is left to train on",
            received=",".join([str(folder), *asked]),
            accepted="fractions that add up to less than 1",
        )
    for split, fraction in missing.items():
        left = len(found["train"]) / whole
        found["train"], found[split] = _set_aside(found["train"], fraction / left, seed, folder)
    return found


def _check(
    files: Mapping[SplitName, Sequence[LabelledFile]],
    fractions: Mapping[SplitName, float | None],
    folder: Path,
) -> None:
    for split, fraction in fractions.items():
        if fraction is not None and split in files:
            raise InputError(
                f"{folder} has {split} images of its own",
                received=f"{split}={fraction}",
                accepted=f"no {split} fraction",
            )
        if fraction is not None and not 0 < fraction < 1:
            raise InputError(
                f"{split} is out of range", received=fraction, accepted="a fraction in (0, 1)"
            )


def _set_aside(
    files: Sequence[LabelledFile], fraction: float, seed: int, folder: Path
) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """The files that are left, and a fraction of each class."""

    def chance(file: LabelledFile) -> bytes:
        """Orders files at random, each by itself."""
        path = Path(file[0]).relative_to(folder).as_posix()
        return hashlib.sha256(f"{seed}\0{path}".encode("utf-8", "surrogateescape")).digest()

    of_class: dict[int, list[LabelledFile]] = defaultdict(list)
    for file in files:
        of_class[file[1]].append(file)
    aside = set()
    for members in of_class.values():
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        aside.update(sorted(members, key=chance)[:count])
    return [file for file in files if file not in aside], sorted(aside)
