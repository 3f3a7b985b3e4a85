"""What a whole `fit()` costs beyond its training steps: JPEG files in, updated weights out.

    python benchmarks/fit.py

One process makes bare steps on a batch that stays in memory, the other runs `fit` on batches of the
input pipeline, which reads, decodes and crops JPEG files; they take turns. `fit` runs with the
metrics of a training.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import tyro
from input_pipeline import CLASSES, JITTER, RESIZED, ours, write_photos
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

STEP = "training step"
BATCH_SIZE = 32


def prepare(
    peer: str, folder: str, policy: str, steps: int
) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Builds ResNet-50 and warms it up, in this process."""
    import keras

    import resnet_keras
    from resnet_keras import losses, optimizers

    keras.config.set_dtype_policy(policy)
    model = resnet_keras.ResNet50(classes=CLASSES)
    model.compile(
        optimizers.SGD(0.01, momentum=0.9),
        losses.ShareCrossentropy(),
        weighted_metrics=losses.metrics(CLASSES),
        jit_compile=False,
    )
    batches = ours(Path(folder), RESIZED if peer == STEP else peer, BATCH_SIZE)
    images, labels = next(batches)
    model.train_on_batch(images, labels)

    def bare() -> None:
        for _ in range(steps):
            model.train_on_batch(images, labels)

    def whole() -> None:
        model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)

    run = bare if peer == STEP else whole
    run()

    def measure() -> dict[str, Any]:
        start = time.perf_counter()
        run()
        return {"images_per_second": steps * BATCH_SIZE / (time.perf_counter() - start)}

    return {}, measure


def main(rounds: int = 5, steps: int = 4) -> None:
    """Compare `fit` on JPEG files with bare training steps, ResNet-50 at 224 pixels.

    Args:
        rounds: turns of each.
        steps: in every turn.
    """
    policy = measuring.policies()[0]
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        write_photos(Path(folder), quality=90)
        peers = {
            peer: partial(measuring.Worker, __file__, peer, folder, policy, steps)
            for peer in (STEP, RESIZED, JITTER)
        }
        turns = measuring.in_turns(peers, rounds, progress, "fit")
    found = {peer: [one["images_per_second"] for one in of] for peer, of in turns.items()}
    table = Table(title=f"fit() on JPEG files, {policy}; {measuring.machine()}", box=None)
    for heading in ("batches from", "images/s", "share of the bare step"):
        table.add_column(heading)
    for peer, speeds in found.items():
        shares = measuring.spread(measuring.ratios(speeds, found[STEP]))
        table.add_row(peer, measuring.spread(speeds), shares)
    Console(width=120).print(table)
    measuring.write_results("fit", policy=policy, batch_size=BATCH_SIZE, images_per_second=found)


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        measuring.serve(partial(prepare, *arguments))
    else:
        tyro.cli(main)
