"""Grad-CAM: where a network sees a class (Selvaraju et al. 2017)."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from resnet_keras.errors import InputError
from resnet_keras.evaluation.introspection import gradients
from resnet_keras.networks.backend import Tensor
from resnet_keras.networks.feature_maps import features, in_float32
from resnet_keras.networks.recursion import recursion_for


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    classes: Sequence[int] | np.ndarray | None = None,
    stage: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Where a network sees a class: Grad-CAM (Selvaraju et al. 2017, equations 1 and 2).

    A stage's maps are weighted by the average of their gradients, summed, and what speaks against
    the class is left out. The gradients are those of the class's score before the softmax, which
    has none left where the network is sure.

    Args:
        model: a built or loaded classifier of this package. It is computed in float32 under any
            policy, and stays as it is.
        images: (n, height, width, 3), pixels 0..255.
        classes: (n,) indices: which class to look for in each image; None for the one that the
            network finds most probable.
        stage: whose maps, such as "C4", see `feature_maps.features`; None for the last one.
        batch_size: images at a time.

    Returns:
        (n, h, w) float32, as large as the stage's maps. The highest of each image is 1; all are 0
        where nothing speaks for the class.

    Raises:
        InputError: the model has no stages by this package's names or no such stage, it does not
            end in a classifier, or a class is missing or none of its.
    """
    network = in_float32(model)
    stages = features(network).output
    classifier = network.layers[-1]
    stage = stage or list(stages)[-1]
    _check(network, stage, list(stages))
    if classes is not None:
        _check_classes(np.asarray(classes), len(images), classifier.units)
    with recursion_for(len(network.layers)):
        below = keras.Model(network.input, stages[stage])
        above = keras.Model(stages[stage], classifier.input)

    def heat(batch: slice) -> np.ndarray:
        def score(maps: list[Tensor]) -> Tensor:
            vectors = above(maps[0], training=False)
            scores = ops.matmul(vectors, classifier.kernel) + classifier.bias
            asked = ops.argmax(scores, axis=1) if classes is None else np.asarray(classes)[batch]
            # Images do not mix at inference: the gradient of the sum has that of each.
            return ops.sum(scores * ops.one_hot(asked, classifier.units))

        maps = below(images[batch], training=False)
        (gradient,) = gradients(score, [maps])
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
        return ops.convert_to_numpy(ops.relu(ops.sum(weights * maps, axis=-1)))

    starts = range(0, len(images), batch_size)
    found = np.concatenate([heat(slice(start, start + batch_size)) for start in starts])
    highest = found.max(axis=(1, 2), keepdims=True)
    return np.divide(found, highest, out=np.zeros_like(found), where=highest > 0)


def explained_stages(model: keras.Model) -> tuple[str, ...]:
    """The stages that `grad_cam` can tell of, from the first on; none of other packages' models."""
    if not isinstance(model.layers[-1], keras.layers.Dense):
        return ()
    try:
        return tuple(features(model).output)
    except InputError:
        return ()


def _check(network: keras.Model, stage: str, stages: Sequence[str]) -> None:
    if not isinstance(network.layers[-1], keras.layers.Dense):
        raise InputError(
            "Grad-CAM needs a classifier",
            received=repr(network.name),
            accepted="a model whose last layer is Dense",
        )
    if stage not in stages:
        raise InputError("no such stage", received=repr(stage), accepted=", ".join(stages))


def _check_classes(classes: np.ndarray, images: int, known: int) -> None:
    is_whole = np.issubdtype(classes.dtype, np.integer)
    if classes.shape != (images,) or not is_whole or not np.all((classes >= 0) & (classes < known)):
        raise InputError(
            "classes does not have a class index for each image",
            received=classes.tolist(),
            accepted=f"{images} integers from 0 to {known - 1}",
        )
