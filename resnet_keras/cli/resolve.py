"""A trained model by its run folder or its file, and the images to show it."""

from dataclasses import dataclass
from pathlib import Path

import keras

from resnet_keras.data import sources
from resnet_keras.data.checks import CheckedSource, check
from resnet_keras.errors import InputError
from resnet_keras.evaluation.checks import check_model, check_subject
from resnet_keras.evaluation.evaluate import data_of, load_run_model
from resnet_keras.networks.loading import load_model
from resnet_keras.networks.models import view_of
from resnet_keras.runs.run import Run


@dataclass(frozen=True)
class Subject:
    """What is to be exported.

    Attributes:
        model: a classifier.
        data: labelled images of the model's classes, in the model's order.
        description: of the model, in a line.
    """

    model: keras.Model
    data: CheckedSource
    description: str


def find(path: Path, data: str | None = None) -> Subject:
    """The model of a run folder, or of a .keras file with the data that `data` spells.

    Raises:
        InputError: there is no such model, it takes images of any size, or it tells other classes
            apart than the data has.
    """
    check_subject(path, data)
    if data is not None:
        return _of_file(path, data)
    run = Run(path)
    details = run.read_details()
    unfinished = ""
    if not details.finished:
        epochs = f"{len(run.read_history())} of {details.recipe.epochs} epochs"
        unfinished = f", unfinished after {epochs}"
    return Subject(
        load_run_model(run),
        data_of(run),
        f"{details.network} trained on {_public(details.data)}, "
        f"{len(details.class_names)} classes"
        f"{unfinished}",
    )


def classifier(path: Path) -> tuple[keras.Model, tuple[str, ...]]:
    """A run's best model, or that of a .keras file, and the names of its classes.

    Raises:
        InputError: there is no such model, it does not know its classes, or takes images of any
            size.
    """
    check_model(path)
    if path.suffix != ".keras":
        run = Run(path)
        return load_run_model(run), run.read_details().class_names
    model = load_model(path)
    view_of(model)
    class_names = getattr(model.layers[-1], "class_names", None)
    if class_names is None:
        raise InputError(
            "the model file has no class names",
            received=path,
            accepted="a run folder, or a model that train or convert wrote "
            "(convert --class-names adds the names)",
        )
    return model, tuple(class_names)


def _public(data: str) -> str:
    """The data's name for files that are shipped, which do not tell where on a disk it is."""
    return Path(data).name if Path(data).is_absolute() else data


def _of_file(path: Path, data: str) -> Subject:
    model = load_model(path)
    view_of(model)
    source = _in_order_of(model, check(sources.find(data), False), path)
    description = f"{model.name} for {_public(source.name)}, {len(source.class_names)} classes"
    return Subject(model, source, description)


def _in_order_of(model: keras.Model, source: CheckedSource, path: Path) -> CheckedSource:
    """The images with labels as the model numbers its classes, which it may know by name."""
    names = getattr(model.layers[-1], "class_names", None) or source.class_names
    outputs = model.output_shape[-1]
    missing = sorted(set(names) - set(source.class_names))
    unknown = sorted(set(source.class_names) - set(names))
    if missing or unknown or outputs not in (len(names), len(names) - 1):
        differences = [
            *([f"only the model has {', '.join(missing)}"] if missing else []),
            *([f"only the data have {', '.join(unknown)}"] if unknown else []),
        ]
        raise InputError(
            "the model has other classes than the data",
            received=f"{outputs} outputs of {path}, {len(source.class_names)} classes in "
            f"{source.name}{''.join(f'; {one}' for one in differences)}",
            accepted=f"data of the model's classes: {', '.join(names)}",
        )
    return source.in_order(tuple(names))
