"""Files of weights, whoever wrote them, as arrays by name."""

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open

from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.weights import cards
from resnet_keras.weights.cards import UNKNOWN, Card

# What the readers raise on files that they cannot read, RuntimeError for damaged HDF5.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OSError, RuntimeError, EOFError)
ACCEPTED = (
    ".safetensors, .pth, .pt or .bin of torch, .h5 of keras.applications, .h5 or .npz of the Caffe "
    "release, .keras and .weights.h5 of this package"
)

IN_FOLDERS = ("best.keras", "model.safetensors", "pytorch_model.bin")

# Beneath these a training script keeps what it saves, and the wrapper that a network was in.
_NESTS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Tensors:
    """A torch network's, by name, and what the file itself tells about them."""

    values: Mapping[str, np.ndarray]
    card: Card = UNKNOWN


@dataclass(frozen=True)
class Layers:
    """A Keras network's, by layer, in the order of get_weights."""

    values: Mapping[str, list[np.ndarray]]
    card: Card = UNKNOWN


Content = Tensors | Layers


def read(path: Path) -> Content:
    """The arrays in a file.

    Raises:
        InputError: there is no such file, it is of no kind that is known, truncated, or holds code
            rather than arrays.
    """
    if not path.is_file():
        raise InputError(
            "no such weights file",
            received=path,
            accepted=f"an existing file{did_you_mean_beside(path)}",
        )
    readers = {
        ".safetensors": _safetensors,
        **dict.fromkeys((".pth", ".pt", ".bin"), _torch),
        ".npz": _blobs,
        ".h5": _hdf5,
    }
    if path.suffix not in readers:
        raise InputError("unknown kind of weights file", received=path, accepted=ACCEPTED)
    try:
        return readers[path.suffix](path)
    except InputError:
        raise
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        reason = first_sentence(error)
        raise InputError(
            "these weights cannot be read",
            received=f"{path} ({reason})",
            accepted=f"an undamaged {path.suffix} file of weights",
        ) from error


def first_line(error: Exception) -> str:
    """What another package says of an error, short enough for a line of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def first_sentence(error: Exception) -> str:
    """The same, without its advice."""
    return first_line(error).split(". ")[0]


def find_in(folder: Path) -> Path:
    """The file of weights in a folder, a run's or one as the Hugging Face hub has it.

    Raises:
        InputError: there is none.
    """
    for name in IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        "the folder has no weights",
        received=folder,
        accepted=f"a folder with one of {', '.join(IN_FOLDERS)}",
    )


def _safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, "np") as file:
            values = {name: _as_float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            return Tensors(values, cards.inside(file.metadata() or {}, path))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype("float32", copy=False)


def _torch(path: Path) -> Tensors:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError(
            f"torch, which reads {path.suffix} files, is not installed",
            received=path,
            accepted="pip install torch, or the weights as .safetensors",
        ) from error
    from pickle import UnpicklingError

    try:
        with warnings.catch_warnings(action="ignore"):  # of what is about to be refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # of anything but arrays
        raise InputError(
            "the file holds code, which is not run, or no weights at all",
            received=path,
            accepted="a state_dict saved by torch.save",
        ) from error
    for nest in _NESTS:
        if isinstance(content.get(nest), dict):
            content = content[nest]
    return Tensors(
        {
            _unwrapped(name): tensor.to(torch.float32).numpy()
            for name, tensor in content.items()
            if isinstance(tensor, torch.Tensor)
        }
    )


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _hdf5(path: Path) -> Layers:
    """Keras 2's layout: a group for every layer, whose attribute names its arrays in order."""
    with h5py.File(path) as file:
        group = file.get("model_weights", file)
        layers = {}
        for layer in group.attrs["layer_names"]:
            name = _text(layer)
            arrays = [group[name][_text(array)][()] for array in group[name].attrs["weight_names"]]
            if arrays:
                layers[name] = arrays
    return Layers(_normalized(layers))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _blobs(path: Path) -> Layers:
    """Caffe's blobs, "<layer>/<number>", kernels (out, in, height, width)."""
    blobs: dict[str, dict[int, np.ndarray]] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        for key in content.files:
            layer, _, number = key.rpartition("/")
            blobs.setdefault(layer, {})[int(number)] = content[key]
    layers = {}
    for layer, numbered in blobs.items():
        arrays = [numbered[number] for number in sorted(numbered)]
        if layer.startswith("bn") and len(arrays) == 3:
            # Caffe keeps sums, and their weight.
            mean, variance, weight = arrays
            scale = 1 / float(weight.ravel()[0]) if weight.any() else 0.0
            arrays = [mean * scale, variance * scale]
        else:
            arrays = [_of_caffe(array) for array in arrays]
        layers[layer] = arrays
    return Layers(_normalized(layers))


def _of_caffe(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _normalized(layers: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Batch normalisations as Keras has them, where a "scale…" layer follows them as in Caffe."""
    merged = {}
    for name, arrays in layers.items():
        if name.startswith("scale"):
            continue
        scale = layers.get(f"scale{name.removeprefix('bn')}") if name.startswith("bn") else None
        # Where Keras keeps them apart, its own gamma and beta are 1 and 0.
        merged[name] = [*scale, *arrays[-2:]] if scale else arrays
    return merged
