"""Trains what a study needs, goes on where it was stopped, and writes its page."""

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

import keras

from resnet_keras.data import sources
from resnet_keras.errors import DivergedError, InputError, check_arguments
from resnet_keras.evaluation.evaluate import evaluate_run, read_evaluation
from resnet_keras.files.atomic import make_folder
from resnet_keras.runs.run import Run
from resnet_keras.studies import SEEDS, estimate, find
from resnet_keras.studies.page import write_page
from resnet_keras.studies.schedules import PER_CLASS
from resnet_keras.studies.study import Result, Results, Scale, Setting, Study, Training
from resnet_keras.training.train import train

HOME = Path("runs", "studies")


@check_arguments
def reproduce(
    study: str,
    data: str = "digits",
    scale: Scale = "quick",
    seeds: Annotated[int | None, SEEDS] = None,
    folder: str | os.PathLike[str] | None = None,
    verbose: int | str = 0,
) -> Path:
    """Runs a study of the papers, or goes on with one that was stopped.

    Trainings that are finished are not repeated; studies of the same data and scale share them.
    Several studies may run at once: who comes to a training that another process is at is told so.

        reproduce("degradation")

    Args:
        study: its name in `STUDIES`.
        data: labelled images, as --data spells them.
        scale: "quick" takes minutes on a CPU, with 1,000 training images of each class at most;
            "full" is what the papers did.
        seeds: how many times every network is trained; the study's own number if None.
        folder: where runs and pages go; runs/studies/DATA-SCALE if None.
        verbose: of the trainings, see `train`; 0 prints no progress.

    Returns:
        The folder of the study's page: README.md, index.html and its pictures as PNG and SVG.

    Raises:
        InputError: there is no such study or data, or the folder holds other runs.
        TrainingError: see `train`.
        Interrupted: see `train`; the same call goes on.
    """
    chosen = find(study)
    if scale not in get_args(Scale):
        raise InputError("unknown scale", received=repr(scale), accepted=", ".join(get_args(Scale)))
    setting = _setting(scale, data, seeds or chosen.seeds[scale])
    home = Path(folder or HOME / f"{sources.slug(data)}-{scale}")
    if Run(home).exists:
        raise InputError(
            "the folder is that of a run",
            received=home,
            accepted="a folder that holds studies, or a new one",
        )
    make_folder(home, "the study's folder")
    trainings = [
        training for seed in range(setting.seeds) for training in chosen.trainings(setting, seed)
    ]
    place = home / study
    _print_plan(study, chosen, setting)
    with _without_warnings():
        results = []
        for number, training in enumerate(trainings, start=1):
            print(f"\n{study}, training {number} of {len(trainings)}: {training.name}", flush=True)
            results.append(_result(training, setting.data, home, verbose))
        command = ["resnet-keras", "reproduce", study, "--data", data, "--scale", scale]
        command += ["--seeds", str(setting.seeds)]
        command += ["--output", str(folder)] if folder else []
        write_page(place, shlex.join(command), chosen, Results(setting, results))
    return place


def _setting(scale: Scale, data: str, seeds: int) -> Setting:
    data = sources.at_most(data, PER_CLASS) if scale == "quick" else data
    source = sources.find(data)
    counts = [len(source.load(split)) for split in ("train", "validation", "test")]
    return Setting(scale, data, source.image_size, seeds, *counts)


def _print_plan(name: str, study: Study, setting: Setting) -> None:
    """Prints the claims before anything is trained, and how long the study may take."""
    print(f"{name}: the claims that the page judges")
    for claim in study.claims(setting):
        print(f"- {claim.text} ({claim.comparison}, {claim.counts})")
    told = (
        f"{estimate.in_words(minutes)} with {cores}"
        for cores, minutes in estimate.minutes(study, setting, setting.seeds).items()
    )
    print(f"estimated time on two idle cores: {', '.join(told)}", flush=True)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Inside, TensorFlow does not warn of many graphs: every network is one of its own."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _result(training: Training, data: str, home: Path, verbose: int | str) -> Result:
    run = Run(home / training.name)
    keras.backend.clear_session()
    try:
        train(
            training.network,
            data,
            training.recipe,
            run,
            training.shortcut,
            verbose=verbose,
        )
        evaluation = read_evaluation(run) or evaluate_run(run, verbose)
    except DivergedError as error:
        print(f"diverged: {error}", flush=True)
        evaluation = None
    seconds = sum(row["seconds"] for row in run.read_speeds())
    return Result(training, run, run.read_history(), evaluation, seconds)
