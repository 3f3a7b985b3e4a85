"""HTML reports of a run or an ensemble: accuracy, curves, mistakes, data, network, commands."""

import base64
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from resnet_keras.data.checks import CheckedSource
from resnet_keras.data.splits import Source, Split
from resnet_keras.errors import InputError
from resnet_keras.evaluation import plots
from resnet_keras.evaluation.class_scores import ConfusedPair, Scores, class_scores, confused_pairs
from resnet_keras.evaluation.commands import next_commands, training_command
from resnet_keras.evaluation.ensembles import read_ensemble
from resnet_keras.evaluation.evaluate import (
    ClassError,
    ErrorRates,
    Evaluation,
    data_of,
    load_run_model,
    read_evaluations,
)
from resnet_keras.evaluation.protocols import SINGLE, says_top5
from resnet_keras.evaluation.report_facts import data_facts, network_facts, title_of
from resnet_keras.evaluation.results import Mistake
from resnet_keras.evaluation.thumbnails import Heat, heats, matrix_url, mistake_urls, samples
from resnet_keras.files import html
from resnet_keras.files.atomic import write_text
from resnet_keras.runs.run import Run, RunDetails, best_row

SHOWN_MISTAKES = 24
SHOWN_PAIRS = 15
TABLE_CLASSES = 20  # at most, in a confusion matrix with numbers; of more it is a picture
NO_VALUE = "\N{EN DASH}"
MINUTE, HOUR = 60, 3600  # seconds


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of the table of accuracies."""

    title: str
    evaluation: ErrorRates


@dataclasses.dataclass(frozen=True)
class _ClassRow:
    """A row of the table of classes."""

    name: str
    error: ClassError
    scores: Scores


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What a page shows of an evaluation; pictures as data URLs.

    Attributes:
        title: the protocol.
        class_names: in the order of the labels.
        classes: those with test images or predictions, the lowest recall first.
        means: of the scores of all classes.
        pairs: the most confused ones.
        matrix: a picture of the confusion matrix; None where a table shows it.
        mistakes: the worst, with their images; the images are None where they cannot be had.
        heats: Grad-CAM of the worst mistakes.
    """

    title: str
    evaluation: Evaluation
    class_names: Sequence[str]
    classes: list[_ClassRow]
    means: Scores
    pairs: list[ConfusedPair]
    matrix: str | None
    mistakes: list[tuple[Mistake, str | None]]
    heats: Sequence[Heat] = ()


def write_report(run: Run, source: Source | None = None) -> None:
    """Writes the run folder's report.html: one file, pictures inside, that opens offline.

    Where the images cannot be had any more, the report says so and shows all the rest.

    Args:
        run: the run folder.
        source: of the images; None finds it by the name that the run tells.

    Raises:
        InputError: the run folder is damaged.
    """
    details, history, found = run.read_details(), run.read_history(), read_evaluations(run)
    for protocol, evaluation in found:
        _check_classes(str(protocol), evaluation, details.class_names)
    model = load_run_model(run) if history and run.best_model.exists() else None
    data, missing = _data(run, source)
    test = data.splits.get("test") if data else None
    speeds = run.read_speeds()
    _write_page(
        run.report,
        "report.html.j2",
        title=title_of(details),
        details=details,
        recipe=dict(_recipe_rows(details.recipe)),
        command=training_command(run, details),
        next_commands=next_commands(run),
        history=history,
        speeds={row["epoch"]: row["images_per_second"] for row in speeds},
        duration=_duration(sum(row["seconds"] for row in speeds)) if speeds else None,
        best=best_row(history) if history else None,
        curves=_curves(history),
        samples=samples(data.load("train"), details.recipe, details.image_size) if data else (),
        data=data_facts(data) if data else None,
        missing=missing,
        network=network_facts(details, model),
        measured=[
            _measured(
                str(protocol),
                evaluation,
                details,
                test,
                # Other protocols have no single view, which Grad-CAM explains.
                model if protocol.name == SINGLE else None,
            )
            for protocol, evaluation in found
        ],
        top5=says_top5(len(details.class_names)),
    )


