"""What a run writes while it trains."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from resnet_keras.errors import DivergedError, Interrupted
from resnet_keras.files.atomic import write_file
from resnet_keras.runs import checkpoints
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.runs.run import HistoryRow, Run
from resnet_keras.runs.tensorboard import EventLog
from resnet_keras.training import devices
from resnet_keras.training.signals import Interruption


@dataclass(frozen=True)
class Logs:
    """TensorBoard's two curves."""

    training: EventLog
    validation: EventLog


class Recorder(keras.callbacks.Callback):
    """Keeps a run on disk: checkpoints, history, TensorBoard's events, the best model.

    A new process gives it the last checkpoint, and goes on as if nothing had happened.

    Args:
        run: the run folder.
        logs: TensorBoard's; None in a process that writes nothing, since another one does.
        interruption: a signal that has come stops the training after a checkpoint.
        kept: the run's checkpoints.
        start: the one that the model goes on from; None begins.
        steps_per_epoch: of training.
        checkpoint_steps: how many steps lie between checkpoints; every epoch ends in one anyway.
        images: (training images a step, validation images).
        averages: whether the optimizer keeps averages of the weights, which are then validated.
        agree: the largest of the numbers that all processes of the training bring.
    """

    def __init__(
        self,
        run: Run,
        logs: Logs | None,
        interruption: Interruption,
        kept: Checkpoints,
        start: Checkpoint | None,
        *,
        steps_per_epoch: int,
        checkpoint_steps: int,
        images: tuple[int, int],
        averages: bool,
        agree: Callable[[int], int],
    ) -> None:
        super().__init__()
        self.run = run
        self.logs = logs
        self.interruption = interruption
        self.steps_per_epoch = steps_per_epoch
        self.checkpoint_steps = checkpoint_steps
        self.batch_size, self.validation_images = images
        self.averages = averages
        self.agree = agree
        self.step = start.step if start else 0
        self.phase_end: int | None = None  # the epoch with which fit is to stop
        self.history: list[HistoryRow] = list(start.notes["history"]) if start else []
        self._start = start
        self._checkpoints = kept
        self._signal = 0
        self._speeds = run.read_speeds()[: len(self.history)]

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.averages:
            # Keras puts the averages into the model where a fit ends. A fit of a run may end in
            # mid-epoch, and the next one goes on from the weights.
            self._optimizer.finalize_variable_values = lambda variables: None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._start is not None and self.step % self.steps_per_epoch:
            # Keras has just set the metrics back, which in mid-epoch go on.
            checkpoints.restore(self.model, self._start.arrays)
        self._start = None
        self._first_step = self.step
        self._epoch_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.step += 1
        # Validation follows the last batch, and is not training time.
        self._last_batch_ended = time.perf_counter()
        self._check_loss((logs or {})["loss"])
        if self.step % self.steps_per_epoch == 0:
            return  # on_epoch_end follows
        stops = self._is_to_stop()
        if stops or self.step % self.checkpoint_steps == 0:
            self._keep()
        if stops:
            self._stop()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._swap_averages()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        self._swap_averages()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        row = self._row(epoch + 1, logs or {})
        errors = [earlier["validation_top1_error"] for earlier in self.history]
        best = validates_best(row["validation_top1_error"], errors, self.validation_images)
        row["best"] = int(best)
        self.history.append(row)
        self._speeds.append(self._speed(epoch + 1))
        if self.logs:
            with devices.apart():
                self._write_epoch(row, self.logs)
        self._keep()
        if self._is_to_stop():
            self._stop()
        # The next epoch has more steps than the rest of one, and another phase trains other layers.
        if self._first_step % self.steps_per_epoch or epoch + 1 == self.phase_end:
            self.model.stop_training = True

    def _write_epoch(self, row: HistoryRow, logs: Logs) -> None:
        if row["best"]:
            self._swap_averages()
            write_file(self.run.best_model, self.model.save)
            self._swap_averages()
        # In this order: a history without speeds beside it is one of format 1.
        self.run.write_speeds(self._speeds)
        self.run.write_history(self.history)
        self._log(row, logs)

    def _check_loss(self, loss: Any) -> None:
        if math.isfinite(float(loss)):
            return
        self._synchronize()
        raise DivergedError(
            f"the loss is {float(loss)} at step {self.step} (epoch "
            f"{-(-self.step // self.steps_per_epoch)}), the learning rate "
            f"{float(self._optimizer.learning_rate):.3g}; last good checkpoint: "
            f"{self._last_kept}, in {self.run.checkpoints}. A lower --learning-rate, or "
            "more warm-up, and --start-over"
        )

    @property
    def _last_kept(self) -> str:
        step = self._checkpoints.last_whole
        return "none" if step is None else f"step {step}"

    def _is_to_stop(self) -> bool:
        # All processes stop after the same step, whichever of them the signal reached.
        self._signal = self.agree(self.interruption.signal or 0)
        return self._signal != 0

    def _stop(self) -> None:
        raise Interrupted(
            self._signal,
            f"stopped after step {self.step}, last checkpoint: {self._last_kept}, in "
            f"{self.run.checkpoints}; the same command goes on",
        )

    def _keep(self) -> None:
        """Writes a checkpoint; one that cannot be written costs no more than itself."""
        if self.logs is None:
            self._checkpoints.last_whole = self.step
            return
        self._synchronize()
        checkpoint = Checkpoint(
            self.step, checkpoints.capture(self.model), {"history": self.history}
        )
        try:
            self._checkpoints.write(checkpoint)
        except OSError as error:
            print(
                f"\nthe checkpoint of step {self.step} cannot be written ({error}); training goes "
                f"on, last checkpoint: {self._last_kept}",
                flush=True,
            )

    def _synchronize(self) -> None:
        """Brings the model's variables up to date, which Keras on JAX leaves behind in an epoch."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    @property
    def _optimizer(self) -> Any:
        """The recipe's, without the wrapper that scales the loss."""
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _swap_averages(self) -> None:
        if self.averages:
            swap_averages(self._optimizer)

    def _row(self, epoch: int, logs: dict[str, float]) -> HistoryRow:
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
            "learning_rate": float(self._optimizer.learning_rate),
        }

    def _speed(self, epoch: int) -> dict[str, float]:
        seconds = self._last_batch_ended - self._epoch_started
        images = (self.step - self._first_step) * self.batch_size
        return {"epoch": epoch, "images_per_second": images / seconds, "seconds": seconds}

    def _log(self, row: HistoryRow, logs: Logs) -> None:
        epoch = int(row["epoch"])
        errors = ("loss", "top1_error", "top5_error")
        speed = self._speeds[-1]
        steps = self.step - self._first_step
        logs.training.scalars(
            epoch,
            {name: row[name] for name in (*errors, "learning_rate")}
            | {
                "images_per_second": speed["images_per_second"],
                "seconds_per_step": speed["seconds"] / steps,
            },
        )
        logs.validation.scalars(epoch, {name: row[f"validation_{name}"] for name in errors})


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
