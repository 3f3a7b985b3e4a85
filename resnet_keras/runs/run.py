"""The run folder: everything that one training leaves behind, in a versioned format.

    run.json          what was trained, on what, how, with which versions
    recipe.toml       the recipe, for `train --recipe`
    history.csv       one row an epoch
    speed.csv         images a second, epoch by epoch
    best.keras        the model that validates best
    last.keras        the model and its optimizer when training ended
    checkpoints/      what an unfinished run goes on from
    skipped.csv       images that were left out, and why
    evaluation.json   error on the test images; evaluation-ten-crop.json and
                      evaluation-multi-scale.json by other protocols
    examples/         a test image of every class
    report.html       accuracy, curves, mistakes, data and network as a page
    tensorboard/      events

Every file is written beside its place and renamed into it: a killed or full machine leaves the old
one whole.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_keras import recipes
from resnet_keras.architectures import Preprocessing
from resnet_keras.data.splits import BadImage
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.files import structured
from resnet_keras.files.atomic import (
    PARTIAL,
    check_writable,
    file_name,
    locked,
    make_folder,
    remove_partial,
    unwritable,
    write_file,
    write_text,
)
from resnet_keras.recipes import Recipe

FOLDER = "the run folder"  # as messages call it
FORMAT_VERSION = 2
DETAILS_ACCEPTED = "the file that train wrote, or train --start-over (moves the run aside)"

HISTORY_COLUMNS: tuple[str, ...] = (
    "epoch",
    "loss",
    "top1_error",
    "top5_error",
    "validation_loss",
    "validation_top1_error",
    "validation_top5_error",
    "learning_rate",  # when the epoch ended
    "best",  # 1 where the epoch's model became best.keras
)
HistoryRow = dict[str, float]
"""One epoch. The same run gives the same rows, to the last digit; speeds are kept apart."""

SPEED_COLUMNS = ("epoch", "images_per_second", "seconds")  # without validation


@dataclass(frozen=True)
class RunDetails:
    """What run.json tells.

    Attributes:
        network: its name.
        shortcut: the shortcut option that replaced the network's own: "A", "B", "C" or None.
        data: the source's name.
        class_names: in the order of the model's outputs.
        image_size: side of the images that the network takes, in pixels.
        recipe: how it is trained.
        precision: policy and XLA, and why, in one line.
        versions: of Python and the packages that matter.
        started: date and time, ISO 8601 with the zone.
        fingerprint: of the data, see `checks.CheckedSource`.
        weights: that training started from; None for random ones.
        preprocessing, bn_epsilon: of the network: those of the weights that it started from, or
            its own; None of a network that a builder made.
        skip_bad_images: whether bad images were left out; skipped.csv tells which.
        data_notes: lines on files of the data that were not read, and on images that look odd.
        machine: that trained first, in words; None in runs of earlier versions.
        finished: whether all epochs are done.
    """

    network: str
    shortcut: str | None
    data: str
    class_names: tuple[str, ...]
    image_size: int
    recipe: Recipe
    precision: str
    versions: dict[str, str]
    started: str
    fingerprint: str
    weights: str | None = None
    preprocessing: Preprocessing | None = None
    bn_epsilon: float | None = None
    skip_bad_images: bool = False
    data_notes: tuple[str, ...] = ()
    machine: str | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        if self.image_size < 1 or not self.class_names:
            raise InputError(
                "image_size or class_names is out of range",
                received=f"{self.image_size} pixels, {len(self.class_names)} classes",
                accepted="1 or more",
            )


class Run:
    """A run folder on disk."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def best_model(self) -> Path:
        return self.folder / "best.keras"

    @property
    def last_model(self) -> Path:
        return self.folder / "last.keras"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def events(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def recipe(self) -> Path:
        return self.folder / recipes.FILE

    @property
    def exists(self) -> bool:
        return self._details.exists()

    @property
    def _details(self) -> Path:
        return self.folder / "run.json"

    @property
    def _history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def _speeds(self) -> Path:
        return self.folder / "speed.csv"

    def make_folder(self) -> None:
        """Makes the folder, if there is none.

        Raises:
            InputError: it cannot be made or written.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(
                "the run folder is a file",
                received=self.folder,
                accepted="a folder, or a path where nothing is yet",
            )
        make_folder(self.folder, FOLDER)

    def check_writable(self) -> None:
        """Raises InputError if the folder, or one that is missing, cannot be written."""
        check_writable(self.folder, FOLDER)

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other processes from training into the folder while inside, see `files.locked`."""
        return locked(self.folder, "training into")

    def create(self, details: RunDetails) -> None:
        """Makes the folder and writes run.json.

        Raises:
            InputError: the folder cannot be written, or holds other things.
        """
        self.make_folder()
        try:
            if any(not path.name.startswith(PARTIAL) for path in self.folder.iterdir()):
                raise InputError(
                    "the run folder holds files of something else",
                    received=self.folder,
                    accepted="a new or an empty folder",
                )
            self.write_details(details)
        except OSError as error:
            raise unwritable(self.folder, FOLDER, error.strerror) from error

    def set_aside(self) -> Path:
        """Renames the folder to the first free <folder>.old-<n>, so that the run can start over."""
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
            number += 1
        try:
            return self.folder.rename(aside)
        except OSError as error:
            raise InputError(
                "the run folder cannot be moved aside",
                received=f"{self.folder} ({error.strerror})",
                accepted="a folder whose parent is writable, or another run folder (--run)",
            ) from error

    def remove_partial(self) -> None:
        """Removes files that a killed process was writing."""
        remove_partial(self.folder)

    def remove_checkpoints(self) -> None:
        """Removes what only an unfinished run needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def write_details(self, details: RunDetails) -> None:
        """Writes run.json, and recipe.toml where there is none: a user may be editing it."""
        content = {"format": FORMAT_VERSION, **asdict(details)}
        write_text(self._details, json.dumps(content, indent=2) + "\n")
        if not self.recipe.exists():
            write_text(self.recipe, recipes.write(details.recipe))

    def read_details(self) -> RunDetails:
        """Reads run.json.

        Raises:
            InputError: there is no run, or its file is damaged or of a later format.
        """
        if not self.folder.is_dir():
            raise InputError(
                "no such run folder",
                received=self.folder,
                accepted=f"an existing run folder{did_you_mean_beside(self.folder)}",
            )
        try:
            content = structured.read_format(self._details, [FORMAT_VERSION], DETAILS_ACCEPTED)
        except FileNotFoundError as error:
            raise InputError(
                "this is not a run folder",
                received=f"{self.folder} ({self._details.name} is missing)",
                accepted="a folder that train wrote",
            ) from error
        del content["format"]
        return structured.convert(content, RunDetails, self._details, DETAILS_ACCEPTED)

    def write_history(self, rows: Sequence[HistoryRow]) -> None:
        _write_table(self._history, HISTORY_COLUMNS, rows)

    def read_history(self) -> list[HistoryRow]:
        """The rows of history.csv, none if no epoch has ended.

        Raises:
            InputError: the file is damaged.
        """
        rows = _read_table(self._history, HISTORY_COLUMNS)
        counted = [row["epoch"] for row in rows] == [*range(1, len(rows) + 1)]
        # Of the first epoch, nothing else can be better.
        if rows and not (counted and rows[0]["best"] and {row["best"] for row in rows} <= {0, 1}):
            raise _damaged(self._history, "columns epoch and best")
        return rows

    def write_speeds(self, rows: Sequence[HistoryRow]) -> None:
        _write_table(self._speeds, SPEED_COLUMNS, rows)

    def read_speeds(self) -> list[HistoryRow]:
        """The rows of speed.csv, none if no epoch has ended.

        Raises:
            InputError: the file is damaged.
        """
        return _read_table(self._speeds, SPEED_COLUMNS)

    def write_skipped(self, images: Sequence[BadImage]) -> Path:
        """Writes skipped.csv, one row an image, and tells its path."""
        path = self.folder / "skipped.csv"
        _write_table(path, ("path", "reason"), [asdict(image) for image in images])
        return path

    def write_example(self, class_name: str, image: np.ndarray) -> None:
        """Keeps an image (height, width, 3) uint8 as examples/<class_name>.png.

        A name that no file can have is changed, and told apart from others by a checksum.
        """
        examples = self.folder / "examples"
        examples.mkdir(exist_ok=True)
        write_file(examples / f"{file_name(class_name)}.png", Image.fromarray(image).save)


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, float]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            return [{name: float(row[name]) for name in columns} for row in reader]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(
        f"{path.name} is damaged", received=f"{path} ({reason})", accepted=DETAILS_ACCEPTED
    )


def best_row(history: Sequence[HistoryRow]) -> HistoryRow:
    """The row of the epoch whose model is best.keras: the last that was the best when it ended."""
    return [row for row in history if row["best"]][-1]
