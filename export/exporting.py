"""From a trained model to a folder of files, each compared with Keras before it gets its name.

saved_model/                 TensorFlow's format
model_….tflite, model….onnx  what apps load; formats.py has the list
labels.txt                   a class a line, in the order of the outputs
parity.json                  how every file compares with Keras
README.md, index.html        the same as a page, and how to load each file
check/                       held-out images and Keras's answers, for a check on another device
"""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import numpy as np
from rich.console import Console

from resnet_keras.data.progress import SILENCE, Clock, duration
from resnet_keras.errors import ExportError, InputError
from resnet_keras.export import page
from resnet_keras.export.card import LABELS, ModelCard
from resnet_keras.export.formats import FORMATS, find
from resnet_keras.export.manifest import (
    CHECK,
    CHECK_ARRAYS,
    Exported,
    Manifest,
    checksum,
    megabytes,
    read_manifest,
    write_manifest,
)
from resnet_keras.export.parity import complaints
from resnet_keras.export.workspace import PREPARE, REFUSED, Made, Prepared, Workspace
from resnet_keras.files.atomic import (
    PARTIAL,
    locked,
    make_folder,
    replace_folder,
    write_file,
    write_text,
)
from resnet_keras.version import versions

if TYPE_CHECKING:
    import keras

T = TypeVar("T")

FOLDER = "the export folder"  # as messages call it
CHECK_IMAGES = 200
PACKAGES = ("keras", "tensorflow", "tf2onnx", "ai-edge-litert", "onnxruntime")


def export(
    model: "keras.Model",
    images: np.ndarray,
    labels: np.ndarray,
    calibration: np.ndarray,
    folder: str | os.PathLike[str],
    *,
    class_names: Sequence[str],
    description: str = "",
    centre: float | None = None,
    formats: Sequence[str] = (),
) -> Manifest:
    """Exports a trained classifier, each file compared with Keras on held-out images.

        export.export(model, test_images, test_labels, train_images[:200], "mine", class_names=…)

    Every format is converted in a process of its own, into a folder beside the others. A file that
    answers as Keras does takes the place of the one before it when all are done.

    Args:
        model: a network of this package, from images of one size to a score for each class.
        images: (n, height, width, 3) uint8 of the model's size, which it was not trained on.
        labels: (n,) indices into `class_names`.
        calibration: (m, height, width, 3) uint8, some hundred training images, which tell int8
            formats what values there are.
        folder: made if missing.
        class_names: in the order of the outputs; the files carry them.
        description: one line of the model, which the files carry too.
        centre: of the view, see `resnet_keras.view.View`; None for the one that the model knows.
        formats: names of `formats.FORMATS`; those written by default if none.

    Returns:
        What was found, as in parity.json.

    Raises:
        InputError: the arguments do not fit each other, or the folder cannot be written.
        ExportError: files could not be made or are too far from Keras; those before them stay.
    """
    chosen = find(formats)
    folder = Path(folder)
    _check(model, images, labels, calibration, class_names)
    make_folder(folder, FOLDER)
    with locked(folder, "exporting to"):
        return _export(
            model,
            {"images": images, "labels": labels, "calibration": calibration},
            ModelCard(model.name, description, tuple(class_names), _centre_of(model, centre)),
            folder,
            list(chosen),
        )


def _centre_of(model: "keras.Model", centre: float | None) -> float:
    known = getattr(model.layers[-1], "centre", None)
    return next((value for value in (centre, known) if value is not None), 1.0)


def _check(
    model: "keras.Model",
    images: np.ndarray,
    labels: np.ndarray,
    calibration: np.ndarray,
    class_names: Sequence[str],
) -> None:
    outputs = tuple(model.output_shape)
    is_single = outputs == (None, 1) and len(class_names) == 2  # a sigmoid for the second class
    if outputs != (None, len(class_names)) and not is_single:
        raise InputError(
            "the model's outputs are not the classes",
            received=f"{len(class_names)} class names, output {outputs}",
            accepted="one name for every output",
        )
    for name in class_names:
        if name.splitlines() != [name]:
            raise InputError(
                "a class name is not one line",
                received=repr(name),
                accepted=f"names of one line, for {LABELS}",
            )
    _check_images(model, images, calibration)
    if labels.shape != (len(images),) or not np.isin(labels, np.arange(len(class_names))).all():
        raise InputError(
            "the labels do not fit the images and the class names",
            received=f"labels of shape {labels.shape}, {len(images)} images, "
            f"{len(class_names)} classes",
            accepted=f"{len(images)} labels from 0 to {len(class_names) - 1}",
        )


def _check_images(model: "keras.Model", images: np.ndarray, calibration: np.ndarray) -> None:
    if len(images) == 0 or len(calibration) == 0:
        raise InputError(
            "an export needs held-out images and training images",
            received=f"{len(images)} held-out images, {len(calibration)} training images",
            accepted="1 or more of each",
        )
    expected = tuple(model.input_shape[1:])
    for which, given in (("held-out", images), ("calibration", calibration)):
        if given.dtype != np.uint8 or given.shape[1:] != expected:
            raise InputError(
                f"the {which} images are not what the model takes",
                received=f"{given.shape[1:]} {given.dtype}",
                accepted=f"{expected} uint8",
            )


