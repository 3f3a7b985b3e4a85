"""Keras callbacks that write what an epoch came to: history, best model, TensorBoard's curves."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_keras.files.atomic import write_file
from resnet_keras.runs.run import HistoryRow, Run
from resnet_keras.runs.tensorboard import EventLog
from resnet_keras.training import devices
from resnet_keras.training.callback_list import RunCallback
from resnet_keras.training.callbacks import Averages, Progress, learning_rate_of


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
        row = _history_row(epoch + 1, logs or {}, learning_rate_of(self.model))
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
