"""What a recipe's labels are compared with, and how."""

from typing import Any

import keras
from keras import ops

from resnet_keras.evaluation.protocols import says_top5
from resnet_keras.recipes import Recipe


@keras.saving.register_keras_serializable(package="resnet_keras")
class ShareCrossentropy(keras.losses.Loss):
    """Cross-entropy of a softmax, of labels that are shares or class numbers.

    Training images may be mixed, and validation images are not: labels are (batch, classes) shares
    that sum to 1, or (batch,) class numbers; predictions (batch, classes) probabilities.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.losses.categorical_crossentropy(_shares(y_true, y_pred), y_pred)


@keras.saving.register_keras_serializable(package="resnet_keras")
class PresenceCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of one sigmoid for every class, whether it is present in the image.

    Of images that were mixed, all their classes are present alike, whatever their shares (Wightman
    et al. 2021, section 3.1). Labels are those of `ShareCrossentropy`.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        present = ops.cast(ops.greater(_shares(y_true, y_pred), 0.0), y_pred.dtype)
        return keras.losses.binary_crossentropy(present, y_pred)


def _are_shares(y_true: Any, y_pred: Any) -> bool:
    return len(y_true.shape) == 2 and y_true.shape[1] == y_pred.shape[1]


def _shares(y_true: Any, y_pred: Any) -> Any:
    if _are_shares(y_true, y_pred):
        return y_true
    return ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), y_pred.shape[1])


def _class_numbers(y_true: Any, y_pred: Any) -> Any:
    return ops.argmax(y_true, axis=1) if _are_shares(y_true, y_pred) else y_true


@keras.saving.register_keras_serializable(package="resnet_keras")
def top1_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Of labels as `ShareCrossentropy` takes them; the class with the largest share counts."""
    labels = _class_numbers(y_true, y_pred)
    return keras.metrics.sparse_categorical_accuracy(labels, y_pred)


@keras.saving.register_keras_serializable(package="resnet_keras")
def top5_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Of labels as `ShareCrossentropy` takes them; the class with the largest share counts."""
    labels = _class_numbers(y_true, y_pred)
    return keras.metrics.sparse_top_k_categorical_accuracy(labels, y_pred, k=5)


def loss(recipe: Recipe) -> keras.losses.Loss:
    """The recipe's loss, in nats."""
    if recipe.loss == "binary":
        return PresenceCrossentropy()
    if recipe.augmentation.makes_probabilities:
        return ShareCrossentropy()
    return keras.losses.SparseCategoricalCrossentropy()


def metrics(classes: int) -> list[keras.metrics.Metric]:
    """Top-1 accuracy, and top-5 accuracy where it tells anything."""
    top1 = keras.metrics.MeanMetricWrapper(top1_accuracy, name="accuracy")
    if not says_top5(classes):
        return [top1]
    return [top1, keras.metrics.MeanMetricWrapper(top5_accuracy, name="top5_accuracy")]


def activation(recipe: Recipe) -> str:
    """Of the classifier: what turns its scores into the probabilities that the loss takes."""
    return "sigmoid" if recipe.loss == "binary" else "softmax"