def _export(
    model: "keras.Model",
    arrays: dict[str, np.ndarray],
    card: ModelCard,
    folder: Path,
    names: list[str],
) -> Manifest:
    before = read_manifest(folder)
    for left in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left)  # by an export that was killed
    with _workspace(folder) as workspace:
        model.save(workspace.model)
        workspace.write_card(card)
        for name, array in arrays.items():
            workspace.write_array(name, array)
        prepared = _do(workspace, PREPARE, "preparing the model and Keras's answers", Prepared)
        if isinstance(prepared, str):
            raise ExportError(f"the model cannot be exported: {prepared}")
        of_model = fingerprint(model, card)
        made, failed = _make(workspace, names, of_model)
        manifest = Manifest(
            name=card.name,
            description=card.description,
            model=of_model,
            policy=prepared.policy,
            image_size=arrays["images"].shape[1:3],
            folded=prepared.parity,
            keras_latency=prepared.latency,
            files=_in_order(made, _still_there(before, folder)),
            machine=f"{platform.machine()}, {os.cpu_count()} CPU cores",
            versions=versions(*PACKAGES),
            centre=card.centre,
        )
        _put_into_place(workspace, folder, manifest, made, card)
    if failed:
        raise _not_all(made, failed)
    return manifest


def _not_all(made: Sequence[Exported], failed: Mapping[str, str]) -> ExportError:
    """Tells which files are not exported and why, and what may help."""
    told = (
        f"{len(failed)} of {len(made) + len(failed)} files are not exported, earlier ones of the "
        "same name stay: "
        + "; ".join(f"{FORMATS[name].file}: {why}" for name, why in failed.items())
        + f". Exported: {', '.join(one.file for one in made) or 'none'}"
    )
    if any(FORMATS[name].is_calibrated for name in failed):
        told += (
            ". int8 that is too far from Keras may do better with other or more training images "
            "(--calibration-images); the formats of floats and tflite-dynamic-int8 need none"
        )
    return ExportError(told)


@contextmanager
def _workspace(folder: Path) -> Iterator[Workspace]:
    work = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        workspace = Workspace(work)
        workspace.made("").mkdir()
        yield workspace
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make(
    workspace: Workspace, names: list[str], of_model: str
) -> tuple[list[Exported], dict[str, str]]:
    """The files that are as they should be, and why others are not."""
    made: list[Exported] = []
    failed: dict[str, str] = {}
    for name in names:
        found = _do(
            workspace, name, f"writing {FORMATS[name].file} and comparing it with Keras", Made
        )
        if isinstance(found, str):
            failed[name] = found
            continue
        if found.parity and (wrong := complaints(found.parity, FORMATS[name].tolerance)):
            failed[name] = ", ".join(wrong)
            continue
        path = workspace.made(FORMATS[name].file)
        made.append(
            Exported(
                name,
                of_model,
                checksum(path),
                megabytes(path),
                found.parity,
                found.latency,
                found.seconds,
                found.memory,
            )
        )
    return made, failed


def _do(workspace: Workspace, step: str, doing: str, kind: type[T]) -> T | str:
    """What a step has found, or in a line why it failed."""
    # In a notebook, which says of itself that it is a terminal, lines do.
    console = Console(stderr=True, force_terminal=sys.stderr.isatty(), force_jupyter=False)
    if not console.is_terminal:
        print(doing, file=sys.stderr, flush=True)
    with (
        console.status(doing),
        workspace.log(step).open("w") as log,
        _worker(workspace, step, log) as worker,
    ):
        status = _wait(worker, doing, console.is_terminal)
    if status == 0:
        return workspace.read_finding(step, kind)
    said = [
        line
        for line in workspace.log(step).read_text(errors="replace").splitlines()
        if line.strip()
    ]
    last = said[-1] if said else "it said nothing"
    if status == REFUSED:
        return last
    if status < 0:
        name = signal.Signals(-status).name
        return f"its process was ended by {name}" + (
            ", for want of memory perhaps" if name == "SIGKILL" else f" ({last})"
        )
    return last


def _wait(worker: subprocess.Popen[bytes], doing: str, is_terminal: bool) -> int:
    """Waits for a worker's exit status; without a terminal, prints a line every 30 seconds."""
    clock = Clock()
    while True:
        with suppress(subprocess.TimeoutExpired):
            return worker.wait(SILENCE)
        if not is_terminal:
            print(f"{doing}: {duration(clock.seconds)} so far", file=sys.stderr, flush=True)


@contextmanager
def _worker(workspace: Workspace, step: str, log: TextIO) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",  # a GPU's TF32 would stand between the answers
    }
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "resnet_keras.export.worker", str(workspace.folder), step],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=environment,
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _put_into_place(
    workspace: Workspace, folder: Path, manifest: Manifest, made: list[Exported], card: ModelCard
) -> None:
    """Everything is there and on the disk; what is left are renames."""
    for exported in made:
        new, place = workspace.made(exported.file), folder / exported.file
        if new.is_dir():
            replace_folder(new, place)
        else:
            write_file(place, new.replace)
    check = workspace.made(CHECK)
    check.mkdir()
    for name in CHECK_ARRAYS:
        np.save(check / f"{name}.npy", workspace.read_array(name)[:CHECK_IMAGES])
    replace_folder(check, folder / CHECK)
    write_text(folder / LABELS, card.labels)
    write_manifest(folder, manifest)
    page.write_page(folder, manifest)


def _still_there(before: Manifest | None, folder: Path) -> list[Exported]:
    """What an earlier export left, as it left it."""
    files = before.files if before else ()
    there = []
    for exported in files:
        with suppress(OSError):
            if checksum(folder / exported.file) == exported.checksum:
                there.append(exported)
    return there


def _in_order(made: list[Exported], before: list[Exported]) -> tuple[Exported, ...]:
    files = {exported.format: exported for exported in (*before, *made)}
    return tuple(files[name] for name in FORMATS if name in files)


def fingerprint(model: "keras.Model", card: ModelCard) -> str:
    """Tells apart what files are made of: the network, its weights, and what is said of them."""
    digest = hashlib.sha256(model.to_json().encode())
    digest.update(json.dumps(dataclasses.asdict(card)).encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
