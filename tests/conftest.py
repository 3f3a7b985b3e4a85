"""What every test needs: a quiet TensorFlow, and Keras in its initial state."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest


@pytest.fixture(autouse=True)
def fresh_keras() -> None:
    """Forgets layer names and the dtype policy of the test before."""
    # Collecting garbage after every test would take longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
