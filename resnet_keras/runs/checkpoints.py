"""Snapshots of a training run, from which it goes on exactly where it was."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.files import structured
from resnet_keras.files.atomic import read_arrays, write_file

CHECKPOINT_STEPS = 500  # between two, where nothing else is asked for
NOTES = "notes"


@dataclass(frozen=True)
class Checkpoint:
    """What a run has come to after a training step.

    Attributes:
        step: how many steps are done, from the run's first on.
        arrays: the value of every variable, by name.
        notes: whatever else continuing needs, as JSON holds it.
    """

    step: int
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run: a folder of step-<number>.npz.

    A new one is written beside its place, read back and renamed; only then all but it and the last
    whole one before it go. So there is a whole one at every moment, whenever the process is killed.

    Args:
        folder: made if missing.
        is_writer: False in a process beside the one that writes.
    """

    def __init__(self, folder: Path, is_writer: bool = True) -> None:
        self.folder = folder
        self.is_writer = is_writer
        self._last_whole: int | None = None  # the step of the one last read or written

    @property
    def last(self) -> str:
        """Where the last whole checkpoint is, for messages."""
        step = "none" if self._last_whole is None else f"step {self._last_whole}"
        return f"{step}, in {self.folder}"

    def remember(self, step: int) -> None:
        """Takes note of a checkpoint that another process writes."""
        self._last_whole = step

    def write(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint and the whole one before it, and deletes all others.

        Raises:
            OSError: it cannot be written, or not be read back; the earlier ones are then untouched.
        """
        self.folder.mkdir(exist_ok=True)
        content = {
            **checkpoint.arrays,
            NOTES: np.frombuffer(json.dumps(checkpoint.notes).encode(), np.uint8),
        }

        def write(partial: Path) -> None:
            np.savez(partial, allow_pickle=False, **content)
            with zipfile.ZipFile(partial) as archive:
                if damaged := archive.testzip():
                    raise OSError(f"{damaged} was not written as it is")

        write_file(self._path(checkpoint.step), write)
        for step in {*self.steps()} - {checkpoint.step, self._last_whole}:
            with suppress(OSError):  # what cannot be deleted only takes room
                self._path(step).unlink()
        self._last_whole = checkpoint.step

    def steps(self) -> list[int]:
        """The steps of which there are checkpoints, damaged ones included, in ascending order."""
        names = (path.name for path in self.folder.glob("step-*.npz"))
        return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)

    def read_latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; those that are not are named and passed over."""
        for step in reversed(self.steps()):
            try:
                checkpoint = self._read(step)
            except _UNREADABLE as error:
                print(f"{self._path(step)} is damaged ({error}); trying the checkpoint before it")
            else:
                self._last_whole = step
                return checkpoint
        return None

    def _read(self, step: int) -> Checkpoint:
        path = self._path(step)
        arrays = read_arrays(path)
        notes = arrays.pop(NOTES).tobytes()
        return Checkpoint(
            step, arrays, structured.parse(notes, dict[str, Any], path, "what train wrote")
        )

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.npz"


_NAME = re.compile(r"step-(\d{9,})\.npz")
_UNREADABLE = (OSError, ValueError, KeyError)


def capture(model: Any) -> dict[str, np.ndarray]:
    """The values of everything that training changes.

    These are the weights, the moving statistics, the states of random number generators, the
    optimizer with its averages, accumulators and loss scale, and the metrics of the running epoch.

    Args:
        model: a compiled Keras model.
    """
    return {name: np.asarray(variable) for name, variable in _variables(model)}


def restore(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a model of the same network, compiled alike, the values that `capture` found.

    Raises:
        ValueError: they are another model's.
    """
    variables = dict(_variables(model))
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: value.shape for name, value in arrays.items()}
    if expected != found:
        differing = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise ValueError(f"the checkpoint is another model's: {', '.join(differing[:3])} differ")
    for name, value in arrays.items():
        variables[name].assign(value)


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    # Numbered, since names are not unique (those of seed generators, say), and the numbers of
    # layers that Keras puts into names depend on what was built before.
    for kind, variables in (
        ("model", model.variables),
        ("optimizer", model.optimizer.variables),
        ("metric", model.metrics_variables),
    ):
        for number, variable in enumerate(variables):
            yield f"{kind}/{number:05d}/{variable.name}", variable
