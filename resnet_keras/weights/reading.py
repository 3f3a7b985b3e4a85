"""Files of weights, whoever wrote them, as arrays by name."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from resnet_keras.errors import InputError
from resnet_keras.files.atomic import check_is_file
from resnet_keras.weights import hdf5, metadata, torch_files
from resnet_keras.weights.hdf5 import LayerArrays
from resnet_keras.weights.limits import check_file, check_size, unreadable
from resnet_keras.weights.metadata import UNKNOWN, Card

ACCEPTED = (
    ".safetensors; .pth, .pt, .bin, .ckpt or .pth.tar of torch; .h5, .weights.h5 or .keras of "
    "keras.applications, KerasHub and this package; .h5 or .npz of the Caffe release"
)

PRESET, PRESET_HEAD = "model.weights.h5", "task.weights.h5"  # KerasHub's, in one folder

IN_FOLDERS = ("best.keras", "model.safetensors", "pytorch_model.bin", PRESET)


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
    """The arrays in a file of another project, or one that `convert` wrote.

    Those of Keras 3 are read by `read_weights_file` and `archive.read_layers`.

    Raises:
        InputError: there is no such file, it is of no kind that is known, truncated, inflated, or
            holds code rather than arrays.
    """
    check_is_file(path, "weights", "an existing file")
    for ending, reader in _READERS.items():
        if path.name.endswith(ending):
            check_file(path)
            return reader(path)
    raise InputError("unknown kind of weights file", received=path, accepted=ACCEPTED)


def read_weights_file(path: Path) -> LayerArrays:
    """The layers in a .weights.h5 file of Keras 3; those of a preset's head with its backbone's.

    Raises:
        InputError: as `read`.
    """
    check_is_file(path, "weights", "an existing .weights.h5 file")
    check_file(path)
    layers = hdf5.read_keras3(path)
    head = path.with_name(PRESET_HEAD)
    if path.name == PRESET and head.is_file():
        check_file(head)
        layers |= hdf5.read_keras3(head)
    return layers


def find_in(folder: Path) -> Path:
    """The file of weights in a folder: a run's, one as the Hugging Face hub has it, a preset.

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


_SAFETENSORS_NUMBERS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8")


def _safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118
                if (kind := file.get_slice(name).get_dtype()) not in _SAFETENSORS_NUMBERS:
                    raise unreadable(path, TypeError(f"{name} has numbers of kind {kind}"))
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            written = file.metadata() or {}
    except (SafetensorError, OSError, MemoryError) as error:
        raise unreadable(path, error) from error
    values = {name: value.astype("float32", copy=False) for name, value in values.items()}
    return Tensors(values, metadata.inside(path, written))


def _torch(path: Path) -> Tensors:
    arrays, taken = torch_files.read(path)
    if taken:
        print(f"{path}: the weights are those of {taken}")
    return Tensors(arrays)


def _keras2(path: Path) -> Layers:
    layers = hdf5.read_keras2(path)
    return Layers(_normalized({name: arrays for name, arrays in layers.items() if arrays}))


# RuntimeError is zipfile's of compression and encryption that it does not know.
_NPZ_DAMAGE = (
    *(OSError, EOFError, MemoryError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


def _blobs(path: Path) -> Layers:
    """Caffe's blobs, "<layer>/<number>", kernels (out, in, height, width)."""
    if not zipfile.is_zipfile(path):
        raise unreadable(path, zipfile.BadZipFile("no zip file"))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {key: np.asarray(content[key]) for key in content.files}
    except _NPZ_DAMAGE as error:
        raise unreadable(path, error) from error
    check_size(path, sum(array.nbytes for array in arrays.values()))
    layers: dict[str, dict[int, np.ndarray]] = {}
    for key, array in arrays.items():
        layer, _, number = key.rpartition("/")
        if not number.isdecimal() or array.dtype.kind not in "fiu":
            raise InputError(
                "this is no blob of the Caffe release",
                received=f"{key} of type {array.dtype}, in {path}",
                accepted="arrays of numbers by the names of layers, such as res2a_branch2a/0",
            )
        layers.setdefault(layer, {})[int(number)] = array
    return Layers(_normalized({layer: _of_caffe(layer, blobs) for layer, blobs in layers.items()}))


def _of_caffe(layer: str, blobs: dict[int, np.ndarray]) -> list[np.ndarray]:
    arrays = [blobs[number] for number in sorted(blobs)]
    if layer.startswith("bn") and len(arrays) == 3:
        # Caffe keeps sums, and their weight.
        mean, variance, weight = arrays
        scale = 1 / float(weight.ravel()[0]) if weight.any() else 0.0
        return [mean * scale, variance * scale]
    return [array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T for array in arrays]


def _normalized(layers: LayerArrays) -> LayerArrays:
    """Batch normalisations as Keras has them, where a "scale…" layer follows them as in Caffe."""
    merged = {}
    for name, arrays in layers.items():
        if name.startswith("scale"):
            continue
        scale = layers.get(f"scale{name.removeprefix('bn')}") if name.startswith("bn") else None
        # Where Keras keeps them apart, its own gamma and beta are 1 and 0.
        merged[name] = [*scale, *arrays[-2:]] if scale else arrays
    return merged


_READERS: dict[str, Callable[[Path], Content]] = {
    ".safetensors": _safetensors,
    **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar"), _torch),
    ".npz": _blobs,
    ".h5": _keras2,
}
