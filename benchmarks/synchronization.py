"""What waiting for the devices after every step costs two processes that train together on JAX.

    python benchmarks/synchronization.py

Two processes of this machine train one network, in turns of two kinds: with Keras's own list of
callbacks, of which one reads the loss and gathers the signals of all processes in every step, and
with this package's, which does both a step later and leaves the logs on the device.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from typing import Any

import measuring

NETWORK = "resnet20"
EVERY_STEP, STEP_LATER = "in every step", "a step later"


def train(address: str, process: int, rounds: int, steps: int, size: int) -> None:
    """Trains in turns, in this process; the first one prints steps/s, by kind, as JSON."""
    import keras
    import numpy as np

    import resnet_keras
    from resnet_keras.training import devices

    with devices.initialize_distributed(address, process, 2):
        group = devices.select_devices()
        keras.utils.set_random_seed(0)
        with group.scope():
            model = resnet_keras.create(NETWORK, input_shape=(size, size, 3), classes=10)
            model.compile(
                keras.optimizers.SGD(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"]
            )
            images = np.random.default_rng(process).integers(0, 256, (16, size, size, 3), np.uint8)
            batches = itertools.repeat((images, np.arange(16) % 10))
            found: dict[str, list[float]] = {EVERY_STEP: [], STEP_LATER: []}
            for _ in range(1 + rounds):
                for kind, speeds in found.items():
                    callbacks = _callbacks(kind, model, group, steps)
                    start = time.perf_counter()
                    model.fit(
                        (batch for batch in batches),
                        steps_per_epoch=steps,
                        callbacks=callbacks,
                        verbose=0,
                    )
                    speeds.append(steps / (time.perf_counter() - start))
        if group.is_first:
            print(json.dumps({kind: speeds[1:] for kind, speeds in found.items()}))


def _callbacks(kind: str, model: Any, group: Any, steps: int) -> Any:
    import keras

    from resnet_keras.training import callbacks, checkpointing, signals
    from resnet_keras.training.callback_list import CallbackList

    class EveryStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(logs["loss"])
            group.all_gather([0])

    if kind == EVERY_STEP:
        return [EveryStep()]
    progress = callbacks.Progress(steps)
    unused: Any = None  # there are no checkpoints
    loss = callbacks.StopOnNonFiniteLoss(progress, checkpoints=unused)
    signal = checkpointing.StopOnSignal(signals.Interruption(), group, progress, checkpoints=unused)
    return CallbackList([progress, loss, signal], model, epochs=1)


def main(rounds: int = 7, steps: int = 30, size: int = 8) -> None:
    """Compare training steps of two processes that wait for the devices in every step, or later.

    Args:
        rounds: turns of each kind.
        steps: of a turn, each of 16 images a process.
        size: side of the images, in pixels; the smaller, the shorter is a step beside the wait.
    """
    from rich.console import Console
    from rich.table import Table

    from resnet_keras.training.launch import free_address

    measuring.require_positive(rounds=rounds, steps=steps, size=size)
    address = free_address()
    commands = [
        [
            sys.executable,
            __file__,
            "--worker",
            json.dumps([address, process, rounds, steps, size]),
        ]
        for process in range(2)
    ]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    workers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    printed = [worker.communicate()[0] for worker in workers]
    measuring.require(
        all(worker.returncode == 0 for worker in workers),
        "a process ended with an error",
        received=[worker.returncode for worker in workers],
        accepted="0",
    )
    found = json.loads(printed[0].splitlines()[-1])
    title = f"{NETWORK} at {size}x{size} pixels, two processes on JAX; {measuring.machine()}"
    table = Table(title=title, box=None)
    for heading in ("the devices are waited for", "steps/s", "ratio, round by round"):
        table.add_column(heading)
    for kind, speeds in found.items():
        shares = measuring.spread(measuring.ratios(speeds, found[EVERY_STEP]))
        table.add_row(kind, measuring.spread(speeds), shares)
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        train(*json.loads(sys.argv[2]))
    else:
        measuring.command(main)
