"""Pages that show a run or an ensemble: what it was, its curves, its errors, its mistakes."""

import base64
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.architectures import find
from resnet_keras.data.images import resize
from resnet_keras.data.splits import Source, Split
from resnet_keras.errors import InputError
from resnet_keras.evaluation import plots
from resnet_keras.evaluation.ensembles import read_ensemble
from resnet_keras.evaluation.evaluate import (
    ErrorRates,
    Evaluation,
    data_of,
    load_run_model,
    read_evaluations,
)
from resnet_keras.evaluation.explanation import explain_mistakes
from resnet_keras.evaluation.protocols import SINGLE, says_top5
from resnet_keras.evaluation.results import Mistake
from resnet_keras.files import html
from resnet_keras.files.atomic import write_text
from resnet_keras.runs.run import Run, RunDetails, best_row

SHOWN_MISTAKES = 24
SHOWN_CLASSES = 40  # by their errors; a bar each


@dataclasses.dataclass(frozen=True)
class _Row:
    """What a table shows of errors."""

    title: str
    evaluation: ErrorRates


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What a page shows of an evaluation; pictures as data URLs.

    Attributes:
        title: the protocol.
        bars, left_out: classes whose errors the picture shows, and others.
        mistakes: None if there are none.
        heat: where the network saw the classes of the worst ones; None where nobody looked.
    """

    title: str
    evaluation: Evaluation
    bars: int
    left_out: int
    class_errors: str
    matrix: str
    mistakes: str | None
    heat: str | None = None


def write_report(run: Run) -> None:
    """Writes the run folder's report.html: one file, pictures inside, that opens offline.

    Raises:
        InputError: the run folder is damaged, or its data cannot be had.
    """
    details, history, found = run.read_details(), run.read_history(), read_evaluations(run)
    test = None
    if any(evaluation.mistakes for _, evaluation in found):
        test = data_of(run).load("test")
    measured = []
    for protocol, evaluation in found:
        drawn = _measured(str(protocol), evaluation, details.class_names, test, details.image_size)
        if protocol.name == SINGLE and test is not None:
            drawn = dataclasses.replace(drawn, heat=_heat(run, details, evaluation, test))
        measured.append(drawn)
    _write_page(
        run.report,
        "report.html.j2",
        details=details,
        recipe=dict(_recipe_rows(details.recipe)),
        parameters=find(details.network, details.shortcut).parameters(
            len(details.class_names), details.image_size
        ),
        history=history,
        speeds={row["epoch"]: row["images_per_second"] for row in run.read_speeds()},
        best=best_row(history) if history else None,
        curves=_data_url(plots.curves(history)) if history else None,
        measured=measured,
        top5=says_top5(len(details.class_names)),
    )


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
    measured = _measured(
        str(ensemble.protocol),
        ensemble.evaluation,
        ensemble.class_names,
        data_of(first, source).load("test"),
        first.read_details().image_size,
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
    write_text(
        path, html.html_templates("resnet_keras.evaluation").get_template(template).render(values)
    )


def _measured(
    title: str,
    evaluation: Evaluation,
    class_names: Sequence[str],
    test: Split | None,
    image_size: int,
) -> _Measured:
    """Draws an evaluation; where there are no mistakes to show, it needs no images."""
    if evaluation.classes != len(class_names):
        raise InputError(
            f"the {title} evaluation is damaged",
            received=f"a confusion matrix of {evaluation.classes} classes",
            accepted=f"one of {len(class_names)} classes (evaluate writes it again)",
        )
    present = [
        (one, name)
        for one, name in zip(evaluation.class_errors, class_names, strict=True)
        if one.images
    ]
    if len(present) > SHOWN_CLASSES:
        present.sort(key=lambda pair: -pair[0].wrong / pair[0].images)
    bars = present[:SHOWN_CLASSES]
    class_errors = plots.class_errors(
        [one.wrong / one.images for one, _ in bars],
        [one.interval for one, _ in bars],
        [name for _, name in bars],
    )
    return _Measured(
        title,
        evaluation,
        len(bars),
        len(present) - len(bars),
        _data_url(class_errors),
        _data_url(plots.confusion_matrix(np.array(evaluation.confusion_matrix), class_names)),
        _gallery(evaluation.mistakes[:SHOWN_MISTAKES], class_names, test, image_size),
    )


def _gallery(
    mistakes: Sequence[Mistake], class_names: Sequence[str], test: Split | None, image_size: int
) -> str | None:
    """The images that were taken for another class; None if there are none to show."""
    if not mistakes or test is None:
        return None
    captions = [
        f"{class_names[mistake.label]} taken for "
        f"{class_names[mistake.predicted]}\n{mistake.probability:.0%} sure"
        for mistake in mistakes
    ]
    images = np.stack([resize(test.image(mistake.image), image_size) for mistake in mistakes])
    return _data_url(plots.gallery(images, captions))


def _heat(run: Run, details: RunDetails, evaluation: Evaluation, test: Split) -> str | None:
    """The worst mistakes explained, if the model is still there and its layers have our names."""
    if not run.best_model.exists():
        return None
    drawn = explain_mistakes(
        load_run_model(run),
        test,
        evaluation.mistakes,
        details.class_names,
    )
    return _data_url(drawn) if drawn else None


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
