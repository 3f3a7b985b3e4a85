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
class DeviceGroup:
    """The devices that train together.

    Attributes:
        count: of the devices of all processes.
        share: the part of every batch that this process loads.
        scope: makes a context manager in which models are to be built and trained.
        start_all_reduce: starts a maximum of numbers over all processes; `int` of what it returns
            waits for the maximum.
    """

    count: int = 1
    share: Share = WHOLE
    scope: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext, repr=False)
    start_all_reduce: Callable[[int], Any] = field(default=int, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes the run."""
        return self.share.index == 0

    @property
    def processes(self) -> int:
        return self.share.count

    @property
    def synchronizes_normalization(self) -> bool:
        """Whether batch normalisation has to be told to look at all devices' images.

        JAX's devices compute one program on one batch, whose statistics are what they are.
        """
        return self.count > 1 and keras.backend.backend() == "tensorflow"

    @property
    def needs_equal_parts(self) -> bool:
        """Whether every batch, also one to measure on, has to give all devices as many images."""
        return self.count > 1 and keras.backend.backend() == "jax"

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
                f"on {self.count} devices",
                accepted="--devices 1, or KERAS_BACKEND=jax",
            )
        if rest := batch_size % self.count:
            below, above = batch_size - rest, batch_size - rest + self.count
            raise InputError(
                f"batch_size is not a multiple of the number of devices, {self.count}",
                received=batch_size,
                accepted=f"{f'{below} or ' if below else ''}{above}, for example",
            )

    def all_reduce_max(self, number: int) -> int:
        """Returns the maximum of a number over all processes; waits until all have called it."""
        return int(self.start_all_reduce(number))

    def all_gather(self, numbers: Sequence[int]) -> list[tuple[int, ...]]:
        """Returns the numbers of every process, in the processes' order; waits as above."""
        if self.processes == 1:
            return [tuple(numbers)]
        from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports]

        gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
        return [tuple(int(number) for number in row) for row in np.asarray(gathered)]


ONE_DEVICE = DeviceGroup()


def select_devices(count: int | None = None) -> DeviceGroup:
    """Selects the devices to train on, of this process and of those that train with it.

    Args:
        count: of the devices of each process, the first ones; None for all. They are GPUs where
            there are any.

    Raises:
        InputError: there are not so many.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _select_on_tensorflow(count)
    if backend == "jax":
        return _select_on_jax(count)
    _check_count(count, 1)
    return ONE_DEVICE


def _check_count(count: int | None, available: int) -> int:
    if count is not None and not 1 <= count <= available:
        accepted = "1" if available == 1 else f"1 to {available}"
        raise InputError(
            "this number of devices is not available", received=count, accepted=accepted
        )
    return count or available


def _select_on_tensorflow(asked: int | None) -> DeviceGroup:
    import tensorflow as tf

    available = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    count = _check_count(asked, len(available))
    if count == 1:
        return ONE_DEVICE
    strategy = tf.distribute.MirroredStrategy([device.name for device in available[:count]])
    return DeviceGroup(count, scope=strategy.scope)


def _select_on_jax(asked: int | None) -> DeviceGroup:
    import jax  # pyright: ignore[reportMissingImports]

    count = _check_count(asked, jax.local_device_count())
    processes = jax.process_count()
    chosen = [
        device
        for process in range(processes)
        for device in [one for one in jax.devices() if one.process_index == process][:count]
    ]
    if len(chosen) == 1:
        return ONE_DEVICE
    distribution = keras.distribution.DataParallel(
        devices=[f"{device.platform}:{device.id}" for device in chosen], auto_shard_dataset=False
    )
    return DeviceGroup(
        len(chosen),
        Share(jax.process_index(), processes),
        distribution.scope,
        _all_reduce_on_jax(chosen, count) if processes > 1 else int,
    )


def _all_reduce_on_jax(devices: Sequence[Any], local: int) -> Callable[[int], Any]:
    """A maximum over processes that JAX computes in the order of its other computations.

    Args:
        devices: of all processes.
        local: how many of them are this process's.
    """
    import jax  # pyright: ignore[reportMissingImports]
    from jax.sharding import (  # pyright: ignore[reportMissingImports]
        Mesh,
        NamedSharding,
        PartitionSpec,
    )

    mesh = Mesh(np.array(devices), ("devices",))
    shared = NamedSharding(mesh, PartitionSpec("devices"))
    maximum = jax.jit(jax.numpy.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def start(number: int) -> Any:
        numbers = np.full(local, number, np.int32)
        return maximum(jax.make_array_from_process_local_data(shared, numbers))

    return start


@contextmanager
def process_local() -> Iterator[None]:
    """Inside, what Keras does concerns this process alone, and waits for no other one.

    Even saving a model makes variables, which inside a group's scope all processes would have to
    make.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


@contextmanager
def initialize_distributed(
    address: str | None = None, process: int | None = None, processes: int | None = None
) -> Iterator[bool]:
    """Joins the processes of one training on JAX; to be entered before anything is computed.

    A process that is lost ends the others, after `HEARTBEAT_SECONDS`. JAX may end them by abort, so
    have them watched, see launch.py.

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
