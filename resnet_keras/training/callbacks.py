"""Keras callbacks of a training run, each with one job, in the order in which they are called.

`Progress` counts steps, `StopOnNonFiniteLoss` looks at the loss, `RestoreMetrics` and `Averages`
prepare what Keras computes. The caller's callbacks follow. `EpochHistory` writes the history and
the best model, `LogCurves` TensorBoard's curves, `WriteCheckpoints` checkpoints; `StopOnSignal`
comes last.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from resnet_keras.errors import DivergedError, Interrupted
from resnet_keras.files.atomic import write_file
from resnet_keras.runs import checkpoints as snapshots
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.runs.run import HistoryRow, Run
from resnet_keras.runs.tensorboard import EventLog
from resnet_keras.training import devices
from resnet_keras.training.callback_list import RunCallback
from resnet_keras.training.devices import DeviceGroup
from resnet_keras.training.signals import Interruption


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
            f"{_learning_rate(self.model):.3g}; last good checkpoint: "
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
            _optimizer(self.model).finalize_variable_values = lambda variables: None

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
            swap_averages(_optimizer(self.model))


class EpochHistory(RunCallback):
    """Writes history.csv, speed.csv and best.keras at the end of every epoch.

    Args:
        run: the run folder; None in a process that writes nothing.
        progress: of the run.
        averages: of the weights.
        images: (training images a step, validation images).
        rows: of the epochs that are done.

    Attributes:
        rows, speeds: one for every epoch, as the files have them.
    """

    def __init__(
        self,
        run: Run | None,
        progress: Progress,
        averages: Averages,
        images: tuple[int, int],
        rows: Sequence[HistoryRow],
    ) -> None:
        super().__init__()
        self.run = run
        self.progress = progress
        self.averages = averages
        self.batch_size, self.validation_images = images
        self.rows = list(rows)
        # A killed process may have written the speed of an epoch that comes again.
        self.speeds = run.read_speeds()[: len(self.rows)] if run else []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._first_step = self.progress.step
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.progress.ends_epoch:  # validation follows, and is not training time
            self._seconds = time.perf_counter() - self._started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = _history_row(epoch + 1, logs or {}, _learning_rate(self.model))
        errors = [earlier["validation_top1_error"] for earlier in self.rows]
        best = validates_best(row["validation_top1_error"], errors, self.validation_images)
        row["best"] = int(best)
        self.rows.append(row)
        self.speeds.append(self._speed(epoch + 1))
        if self.run is None:
            return
        if best:
            with devices.process_local(), self.averages.in_model():
                write_file(self.run.best_model, self.model.save)
        self.run.write_speeds(self.speeds)
        self.run.write_history(self.rows)

    @property
    def seconds_per_step(self) -> float:
        """Of the last epoch, as far as this process has trained it."""
        return self._seconds / (self.progress.step - self._first_step)

    def _speed(self, epoch: int) -> dict[str, float]:
        images_per_second = self.batch_size / self.seconds_per_step
        return {"epoch": epoch, "images_per_second": images_per_second, "seconds": self._seconds}


def _history_row(epoch: int, logs: dict[str, float], learning_rate: float) -> HistoryRow:
    def error(accuracy: str) -> float:
        return round(1 - logs[accuracy], 6)  # accuracies are float32

    def top5_error(accuracy: str) -> float:
        return error(accuracy) if accuracy in logs else 0.0  # of five classes or fewer

    return {
        "epoch": epoch,
        "loss": logs["loss"],
        "top1_error": error("accuracy"),
        "top5_error": top5_error("top5_accuracy"),
        "validation_loss": logs["val_loss"],
        "validation_top1_error": error("val_accuracy"),
        "validation_top5_error": top5_error("val_top5_accuracy"),
        "learning_rate": learning_rate,
    }


@dataclass(frozen=True)
class Logs:
    """TensorBoard's two curves."""

    training: EventLog
    validation: EventLog


