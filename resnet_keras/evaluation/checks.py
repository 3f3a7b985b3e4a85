"""Checks of what is to be measured, before any framework starts."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from resnet_keras.architectures import find
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.evaluation.protocols import NAMES, Protocol
from resnet_keras.evaluation.results import read_evaluation
from resnet_keras.runs.run import Run, RunDetails

MODEL_FILES = (".keras",)


def check_model(path: Path) -> None:
    """Checks that there is a run folder or a .keras file at a path.

    Raises:
        InputError: there is none, or what is there is something else.
    """
    if path.suffix in MODEL_FILES:
        if not path.is_file():
            raise InputError(
                "no such model file",
                received=path,
                accepted=f"an existing .keras file{did_you_mean_beside(path)}",
            )
        _check_whole(path)
        return
    if Run(path).exists or not path.exists():
        check_measurable(Run(path))
        return
    if (path / "parity.json").exists():
        run = f", {path.parent}" if Run(path.parent).exists else ""
        raise InputError(
            "this is an export, and no model to work with",
            received=path,
            accepted=f"the run or the .keras file that it was made of{run}",
        )
    raise InputError(
        "this path holds no model",
        received=path,
        accepted="a run folder or a .keras file (of weights, resnet-keras convert "
        f"{shlex.quote(str(path))} --network NAME -o FILE.keras makes one)",
    )


def check_subject(path: Path, data: str | None) -> None:
    """Checks the model at a path, and that its images are named where it does not know them.

    Args:
        path: a run folder or a .keras file.
        data: the images of a .keras file, as --data spells them.

    Raises:
        InputError: there is no such model, or data are missing or superfluous.
    """
    if path.suffix in MODEL_FILES and data is None:
        raise InputError(
            "a model file does not name its data",
            received=f"{path} without --data",
            accepted="--data, spelled as for train",
        )
    check_model(path)
    if path.suffix not in MODEL_FILES and data is not None:
        trained_on = Run(path).read_details().data
        raise InputError(
            "a run has its own data",
            received=f"--data {data}, but {path} was trained on {trained_on}",
            accepted="the run without --data, or its best.keras with --data",
        )


def check_readable(run: Run, besides: Protocol) -> None:
    """Finds out whether a report can be made of a run once it is measured.

    Args:
        run: the run folder.
        besides: the protocol that it is to be measured by, whose evaluation is replaced.

    Raises:
        InputError: the history, the speeds or another evaluation are damaged.
    """
    details, rows = run.read_details(), run.read_history()
    if details.finished and len(rows) != details.recipe.epochs:
        raise InputError(
            "history.csv is damaged",
            received=f"{run.folder} ({len(rows)} of {details.recipe.epochs} epochs)",
            accepted="the file that train wrote",
        )
    run.read_speeds()
    for name in NAMES:
        if name != besides.name:
            read_evaluation(run, name)


def check_distinct(runs: Sequence[Run]) -> None:
    """Raises InputError if two of the runs are in the same folder."""
    seen: dict[Path, Run] = {}
    for run in runs:
        place = run.folder.resolve()
        if place in seen:
            raise InputError(
                "a run is named twice",
                received=f"{seen[place]} and {run}",
                accepted="different run folders",
            )
        seen[place] = run


def check_measurable(run: Run, protocol: Protocol | None = None) -> RunDetails:
    """The details of a run, if it has a model and that can be tested so, as far as they tell.

    Raises:
        InputError: there is no such run, it has no model, or a scale is too small.
    """
    details = run.read_details()
    if not run.best_model.exists():
        if run.read_history():
            raise InputError(
                "the run's model is missing",
                received=f"no {run.best_model}",
                accepted="a run with its model, or train again (--start-over moves the run aside)",
            )
        raise InputError(
            "no epoch of this run has ended yet",
            received=run,
            accepted="a run with one finished epoch or more",
        )
    _check_whole(run.best_model)
    if protocol is not None and protocol.scales is not None:
        protocol.check(find(details.network, details.shortcut))
    return details


def _check_whole(model: Path) -> None:
    """Raises InputError if a .keras file is none or damaged."""
    # With h5py, which --help need not wait for.
    from resnet_keras.weights.archive import read_config

    read_config(model)
