"""What a whole `fit()` costs beyond its training steps: JPEG files in, updated weights out.

    python benchmarks/fit.py

One process makes bare steps on a batch that stays in memory, the other is in one long `fit` on
batches of the input pipeline, which reads, decodes and crops JPEG files, with the metrics of a
training; they take turns.
"""

import queue
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
from input_pipeline import CLASSES, IMAGE_SIZE, RESIZED, photo_batches, write_photos
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

STEP, FIT = "training step", "fit() on JPEG files"
BATCH_SIZE = 16
UNTIMED = 2  # steps of a turn, of batches that were made while the other measured


def prepare(
    peer: str, folder: str, policy: str, steps: int
) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Builds ResNet-50 and warms it up, in this process."""
    import keras

    import resnet_keras
    from resnet_keras.training import losses, optimizers

    keras.config.set_dtype_policy(policy)
    model = resnet_keras.ResNet50(input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3), classes=CLASSES)
    model.compile(
        optimizers.SGD(0.01, momentum=0.9),
        losses.ShareCrossentropy(),
        weighted_metrics=losses.metrics(CLASSES),
        jit_compile=False,
    )
    batches = photo_batches(Path(folder), RESIZED, BATCH_SIZE)
    run = _bare_steps(model, batches) if peer == STEP else _turns_of_fit(model, batches, steps)
    run(steps)
    return {}, lambda: {"images_per_second": steps * BATCH_SIZE / run(steps)}


def _bare_steps(model: Any, batches: Any) -> Callable[[int], float]:
    images, labels = next(iter(batches))

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(images, labels)
        return time.perf_counter() - start

    return run


def _turns_of_fit(model: Any, batches: Any, steps: int) -> Callable[[int], float]:
    """A `fit` in a thread, an epoch of which is a turn: a new one would start the pipeline anew."""
    import keras

    asked: queue.Queue[None] = queue.Queue()
    taken: queue.Queue[float] = queue.Queue()

    class Turns(keras.callbacks.Callback):
        start = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            asked.get()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == UNTIMED - 1:
                self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            taken.put(time.perf_counter() - self.start)

    whole = partial(
        model.fit,
        batches,
        epochs=10**6,
        steps_per_epoch=UNTIMED + steps,
        callbacks=[Turns()],
        verbose=0,
    )
    threading.Thread(target=whole, daemon=True).start()

    def run(_: int) -> float:
        asked.put(None)
        return taken.get(timeout=600)

    return run


def main(rounds: int = 5, steps: int = 3, keep: bool = False) -> None:
    """Compare `fit` on JPEG files with bare training steps, ResNet-50 at 224 pixels.

    Args:
        rounds: turns of each.
        steps: timed ones in every turn.
        keep: write what was found into benchmarks/results/, for docs/explanation/benchmarks.md.
    """
    measuring.require_positive(rounds=rounds, steps=steps)
    policy = measuring.policies()[0]
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        write_photos(Path(folder), quality=90)
        peers = {
            peer: partial(measuring.Worker, __file__, peer, folder, policy, steps)
            for peer in (STEP, FIT)
        }
        turns = measuring.in_turns(peers, rounds, progress, "fit")
    found = {peer: [one["images_per_second"] for one in of] for peer, of in turns.items()}
    table = Table(title=f"fit() on JPEG files, {policy}; {measuring.machine()}", box=None)
    for heading in ("", "images/s", "share of the bare step"):
        table.add_column(heading)
    for peer, speeds in found.items():
        shares = measuring.spread(measuring.ratios(speeds, found[STEP]))
        table.add_row(peer, measuring.spread(speeds), shares)
    Console(width=120).print(table)
    if keep:
        measuring.write_results(
            "fit", policy=policy, batch_size=BATCH_SIZE, images_per_second=found
        )


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        measuring.serve(partial(prepare, *arguments))
    else:
        measuring.command(main)
