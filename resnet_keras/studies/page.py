"""The page of a study: claims and verdicts, the paper's figures beside ours, pictures, method."""

import math
import os
import platform
import shutil
import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import keras

from resnet_keras.files import html
from resnet_keras.files.atomic import PARTIAL, replace_folder, write_text
from resnet_keras.studies import estimate
from resnet_keras.studies.study import (
    Claim,
    Findings,
    Picture,
    Results,
    Setting,
    Study,
    Table,
    errors_of,
)
from resnet_keras.studies.verdict import Effect, Verdict, effect_of
from resnet_keras.version import versions

PAPERS_COLUMN = "paper: "  # begins the heads of columns with published figures
COLUMNS = 100  # of a line of Markdown, at most

Judged = Mapping[Claim, Effect]


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
    judged = judge(study, results, findings)
    templates = html.templates("resnet_keras.studies")
    templates.filters["paragraph"] = _paragraph
    text = templates.get_template("study.md.j2").render(
        command=command,
        study=study,
        headline=headline(judged),
        claims=_claims(judged),
        scales=scales(study),
        setting=setting,
        parts=[_markdown(part) for part in sorted(findings.parts, key=_is_picture)],
        trainings=len(results.all),
        minutes=_minutes(sum(result.seconds for result in results.all)),
        recipe=first.training.recipe,
        image_size=details.image_size,
        precision=details.precision.partition(" ")[0],
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores",
        versions=versions("keras", "numpy", keras.backend.backend()),
    )
    write_text(folder / "README.md", text)
    write_text(folder / "index.html", html.to_html(text, study.title))


def judge(study: Study, results: Results, findings: Findings) -> Judged:
    """The effect of every claim of a study, in their order."""
    measured = {**errors_of(results), **findings.measured}
    return {
        claim: effect_of(measured[claim.first] - measured[claim.second])
        for claim in study.claims(results.setting)
    }


def headline(judged: Judged) -> str:
    """How many claims are shown, not shown and contradicted."""
    counts = Counter(_verdict(claim, effect) for claim, effect in judged.items())
    said = [f"{counts[one]} {one}" for one in get_args(Verdict) if counts[one]]
    return f"{', '.join(said)} of {len(judged)} claims"


def _verdict(claim: Claim, effect: Effect) -> Verdict:
    return effect.verdict(claim.direction, claim.threshold)


def _claims(judged: Judged) -> str:
    return html.table(
        ("claim", "effect", "counts if", "measured, 95% interval", "verdict"),
        (
            (
                claim.text,
                claim.comparison,
                claim.counts,
                _interval(effect),
                f"**{_verdict(claim, effect)}**",
            )
            for claim, effect in judged.items()
        ),
        words=5,
    )


def stated(claims: Sequence[Claim]) -> str:
    """Claims before they are judged, as a table."""
    return html.table(
        ("claim", "effect", "counts if"),
        ((claim.text, claim.comparison, claim.counts) for claim in claims),
        words=3,
    )


def _interval(effect: Effect) -> str:
    if math.isinf(effect.low):
        return f"{effect.mean:.2f} (no interval)"
    return f"{effect.mean:.2f} ({effect.low:.2f} to {effect.high:.2f})"


def scales(study: Study) -> str:
    """What a study trains at each scale, and for how long, as a table."""
    return html.table(
        ("scale", "data", "networks", "training", "seeds", *estimate.STEP),
        (_scale(study, setting) for setting in estimate.SETTINGS),
        words=4,
    )


def _scale(study: Study, setting: Setting) -> Sequence[str]:
    trainings = study.trainings(setting, 0)
    recipe, seeds = trainings[0].recipe, study.seeds[setting.scale]
    size = estimate.size_of(trainings[0], setting)
    return (
        setting.scale,
        f"{setting.data}, {setting.training_images:,} images",
        ", ".join(training.label for training in trainings),
        f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {size}x{size} pixels",
        str(seeds),
        *map(estimate.in_words, estimate.minutes(study, setting, seeds).values()),
    )


def _paragraph(text: str) -> str:
    """Text in lines that are not too long."""
    return textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _is_picture(part: Table | Picture | str) -> bool:
    """Sorts pictures behind tables and paragraphs, whose order stays."""
    return isinstance(part, Picture)


def _markdown(part: Table | Picture | str) -> str:
    if isinstance(part, str):
        return _paragraph(part)
    if isinstance(part, Picture):
        caption = _paragraph(part.caption)
        return f"![{part.caption}]({part.name}.png)\n\n{caption}\n[SVG]({part.name}.svg)"
    columns = [
        (head, [f"*{cell}*" if cell and theirs else cell for cell in cells])
        for head, *cells in zip(part.columns, *part.rows, strict=True)
        for theirs in (head.startswith(PAPERS_COLUMN),)
        if any(cells) or not theirs  # of other data the papers may print nothing
    ]
    heads, cells = zip(*columns, strict=True)
    return f"{_paragraph(f'{part.caption}:')}\n\n{html.table(heads, zip(*cells, strict=True))}"


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"
