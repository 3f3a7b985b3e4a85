"""A folder of images: a folder for every class, by splits or all together."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from resnet_keras.data.cache import stamp
from resnet_keras.data.held_out import LabelledFile, complete
from resnet_keras.data.images import EXTENSIONS
from resnet_keras.data.listing import Listing, describe_ignored
from resnet_keras.data.splits import (
    ACCEPTED_SPLITS,
    BadImage,
    EncodedSplit,
    MissingSplitError,
    SplitName,
    in_words,
    listed,
    printable,
    split_called,
)
from resnet_keras.errors import InputError

SAME_FOLDERS = 2  # that several class folders hold betray splits, or sets, taken for classes
NAMED = 5  # folders in a message
EMPTY = "a class folder without images"


class Folder:
    """Image files, in a folder for every class.

    Either the class folders lie in folders of splits, or all in one:

        photos/train/cat/1.jpg          photos/cat/1.jpg
        photos/val/cat/2.jpg            photos/cat/2.jpg
        photos/test/cat/3.jpg           photos/cat/3.jpg

    `splits.split_called` knows how the splits may be spelled. Splits that are not there are set
    aside from the training images, class by class. Which images these are depends on the seed and
    the images' paths inside the folder, not on the order in which a file system lists them, and an
    image that is added later moves few others. Where there are validation images and no test
    images, they are the test, and others choose the best epoch.

    Class names are the folders' names, sorted. Images may lie in folders inside a class folder, and
    behind links. `images.EXTENSIONS` tells which files are read; hidden files, and the pictures
    that explain an image beside them, are passed over.

    Args:
        folder: the folder.
        validation: fraction of the images to set aside, 0..1; if None, a tenth, and 10,000 images
            at most.
        test: likewise.
        seed: another one sets other images aside.

    Attributes:
        problems: what `check` refuses: class folders without images, folders that cannot be listed,
            images that are there twice, and files that must not be opened.
        notes: lines on what is in the folder and is not read.

    Raises:
        InputError: there is no such folder, it has fewer than two class folders, no training
            images, folders that seem to be splits but are not called so, or a fraction is given for
            a split that is there.
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
        self._listing = Listing()
        self._check_can_be_listed()
        roots = self._roots()
        folders: dict[SplitName, list[Path]] = {
            split: self._listing.folders(root) for split, root in roots.items()
        }
        self.class_names = self._names_of([one for some in folders.values() for one in some])
        alike = self._called_like_splits(roots)
        beside = self._beside(roots)
        self._files: dict[SplitName, list[LabelledFile]] = {
            split: self._labelled_files(some) for split, some in folders.items()
        }
        self._check_level()
        left_out = self._leave_duplicates_out()
        self._check_training_images(roots["train"])
        self._files = complete(
            self._files, {"validation": validation, "test": test}, seed, self.folder
        )
        self.problems = tuple(dict.fromkeys(self._listing.problems))
        places = dict.fromkeys([self.folder, *roots.values(), *beside])
        self.notes = (*left_out, *self._notes(list(places), beside, alike))

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

    def _check_can_be_listed(self) -> None:
        try:
            os.scandir(self.folder).close()
        except OSError as error:
            raise InputError(
                "the folder cannot be read",
                received=f"{self.folder} ({error.strerror})",
                accepted="a folder of class folders",
            ) from error

    def _roots(self) -> dict[SplitName, Path]:
        """The folders that hold class folders, by split."""
        roots: dict[SplitName, Path] = {}
        for folder in self._listing.folders(self.folder):
            split = split_called(folder.name)
            if split is None or not self._listing.folders(folder):  # without any, it is a class
                continue
            if split in roots:
                raise InputError(
                    f"there are two folders for the {split} images",
                    received=f"{roots[split]} and {folder}",
                    accepted="one of them",
                )
            roots[split] = folder
        return roots if "train" in roots else {"train": self.folder}

    def _called_like_splits(self, roots: Mapping[SplitName, Path]) -> list[Path]:
        """Class folders with the name of a split and no folders inside: one may be a class."""
        if roots["train"] != self.folder:
            return []
        alike = [
            one
            for one in self._listing.folders(self.folder)
            if split_called(one.name) and not self._listing.folders(one)
        ]
        if len(alike) > 1:
            raise InputError(
                "folders with the names of splits hold no class folders",
                received=f"{_named(alike)} in {self.folder}",
                accepted=f"{self.folder}/train/CLASS/*.jpg, or class folders with other names",
            )
        return alike

    def _names_of(self, folders: Sequence[Path]) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        names = tuple(sorted({folder.name for folder in folders}))
        if len(names) < 2:
            raise InputError(
                "there are fewer than two class folders",
                received=f"{self.folder} with the folder {names[0]}"
                if names
                else f"{self.folder} without folders",
                accepted=f"{self.folder}/CLASS/*.jpg or {self.folder}/train/CLASS/*.jpg"
                f"{self._perhaps_below(names)}",
            )
        for name in names:
            if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8
                raise InputError(
                    "the name of a class folder is not UTF-8",
                    received=f"{name!a} in {self.folder}",
                    accepted="a folder whose name is text in UTF-8 (rename it)",
                )
        return names

    def _beside(self, roots: Mapping[SplitName, Path]) -> list[Path]:
        """Folders that lie beside those of splits, and are no splits."""
        if roots["train"] == self.folder:
            return []
        children = self._listing.folders(self.folder)
        beside = [folder for folder in children if folder not in roots.values()]
        for folder in beside:
            same = {one.name for one in self._listing.folders(folder)} & set(self.class_names)
            if len(same) >= SAME_FOLDERS:
                raise _looks_like_splits([folder, *roots.values()], sorted(same))
        return beside

    def _labelled_files(self, folders: Sequence[Path]) -> list[LabelledFile]:
        files = []
        inside: dict[Path, Counter[str]] = {}  # images of a class folder, by the folders in it
        for folder in folders:
            before = self._listing.ignored.total()
            images = self._listing.images(folder)
            label = self.class_names.index(folder.name)
            files += [(path, label) for path in images]
            start = len(os.path.join(folder, ""))
            inside[folder] = Counter(os.path.dirname(path[start:]) for path in images)
            if not images and all(one.path != str(folder) for one in self._listing.problems):
                others = self._listing.ignored.total() - before
                kinds = f" (files of other kinds: {others})" if others else ""
                reason = f"{EMPTY}{kinds}"
                self._listing.problems.append(BadImage(str(folder), reason))
        _check_no_splits(inside)
        return files

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
        below = self.folder / names[0] if len(names) == 1 else None
        if below is None or not below.is_dir() or len(self._listing.folders(below)) < 2:
            return ""
        return f"; did you mean {below}?"

    def _leave_duplicates_out(self) -> list[str]:
        """Leaves out links to images that are there by another path.

        In one class they do no harm then, and a line tells of them; in two they are a problem.
        """
        duplicates = self._listing.duplicates()
        concerned = {*duplicates, *duplicates.values()}
        places = {
            path: (split, label)
            for split, files in self._files.items()
            for path, label in files
            if path in concerned
        }
        in_one_class = 0
        for path, other in duplicates.items():
            if places.get(path) == places.get(other):
                in_one_class += 1
            else:
                self._listing.problems.append(BadImage(path, f"the same file as {other}"))
        for split, files in self._files.items():
            self._files[split] = [file for file in files if file[0] not in duplicates]
        count = f"{in_one_class:,} {'link is' if in_one_class == 1 else 'links are'}"
        line = f"{count} not read, which lead to other images of the same class"
        return [line] if in_one_class else []

    def _check_training_images(self, root: Path) -> None:
        if self._files["train"]:
            return
        ignored = describe_ignored(self._listing.ignored)
        problems = dict.fromkeys(self._listing.problems)
        raise InputError(
            "there are no training images",
            received=f"{root} with {len(self.class_names)} class folders"
            f"{'; ' if ignored else ''}{ignored}",
            accepted=f"*{', *'.join(EXTENSIONS)} in class folders",
            items=listed([one for one in problems if not one.reason.startswith(EMPTY)]),
        )

    def _notes(
        self, places: Sequence[Path], beside: Sequence[Path], alike: Sequence[Path]
    ) -> tuple[str, ...]:
        """Lines on what is not read.

        Args:
            places: that may hold images outside of class folders.
            beside: folders that are neither splits nor classes.
            alike: class folders that are called like splits.
        """
        notes = [describe_ignored(self._listing.ignored)]
        notes += [
            f"the folder {printable(folder.name)} has the name of a split but holds no class "
            "folders; it is read as a class"
            for folder in alike
        ]
        of_letters = Counter(name.casefold() for name in self.class_names)
        notes += [
            f"the classes {', '.join(_spelled(self.class_names, name))} differ in capitals alone"
            for name, count in of_letters.items()
            if count > 1
        ]
        if beside:
            notes.append(f"folders beside the splits are not read: {_named(beside)}")
        for place in places:
            if count := self._listing.loose_images(place):
                images = "1 image is" if count == 1 else f"{count:,} images are"
                notes.append(f"{images} not read: not in a class folder, but in {place}")
        return tuple(filter(None, notes))


