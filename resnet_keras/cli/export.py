"""resnet-keras export: files for apps, each compared with Keras."""

from pathlib import Path
from typing import Annotated

import tyro

from resnet_keras.bounds import COUNT, check_arguments
from resnet_keras.cli import console
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.cli.folders import OR_LATEST, latest_run
from resnet_keras.evaluation.checks import MODEL_FILES, check_subject
from resnet_keras.files.atomic import check_writable


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
    formats: tuple[str, ...] = (),
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: RUN/export, MODEL-export)"),
    ] = None,
    images: Annotated[int, COUNT] = 500,
    calibration_images: Annotated[int, COUNT] = 200,
) -> None:
    """Write a model as SavedModel, TFLite and ONNX, each compared with Keras on test images.

    A file that does not answer as Keras does takes no place; what was there before stays.

    Args:
        model: a run folder, or a model file, which needs --data.
        data: labelled images, as for train: those to test and to calibrate with.
        formats: saved-model, tflite-float32, tflite-float16, tflite-dynamic-int8, tflite-int8,
            onnx-float32, onnx-int8 or core-ml; all but the last if none.
        output: the export folder.
        images: how many test images to compare on, at most.
        calibration_images: how many training images show int8 formats what values there are.
    """
    from resnet_keras.export import exporting
    from resnet_keras.export import formats as known

    known.find(formats)
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
    print(f"\nexport folder  {folder}\n{console.to_open(folder / 'index.html')}")
    if any(exported.file.endswith(".tflite") for exported in manifest.files):
        print(f"  {console.command('resnet-keras', 'serve', folder)}")


def _export_folder(path: Path) -> Path:
    """Where the export of a run folder or of a .keras file goes by default."""
    return path.with_name(f"{path.stem}-export") if path.suffix in MODEL_FILES else path / "export"
