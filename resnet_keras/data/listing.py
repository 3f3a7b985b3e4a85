"""Image files below folders: what is read, what is not, and what is there twice."""

import os
from collections import Counter
from collections.abc import Container
from pathlib import Path

from resnet_keras.data.images import (
    EXPLANATIONS,
    EXTENSIONS,
    HEIC_EXTRA,
    HEIF_EXTENSIONS,
    NO_REGULAR_FILE,
)
from resnet_keras.data.splits import BadImage, printable

JUNK = frozenset(
    {"@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "__macosx"}
    | {"system volume information", "lost+found", "__pycache__"}
)
"""Folders of file servers, archives and programs, in lower case; hidden ones are left out too."""


class Listing:
    """Finds the image files below folders, and remembers what it does not read.

    Folders and files behind links are found too, but only once: an image that is there by two
    paths would be in two classes or splits.

    Attributes:
        ignored: how many files of other kinds there are, by extension in lower case.
        problems: folders that cannot be listed, links that lead to what is there already, and
            image files that must not be opened.
    """

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.problems: list[BadImage] = []
        self._folders: dict[str, str] = {}  # that were gone through: real paths, and ours
        self._links: list[tuple[str, str]] = []  # image files: our path, and the real one

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder, sorted, without those that hold no data of the user."""
        entries = self._entries(str(folder))
        return sorted(Path(entry.path) for entry in entries if _is_folder(entry))

    def loose_images(self, folder: Path) -> int:
        """How many image files lie in a folder itself."""
        return sum(_is_image(entry.name) for entry in self._entries(str(folder)))

    def images(self, folder: Path) -> list[str]:
        """The image files in a folder and in its folders, sorted.

        Hidden files, and pictures that explain an image beside them, are left out in silence.
        """
        found: list[str] = []
        above = os.path.realpath(folder.absolute().parent)
        self._go_through(str(folder), os.path.realpath(folder), above, found)
        stems = {os.path.splitext(path)[0] for path in found}
        return sorted(path for path in found if not _explains(path, stems))

    def duplicates(self) -> dict[str, str]:
        """Links to image files that are found by another path too: both paths, of all so far."""
        duplicates: dict[str, str] = {}
        targets: dict[str, str] = {}
        for path, real in sorted(self._links):
            parent, name = os.path.split(real)
            if parent in self._folders and _is_image(name):
                duplicates[path] = os.path.join(self._folders[parent], name)
            elif real in targets:
                duplicates[path] = targets[real]
            targets.setdefault(real, path)
        return duplicates

    def _go_through(self, folder: str, real: str, above: str, found: list[str]) -> None:
        """Adds a folder's images to those found.

        Args:
            real: the folder's path without links.
            above: the same of the folder that it was found in.
        """
        if above == real or above.startswith(os.path.join(real, "")):
            self._problem(folder, f"a link to a folder that it lies in, {real}")
            return
        if real in self._folders:
            self._problem(folder, f"the same folder as {self._folders[real]}")
            return
        self._folders[real] = folder
        for entry in self._entries(folder):
            if _is_folder(entry):
                below = os.path.join(real, entry.name)
                if entry.is_symlink():
                    below = os.path.realpath(entry.path)
                self._go_through(entry.path, below, real, found)
            elif not _is_image(entry.name):
                self.ignored[os.path.splitext(entry.name)[1].lower()] += 1
            elif self._can_be_opened(entry):
                found.append(entry.path)
                if entry.is_symlink():
                    self._links.append((entry.path, os.path.realpath(entry.path)))

    def _entries(self, folder: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(folder) as entries:
                return [entry for entry in entries if not _is_passed_over(entry.name)]
        except OSError as error:
            self._problem(folder, error.strerror or str(error))
            return []

    def _can_be_opened(self, entry: "os.DirEntry[str]") -> bool:
        try:
            is_file = entry.is_file()
            if not is_file:
                entry.stat()  # tells why, of a link that leads nowhere
        except OSError as error:
            self._problem(entry.path, error.strerror or str(error))
            return False
        if not is_file:
            self._problem(entry.path, NO_REGULAR_FILE)
        return is_file

    def _problem(self, path: str, reason: str) -> None:
        self.problems.append(BadImage(path, reason))


def describe_ignored(ignored: Counter[str]) -> str:
    """How many files of which kinds are not read, in a line; an empty text if there are none."""
    if not ignored:
        return ""
    kinds = ", ".join(
        f"{count:,} {printable(kind) or 'without an extension'}"
        for kind, count in sorted(ignored.items(), key=lambda pair: (-pair[1], pair[0]))
    )
    total = ignored.total()
    files = "1 file of another kind is" if total == 1 else f"{total:,} files of other kinds are"
    needs_extra = any(kind in HEIF_EXTENSIONS for kind in ignored)
    hint = f" ({HEIC_EXTRA} makes HEIC readable)" if needs_extra else ""
    return f"{files} not read: {kinds}{hint}"


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.casefold() in JUNK


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _explains(path: str, stems: Container[str]) -> bool:
    """Whether a picture is an explanation of an image that lies beside it."""
    endings = [f"-{kind}.png" for kind in EXPLANATIONS]
    return any(path.endswith(end) and path.removesuffix(end) in stems for end in endings)
