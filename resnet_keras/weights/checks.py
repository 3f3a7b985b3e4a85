"""Checks of the weights that are asked for, before any framework starts."""

from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_keras.architectures import NETWORKS, find, model_name
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.weights.download import IMAGENET, check_published

if TYPE_CHECKING:
    import keras

OUR_STEM = "conv1"  # a layer that every model of this package has
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


def check_content(source: str | PathLike[str], network: str) -> None:
    """Reads the weights at a path, as far as that needs no framework.

    Raises:
        InputError: the file is of no kind that is known, damaged, or of another network; or the
            folder has no weights.
    """
    if source == IMAGENET:
        return
    # With NumPy and h5py, which --help need not wait for.
    from resnet_keras.weights.archive import read_config
    from resnet_keras.weights.metadata import is_of_keras_hub
    from resnet_keras.weights.reading import find_in, read_weights_file
    from resnet_keras.weights.translate import read_foreign

    path = Path(source)
    if path.is_dir():
        path = find_in(path)
    if path.name.endswith(".keras"):
        config = read_config(path)
        if not is_of_keras_hub(config):
            description = config["config"]
            layers = description.get("layers")
            names = [
                layer.get("name")
                for layer in (layers if isinstance(layers, list) else ())
                if isinstance(layer, dict)
            ]
            check_name(description.get("name"), names, str(path), network)
    elif path.name.endswith(".weights.h5"):
        read_weights_file(path)
    else:
        read_foreign(path, find(network))


def check_name(name: object, layers: Collection[object], source: str, network: str) -> None:
    """Refuses a model of another network here, whose shapes may fit: v1 and v1.5 have the same.

    Args:
        name: of the model.
        layers: names of its layers.
        source: where it comes from, for the message.
        network: the network that is asked for.

    Raises:
        InputError: the model is one of this package, and of another network.
    """
    names: dict[object, str] = {model_name(one): one for one in NETWORKS}
    found = names.get(name) if isinstance(name, str) else None
    if OUR_STEM in layers and found not in (None, network):
        raise InputError(
            f"these are weights of {found}",
            received=f"{source} for {network}",
            accepted=f"weights of {network}",
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
        check_content(source, network)
    if image_size is not None:
        architecture.check_sides(image_size, image_size)
