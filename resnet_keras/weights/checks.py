"""Checks of the weights that are asked for, before any framework starts."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_keras.architectures import find
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.weights.download import IMAGENET, check_published

if TYPE_CHECKING:
    import keras

WEIGHTS_FILES = (".keras", ".safetensors")  # that are written


def check_weights(source: str | PathLike[str], network: str) -> None:
    """Checks that there are weights of a network at a path or, by the name "imagenet", published.

    Raises:
        InputError: there are none.
    """
    if source == IMAGENET:
        check_published(network)
        return
    if not Path(source).exists():
        raise InputError(
            "no such weights",
            received=source,
            accepted=f"a file, a run folder or {IMAGENET}{did_you_mean_beside(Path(source))}",
        )


def check_conversion(
    source: "str | PathLike[str] | keras.Model", network: str, path: Path, image_size: int | None
) -> None:
    """Checks what `conversion.convert` is asked for; arguments are its.

    Raises:
        InputError: there is no such network or source, the file is of no kind that is written, or
            the network cannot take images of this size.
    """
    if path.suffix not in WEIGHTS_FILES:
        raise InputError(
            "weights cannot be converted to this kind of file",
            received=path,
            accepted=f"a {' or '.join(WEIGHTS_FILES)} file",
        )
    architecture = find(network)
    if isinstance(source, str | PathLike):
        check_weights(source, network)
    if image_size is not None:
        architecture.check_sides(image_size, image_size)
