"""resnet-keras convert: weights of other projects, in and out."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import tyro

from resnet_keras.cli import console
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.data.splits import shortened
from resnet_keras.errors import IMAGE_SIZE, InputError, check_arguments
from resnet_keras.weights.checks import check_conversion


@check_arguments
def convert(
    source: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]],
    network: Annotated[str, tyro.conf.arg(metavar="NETWORK")],
    output: Annotated[Path, tyro.conf.arg(metavar="FILE", aliases=("-o",))],
    image_size: Annotated[
        int | None,
        IMAGE_SIZE,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the network's)"),
    ] = None,
    class_names: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: the source's)")
    ] = None,
) -> None:
    """Convert weights of other projects into a model, or back.

    The model takes pixels from 0 to 255, whatever the source takes. docs/how-to/convert-weights.md
    explains more.

    Example: resnet-keras convert imagenet --network resnet50 --output resnet50.keras

    Args:
        source: file of keras.applications (.h5), KerasHub (.keras), torch (.safetensors, .pth) or
            the Caffe release (.h5, .npz); model or run of this package; folder of transformers or
            the Hugging Face hub; preset of KerasHub; or imagenet, which fetches published weights.
        network: network of the weights, such as resnet50v1.5.
        output: .keras file, or .safetensors file with torchvision's names. An old file is replaced.
        image_size: side in pixels of the images that the model takes.
        class_names: text file with a class in each line, in the order of the outputs.
    """
    check_conversion(source, network, output, image_size)
    names = None if class_names is None else _read_class_names(class_names)
    with quiet_tensorflow():
        from resnet_keras.networks import conversion

    stored = conversion.convert(source, network, output, image_size, names)
    mean, std = stored.architecture.preprocessing.mean, stored.architecture.preprocessing.std
    if stored.class_names:
        first, last = shortened(stored.class_names[0]), shortened(stored.class_names[-1])
        known = f"{stored.classes}, {first} to {last}"
    elif stored.classes:
        known = f"{stored.classes} without names; --class-names FILE adds the names"
    else:
        known = "none, because the file has no head"
    print(
        f"weights of {network}: {stored.source}"
        f"\npreprocessing: mean {console.triple(mean)}, "
        f"standard deviation {console.triple(std)}, of pixels from 0 to 255"
        f"\nclasses: {known}"
        f"\nwritten: {output}"
    )


def _read_class_names(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text("utf-8-sig")
        if "\0" in text:  # UTF-16 without a byte order mark, whose bytes are valid UTF-8
            raise ValueError("NUL characters")
        names = tuple(text.splitlines())
    except (OSError, ValueError) as error:
        raise InputError(
            "the class names cannot be read",
            received=f"{path} ({error})",
            accepted="a UTF-8 text file with one class name a line",
        ) from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            "a class is named twice",
            received=f"{twice[0]!r} in {path}",
            accepted="every class name once",
        )
    return names