def write_ensemble_report(folder: Path, source: Source | None = None) -> Path:
    """Writes report.html into an ensemble's folder, and tells its path.

    Args:
        folder: of the ensemble.
        source: of the test images; None finds it by the name that its first run tells.

    Raises:
        InputError: the folder holds no ensemble or a damaged one, or the data cannot be had.
    """
    ensemble = read_ensemble(folder)
    first = Run(ensemble.members[0].run)
    _check_classes(str(ensemble.protocol), ensemble.evaluation, ensemble.class_names)
    measured = _measured(
        str(ensemble.protocol),
        ensemble.evaluation,
        dataclasses.replace(first.read_details(), class_names=ensemble.class_names),
        data_of(first, source).load("test"),
    )
    page = folder / "report.html"
    _write_page(
        page,
        "ensemble.html.j2",
        ensemble=ensemble,
        measured=measured,
        top5=says_top5(len(ensemble.class_names)),
        rows=[
            *(
                _Row(f"{member.run}, {member.protocol}", member.alone)
                for member in ensemble.members
            ),
            _Row("all together", ensemble.evaluation),
        ],
    )
    return page


def _write_page(path: Path, template: str, **values: object) -> None:
    environment = html.html_templates("resnet_keras.evaluation")
    environment.filters |= {"percent": _percent, "parts": _last_parts, "count": "{:,}".format}
    write_text(path, environment.get_template(template).render(values))


def _percent(fraction: float | None, digits: int = 2) -> str:
    return NO_VALUE if fraction is None else f"{fraction:.{digits}%}"


def _last_parts(path: str) -> tuple[str, ...]:
    """The names of a file's folder, which often is the class, and of the file."""
    return Path(path).parts[-2:]


def _data(run: Run, source: Source | None) -> tuple[CheckedSource | None, str | None]:
    """The images of a run; or None, and why they cannot be had."""
    try:
        return data_of(run, source), None
    except InputError as error:
        return None, f"{error.problem} ({error.received})"


def _curves(history: Sequence[Any]) -> dict[str, str]:
    """Pictures of the curves as data URLs, by their titles."""
    if not history:
        return {}
    return {
        title: f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
        for title, svg in plots.curve_panels(history).items()
    }


def _duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.1f} min" if seconds < HOUR else f"{seconds / HOUR:.1f} h"


def _recipe_rows(settings: Any, within: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a recipe; those of its parts after the name of the part."""
    for field in dataclasses.fields(settings):
        name, value = f"{within}{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            if within:
                yield name, type(value).__name__
            yield from _recipe_rows(value, f"{name}.")
        else:
            yield name, _in_words(value)


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_in_words, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_classes(title: str, evaluation: Evaluation, class_names: Sequence[str]) -> None:
    if evaluation.classes != len(class_names):
        raise InputError(
            f"the {title} evaluation is damaged",
            received=f"a confusion matrix of {evaluation.classes} classes",
            accepted=f"one of {len(class_names)} classes (evaluate writes it again)",
        )


def _measured(
    title: str,
    evaluation: Evaluation,
    details: RunDetails,
    test: Split | None,
    model: keras.Model | None = None,
) -> _Measured:
    matrix, shown = evaluation.confusion_matrix, evaluation.mistakes[:SHOWN_MISTAKES]
    scores, means = class_scores(matrix)
    rows = [
        _ClassRow(name, error, one)
        for name, error, one in zip(
            details.class_names, evaluation.class_errors, scores, strict=True
        )
        if error.images or one.precision is not None
    ]
    # Classes without test images stand last: nothing is known of their recall.
    rows.sort(key=lambda row: 2 if row.scores.recall is None else row.scores.recall)
    images = mistake_urls(shown, test, details.image_size) if test else [None] * len(shown)
    return _Measured(
        title,
        evaluation,
        details.class_names,
        rows,
        means,
        confused_pairs(matrix, SHOWN_PAIRS),
        matrix_url(matrix) if evaluation.classes > TABLE_CLASSES else None,
        list(zip(shown, images, strict=True)),
        heats(model, shown, test) if model and test and shown else (),
    )
