"""Arrays of other frameworks, laid out as Keras has them, and back."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from resnet_keras.errors import InputError
from resnet_keras.weights.layer_map import Naming, Place

T = TypeVar("T")

Weights = dict[str, list[np.ndarray]]
"""Arrays by our layers' names, in the order in which a Keras layer has them."""

# Of torch's convolutions and dense layers, and of its batch normalisations.
_TENSORS = {
    "convolution": ("weight", "bias"),
    "classifier": ("weight", "bias"),
    "normalization": ("weight", "bias", "running_mean", "running_var"),
}

TORCH_ARRAYS = {*_TENSORS["normalization"], "num_batches_tracked"}
"""What torch calls an array of a layer; the last is of no use to inference."""

# Axes of the arrays of a layer; a convolution may lack the bias.
_AXES = {"convolution": (4, 1), "classifier": (2, 1), "normalization": (1, 1, 1, 1)}


def from_torch(
    tensors: Mapping[str, np.ndarray], naming: Naming, places: Iterable[Place]
) -> Weights:
    """Weights of a torch network, whose convolution kernels are (out, in, height, width).

    Raises:
        InputError: one is missing.
    """

    def arrays(place: Place) -> list[np.ndarray]:
        names = [f"{naming.name(place)}.{tensor}" for tensor in _TENSORS[place.kind]]
        if place.kind == "convolution" and names[1] not in tensors:
            del names[1]
        return [_to_keras(_find(tensors, name, place)) for name in names]

    return _folded(arrays, places)


def to_torch(weights: Weights, naming: Naming, places: Iterable[Place]) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`, with the biases of convolutions in the moving means."""
    places = list(places)
    folded = _folded(lambda place: weights[place.layer], places)
    return {
        f"{naming.name(place)}.{tensor}": _to_torch(value)
        for place in places
        # Convolutions have a kernel only.
        for tensor, value in zip(_TENSORS[place.kind], folded[place.layer], strict=False)
    }


def from_keras(
    layers: Mapping[str, list[np.ndarray]], naming: Naming, places: Iterable[Place]
) -> Weights:
    """Weights of a Keras network with other names.

    Raises:
        InputError: a layer is missing.
    """
    return _folded(lambda place: _find(layers, naming.name(place), place), places)


def _find(values: Mapping[str, T], name: str, place: Place) -> T:
    if name not in values:
        raise InputError(
            f"the weights do not fit layer {place.layer!r}",
            received=f"no {name}",
            accepted="weights with this name",
        )
    return values[name]


def _folded(arrays: Callable[[Place], list[np.ndarray]], places: Iterable[Place]) -> Weights:
    """Convolutions without biases; those of the source go into the means that are subtracted."""
    weights: Weights = {}
    bias: list[np.ndarray] = []
    for place in places:
        values = arrays(place)
        _check_axes(place, values)
        if place.kind == "convolution":
            kernel, *bias = values
            values = [kernel]
        elif place.kind == "normalization" and bias:
            _check_bias(place, values, bias[0])
            gamma, beta, mean, variance = values
            values = [gamma, beta, mean - bias[0], variance]
        weights[place.layer] = values
    return weights


def _check_axes(place: Place, values: list[np.ndarray]) -> None:
    """Refuses arrays that are none of such a layer, whatever its sizes."""
    found, axes = tuple(value.ndim for value in values), _AXES[place.kind]
    if found == axes or (place.kind == "convolution" and found == axes[:1]):
        return
    raise InputError(
        f"the weights do not fit layer {place.layer!r}",
        received=f"shapes {[value.shape for value in values]}",
        accepted=f"the arrays of a {place.kind}, with {', '.join(map(str, axes))} axes",
    )


def _check_bias(place: Place, values: list[np.ndarray], bias: np.ndarray) -> None:
    if {value.shape for value in values} != {bias.shape}:
        raise InputError(
            f"the weights do not fit layer {place.layer!r}",
            received=f"shapes {[value.shape for value in values]} after a bias of {bias.shape}",
            accepted="vectors of one length",
        )


def _to_keras(tensor: np.ndarray) -> np.ndarray:
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _to_torch(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
