"""What a .keras file holds, checked before Keras makes a model of it."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_keras.errors import InputError, first_line
from resnet_keras.files.atomic import check_is_file
from resnet_keras.files.structured import JsonObject
from resnet_keras.weights.hdf5 import LayerArrays, check_declared, read_keras3
from resnet_keras.weights.limits import check_file

CONFIG, WEIGHTS = "config.json", "model.weights.h5"

LARGEST_CONFIG = 1 << 26
"""Bytes. The description of 1202 layers has some millions."""

# What zipfile raises, KeyError of a missing member and RuntimeError of an encrypted one.
_DAMAGE = (
    OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


def read_config(path: Path) -> JsonObject:
    """The description of the model in a .keras file that is whole and of a usual size.

    Compares the checksums, which Keras does not: HDF5 can crash the process on damaged bytes.

    Raises:
        InputError: there is no such file, it is none of Keras, damaged, or larger inflated than any
            network's.
    """
    check_is_file(path, "model", "an existing .keras file")
    if not zipfile.is_zipfile(path):
        raise InputError(
            "the file is not a .keras file, or is truncated",
            received=path,
            accepted="a complete .keras file",
        )
    check_file(path)
    with _opened(path) as archive:
        if archive.getinfo(CONFIG).file_size > LARGEST_CONFIG:
            raise _damaged(path, f"{CONFIG} has more than {LARGEST_CONFIG:,} bytes")
        if damaged := archive.testzip():
            raise _damaged(path, f"{damaged} is damaged")
        text, weights = archive.read(CONFIG), archive.read(WEIGHTS)
    check_declared(path, io.BytesIO(weights))
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, first_line(error)) from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise _damaged(path, f"{CONFIG} describes no model")
    return config


def read_layers(path: Path) -> LayerArrays:
    """The weights in a .keras file that `read_config` has checked, without a model made of it.

    Raises:
        InputError: they are not laid out as Keras 3 does it.
    """
    with _opened(path) as archive:
        weights = archive.read(WEIGHTS)
    # In memory: HDF5 seeks back and forth, and a member of an archive is read anew each time.
    return read_keras3(path, io.BytesIO(weights))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, first_line(error)) from error


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        "this model cannot be loaded",
        received=f"{path} ({reason})",
        accepted="an undamaged .keras file of this package",
    )
