"""What TensorBoard shows of a training beside its curves: pictures, the graph, gradient norms."""

from typing import Any

import numpy as np

from resnet_keras.data.splits import Split
from resnet_keras.evaluation import plots
from resnet_keras.evaluation.evaluate import evaluate
from resnet_keras.evaluation.explanation import explain_mistakes
from resnet_keras.evaluation.introspection import by_stage, gradient_norms
from resnet_keras.runs.run import RunDetails
from resnet_keras.runs.tensorboard import EventLog, image_grid
from resnet_keras.training import devices
from resnet_keras.training.callback_list import RunCallback

GRID_IMAGES = 32
CONFUSION_MATRIX, WORST_MISTAKES = AT_THE_END = ("confusion_matrix", "worst_mistakes")  # tags


class Diagnostics(RunCallback):
    """Keras callback that logs the network's graph, augmented images and gradient norms.

    The norms are those of one batch after every epoch, which costs a step each.

    Args:
        log: TensorBoard's of the training.
        images: a batch (n, height, width, 3), pixels 0..255, as augmentation makes it.
        labels: of the images, as the model's loss takes them.
        begins: log graph and images, too; a run that goes on has them.
    """

    def __init__(self, log: EventLog, images: np.ndarray, labels: np.ndarray, begins: bool) -> None:
        super().__init__()
        self.log = log
        self.images = images
        self.labels = labels
        self.begins = begins

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.begins:
            self.log.graph(self.model)
            self.log.image(0, "augmented_inputs", image_grid(self.images[:GRID_IMAGES]))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        with devices.process_local():
            norms = by_stage(gradient_norms(self.model, self.images, self.labels))
        self.log.scalars(epoch + 1, {f"gradient_norm/{part}": norm for part, norm in norms.items()})


def log_mistakes(log: EventLog, model: Any, validation: Split, details: RunDetails) -> None:
    """Logs what a run's best model confuses in its last epoch, and why.

    Args:
        log: TensorBoard's of the validation.
        model: the best one.
        validation: images to show it.
        details: of the run.
    """
    names = details.class_names
    found = evaluate(model, validation, verbose=0)
    drawn = {
        CONFUSION_MATRIX: plots.confusion_matrix(np.array(found.confusion_matrix), names),
        WORST_MISTAKES: explain_mistakes(model, validation, found.mistakes, names),
    }
    for tag, picture in drawn.items():
        if picture:
            log.image(details.recipe.epochs, tag, plots.pixels(picture))