class LogCurves(RunCallback):
    """Logs the rows of the history as TensorBoard's curves.

    Args:
        logs: TensorBoard's.
        history: of the run.
    """

    def __init__(self, logs: Logs, history: EpochHistory) -> None:
        super().__init__()
        self.logs = logs
        self.history = history

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row, speed = self.history.rows[-1], self.history.speeds[-1]
        errors = ("loss", "top1_error", "top5_error")
        self.logs.training.scalars(
            epoch + 1,
            {name: row[name] for name in (*errors, "learning_rate")}
            | {
                "images_per_second": speed["images_per_second"],
                "seconds_per_step": self.history.seconds_per_step,
            },
        )
        self.logs.validation.scalars(
            epoch + 1, {name: row[f"validation_{name}"] for name in errors}
        )


class WriteCheckpoints(RunCallback):
    """Writes checkpoints: every so many steps, and where an epoch ends.

    A checkpoint that cannot be written is told; training goes on without it.

    Args:
        checkpoints: of the run.
        progress: of the run.
        history: whose rows a checkpoint holds.
        loss: looked at before anything is written.
        every: steps between checkpoints.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        history: EpochHistory,
        loss: StopOnNonFiniteLoss,
        every: int,
    ) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.progress = progress
        self.history = history
        self.loss = loss
        self.every = every

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # Where an epoch ends, validation comes before the checkpoint.
        if self.progress.step % self.every == 0 and not self.progress.ends_epoch:
            self.write()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.write()

    def write(self) -> None:
        """Writes a checkpoint of the last step.

        Raises:
            DivergedError: the loss of the step is not finite.
        """
        self.loss.check()
        step = self.progress.step
        if not self.checkpoints.is_writer:
            self.checkpoints.remember(step)
            return
        update_variables(self.model)
        checkpoint = Checkpoint(step, snapshots.capture(self.model), {"history": self.history.rows})
        try:
            self.checkpoints.write(checkpoint)
        except OSError as error:
            print(
                f"\nthe checkpoint of step {step} cannot be written ({error}); training goes on, "
                f"last checkpoint: {self.checkpoints.last}",
                flush=True,
            )


class StopOnSignal(RunCallback):
    """Raises Interrupted, after a checkpoint, when a signal has come to one of the processes.

    All processes stop after the same step. Several processes learn of a signal a step later: each
    starts to ask the others in a step, and reads the answer in the next, so that no device waits.

    Args:
        interruption: the signal that has come to this process.
        group: of the processes.
        progress: of the run.
        checkpoints: writes the last one.
    """

    def __init__(
        self,
        interruption: Interruption,
        group: DeviceGroup,
        progress: Progress,
        checkpoints: WriteCheckpoints,
    ) -> None:
        super().__init__()
        self.interruption = interruption
        self.group = group
        self.progress = progress
        self.checkpoints = checkpoints
        self._asked: Any = 0  # the largest signal of all processes, as of the step before

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.progress.ends_epoch:
            return  # on_epoch_end follows
        before, self._asked = self._asked, self.group.start_all_reduce(self._own)
        signal = int(self._asked if self.group.processes == 1 else before)
        if signal:
            self.checkpoints.write()
            self._stop(signal)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if signal := self.group.all_reduce_max(self._own):
            self._stop(signal)

    @property
    def _own(self) -> int:
        return self.interruption.signal or 0

    def _stop(self, signal: int) -> None:
        raise Interrupted(
            signal,
            f"stopped after step {self.progress.step}, last checkpoint: "
            f"{self.checkpoints.checkpoints.last}; the same command goes on",
        )


def update_variables(model: Any) -> None:
    """Brings a model's variables up to date, which Keras on JAX leaves behind in an epoch."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _optimizer(model: Any) -> Any:
    """The recipe's, without the wrapper that scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _learning_rate(model: Any) -> float:
    return float(_optimizer(model).learning_rate)


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


def validates_best(error: float, earlier: Sequence[float], images: int) -> bool:
    """Whether a validation error makes its epoch the best one so far.

    It does if no earlier error is lower by more than one standard error (Breiman et al. 1984, the
    1-SE rule). Some hundred validation images cannot tell 1% from 2%, and of epochs that they
    cannot tell apart the later one, with the smaller learning rate, does better on other images.

    Args:
        error: top-1 error of the epoch, 0..1.
        earlier: those of the epochs before it.
        images: how many the errors were measured on.
    """
    lowest = min(earlier, default=1.0)
    return error <= lowest + math.sqrt(lowest * (1 - lowest) / images)
