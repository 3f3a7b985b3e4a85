"""Keras callbacks that come before the caller's: steps, the loss, metrics and averages.

history.py and checkpointing.py hold the callbacks that come after the caller's. fitting.py sets the
order of all callbacks.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from resnet_keras.errors import DivergedError
from resnet_keras.runs import checkpoints as snapshots
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.training.callback_list import RunCallback


class Progress(RunCallback):
    """Counts the steps of the run.

    Args:
        steps_per_epoch: of training.
        step: that is done already.

    Attributes:
        step: how many steps are done, from the run's first on.
    """

    def __init__(self, steps_per_epoch: int, step: int = 0) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.step = step

    @property
    def ends_epoch(self) -> bool:
        """Whether the step that was counted last is the last one of its epoch."""
        return self.step % self.steps_per_epoch == 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1


class StopOnNonFiniteLoss(RunCallback):
    """Raises DivergedError when the loss is not finite.

    The loss of a step is looked at when the next step has been started, so that the device always
    has work; at once where an epoch ends. Whoever writes weights calls `check` before.

    Args:
        progress: of the run.
        checkpoints: the last of which the error names.
    """

    def __init__(self, progress: Progress, checkpoints: Checkpoints) -> None:
        super().__init__()
        self.progress = progress
        self.checkpoints = checkpoints
        self._unchecked: tuple[int, Any] | None = None  # a step and its loss

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.check()
        self._unchecked = (self.progress.step, (logs or {})["loss"])
        if self.progress.ends_epoch:
            self.check()

    def check(self) -> None:
        """Looks at the loss of the last step, and waits for the step.

        Raises:
            DivergedError: the loss is not finite.
        """
        if self._unchecked is None:
            return
        (step, tensor), self._unchecked = self._unchecked, None
        loss = float(tensor)
        if math.isfinite(loss):
            return
        update_variables(self.model)
        raise DivergedError(
            f"the loss is {loss} at step {step} (epoch "
            f"{-(-step // self.progress.steps_per_epoch)}), the learning rate "
            f"{learning_rate_of(self.model):.3g}; last good checkpoint: "
            f"{self.checkpoints.last}. A lower --learning-rate, or more warm-up, and --start-over"
        )


class RestoreMetrics(RunCallback):
    """Restores the metrics of the epoch in which a run was interrupted.

    Keras resets metrics where a fit begins, which here may be in the middle of an epoch.

    Args:
        start: the checkpoint that the run goes on from.
        progress: of the run.
    """

    def __init__(self, start: Checkpoint, progress: Progress) -> None:
        super().__init__()
        self.start = start
        self.progress = progress

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.progress.step == self.start.step and not self.progress.ends_epoch:
            snapshots.restore(self.model, self.start.arrays)


class Averages(RunCallback):
    """Shows validation the moving averages of the weights, where the optimizer keeps them.

    Args:
        are_kept: whether it does.
    """

    def __init__(self, are_kept: bool) -> None:
        super().__init__()
        self.are_kept = are_kept

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.are_kept:
            # Keras puts the averages into the model where a fit ends. A fit of a run may end in
            # mid-epoch, and the next one goes on from the weights.
            optimizer_of(self.model).finalize_variable_values = lambda variables: None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._swap()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._swap()

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model's weights are their averages while inside."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        if self.are_kept:
            swap_averages(optimizer_of(self.model))


def update_variables(model: Any) -> None:
    """Brings a model's variables up to date, which Keras on JAX leaves behind in an epoch."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def optimizer_of(model: Any) -> Any:
    """The recipe's, without the wrapper that scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def learning_rate_of(model: Any) -> float:
    """The learning rate of a model's next step."""
    return float(optimizer_of(model).learning_rate)


def swap_averages(optimizer: Any) -> None:
    """Exchanges the weights and their moving averages; a second call brings them back.

    Args:
        optimizer: any of Keras's that is built and has use_ema=True.
    """
    for weight, average in zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    ):
        value = keras.ops.copy(weight)
        weight.assign(average)
        average.assign(value)
