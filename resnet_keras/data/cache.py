"""What takes long to find out about files, kept until the files change."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs

from resnet_keras.files.atomic import read_arrays


def folder() -> Path:
    """The user's folder of the cache: on Linux resnet-keras/ in XDG_CACHE_HOME or ~/.cache.

    Raises:
        RuntimeError: the user has no home.
    """
    # Of a user without a home, platformdirs gives "~" back.
    return platformdirs.user_cache_path("resnet-keras", appauthor=False).expanduser()


def remembered(key: str, names: Collection[str]) -> dict[str, np.ndarray] | None:
    """The arrays that were kept under a key; None if there are none of these names, all whole."""
    with suppress(OSError, RuntimeError, ValueError, MemoryError):
        arrays = read_arrays(_file(key))
        if arrays.keys() == {*names}:
            return arrays
    return None


def remember(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps arrays under a key. Where nothing can be written, nothing is kept."""
    with suppress(OSError, RuntimeError):  # what is not kept is only found out again
        file = _file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=file.parent, suffix=".part")
        try:
            with open(descriptor, "wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            os.replace(beside, file)
        except BaseException:
            os.unlink(beside)
            raise


def found_out(
    key: str, names: Collection[str], find_out: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that are kept under a key; if there are none, finds them out and keeps them."""
    arrays = remembered(key, names)
    if arrays is None:
        arrays = find_out()
        remember(key, arrays)
    return arrays


def stamp(paths: Iterable[str]) -> str:
    """Changes when a file is written or replaced: a digest of names, sizes and dates."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            told = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:
            told = f"{path}\0missing\n"
        digest.update(told.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _file(key: str) -> Path:
    return folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
