"""Which pipeline feeds the backend that Keras computes with."""

from types import ModuleType

import keras

from resnet_keras.data.augmentation import Augmentation


def of_backend() -> ModuleType:
    """tf_pipeline under TensorFlow, numpy_pipeline under any other backend."""
    if keras.backend.backend() == "tensorflow":
        from resnet_keras.data.pipelines import tf_pipeline

        return tf_pipeline
    from resnet_keras.data.pipelines import numpy_pipeline

    return numpy_pipeline


def check(augmentation: Augmentation) -> None:
    """Raises InputError if the backend's pipeline cannot do this."""
    if keras.backend.backend() != "tensorflow":
        from resnet_keras.data.pipelines import numpy_pipeline

        numpy_pipeline.check(augmentation)
