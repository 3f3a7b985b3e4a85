"""Why a network answers as it does: what it sees in an image, stage by stage, as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from resnet_keras.architectures.layer_names import part_of
from resnet_keras.data.images import EXPLANATIONS
from resnet_keras.data.splits import Split
from resnet_keras.errors import InputError
from resnet_keras.evaluation import plots
from resnet_keras.evaluation.evaluate import Mistake, as_measured, probabilities_of
from resnet_keras.evaluation.grad_cam import explained_stages, grad_cam
from resnet_keras.evaluation.introspection import responses
from resnet_keras.files.atomic import make_folder, unwritable, write_file
from resnet_keras.networks.feature_maps import features, in_float32
from resnet_keras.networks.models import view_of

FOLDER = "the pictures' folder"  # as messages call it
CHANNELS = 7  # of every stage, the strongest
SHOWN_MISTAKES = 8
CAPTION = 20  # characters of a class's name above a small image


@dataclass(frozen=True)
class Explanation:
    """What a network saw in an image.

    Attributes:
        image: (size, size, 3) uint8, as the network takes it.
        class_name: which class is explained.
        probability: that the network gives to it.
        heat: by stage where the network sees that class, (h, w) 0..1, see `grad_cam`.
        maps: by stage what the network makes of the image, (h, w, channels) float32.
        responses: by layer the strength of its response to the image, see `responses`.
    """

    image: np.ndarray
    class_name: str
    probability: float
    heat: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    responses: dict[str, float]


def explain(
    model: keras.Model, image: np.ndarray, class_names: Sequence[str], label: int | None = None
) -> Explanation:
    """Explains a classifier's answer to an image.

    Args:
        model: of this package, with an input of a fixed size, under any policy; it stays as it is,
            and the explanation is computed in float32.
        image: (height, width, 3) uint8 of any size, of which the model is shown its view.
        class_names: in the order of the model's outputs.
        label: index of the class to look for; None for the most probable one.

    Raises:
        InputError: the model's layers are not named as this package names them, or it has no such
            class.
    """
    network = in_float32(model)
    shown = view_of(model).show(image)
    batch = shown[None]
    maps = {
        stage: ops.convert_to_numpy(found)[0]
        for stage, found in features(network)(batch, training=False).items()
    }
    probabilities = probabilities_of(model, batch)[0]
    if label is None:
        label = int(probabilities.argmax())
    heat = {stage: grad_cam(network, batch, [label], stage)[0] for stage in maps}
    return Explanation(
        shown,
        class_names[label],
        float(probabilities[label]),
        heat,
        maps,
        responses(network, batch),
    )


def draw(explanation: Explanation) -> dict[str, bytes]:
    """The pictures of an explanation, PNG, by their names in `EXPLANATIONS`."""
    heat = {f"{stage}, {_size(values)}": values for stage, values in explanation.heat.items()}
    strengths = explanation.responses
    drawn = (
        plots.heat_maps(
            explanation.image,
            heat,
            f"{explanation.class_name}, {explanation.probability:.2%}",
        ),
        plots.maps(
            {
                f"{stage}, {_size(maps)}": _strongest(maps)
                for stage, maps in explanation.maps.items()
            }
        ),
        plots.layer_responses(strengths, [part_of(layer) for layer in strengths]),
    )
    return dict(zip(EXPLANATIONS, drawn, strict=True))


def _size(values: np.ndarray) -> str:
    return f"{values.shape[1]}x{values.shape[0]}"


def _strongest(maps: np.ndarray) -> dict[str, np.ndarray]:
    """The average of a stage's maps, and those whose values are largest on average."""
    order = np.argsort(-np.abs(maps).mean((0, 1)), kind="stable")[:CHANNELS]
    return {
        f"mean of {maps.shape[-1]}": maps.mean(axis=-1),
        **{f"channel {channel}": maps[..., channel] for channel in order},
    }


