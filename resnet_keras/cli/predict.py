"""resnet-keras predict: the classes of image files, and pictures of why."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnet_keras.cli.arguments import FLAG
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.data.splits import shortened
from resnet_keras.errors import COUNT, InputError, check_arguments, nearest
from resnet_keras.evaluation.checks import check_model
from resnet_keras.runs.run import Run

if TYPE_CHECKING:
    import numpy as np

SHOWN_REASONS = 10


@check_arguments
def predict(
    images: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="")]
    ],
    model: Annotated[Path, tyro.conf.arg(metavar="RUN|MODEL.keras", aliases=("--run",))],
    top: Annotated[int, COUNT] = 5,
    explain: Annotated[bool, FLAG] = False,
    class_name: Annotated[
        str | None,
        tyro.conf.arg(
            name="class", metavar="NAME", help_behavior_hint="(default: the most probable)"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: beside the image)"),
    ] = None,
) -> None:
    """Classify image files, and explain the predictions.

    Example: resnet-keras predict photo.jpg --model runs/resnet50-photos-finetune --explain

    Args:
        images: image files of any size (JPEG, PNG, WebP and others), or folders of image files.
        model: run folder, for its best model, or a model file that knows its classes.
        top: number of classes to print.
        explain: write three pictures of each image: Grad-CAM, features and responses of the layers.
        class_name: class that the pictures explain.
        output: folder of the pictures.
    """
    if not images:
        raise InputError(
            "predict needs an image", received="none", accepted="one or more image files or folders"
        )
    for option, value in (("--class", class_name), ("--output", output)):
        if value is not None and not explain:
            raise InputError(
                f"{option} applies to explanations only",
                received=f"{option} {value}",
                accepted=f"{option} with --explain",
            )
    unreadable: dict[Path, InputError] = {}
    paths = [path for given in images for path in _image_files(given, unreadable)]
    check_model(model)
    if (run := Run(model)).exists:
        _label_of(class_name, run.read_details().class_names)
    readable = _read_images(paths, unreadable)
    first = next(readable, None)  # where there is none, TensorFlow need not be waited for
    if first is None:
        raise _unreadable(unreadable, paths)
    with quiet_tensorflow():
        from resnet_keras.cli import resolve
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.evaluation import explanation

    network, class_names = resolve.classifier(model)
    label = _label_of(class_name, class_names)
    places = dict(zip(paths, explanation.places(paths, output), strict=True)) if explain else {}
    for path, image in chain([first], readable):
        print(path)
        for name, probability in evaluation.classify(network, image, class_names, top):
            print(f"  {probability:7.2%}  {shortened(name)}")
        if pictures := places.get(path):
            explanation.write(explanation.explain(network, image, class_names, label), pictures)
            print(f"  explanation: {', '.join(map(str, pictures.values()))}")
    if unreadable:
        raise _unreadable(unreadable, paths)


def _image_files(given: Path, unreadable: dict[Path, InputError]) -> list[Path]:
    """A file as it was given; of a folder the image files, and what cannot be read is noted."""
    from resnet_keras.data.images import EXTENSIONS, UnreadableImageError
    from resnet_keras.data.listing import Listing, describe_ignored

    if not given.is_dir():
        return [given]
    listing = Listing()
    found = [Path(path) for path in listing.images(given)]
    problems = [(Path(one.path), one.reason) for one in listing.problems]
    unreadable |= {path: UnreadableImageError(reason, path) for path, reason in problems}
    ignored = describe_ignored(listing.ignored)
    if not found and not problems:
        raise InputError(
            "the folder has no images",
            received=f"{given} ({ignored or 'it is empty'})",
            accepted=f"*{', *'.join(EXTENSIONS)}",
        )
    if ignored:
        print(f"resnet-keras: {given}: {ignored}", file=sys.stderr)
    return [*found, *(path for path, _ in problems)]


def _read_images(
    paths: Sequence[Path], unreadable: dict[Path, InputError]
) -> Iterator[tuple[Path, "np.ndarray"]]:
    """Yields paths and images; notes the error of each file that cannot be read."""
    from resnet_keras.data.images import read_image

    for path in paths:
        if path in unreadable:
            continue
        try:
            with warnings.catch_warnings(
                record=True, action="always", category=UserWarning
            ) as remarks:
                image = read_image(path)
        except InputError as error:
            unreadable[path] = error
            continue
        for remark in remarks:
            print(f"resnet-keras: {remark.message}", file=sys.stderr)
        yield path, image


def _unreadable(errors: dict[Path, InputError], paths: Sequence[Path]) -> InputError:
    from resnet_keras.data.images import FORMATS

    if len(paths) == 1:
        return errors[paths[0]]
    told = [f"{path} ({getattr(e, 'reason', 'no such file')})" for path, e in errors.items()]
    more = f" and {len(told) - SHOWN_REASONS} more" if len(told) > SHOWN_REASONS else ""
    return InputError(
        f"{len(told)} of {len(paths)} images cannot be read",
        received=f"{', '.join(told[:SHOWN_REASONS])}{more}",
        accepted=", ".join(FORMATS),
    )


def _label_of(class_name: str | None, class_names: Sequence[str]) -> int | None:
    if class_name is None:
        return None
    if class_name not in class_names:
        raise InputError(
            "unknown class", received=repr(class_name), accepted=nearest(class_name, class_names)
        )
    return class_names.index(class_name)
