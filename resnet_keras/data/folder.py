"""A folder of images: a folder for every class, by splits or all together."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import numpy as np

from resnet_keras.data.cache import stamp
from resnet_keras.data.images import EXPLANATIONS
from resnet_keras.data.splits import BadImage, EncodedSplit, MissingSplitError, SplitName
from resnet_keras.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
SET_ASIDE = 0.1  # of the training images, where the data has no split of its own
SET_ASIDE_AT_MOST = 10_000


class Folder:
    """Image files, in a folder for every class.

    Either the class folders lie in train/, val/ (or valid/, validation/) and test/, or all in one:

        photos/train/cat/1.jpg          photos/cat/1.jpg
        photos/val/cat/2.jpg            photos/cat/2.jpg
        photos/test/cat/3.jpg           photos/cat/3.jpg

    Splits that are not there are set aside from the training images, class by class. Which images
    these are depends on the seed and the images' paths inside the folder, not on the order in which
    a file system lists them, and an image that is added later moves few others. Where there are
    validation images and no test images, they are the test, and others choose the best epoch.

    Class names are the folders' names, sorted. Images may lie in folders inside a class folder.
    Hidden files and files with other extensions than `EXTENSIONS` are passed over, and so are the
    pictures that explain an image beside them.

    Args:
        folder: the folder.
        validation: fraction of the images to set aside, 0..1; if None, a tenth, and 10,000 images
            at most.
        test: likewise.
        seed: another one sets other images aside.

    Attributes:
        problems: class folders without images, and folders that cannot be listed.

    Raises:
        InputError: there is no such folder, it has fewer than two class folders, no training
            images, or a fraction is given for a split that is there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        validation: float | None = None,
        test: float | None = None,
        seed: int = 0,
    ) -> None:
        self.folder = Path(os.path.abspath(os.path.expanduser(folder)))
        options = {"validation": validation, "test": test, "seed": seed or None}
        given = [f",{name}={value}" for name, value in options.items() if value is not None]
        self.name = "".join([str(self.folder), *given])
        self._seed = seed
        self._problems: list[BadImage] = []
        roots = self._roots()
        names = {child.name for root in roots.values() for child in self._folders(root)}
        self.class_names = tuple(sorted(names))
        if len(self.class_names) < 2:
            raise InputError(
                "there are fewer than two class folders",
                received=f"{self.folder} with {', '.join(self.class_names) or 'no folder'}",
                accepted=f"{self.folder}/CLASS/*.jpg or {self.folder}/train/CLASS/*.jpg"
                f"{self._perhaps_below(self.class_names)}",
            )
        self._files = {split: self._labelled_files(root) for split, root in roots.items()}
        self._check_level()
        self._complete(validation, test)
        self.problems = tuple(dict.fromkeys(self._problems))

    @property
    def image_size(self) -> int:
        return self.load("train").typical_size()

    def load(self, split: SplitName) -> EncodedSplit:
        files = self._files[split]
        if not files:
            raise MissingSplitError(
                f"there are no {split} images",
                received=self.folder,
                accepted=f"*{', *'.join(EXTENSIONS)} in class folders",
            )
        paths = [path for path, _ in files]

        def read(index: int) -> bytes:
            with open(paths[index], "rb") as file:
                return file.read()

        labels = np.array([label for _, label in files], np.int64)
        return EncodedSplit(read, labels, paths, stamp=stamp(paths))

    def _roots(self) -> dict[SplitName, Path]:
        """The folders that hold class folders."""
        folders = {child.name: child for child in self._folders(self.folder)}
        train = folders.get("train")
        if train is None or not self._folders(train):  # one without is a class of that name
            return {"train": self.folder}
        roots: dict[SplitName, Path] = {}
        for name, split in SPLIT_FOLDERS.items():
            if name not in folders or not self._folders(folders[name]):
                continue
            if split in roots:
                raise InputError(
                    f"there are two folders for the {split} images",
                    received=f"{roots[split]} and {folders[name]}",
                    accepted="one of them",
                )
            roots[split] = folders[name]
        return roots

    def _folders(self, folder: Path) -> list[Path]:
        try:
            children = sorted(child for child in folder.iterdir() if child.is_dir())
        except OSError as error:
            if folder == self.folder:
                raise InputError(
                    "the folder cannot be read",
                    received=f"{folder} ({error.strerror})",
                    accepted="a folder of class folders",
                ) from error
            self._cannot_list(error)
            return []
        return [child for child in children if not child.name.startswith(".")]

    def _cannot_list(self, error: OSError) -> None:
        self._problems.append(BadImage(str(error.filename), error.strerror or str(error)))

    def _check_level(self) -> None:
        """Refuses a folder in which all images are below one class folder that has folders."""
        found = {self.class_names[label] for files in self._files.values() for _, label in files}
        if hint := self._perhaps_below(tuple(found)):
            raise InputError(
                "all images are in one class folder, which holds folders itself",
                received=self.folder,
                accepted=f"images in two class folders or more{hint}",
            )

    def _perhaps_below(self, names: Sequence[str]) -> str:
        """Words for a message, where the only class folder is one of class folders itself."""
        if len(names) != 1 or len(self._folders(self.folder / names[0])) < 2:
            return ""
        return f"; did you mean {self.folder / names[0]}?"

    def _labelled_files(self, root: Path) -> list[tuple[str, int]]:
        files = []
        for folder in self._folders(root):
            label = self.class_names.index(folder.name)
            images, others = image_files(folder, self._cannot_list)
            files += [(path, label) for path in images]
            if not images:
                reason = "a class folder without images"
                if others:
                    reason += f" (files of other kinds: {others})"
                self._problems.append(BadImage(str(folder), reason))
        return files

    def _complete(self, validation: float | None, test: float | None) -> None:
        """Sets aside the splits that are not there."""
        files = self._files
        if "test" not in files and "validation" in files and test is None:
            files["test"] = files.pop("validation")
        given: dict[SplitName, float | None] = {"validation": validation, "test": test}
        for split, fraction in given.items():
            if fraction is not None and split in files:
                raise InputError(
                    f"{self.folder} has {split} images of its own",
                    received=f"{split}={fraction}",
                    accepted=f"no {split} fraction",
                )
            if fraction is not None and not 0 < fraction < 1:
                raise InputError(
                    f"{split} is out of range",
                    received=fraction,
                    accepted="a fraction in (0, 1)",
                )
        whole = len(files["train"])
        default = min(SET_ASIDE, SET_ASIDE_AT_MOST / max(whole, 1))
        fractions: dict[SplitName, float] = {
            "test": test or default,
            "validation": validation or default,
        }
        missing: list[SplitName] = [split for split in fractions if split not in files]
        if sum(fractions[split] for split in missing) >= 1:
            raise InputError(
                "nothing is left to train on",
                received=self.name,
                accepted="fractions that add up to less than 1",
            )
        for split in missing:
            left = len(files["train"]) / max(whole, 1)
            files["train"], files[split] = self._set_aside(files["train"], fractions[split] / left)

    def _set_aside(
        self, files: Sequence[tuple[str, int]], fraction: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        of_class: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for file in files:
            of_class[file[1]].append(file)
        aside = set()
        for members in of_class.values():
            count = min(max(round(fraction * len(members)), 1), len(members) - 1)
            aside.update(sorted(members, key=self._chance)[:count])
        return [file for file in files if file not in aside], sorted(aside)

    def _chance(self, file: tuple[str, int]) -> bytes:
        """Orders files at random, each by itself."""
        path = Path(file[0]).relative_to(self.folder).as_posix()
        told = f"{self._seed}\0{path}".encode("utf-8", "surrogateescape")
        return hashlib.sha256(told).digest()


def image_files(
    folder: Path, on_error: Callable[[OSError], None] | None = None
) -> tuple[list[str], int]:
    """The image files below a folder, and how many files there are none.

    Args:
        folder: whose folders are gone through, too.
        on_error: told of folders that cannot be listed.

    Returns:
        Sorted paths, and a count. Hidden files and folders, and pictures that explain an image
        beside them, are neither.
    """
    images, others = [], 0
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if file.startswith("."):
                continue
            if file.lower().endswith(EXTENSIONS):
                images.append(os.path.join(parent, file))
            else:
                others += 1
    stems = {os.path.splitext(path)[0] for path in images}
    return sorted(path for path in images if not _explains(path, stems)), others


def _explains(path: str, stems: Container[str]) -> bool:
    """Whether a picture is an explanation of an image that lies beside it."""
    endings = [f"-{kind}.png" for kind in EXPLANATIONS]
    return any(path.endswith(end) and path.removesuffix(end) in stems for end in endings)
