"""The page that shows a run: what it was, its curves, its errors, its worst mistakes."""

import base64
import dataclasses

import jinja2
import numpy as np

from resnet_keras import pictures
from resnet_keras.architectures import find
from resnet_keras.data.images import resize
from resnet_keras.evaluation import Evaluation, data_of, read_evaluation
from resnet_keras.files import write_text
from resnet_keras.runs import Run, best_row

SHOWN_MISTAKES = 24


def write_report(run: Run) -> None:
    """Writes the run folder's report.html: one file, pictures inside, that opens offline.

    Raises:
        InputError: the run folder is damaged, or its data cannot be had.
    """
    details, history, evaluation = run.read_details(), run.read_history(), read_evaluation(run)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resnet_keras", "templates"), autoescape=True
    )
    page = environment.get_template("report.html.j2").render(
        details=details,
        recipe=dataclasses.asdict(details.recipe),
        parameters=find(details.network, details.shortcut).parameters(
            len(details.class_names), details.image_size
        ),
        history=history,
        speeds={row["epoch"]: row["images_per_second"] for row in run.read_speeds()},
        best=best_row(history) if history else None,
        curves=_data_url(pictures.curves(history)) if history else None,
        evaluation=evaluation,
        **(_evaluation_pictures(run, evaluation) if evaluation else {}),
    )
    write_text(run.report, page)


def _evaluation_pictures(run: Run, evaluation: Evaluation) -> dict[str, str]:
    details = run.read_details()
    matrix = pictures.confusion_matrix(np.array(evaluation.confusion_matrix), details.class_names)
    shown = evaluation.mistakes[:SHOWN_MISTAKES]
    if not shown:
        return {"matrix": _data_url(matrix)}
    test = data_of(run).load("test")
    captions = [
        f"{details.class_names[mistake.label]} taken for "
        f"{details.class_names[mistake.predicted]}\n{mistake.probability:.0%} sure"
        for mistake in shown
    ]
    images = np.stack([resize(test.image(mistake.image), details.image_size) for mistake in shown])
    return {
        "matrix": _data_url(matrix),
        "mistakes": _data_url(pictures.gallery(images, captions)),
    }


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