def _check_no_splits(inside: Mapping[Path, Counter[str]]) -> None:
    """Refuses class folders that hold the same folders, with most of their images in these.

    Such folders are splits, folds or places, whose folders are the classes, or the classes'
    folders are splits.

    Args:
        inside: how many images of each class folder lie in which folder inside it.
    """
    nested = {
        folder: of_folder
        for folder, of_folder in inside.items()
        if of_folder.total() > 2 * of_folder[""]
    }
    holders = Counter(inner for of_folder in nested.values() for inner in of_folder if inner)
    suspects = {
        folder: same
        for folder, of_folder in nested.items()
        if len(same := [inner for inner in of_folder if holders[inner] > 1]) >= SAME_FOLDERS
    }
    if len(suspects) > 1:
        raise _looks_like_splits(list(suspects), sorted(next(iter(suspects.values()))))


def _looks_like_splits(folders: Sequence[Path], same: Sequence[str]) -> InputError:
    more = " and more" if len(same) > NAMED else ""
    return InputError(
        "several folders hold the same folders, so it is not clear which ones are the classes",
        received=f"{_named(folders)} in {folders[0].parent}, which share "
        f"{', '.join(map(printable, same[:NAMED]))}{more}",
        accepted=f"folders of splits ({ACCEPTED_SPLITS}), one of the folders alone, "
        "or class folders in which no two hold the same folders",
    )


def _spelled(names: Sequence[str], letters: str) -> list[str]:
    return [printable(name) for name in names if name.casefold() == letters]


def _named(folders: Sequence[Path]) -> str:
    return in_words([folder.name for folder in folders], NAMED)