def places(images: Sequence[Path], folder: Path | None = None) -> list[dict[str, Path]]:
    """Where the pictures of image files go: `IMAGE-grad-cam.png` and so on.

    Args:
        images: the files.
        folder: of all pictures, made if missing; None puts them beside their image.

    Returns:
        For each image a path by the names in `EXPLANATIONS`.

    Raises:
        InputError: a folder cannot be written, or a picture would take the place of another one or
            of an image.
    """
    found, given, taken = [], {image.resolve() for image in images}, {}
    for image in images:
        beside = folder or image.parent
        make_folder(beside, FOLDER)
        paths = {name: beside / f"{image.stem}-{name}.png" for name in EXPLANATIONS}
        for path in paths.values():
            if path.resolve() in given:
                raise InputError(
                    f"a picture of {image} would overwrite one of the images",
                    received=path,
                    accepted="another folder for the pictures (--output), "
                    "or images without earlier pictures among them",
                )
            if other := taken.get(path.resolve()):
                raise InputError(
                    "the pictures of two images would be the same files",
                    received=f"{other} and {image}",
                    accepted="images of different names",
                )
        taken |= {path.resolve(): image for path in paths.values()}
        found.append(paths)
    return found


def write(explanation: Explanation, paths: Mapping[str, Path]) -> None:
    """Writes the pictures of an explanation, each whole or not at all.

    Args:
        explanation: of an image.
        paths: where, see `places`.

    Raises:
        InputError: the folder cannot be written.
    """
    for name, png in draw(explanation).items():
        path = paths[name]
        try:
            write_file(path, lambda partial, png=png: partial.write_bytes(png))
        except OSError as error:
            raise unwritable(path.parent, FOLDER, error.strerror) from error


def heat_of_mistakes(
    model: keras.Model, split: Split, mistakes: Sequence[Mistake]
) -> list[tuple[Mistake, np.ndarray, np.ndarray, np.ndarray]]:
    """Grad-CAM of two classes at the last stage, where a network took one for the other.

    Args:
        model: a classifier of this package, with an input of a fixed size.
        split: images of any size.
        mistakes: that the model makes on them; the first `SHOWN_MISTAKES` are explained.

    Returns:
        For each mistake: the mistake, the image (size, size, 3) uint8 as the network sees it, the
        heat (h, w) 0..1 of the predicted class, and that of the true class. An empty list if the
        model's layers are not named as this package names them.
    """
    shown = mistakes[:SHOWN_MISTAKES]
    if not shown or not explained_stages(model):
        return []
    chosen = split.take(np.array([mistake.image for mistake in shown]))
    images = as_measured(chosen, view_of(model)).images
    network = in_float32(model)
    of_predicted = grad_cam(network, images, [mistake.predicted for mistake in shown])
    of_label = grad_cam(network, images, [mistake.label for mistake in shown])
    return list(zip(shown, images, of_predicted, of_label, strict=True))


def explain_mistakes(
    model: keras.Model,
    split: Split,
    mistakes: Sequence[Mistake],
    class_names: Sequence[str],
) -> bytes | None:
    """Draws the heat that `heat_of_mistakes` finds.

    Args:
        model, split, mistakes: as of `heat_of_mistakes`.
        class_names: in the order of the model's outputs.

    Returns:
        A picture as PNG: of each mistake the image, and in grey with the heat of the class that was
        predicted and with that of the true one. None if there is nothing to draw.
    """
    found = heat_of_mistakes(model, split, mistakes)
    if not found:
        return None
    captions = []
    for mistake, *_ in found:
        label, predicted = (_short(class_names[it]) for it in (mistake.label, mistake.predicted))
        sure = f"{mistake.probability:.0%} sure"
        captions.append((label, f"for {predicted}\n{sure}", f"for {label}"))
    _, images, of_predicted, of_label = zip(*found, strict=True)
    heats = list(zip(of_predicted, of_label, strict=True))
    return plots.explained_mistakes(np.stack(images), heats, captions)


def _short(name: str) -> str:
    return name if len(name) <= CAPTION else f"{name[: CAPTION - 1]}…"
