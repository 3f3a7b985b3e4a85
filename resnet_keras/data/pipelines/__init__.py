"""Which pipeline makes the batches: tf.data wherever TensorFlow is installed, else NumPy."""

import functools
from contextlib import suppress
from types import ModuleType

import keras

from resnet_keras.data.augmentation import Augmentation


@functools.cache
def pipeline() -> ModuleType:
    """Returns tf_pipeline if TensorFlow can be imported, numpy_pipeline if not.

    Beside another backend TensorFlow makes batches on the CPU, and leaves the GPUs alone.
    """
    try:
        import tensorflow as tf
    except ImportError:
        from resnet_keras.data.pipelines import numpy_pipeline

        return numpy_pipeline
    if keras.backend.backend() != "tensorflow":
        with suppress(RuntimeError):  # the caller has computed with TensorFlow before
            tf.config.set_visible_devices([], "GPU")
    from resnet_keras.data.pipelines import tf_pipeline

    return tf_pipeline


def check(augmentation: Augmentation) -> None:
    """Raises InputError if the pipeline cannot do this augmentation."""
    pipeline().check(augmentation)
