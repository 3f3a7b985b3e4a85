"""The plan of a training: what is asked for, checked against itself, the images and the run folder.

Nothing here imports a framework, and making a plan touches no file.
"""

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from resnet_keras.architectures import Architecture, find
from resnet_keras.data.checks import CheckedSource
from resnet_keras.errors import InputError
from resnet_keras.files.atomic import check_writable
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import Run, RunDetails
from resnet_keras.training.precision import Machine, Precision, decide

if TYPE_CHECKING:
    from resnet_keras.networks.loading import WeightsSource
    from resnet_keras.networks.models import Builder

OF_EPOCHS = {"epochs", "warmup_epochs", "head_epochs"}  # change together, see Recipe.in_epochs
START_OVER = "--start-over (START_OVER=1 with make), which moves this run aside"


@dataclass(frozen=True)
class Request:
    """What a caller asks to train; the arguments are those of `train`.

    Raises:
        InputError: there is no such network, or the arguments do not fit each other.
    """

    network: str
    recipe: Recipe
    shortcut: str | None = None
    builder: "Builder | None" = None
    weights: "WeightsSource | None" = None
    skip_bad_images: bool = False

    def __post_init__(self) -> None:
        self.recipe.check_weights(self.weights)
        if self.weights is not None and self.builder is not None:
            raise InputError(
                "weights need a network that has a name",
                received="weights and a builder",
                accepted="one of the two",
            )
        _ = self.architecture

    @property
    def architecture(self) -> Architecture | None:
        """The architecture of a named network; None of a network that a builder makes."""
        return None if self.builder else find(self.network, self.shortcut)

    @property
    def weights_name(self) -> str | None:
        """The path or name of the weights, as run.json tells it."""
        if self.weights is None:
            return None
        if isinstance(self.weights, str | PathLike):
            return str(self.weights)
        return f"model {self.weights.name}"


@dataclass(frozen=True)
class Plan:
    """A training that is possible as far as its arguments and images tell.

    Attributes:
        request: what was asked for.
        data: the checked images.
        details: content of run.json.
        precision: None where the machine is not known.
    """

    request: Request
    data: CheckedSource
    details: RunDetails
    precision: Precision | None = None


def make_plan(request: Request, data: CheckedSource, machine: Machine | None = None) -> Plan:
    """Plans a training.

    Args:
        request: what is asked for.
        data: checked, labelled images.
        machine: that computes; None leaves the precision open.

    Raises:
        InputError: the recipe does not fit the images, the network or the machine.
    """
    architecture, recipe = request.architecture, request.recipe
    largest = architecture.input_size if architecture else data.image_size
    image_size = recipe.image_size or min(largest, data.image_size)
    if architecture:
        architecture.check_sides(image_size, image_size)
    recipe.augmentation.check_image_size(image_size)
    precision = decide(machine, recipe.precision) if machine else None
    details = RunDetails(
        network=request.network,
        shortcut=request.shortcut,
        data=data.name,
        class_names=data.class_names,
        image_size=image_size,
        recipe=recipe,
        precision=str(precision or recipe.precision),
        versions={},
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        fingerprint=data.fingerprint,
        weights=request.weights_name,
        skip_bad_images=request.skip_bad_images,
        data_notes=data.notes,
        machine=str(machine) if machine else None,
    )
    return Plan(request, data, details, precision)


def check_same(run: Run, asked: RunDetails) -> RunDetails:
    """Returns the details of the run on disk, if it is the one that is asked for.

    Raises:
        InputError: it is another one.
    """
    found = run.read_details()
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
            accepted=f"{elsewhere}, or {START_OVER}",
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
    values = ("network", "shortcut", "data", "class_names", "image_size", "weights", "fingerprint")
    for name in values:
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
