"""The start of the framework that computes, which is late and quiet."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from resnet_keras.errors import InputError

BACKENDS = ("tensorflow", "jax")


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's start-up log off the terminal, unless TF_CPP_MIN_LOG_LEVEL asks for it.

    Its C++ part writes some lines at import whatever the level is, hence the redirection.
    """
    backend = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if backend not in BACKENDS:
        raise InputError(
            "this package does not support this backend",
            received=f"KERAS_BACKEND={backend}",
            accepted=", ".join(BACKENDS),
        )
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
