"""The run folder: everything that one training leaves behind, in a versioned format.

    run.json          what was trained, on what, how, with which versions
    history.csv       one row an epoch
    best.keras        the model that validates best
    last.keras        the model and its optimizer after the last finished epoch
    evaluation.json   error on the test images
    examples/         a test image of every class
    report.html       curves, confusion matrix and worst mistakes
    tensorboard/      events

Every file is written beside its place and renamed into it: a killed or full machine leaves the old
one whole.
"""

import csv
import dataclasses
import io
import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_keras.errors import InputError
from resnet_keras.recipes import Recipe

FORMAT_VERSION = 1
PARTIAL = ".partial-"  # what a killed process may leave behind
VERSIONED_PACKAGES = ("resnet-keras", "keras", "numpy")

HISTORY_COLUMNS: tuple[str, ...] = (
    "epoch",
    "loss",
    "top1_error",
    "top5_error",
    "validation_loss",
    "validation_top1_error",
    "validation_top5_error",
    "learning_rate",  # when the epoch ended
    "images_per_second",
    "seconds",  # without validation
    "best",  # 1 where the epoch's model became best.keras
)
HistoryRow = dict[str, float]


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
    finished: bool = False


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
    def events(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

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
    def _evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    def create(self, details: RunDetails) -> None:
        """Makes the folder and writes run.json.

        Raises:
            InputError: the folder cannot be written, or holds other things.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"the run folder is a file. Received: {self.folder}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(not path.name.startswith(PARTIAL) for path in self.folder.iterdir()):
                raise InputError(
                    "the run folder holds files of something else. "
                    f"Received: {self.folder}; accepted: a new or an empty folder"
                )
            self.write_details(details)
        except OSError as error:
            raise InputError(
                f"the run folder cannot be written. Received: {self.folder} ({error.strerror})"
            ) from error

    def set_aside(self) -> Path:
        """Renames the folder to the first free <folder>.old-<n>, so that the run can start over."""
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
            number += 1
        try:
            return self.folder.rename(aside)
        except OSError as error:
            raise InputError(
                f"the run folder cannot be moved aside. Received: {self.folder} ({error.strerror})"
            ) from error

    def write_details(self, details: RunDetails) -> None:
        content = {"format": FORMAT_VERSION, **dataclasses.asdict(details)}
        write_text(self._details, json.dumps(content, indent=2) + "\n")

    def read_details(self) -> RunDetails:
        """Reads run.json.

        Raises:
            InputError: there is no run, or its file is damaged or of a later format.
        """
        if not self.folder.is_dir():
            raise InputError(f"no such run folder. Received: {self.folder}")
        content = self._read_json(self._details)
        found = content.pop("format", None)
        if found != FORMAT_VERSION:
            raise InputError(
                f"{self._details} is of another format. "
                f"Received: {found}; accepted: {FORMAT_VERSION}"
            )
        try:
            recipe = content["recipe"]
            recipe["decay_at"] = tuple(recipe["decay_at"])
            content["recipe"] = Recipe(**recipe)
            content["class_names"] = tuple(content["class_names"])
            return RunDetails(**content)
        except (KeyError, TypeError) as error:
            raise InputError(f"{self._details} is damaged ({error})") from error

    def write_history(self, rows: Sequence[HistoryRow]) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._history, table.getvalue())

    def read_history(self) -> list[HistoryRow]:
        """The rows of history.csv, none if no epoch has ended.

        Raises:
            InputError: the file is damaged.
        """
        if not self._history.exists():
            return []
        try:
            with self._history.open(newline="") as file:
                reader = csv.DictReader(file, strict=True)
                return [{name: float(row[name]) for name in HISTORY_COLUMNS} for row in reader]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(f"{self._history} is damaged ({error})") from error

    def write_evaluation(self, content: dict[str, Any]) -> None:
        write_text(self._evaluation, json.dumps(content, indent=2) + "\n")

    def read_evaluation(self) -> dict[str, Any] | None:
        """What evaluation.json tells, or None if the run was not evaluated yet."""
        return self._read_json(self._evaluation) if self._evaluation.exists() else None

    def write_example(self, class_name: str, image: np.ndarray) -> None:
        """Keeps an image (height, width, 3) uint8 as examples/<class_name>.png."""
        examples = self.folder / "examples"
        examples.mkdir(exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", class_name)
        write_file(examples / f"{name}.png", Image.fromarray(image).save)

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise InputError(f"not a run folder: {path} is missing") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is damaged or cannot be read ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged (not a JSON object)")
        return content


def best_row(history: Sequence[HistoryRow]) -> HistoryRow:
    """The row of the epoch whose model is best.keras: the last that was the best when it ended."""
    return [row for row in history if row["best"]][-1]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run depends on, the backend's included."""
    import keras

    backend = keras.backend.backend()
    packages = (*VERSIONED_PACKAGES, backend)
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` make a file beside `path`, then renames it into place.

    The name beside it keeps its ending, which tells Keras the format.
    """
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_file(path, lambda partial: partial.write_text(text))
