"""Layers in HDF5 files, as Keras 2 and Keras 3 lay them out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import h5py
import numpy as np

from resnet_keras.errors import InputError
from resnet_keras.files.hdf5 import check_self_contained
from resnet_keras.weights.limits import check_size, unreadable

LayerArrays = dict[str, list[np.ndarray]]
"""Arrays by the names of layers, in the order of get_weights."""

Member = TypeVar("Member", h5py.Group, h5py.Dataset)


class LayoutError(Exception):
    """An HDF5 file of something else, or damaged."""


def read_keras2(path: Path) -> LayerArrays:
    """Keras 2's layout: a group for every layer, whose attribute names its arrays in order.

    Raises:
        InputError: it is no such file, damaged, or its arrays are too large.
    """
    with _opened(path, path) as file:
        root = _member(file, "model_weights", h5py.Group) if "model_weights" in file else file
        layers: dict[str, list[h5py.Dataset]] = {}
        for layer in _texts(root, "layer_names"):
            group = _member(root, layer, h5py.Group)
            layers[layer] = [
                _member(group, array, h5py.Dataset) for array in _texts(group, "weight_names")
            ]
        return _arrays(path, layers)


def read_keras3(path: Path, member: IO[bytes] | None = None) -> LayerArrays:
    """Keras 3's layout, as a .weights.h5 file has it: layers in groups, models in models.

    Args:
        path: of the file, or of the archive that it is in.
        member: of the archive, opened.

    Raises:
        InputError: as `read_keras2`.
    """
    with _opened(path, member or path) as file:
        layers: dict[str, list[h5py.Dataset]] = {}
        for name, datasets in _keras3_layers(_member(file, "layers", h5py.Group)):
            if name in layers:
                raise LayoutError(f"two layers are called {name!r}")
            layers[name] = datasets
        return _arrays(path, layers)


def check_declared(path: Path, member: IO[bytes]) -> None:
    """Refuses a .keras file whose datasets, of layers and optimizer, are larger than a network's.

    Raises:
        InputError: they are, or the member is no HDF5 file.
    """
    declared = 0

    def add(_name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal declared
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            declared += _size(item)

    with _opened(path, member) as file:
        file.visititems(add)
    check_size(path, declared)


@contextmanager
def _opened(path: Path, source: Path | IO[bytes]) -> Iterator[h5py.File]:
    """An HDF5 file; what h5py raises while it is read is damage of the file."""
    try:
        with h5py.File(source, "r") as file:
            check_self_contained(file, path)
            yield file
    except (LayoutError, OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, error) from error


def _keras3_layers(layers: h5py.Group) -> Iterator[tuple[str, list[h5py.Dataset]]]:
    for key in layers:
        layer = _member(layers, _text(key), h5py.Group)
        if "layers" in layer:
            yield from _keras3_layers(_member(layer, "layers", h5py.Group))
            continue
        variables = _member(layer, "vars", h5py.Group)
        yield (
            _text(_attribute(variables, "name")),
            [_member(variables, str(index), h5py.Dataset) for index in range(len(variables))],
        )


def _member(group: h5py.Group, name: str, kind: type[Member]) -> Member:
    """A group or a dataset below a group."""
    found: h5py.Group | h5py.Dataset = group
    for part in name.split("/"):
        if not isinstance(found, h5py.Group) or part not in found:
            raise LayoutError(f"no {part!r} in {group.name}")
        found = found[part]
    if not isinstance(found, kind):
        raise LayoutError(f"{name!r} in {group.name} is no {kind.__name__.lower()}")
    if isinstance(found, h5py.Dataset) and (
        found.shape is None or _dtype(found).kind not in "fiuV"
    ):
        raise LayoutError(f"{found.name} has no numbers")
    return found


def _dtype(dataset: h5py.Dataset) -> np.dtype:
    try:
        return dataset.dtype
    except TypeError as error:  # as in _attribute
        raise LayoutError(f"{dataset.name}: {error}") from error


def _size(dataset: h5py.Dataset) -> int:
    """Bytes of the values in memory."""
    return dataset.size * _dtype(dataset).itemsize


def _texts(group: h5py.Group, attribute: str) -> list[str]:
    return [_text(name) for name in np.ravel(_attribute(group, attribute))]


def _attribute(group: h5py.Group, name: str) -> Any:
    if name not in group.attrs:
        raise LayoutError(f"{group.name} has no {name}")
    try:
        return group.attrs[name]
    except TypeError as error:  # h5py's, of a type that NumPy lacks
        raise LayoutError(f"{name} of {group.name}: {error}") from error


def _text(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _arrays(path: Path, layers: dict[str, list[h5py.Dataset]]) -> LayerArrays:
    check_size(path, sum(_size(one) for datasets in layers.values() for one in datasets))
    return {name: [_array(one) for one in datasets] for name, datasets in layers.items()}


def _array(dataset: h5py.Dataset) -> np.ndarray:
    values = np.asarray(dataset[()])
    # HDF5 has no bfloat16: Keras stores its bytes, and the type's name beside them.
    if dataset.attrs.get("dtype") == "bfloat16":
        return values.view("bfloat16")
    return values
