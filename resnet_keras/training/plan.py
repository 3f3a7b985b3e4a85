"""The plan of a training: what it will be, as far as that depends on no framework and no disk."""

import dataclasses
import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from resnet_keras.architectures import Architecture
from resnet_keras.data.checks import CheckedSource
from resnet_keras.errors import InputError
from resnet_keras.files.atomic import check_writable
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import Run, RunDetails

OF_EPOCHS = {"epochs", "warmup_epochs", "head_epochs"}  # change together, see Recipe.in_epochs


def planned(
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


def check_run_folder(run: Run, start_over: bool) -> None:
    """Raises InputError if the folder cannot be written that training is going to write."""
    if run.exists and start_over:
        check_writable(run.folder.parent, "the folder of the run folder")
    elif not run.exists or not run.read_details().finished:
        run.check_writable()


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


def _told(name: str, there: Any, here: Any) -> str:
    if name == "fingerprint":
        return "images were added, removed or changed since"
    if here is None:
        return f"{name} is {there!r} there and not given here"
    if there is None:
        return f"{name} was not given there and is {here!r} here"
    return f"{name} is {there!r} there and {here!r} here"
