"""Training on several devices of one machine, or of several.

TensorFlow serves the devices of one machine (`tf.distribute.MirroredStrategy`), JAX those of one or
of many (`keras.distribution.DataParallel`). Either way every device computes on its part of each
batch, and the weights come out as if one device had computed on the whole.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from resnet_keras.data.epochs import WHOLE, Share
from resnet_keras.errors import InputError, Interrupted, TrainingError
from resnet_keras.recipes import Recipe

HEARTBEAT_SECONDS = 10  # a process that is silent for so long is lost
FAREWELL_SECONDS = 3600  # for the first process to measure and save the model, at the end


@dataclass(frozen=True)
class Placement:
    """Where a training computes.

    Attributes:
        devices: how many, those of all processes together.
        share: which part of every batch this process loads.
        scope: makes a context manager in which models are to be built and trained.
    """

    devices: int = 1
    share: Share = WHOLE
    scope: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes the run."""
        return self.share.index == 0

    @property
    def synchronizes_normalization(self) -> bool:
        """Whether batch normalisation has to be told to look at all devices' images.

        JAX's devices compute one program on one batch, whose statistics are what they are.
        """
        return self.devices > 1 and keras.backend.backend() == "tensorflow"

    @property
    def needs_equal_parts(self) -> bool:
        """Whether every batch, also one to measure on, has to give all devices as many images."""
        return self.devices > 1 and keras.backend.backend() == "jax"

    def check(self, batch_size: int, recipe: Recipe) -> None:
        """Checks that the devices compute together what one would.

        Args:
            batch_size: of all devices together.
            recipe: how to train.

        Raises:
            InputError: they do not.
        """
        asked = {"clip_norm": recipe.clip_norm, "accumulate": recipe.accumulate > 1}
        if self.synchronizes_normalization and any(asked.values()):
            raise InputError(
                "Keras on TensorFlow cannot clip or accumulate gradients on several devices",
                received=f"{', '.join(name for name in asked if asked[name])}, "
                f"on {self.devices} devices",
                accepted="--devices 1, or KERAS_BACKEND=jax",
            )
        if rest := batch_size % self.devices:
            below, above = batch_size - rest, batch_size - rest + self.devices
            raise InputError(
                f"batch_size is not a multiple of the number of devices, {self.devices}",
                received=batch_size,
                accepted=f"{f'{below} or ' if below else ''}{above}, for example",
            )

    def agree(self, number: int) -> int:
        """The largest of the numbers that the processes bring; all wait until all have asked."""
        return max(self.gather([number]))[0] if self.share.count > 1 else number

    def gather(self, numbers: Sequence[int]) -> list[tuple[int, ...]]:
        """The numbers of every process, in their order; all wait until all have asked."""
        if self.share.count == 1:
            return [tuple(numbers)]
        from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports]

        gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
        return [tuple(int(number) for number in row) for row in np.asarray(gathered)]


ALONE = Placement()


def place(devices: int | None = None) -> Placement:
    """Places a training on this process's devices, and on those of the processes it has joined.

    Args:
        devices: how many of each process to use, the first ones; None for all. They are GPUs where
            there are any.

    Raises:
        InputError: there are not so many.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _place_on_tensorflow(devices)
    if backend == "jax":
        return _place_on_jax(devices)
    _check_devices(devices, 1)
    return ALONE


def _check_devices(devices: int | None, available: int) -> int:
    if devices is not None and not 1 <= devices <= available:
        accepted = "1" if available == 1 else f"1 to {available}"
        raise InputError(
            "this number of devices is not available", received=devices, accepted=accepted
        )
    return devices or available


def _place_on_tensorflow(devices: int | None) -> Placement:
    import tensorflow as tf

    available = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    count = _check_devices(devices, len(available))
    if count == 1:
        return ALONE
    strategy = tf.distribute.MirroredStrategy([device.name for device in available[:count]])
    return Placement(count, scope=strategy.scope)


def _place_on_jax(devices: int | None) -> Placement:
    import jax  # pyright: ignore[reportMissingImports]

    count = _check_devices(devices, jax.local_device_count())
    processes = jax.process_count()
    chosen = [
        device
        for process in range(processes)
        for device in [one for one in jax.devices() if one.process_index == process][:count]
    ]
    if len(chosen) == 1:
        return ALONE
    distribution = keras.distribution.DataParallel(
        devices=[f"{device.platform}:{device.id}" for device in chosen], auto_shard_dataset=False
    )
    return Placement(len(chosen), Share(jax.process_index(), processes), distribution.scope)


@contextmanager
def apart() -> Iterator[None]:
    """Inside, what Keras does concerns this process alone, and waits for no other one.

    Even saving a model makes variables, which inside a placement's scope all processes would have
    to make.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


@contextmanager
def joined(
    address: str | None = None, process: int | None = None, processes: int | None = None
) -> Iterator[bool]:
    """Joins the processes of one training on JAX; to be entered before anything is computed.

    A process that is lost ends the others, after `HEARTBEAT_SECONDS`. JAX may end them by abort, so
    have them watched, see supervision.py.

    Args:
        address: host:port of process 0, where the processes meet. What is None is taken from the
            cluster: SLURM, Open MPI or Kubernetes.
        process: number of this one, from 0 on.
        processes: how many there are.

    Yields:
        Whether this one is process 0, which writes the run.

    Raises:
        InputError: Keras computes with another backend, or nothing tells what is missing.
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise InputError(
            "training on several hosts needs the JAX backend",
            received=f"KERAS_BACKEND={backend}",
            accepted="KERAS_BACKEND=jax",
        )
    import jax  # pyright: ignore[reportMissingImports]

    # Of the collectives between CPUs; GPUs have NCCL.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself, and nobody asks it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            address,
            processes,
            process,
            cluster_detection_method="deactivate" if address else None,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=FAREWELL_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            "the processes cannot be joined",
            received=f"address {address}, process {process} of {processes} "
            f"({str(error).splitlines()[0]})",
            accepted="--hosts HOST:PORT --process I --processes N, or --hosts auto under SLURM, "
            "Open MPI or Kubernetes",
        ) from error
    try:
        yield jax.process_index() == 0
    except (Interrupted, TrainingError):
        jax.distributed.shutdown()  # all processes come here after the same step
        raise
    # After other errors there may be nobody to wait for.
    jax.distributed.shutdown()
