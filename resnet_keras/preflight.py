"""Checks of what is asked for that need no framework: refusals come before TensorFlow starts."""

import dataclasses
import shlex
from collections.abc import Iterator
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from resnet_keras.architectures import Architecture, find
from resnet_keras.data.checks import CheckedSource
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.evaluation.protocols import NAMES, Protocol
from resnet_keras.evaluation.results import read_evaluation
from resnet_keras.files.atomic import check_writable
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import Run, RunDetails
from resnet_keras.weights.published import IMAGENET, PUBLISHED

OF_EPOCHS = {"epochs", "warmup_epochs", "head_epochs"}  # change together, see Recipe.in_epochs
MODEL_FILES = (".keras",)
WEIGHTS_FILES = (".keras", ".safetensors")  # that are written


def check_weights(source: str | PathLike[str], network: str) -> None:
    """Checks that there are weights of a network at a path or, by the name "imagenet", published.

    Raises:
        InputError: there are none.
    """
    if source == IMAGENET:
        if network not in PUBLISHED:
            raise InputError(
                "no weights on ImageNet are published of this network",
                received=repr(network),
                accepted=", ".join(PUBLISHED),
            )
        return
    if not Path(source).exists():
        raise InputError(
            "no such weights",
            received=source,
            accepted=f"a file, a run folder or {IMAGENET}{did_you_mean_beside(Path(source))}",
        )


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


def export_folder(path: Path) -> Path:
    """Where the export of a run folder or of a .keras file goes by default."""
    return path.with_name(f"{path.stem}-export") if path.suffix in MODEL_FILES else path / "export"


def check_run_folder(run: Run, start_over: bool) -> None:
    """Raises InputError if the folder cannot be written that training is going to write."""
    if run.exists and start_over:
        check_writable(run.folder.parent, "the folder of the run folder")
    elif not run.exists or not run.read_details().finished:
        run.check_writable()


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
    if protocol is not None and protocol.scales is not None:
        protocol.check(find(details.network, details.shortcut))
    return details


def check_conversion(source: Any, network: str, path: Path, image_size: int | None) -> None:
    """Checks what `conversion.convert` is asked for; arguments are its.

    Raises:
        InputError: there is no such network or source, the file is of no kind that is written, or
            the network cannot take images of this size.
    """
    if path.suffix not in WEIGHTS_FILES:
        raise InputError(
            "weights cannot be converted to this kind of file",
            received=path,
            accepted=f"a {' or '.join(WEIGHTS_FILES)} file",
        )
    architecture = find(network)
    if isinstance(source, str | PathLike):
        check_weights(source, network)
    if image_size is not None:
        architecture.check_sides(image_size, image_size)


def training(
    network: str,
    architecture: Architecture | None,
    data: CheckedSource,
    recipe: Recipe,
    *,
    shortcut: str | None = None,
    weights: str | None = None,
    skip_bad_images: bool = False,
) -> RunDetails:
    """The details of a training that is asked for, as far as they depend on no framework.

    Args:
        network: its name.
        architecture: of the network; None of one that a builder makes.
        data: labelled images.
        recipe: how to train.
        shortcut: option that replaced the network's own.
        weights: the name of those to start from.
        skip_bad_images: whether bad images are left out.

    Raises:
        InputError: the recipe does not fit the images or the network.
    """
    largest = architecture.input_size if architecture else data.image_size
    image_size = recipe.image_size or min(largest, data.image_size)
    if architecture:
        architecture.check_sides(image_size, image_size)
    recipe.augmentation.check_image_size(image_size)
    return RunDetails(
        network=network,
        shortcut=shortcut,
        data=data.name,
        class_names=data.class_names,
        image_size=image_size,
        recipe=recipe,
        precision=recipe.precision,
        versions={},
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        fingerprint=data.fingerprint,
        weights=weights,
        skip_bad_images=skip_bad_images,
        data_notes=data.notes,
    )


def check_same(run: Run, asked: RunDetails) -> RunDetails:
    """The details of the run on disk, if it is the one that is asked for.

    Raises:
        InputError: it is another one, or its checkpoints are of an earlier version.
    """
    found = run.read_details()
    if not found.finished and found.fingerprint is None:
        raise InputError(
            "the checkpoints of an earlier version cannot be used",
            received=run,
            accepted="--start-over (START_OVER=1 with make), which moves this run aside",
        )
    differing = {name: (there, here) for name, there, here in pairs(found, asked) if there != here}
    if differing:
        elsewhere = "another folder (--run, or RUN= with make)"
        if "epochs" in differing and differing.keys() <= OF_EPOCHS:
            differing = {"epochs": differing["epochs"]}  # the others follow from it
            weights = shlex.join(["--weights", str(run)])
            elsewhere = f"training on from its weights in another folder ({weights} --run …)"
        told = [_told(name, there, here) for name, (there, here) in differing.items()]
        raise InputError(
            "the run folder holds another run",
            received=f"{run} ({', '.join(told)})",
            accepted=f"{elsewhere}, or --start-over (START_OVER=1 with make), "
            "which moves this run aside",
        )
    return found


def _told(name: str, there: Any, here: Any) -> str:
    if name == "fingerprint":
        return "images were added, removed or changed since"
    if here is None:
        return f"{name} is {there!r} there and not given here"
    if there is None:
        return f"{name} was not given there and is {here!r} here"
    return f"{name} is {there!r} there and {here!r} here"


def pairs(found: RunDetails, asked: RunDetails) -> Iterator[tuple[str, Any, Any]]:
    """What makes two trainings the same: names, and the values of both."""
    # A finished run of an earlier version knows nothing of fingerprints.
    fingerprint = ("fingerprint",) if found.fingerprint else ()
    values = ("network", "shortcut", "data", "class_names", "image_size", "weights")
    for name in (*values, *fingerprint):
        yield name, getattr(found, name), getattr(asked, name)
    for field in dataclasses.fields(Recipe):
        if field.name != "image_size":  # the run's own tells what it came to
            yield field.name, getattr(found.recipe, field.name), getattr(asked.recipe, field.name)
