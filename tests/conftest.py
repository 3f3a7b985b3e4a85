"""What every test needs: a quiet TensorFlow, and Keras in its initial state."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Before Keras, for it chooses TensorFlow's kernels.
import resnet_keras  # noqa: F401  # isort: skip

import dataclasses

import keras
import pytest

from resnet_keras import architectures
from resnet_keras.architectures import RESNET20, Stem

TINY = dataclasses.replace(RESNET20, stem=Stem(4, 3), blocks=(1, 1, 1), filters=(4, 8, 16))


def pytest_configure(config: pytest.Config) -> None:
    """Lets XLA compile quickly, and keep it for the many processes that train the same on JAX."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if config.cache:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("xla")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture(autouse=True)
def fresh_keras() -> None:
    """Forgets layer names and the dtype policy of the test before."""
    # Collecting garbage after every test would take longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def tiny_network():
    """Puts a network of seconds, "tiny", into the table of named ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.NETWORKS, "tiny", TINY)
        yield TINY
