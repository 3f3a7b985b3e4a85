"""resnet-keras export: files for apps, each compared with Keras."""

from pathlib import Path
from typing import Annotated

import tyro

from resnet_keras.cli import console
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.cli.folders import OR_LATEST, latest_run
from resnet_keras.errors import COUNT, check_arguments
from resnet_keras.evaluation.checks import MODEL_FILES, check_subject
from resnet_keras.export.formats import FORMATS, find
from resnet_keras.files.atomic import check_writable

_NAMED_ONLY = [name for name, kind in FORMATS.items() if not kind.by_default]


@check_arguments
def export(
    model: tyro.conf.Positional[
        Annotated[
            Path | None, tyro.conf.arg(metavar="RUN|MODEL.keras", help_behavior_hint=OR_LATEST)
        ]
    ] = None,
    data: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: the run's)")
    ] = None,
    formats: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="NAME ...",
            help=f"{', '.join(FORMATS)}.",
            help_behavior_hint=f"(default: all but {', '.join(_NAMED_ONLY)})",
        ),
    ] = (),
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: RUN/export, MODEL-export)"),
    ] = None,
    images: Annotated[int, COUNT] = 500,
    calibration_images: Annotated[int, COUNT] = 200,
) -> None:
    """Write SavedModel, TFLite and ONNX files of a model.

    Each file is compared with Keras on test images. A file whose outputs differ from Keras's is not
    written; an older file of that name stays.

    Example: resnet-keras export runs/resnet50-photos-finetune --formats tflite-int8

    Args:
        model: run folder, or a model file, which needs --data.
        data: labelled images for the comparison and for calibration, as for train.
        output: export folder.
        images: largest number of test images to compare on.
        calibration_images: number of training images that calibrate int8 formats.
    """
    from resnet_keras.export import exporting

    find(formats)
    path = model or latest_run()
    check_subject(path, data)
    folder = output or _export_folder(path)
    check_writable(folder, exporting.FOLDER)
    with quiet_tensorflow():
        from resnet_keras.cli import resolve
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.networks.models import view_of

    subject = resolve.find(path, data)
    for note in subject.data.notes:
        print(f"data: {note}")
    view = view_of(subject.model)
    test = evaluation.shown(subject.data.load("test"), view, images)
    calibration = evaluation.shown(subject.data.load("train"), view, calibration_images)
    print(f"exporting {subject.description}", flush=True)
    manifest = exporting.export(
        subject.model,
        test.images,
        test.labels,
        calibration.images,
        folder,
        class_names=subject.data.class_names,
        description=subject.description,
        formats=formats,
    )
    console.print_parity(manifest)
    print(f"\nexport folder: {folder}\n")
    has_lite = any(exported.file.endswith(".tflite") for exported in manifest.files)
    trial = {"try_the_files": console.command("resnet-keras", "serve", folder)} if has_lite else {}
    console.print_next(folder / "index.html", **trial)


def _export_folder(path: Path) -> Path:
    """Where the export of a run folder or of a .keras file goes by default."""
    return path.with_name(f"{path.stem}-export") if path.suffix in MODEL_FILES else path / "export"
