"""Keras's backend as the networks see it: the type of its tensors, and how TensorFlow computes."""

from typing import Any, TypeAlias

import keras

Tensor: TypeAlias = Any
"""A tensor of Keras's backend (tf.Tensor, jax.Array), or a symbolic keras.KerasTensor.

Layers and operations of Keras take either, and the three have no type in common.
"""


def computes_on_tensorflow_cpu() -> bool:
    """Whether TensorFlow is the backend, and has no GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")


def is_traced_for_xla() -> bool:
    """Whether TensorFlow is tracing a function with jit_compile=True.

    XLA lowers the fused operation to E[x^2] - E[x]^2, which cancels in float32 (the outputs of
    channels with a mean of ten deviations are off by 3e-4), and gains no time by it.
    """
    import tensorflow as tf

    return tf.__internal__.get_enclosing_xla_context() is not None


def has_xla() -> bool:
    """Whether this build of TensorFlow can compile with XLA."""
    import tensorflow as tf

    return tf.test.is_built_with_xla()
