"""Weights of one project as a file for another."""

from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Annotated

from safetensors.numpy import save

from resnet_keras.architectures import find, model_name
from resnet_keras.errors import IMAGE_SIZE, InputError, check_arguments, first_line
from resnet_keras.files.atomic import check_writable, make_folder, write_file
from resnet_keras.networks.loading import WeightsSource, fit_weights, read_weights
from resnet_keras.networks.models import Classifier, Features, build, dtype_policy
from resnet_keras.weights.checks import check_conversion
from resnet_keras.weights.loaded import LoadedWeights
from resnet_keras.weights.metadata import to_metadata
from resnet_keras.weights.translate import to_torchvision


@check_arguments
def convert(
    source: WeightsSource,
    network: str,
    path: str | PathLike[str],
    image_size: Annotated[int | None, IMAGE_SIZE] = None,
    class_names: tuple[str, ...] | None = None,
) -> LoadedWeights:
    """Writes weights as a model of this package, or by torchvision's names.

    Args:
        source: see `loading.read_weights`.
        network: whose weights they are; its name.
        path: a .keras file, a whole classifier that takes pixels 0..255 and knows its classes; or a
            .safetensors file, which torchvision's and timm's networks load, with preprocessing,
            epsilon and classes in its metadata. What was there is replaced when all is done.
        image_size: side of the images that the model takes, in pixels; None for that of a source of
            this package, or the published one.
        class_names: in the order of the outputs, in place of what the source tells.

    Returns:
        What the source had.

    Raises:
        InputError: see `loading.read_weights`; or the file is of no kind that is written, cannot be
            written, or the names are not as many as the classes.
    """
    path = Path(path)
    check_conversion(source, network, path, image_size)
    check_writable(path.parent, "the folder")
    architecture = find(network)
    stored = read_weights(source, network, architecture)
    if class_names is not None:
        stored = replace(stored, class_names=class_names)
    size = architecture.input_size
    shape = stored.input_shape or (size, size, 3)
    if image_size is not None:
        shape = image_size, image_size, shape[2]
    head = Features()
    if stored.classes is not None:
        head = Classifier(stored.classes, stored.activation, stored.class_names, stored.centre)
    with dtype_policy("float32"):
        model = build(
            stored.architecture, shape, head, model_name(network), stored.include_preprocessing
        )
    fit_weights(model, stored.weights, stored.source)  # and so all shapes are right
    make_folder(path.parent, "the folder")
    try:
        if path.suffix == ".keras":
            write_file(path, model.save)
        else:
            write_file(path, partial(_save_tensors, stored))
    except OSError as error:
        raise InputError(
            "the file cannot be written",
            received=f"{path} ({first_line(error)})",
            accepted="a file in a writable folder on a disk with free space",
        ) from error
    return stored


def _save_tensors(stored: LoadedWeights, path: Path) -> None:
    tensors, card = to_torchvision(
        stored.weights, stored.architecture, stored.class_names, stored.activation
    )
    path.write_bytes(save(tensors, to_metadata(card)))
