"""The page of an export folder: verdict on every file, links, and code that loads each."""

import re
from dataclasses import dataclass
from pathlib import Path

from resnet_keras.export.formats import FORMATS
from resnet_keras.export.manifest import Exported, Manifest
from resnet_keras.export.parity import complaints
from resnet_keras.files import html
from resnet_keras.files.atomic import write_text

README, PAGE = "README.md", "index.html"
PLATFORMS = ("Python", "Android", "iOS", "Browser", "C++")
COLUMNS = (
    "file",
    "within limits",
    "largest difference",
    "at most",
    "same class",
    "at least",
    "accuracy",
    "Keras accuracy",
    "MB",
    "ms",
    "runtime",
)


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading, as HTML.

    Attributes:
        title: text of the heading.
        body: the content; a section that is no tab includes its heading.
        parts: the parts under headings of the next level, each of which can be folded away.
    """

    title: str
    body: str
    parts: tuple["Section", ...] = ()

    @property
    def is_platform(self) -> bool:
        return self.title.startswith(PLATFORMS)

    @property
    def id(self) -> str:
        return re.sub(r"[^a-z]+", "-", self.title.lower()).strip("-")


def write_page(folder: Path, manifest: Manifest) -> None:
    """Writes README.md and index.html."""
    write_text(folder / README, _markdown(manifest, rows(manifest)))
    linked = [_linked(row) for row in rows(manifest)]
    lead, *sections = _split(_markdown(manifest, linked), "## ")
    page = html.html_templates("resnet_keras.export").get_template("export.html.j2")
    text = page.render(
        title=f"{manifest.name}: exported files",
        columns=COLUMNS,
        lead=html.to_fragment(lead),
        sections=[_section(section) for section in sections],
    )
    write_text(folder / PAGE, text)


def _markdown(manifest: Manifest, table: list[tuple[str, ...]]) -> str:
    height, width = manifest.image_size
    there = {exported.format for exported in manifest.files}
    floats = ("tflite-float16", "tflite-dynamic-int8", "tflite-float32")
    tflite = _first(there, "tflite-float32", *floats, "tflite-int8")
    onnx = _first(there, "onnx-float32", "onnx-int8")
    packages = {
        "ai-edge-litert mediapipe": tflite,
        "onnxruntime": onnx,
        "tensorflow": "saved-model" in there,
        "pillow": True,
    }
    return (
        html.templates("resnet_keras.export")
        .get_template("page.md.j2")
        .render(
            manifest=manifest,
            height=height,
            width=width,
            centre=manifest.centre,
            piece=_piece(manifest),
            verdict=_verdict(manifest),
            table=html.table(COLUMNS, table, words=2),
            images=manifest.folded.images,
            there=there,
            not_run=any(exported.parity is None for exported in manifest.files),
            python_packages=" ".join(name for name, needed in packages.items() if needed),
            web_files=_either(there, "tflite-dynamic-int8", "onnx-float32"),
            server_files=_either(there, "saved-model", "onnx-float32"),
            # The files that the samples name, out of those that are there.
            tflite=tflite,
            tflite_in_apps=_first(there, "tflite-int8", *floats),
            tflite_of_floats=_first(there, "tflite-dynamic-int8", *floats),
            onnx=onnx,
            onnx_in_apps=_first(there, "onnx-int8", "onnx-float32"),
            of_earlier_models=[one.file for one in manifest.files if one.model != manifest.model],
        )
    )


def _split(markdown: str, heading: str) -> list[str]:
    """The text before the first heading of a level, then each heading with its text."""
    parts: list[list[str]] = [[]]
    is_code = False
    for line in markdown.splitlines(keepends=True):
        is_code ^= line.startswith("```")
        if line.startswith(heading) and not is_code:
            parts.append([])
        parts[-1].append(line)
    return ["".join(part) for part in parts]


def _section(markdown: str) -> Section:
    title = markdown.splitlines()[0].lstrip("# ")
    if not title.startswith(PLATFORMS):
        return Section(title, html.to_fragment(markdown))
    body, *parts = _split(markdown, "### ")
    return Section(title, html.to_fragment(body), tuple(_part(part) for part in parts))


def _part(markdown: str) -> Section:
    heading, _, body = markdown.partition("\n")
    return Section(heading.lstrip("# "), html.to_fragment(body))


def _verdict(manifest: Manifest) -> str:
    """One sentence: how many files are within their limits."""
    compared = [one for one in manifest.files if one.parity]
    good = sum(_is_within(one) for one in compared)
    return (
        f"{good} of {len(compared)} compared files are within the limits of their formats, beside "
        f"Keras in float32 on the same {manifest.folded.images} test images."
    )


def _is_within(exported: Exported) -> bool:
    tolerance = FORMATS[exported.format].tolerance
    return exported.parity is not None and not complaints(exported.parity, tolerance)


def _either(there: set[str], *formats: str) -> str:
    return " or ".join(f"`{FORMATS[name].file}`" for name in formats if name in there)


def _linked(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row whose file is a link, where it is one file: browsers cannot download a folder."""
    file, *others = row
    return (f"[{file}]({file})" if file.endswith((".tflite", ".onnx")) else file, *others)


def _piece(manifest: Manifest) -> str:
    height, width = manifest.image_size
    kind = "square" if height == width else f"piece of the proportions {width}:{height}"
    if manifest.centre == 1:
        return f"the largest {kind} in its middle"
    return f"the {kind} in its middle whose sides are {manifest.centre:.4g} of the largest one's"


def _first(there: set[str], *formats: str) -> str:
    """The file of the first of some formats that is there; empty if none is."""
    return next((FORMATS[name].file for name in formats if name in there), "")


def rows(manifest: Manifest) -> list[tuple[str, ...]]:
    """The parity table under `COLUMNS`, Keras last."""
    folded = manifest.folded
    keras = (
        "Keras, folded for inference",
        "",
        f"{folded.probability_difference:.1e}",
        "",
        f"{folded.agreement:.2%}",
        "",
        f"{folded.accuracy:.2%}",
        f"{folded.keras_accuracy:.2%}",
        "",
        f"{manifest.keras_latency:.1f}",
        "TensorFlow",
    )
    return [*map(_row, manifest.files), keras]


def _row(exported: Exported) -> tuple[str, ...]:
    chosen, parity = FORMATS[exported.format], exported.parity
    limit, size = chosen.tolerance, f"{exported.megabytes:.2f}"
    if parity is None or exported.latency is None:
        return (exported.file, "not run", *["-"] * 6, size, "-", chosen.runtime)
    return (
        exported.file,
        "✓ yes" if _is_within(exported) else "✗ no",
        f"{parity.probability_difference:.1e}",
        f"{limit.probability:.0e}" if limit.probability < 1 else "none",
        f"{parity.agreement:.2%}",
        f"{1 - limit.disagreement:.1%}",
        f"{parity.accuracy:.2%}",
        f"{parity.keras_accuracy:.2%}",
        size,
        f"{exported.latency:.1f}",
        chosen.runtime,
    )
