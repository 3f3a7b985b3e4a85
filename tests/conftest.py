"""What every test needs: a quiet TensorFlow, Keras in its initial state, and the form of errors."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Before Keras, for it chooses TensorFlow's kernels.
import resnet_keras  # noqa: F401  # isort: skip

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import kit
import pytest

from resnet_keras.errors import InputError
from resnet_keras.runs.run import Run

RAISED: list[InputError] = []


def pytest_configure(config: pytest.Config) -> None:
    """Lets XLA compile quickly, and keep it for the many processes that train the same on JAX."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if cache := getattr(config, "cache", None):  # -p no:cacheprovider
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.mkdir("xla")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    setattr(InputError, "__init__", _remembering(InputError.__init__))  # noqa: B010


def _remembering(initialize):
    @functools.wraps(initialize)
    def remember(error, *arguments, **options):
        initialize(error, *arguments, **options)
        RAISED.append(error)

    return remember


@pytest.fixture(autouse=True)
def errors_have_their_form() -> Iterator[None]:
    """Fails a test in which an InputError does not tell the whole story in one line."""
    RAISED.clear()
    yield
    for error in RAISED:
        assert not kit.faults_of(error), f"{error!s}: {kit.faults_of(error)}"


@pytest.fixture(autouse=True)
def fresh_keras() -> None:
    """Forgets layer names and the dtype policy of the test before."""
    # Collecting garbage after every test would take longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def tiny_network():
    """Puts `kit.TINY`, a network of seconds, into the table of named ones as "tiny"."""
    with kit.tiny_names():
        yield kit.TINY


@pytest.fixture
def mixed_bfloat16(fresh_keras: None) -> None:
    """Layers compute in bfloat16; the next test's fresh_keras takes the policy back."""
    keras.config.set_dtype_policy("mixed_bfloat16")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A copy of the finished run."""
    shutil.copytree(kit.finished_run().folder, tmp_path / "run")
    return Run(tmp_path / "run")
