"""Calls callbacks without a wait for the device after every step."""

from collections.abc import Sequence
from typing import Any

import keras

METHODS = ("on_train_batch_end", "on_batch_end")  # Keras's old name calls the same


class RunCallback(keras.callbacks.Callback):
    """A callback of this package; what it is given at the end of a step are the model's tensors."""


class CallbackList(keras.callbacks.CallbackList):
    """Keras's list of callbacks for a run, which may be several fits.

    Keras turns the logs of every step into numbers, for which it waits until the step is done. Here
    this package's callbacks get the tensors, and only callbacks of the caller's that ask for the
    end of a step make it wait.

    The callbacks see one training, whatever the fits: `on_train_begin` and `on_train_end` come
    once, and batches are counted from the epoch's first step on, also in an epoch that is resumed.
    `model.stop_training` ends the training with the running epoch.

    Args:
        callbacks: the first one is the run's `Progress`.
        model: that is trained.
        epochs: of the run.
    """

    def __init__(self, callbacks: Sequence[Any], model: keras.Model, epochs: int) -> None:
        self.progress = callbacks[0]
        self._last_step = epochs * self.progress.steps_per_epoch
        self._has_begun = self._stops = False
        super().__init__(
            callbacks,
            add_history=True,
            model=model,
            epochs=epochs,
            steps=self.progress.steps_per_epoch,
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._has_begun:
            super().on_train_begin(logs)
        self._has_begun = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.model.stop_training or self.progress.step == self._last_step:
            super().on_train_end(logs)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_begin(self._batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        batch, logs = self._batch, logs or {}
        for callback in self.callbacks:
            if isinstance(callback, RunCallback):
                callback.on_train_batch_end(batch, logs)
            elif _asks_for_steps(callback):
                callback.on_train_batch_end(batch, _numbers(logs))
        # Keras would end the epoch here, and the run count it as a whole one.
        self._stops = self._stops or self.model.stop_training
        self.model.stop_training = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._stops:
            self.model.stop_training = True

    @property
    def _batch(self) -> int:
        return self.progress.step % self.progress.steps_per_epoch


def _numbers(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(logs.items())}


def _asks_for_steps(callback: Any) -> bool:
    return any(
        getattr(getattr(callback, name), "__func__", None)
        is not getattr(keras.callbacks.Callback, name)
        for name in METHODS
    )
