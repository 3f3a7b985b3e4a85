"""Keras callbacks that write checkpoints, and stop on signals with a last one."""

from typing import Any

from resnet_keras.errors import Interrupted
from resnet_keras.runs import checkpoints as snapshots
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.training.callback_list import RunCallback
from resnet_keras.training.callbacks import Progress, StopOnNonFiniteLoss, update_variables
from resnet_keras.training.devices import DeviceGroup
from resnet_keras.training.history import EpochHistory
from resnet_keras.training.signals import Interruption


class WriteCheckpoints(RunCallback):
    """Writes a checkpoint after every `every` steps and at the end of each epoch.

    If writing fails, the callback warns, and training goes on.

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
                f"\nwarning: the checkpoint of step {step} could not be written ({error}). "
                f"Training continues; the last checkpoint is {self.checkpoints.last}",
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
            f"{self.checkpoints.checkpoints.last}. Run the same command to resume",
        )
