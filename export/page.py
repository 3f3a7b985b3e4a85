"""The page of an export folder: what the files are, how they compare, how to load each."""

from pathlib import Path

from resnet_keras.export.formats import FORMATS
from resnet_keras.export.manifest import Exported, Manifest
from resnet_keras.files import html
from resnet_keras.files.atomic import write_text

README, PAGE = "README.md", "index.html"
COLUMNS = (
    "file",
    "runtime",
    "MB",
    "ms",
    "images",
    "largest difference",
    "same answer",
    "accuracy",
    "Keras's",
)


def write_page(folder: Path, manifest: Manifest) -> None:
    """Writes README.md and index.html."""
    height, width = manifest.image_size
    there = {exported.format for exported in manifest.files}
    floats = ("tflite-float16", "tflite-dynamic-int8", "tflite-float32")
    text = (
        html.templates("resnet_keras.export")
        .get_template("page.md.j2")
        .render(
            manifest=manifest,
            height=height,
            width=width,
            centre=manifest.centre,
            piece=_piece(manifest),
            table=html.table(COLUMNS, rows(manifest), words=2),
            there=there,
            not_run=any(exported.parity is None for exported in manifest.files),
            # The files that the samples name, out of those that are there.
            tflite=_first(there, "tflite-float32", *floats, "tflite-int8"),
            tflite_in_apps=_first(there, "tflite-int8", *floats),
            tflite_of_floats=_first(there, "tflite-dynamic-int8", *floats),
            onnx=_first(there, "onnx-float32", "onnx-int8"),
            onnx_in_apps=_first(there, "onnx-int8", "onnx-float32"),
            of_earlier_models=[one.file for one in manifest.files if one.model != manifest.model],
        )
    )
    write_text(folder / README, text)
    write_text(folder / PAGE, html.to_html(text, f"{manifest.name}: exported files"))


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
    """The parity table under `COLUMNS`, Keras first."""
    folded = manifest.folded
    keras = (
        "Keras, folded for inference",
        "TensorFlow",
        "",
        f"{manifest.keras_latency:.1f}",
        str(folded.images),
        f"{folded.probability_difference:.1e}",
        f"{folded.agreement:.2%}",
        f"{folded.accuracy:.2%}",
        f"{folded.keras_accuracy:.2%}",
    )
    return [keras, *map(_row, manifest.files)]


def _row(exported: Exported) -> tuple[str, ...]:
    known = (exported.file, FORMATS[exported.format].runtime, f"{exported.megabytes:.2f}")
    if exported.parity is None or exported.latency is None:
        return (*known, "not run here", *["-"] * (len(COLUMNS) - len(known) - 1))
    parity = exported.parity
    return (
        *known,
        f"{exported.latency:.1f}",
        str(parity.images),
        f"{parity.probability_difference:.1e}",
        f"{parity.agreement:.2%}",
        f"{parity.accuracy:.2%}",
        f"{parity.keras_accuracy:.2%}",
    )
