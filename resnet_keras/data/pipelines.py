"""Which pipeline feeds the backend that Keras computes with."""

from types import ModuleType

import keras


def of_backend() -> ModuleType:
    """tf_pipeline under TensorFlow, numpy_pipeline under any other backend."""
    if keras.backend.backend() == "tensorflow":
        from resnet_keras.data import tf_pipeline

        return tf_pipeline
    from resnet_keras.data import numpy_pipeline

    return numpy_pipeline
