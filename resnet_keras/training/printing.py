"""The Keras callback that prints the progress of a run."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from resnet_keras.data.progress import Clock, duration
from resnet_keras.training.callback_list import RunCallback
from resnet_keras.training.callbacks import Progress as Steps
from resnet_keras.training.history import EpochHistory


class PrintProgress(RunCallback):
    """Keras callback that prints a line an epoch, images per second and the run's remaining time.

    On a terminal there is a bar for the whole run, too. Elsewhere a line comes after every 30
    seconds of silence. The remaining time is that of all epochs with their validation, at the speed
    since the first step of this process.

    Args:
        steps: that are done.
        history: of the run; its callback comes before this one.
        epochs: of the run.
        bar: of the run; disabled where stdout is no terminal.
    """

    def __init__(self, steps: Steps, history: EpochHistory, epochs: int, bar: Progress) -> None:
        super().__init__()
        self.steps = steps
        self.history = history
        self.epochs = epochs
        self.bar = bar
        self.total = epochs * steps.steps_per_epoch
        self.clock = Clock()
        self._first: tuple[int, float] | None = None  # step and time, after tracing
        self._epoch: tuple[int, float] = (0, 0.0)  # where the running epoch is measured from

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        epoch = self.steps.step // self.steps.steps_per_epoch + 1
        self._task = self.bar.add_task(
            "", total=self.total, completed=self.steps.step, status="", epoch=epoch
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = (self.steps.step, time.perf_counter())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = self._epoch = (self.steps.step, now)
            return
        first, started = self._epoch
        images = (self.steps.step - first) * self.history.batch_size
        status = f"{images / max(now - started, 1e-9):,.0f} images/s, {self.left()} left"
        epoch = -(-self.steps.step // self.steps.steps_per_epoch)
        self.bar.update(self._task, completed=self.steps.step, epoch=epoch, status=status)
        if self.bar.disable and self.clock.is_due():
            step = self.steps.step - (epoch - 1) * self.steps.steps_per_epoch
            print(
                f"epoch {epoch}/{self.epochs}, step {step}/{self.steps.steps_per_epoch}: {status}",
                flush=True,
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row, speed = self.history.rows[-1], self.history.speeds[-1]
        left = f", {self.left()} left" if self.steps.step < self.total else ""
        self.bar.console.print(
            f"epoch {epoch + 1}/{self.epochs}: "
            f"training loss {row['loss']:.4f}, accuracy {1 - row['top1_error']:.2%}; "
            f"validation loss {row['validation_loss']:.4f}, "
            f"accuracy {1 - row['validation_top1_error']:.2%}; "
            f"{speed['images_per_second']:,.0f} images/s{left}",
            highlight=False,
            soft_wrap=True,
        )
        sys.stdout.flush()
        self.clock.reset()

    def left(self) -> str:
        """The remaining time of the run, in words."""
        if self._first is None or self._first[0] == self.steps.step:
            return "some time"
        first, started = self._first
        seconds = (time.perf_counter() - started) / (self.steps.step - first)
        return duration(seconds * (self.total - self.steps.step))


@contextmanager
def printing(
    steps: Steps, history: EpochHistory, epochs: int, verbose: int | str
) -> Iterator[list[PrintProgress]]:
    """The callback that prints, if any; its bar is gone afterwards, whatever happens.

    Args:
        steps, history, epochs: see `PrintProgress`.
        verbose: 0 prints nothing, 2 lines, 1 and "auto" a bar and lines on a terminal, else lines.
    """
    if verbose == 0:
        yield []
        return
    has_bar = verbose != 2 and sys.stdout.isatty()
    columns = (
        TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[status]}"),
    )
    # A notebook says that it is a terminal; lines are better there.
    console = Console(force_jupyter=False)
    with Progress(*columns, console=console, transient=True, disable=not has_bar) as bar:
        yield [PrintProgress(steps, history, epochs, bar)]
