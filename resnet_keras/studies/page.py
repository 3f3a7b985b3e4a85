"""The page of a study: the verdict, the paper's figures beside ours, pictures, the method."""

import os
import platform
import shutil
import tempfile
from pathlib import Path

import keras

from resnet_keras.files import html
from resnet_keras.files.atomic import PARTIAL, replace_folder, write_text
from resnet_keras.studies.study import Findings, Picture, Results, Study, Table
from resnet_keras.version import versions

PAPERS_COLUMN = "paper: "  # begins the heads of columns with published figures


def write_page(place: Path, command: str, study: Study, results: Results) -> None:
    """Writes README.md, index.html and the pictures into a folder, in place of those before.

    Args:
        place: the folder.
        command: that makes the page again.
        study: what was studied.
        results: of its trainings.
    """
    findings = study.examine(results)
    new = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{place.name}-", dir=place.parent))
    try:
        new.chmod(0o755)
        _write(new, command, study, results, findings)
        replace_folder(new, place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write(folder: Path, command: str, study: Study, results: Results, findings: Findings) -> None:
    for part in findings.parts:
        if isinstance(part, Picture):
            for kind in ("png", "svg"):
                part.figure.savefig(folder / f"{part.name}.{kind}", dpi=110)
    first = results.all[0]
    details = first.run.read_details()
    setting = results.setting
    text = (
        html.templates("resnet_keras.studies")
        .get_template("study.md.j2")
        .render(
            command=command,
            study=study,
            findings=findings,
            setting=setting,
            parts=[_markdown(part) for part in sorted(findings.parts, key=_is_picture)],
            trainings=len(results.all),
            minutes=_minutes(sum(result.seconds for result in results.all)),
            recipe=first.training.recipe,
            image_size=details.image_size,
            precision=details.precision.partition(" ")[0],
            least=min(
                (one.evaluation for one in results.all if one.evaluation),
                key=lambda evaluation: evaluation.top1_error,
                default=None,
            ),
            machine=f"{platform.machine()}, {os.cpu_count()} CPU cores",
            versions=versions("keras", "numpy", keras.backend.backend()),
        )
    )
    write_text(folder / "README.md", text)
    write_text(folder / "index.html", html.to_html(text, study.title))


def _is_picture(part: Table | Picture | str) -> bool:
    """Sorts pictures behind tables and paragraphs, whose order stays."""
    return isinstance(part, Picture)


def _markdown(part: Table | Picture | str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Picture):
        return f"![{part.caption}]({part.name}.png)\n\n{part.caption} [SVG]({part.name}.svg)"
    columns = [
        (head, [f"*{cell}*" if cell and theirs else cell for cell in cells])
        for head, *cells in zip(part.columns, *part.rows, strict=True)
        for theirs in (head.startswith(PAPERS_COLUMN),)
        if any(cells) or not theirs  # of other data the papers may print nothing
    ]
    heads, cells = zip(*columns, strict=True)
    return f"{part.caption}:\n\n{html.table(heads, zip(*cells, strict=True))}"


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"
