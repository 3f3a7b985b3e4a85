"""What the input pipeline costs: ResNet-50 at 224 pixels, trained from memory and from JPEG files.

    python benchmarks/training_with_pipeline.py

One batch that stays in memory shows what the training alone does; the pipeline's batches come from
a folder of JPEG files. Both run in one process, in turns of some steps.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring
import tyro
from input_pipeline import CLASSES, IMAGE_SIZE, JITTER, RESIZED, ours, write_photos
from rich.console import Console
from rich.progress import track
from rich.table import Table

MEMORY = "one batch in memory"


def main(
    batch_size: int = 32,
    steps: int = 5,
    rounds: int = 5,
    output: Path = Path("benchmarks/results/training_with_pipeline.json"),
) -> None:
    """Time training steps of ResNet-50 with and without the input pipeline.

    Args:
        batch_size: images a step.
        steps: in every turn.
        rounds: turns of each.
        output: where the measurements go, as JSON.
    """
    import keras

    import resnet_keras
    from resnet_keras import optimizers, precision

    policy = precision.decide(precision.describe_machine()).policy
    keras.config.set_dtype_policy(policy)
    model = resnet_keras.ResNet50(classes=CLASSES)
    model.compile(
        optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False
    )
    found: dict[str, list[float]] = {MEMORY: [], RESIZED: [], JITTER: []}
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), quality=90)
        feeds = {peer: ours(Path(folder), peer, batch_size) for peer in (RESIZED, JITTER)}
        feeds[MEMORY] = _again_and_again(next(feeds[RESIZED]))
        for feed in feeds.values():
            model.train_on_batch(*next(feed))  # traces
        for _ in track(range(rounds), "measuring"):
            for peer, measurements in found.items():
                start = time.perf_counter()
                for _ in range(steps):
                    model.train_on_batch(*next(feeds[peer]))
                measurements.append(steps * batch_size / (time.perf_counter() - start))
    table = Table(
        title=f"ResNet-50, {IMAGE_SIZE} pixels, {policy}, {os.cpu_count()} cores", box=None
    )
    for heading in ("batches from", "images/s", "share of the training alone"):
        table.add_column(heading)
    for peer, speeds in found.items():
        shares = measuring.ratios(speeds, found[MEMORY])
        table.add_row(peer, measuring.spread(speeds), measuring.spread(shares))
    Console().print(table)
    versions = measuring.versions("keras", "tensorflow")
    measuring.write_results(output, versions, policy=policy, images_per_second=found)


def _again_and_again(batch: Any) -> Iterator[Any]:
    while True:
        yield batch


if __name__ == "__main__":
    tyro.cli(main)
