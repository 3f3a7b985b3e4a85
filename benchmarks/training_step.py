"""One training step of ResNet-50: this package beside stock Keras, on the same machine.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --sizes 224 --policy float32 --rounds 7

Every measurement is a process of its own; the peers take turns (A B A B …), so that a machine whose
speed drifts treats them alike. What counts is the ratio, pair by pair.
"""

import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import measuring
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

OURS, STOCK = "resnet_keras", "keras.applications"
CLASSES = 1000


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    Attributes:
        images_per_second: by the median step.
        peak_memory: of the whole process, in GB.
    """

    images_per_second: float
    peak_memory: float


def measure(peer: str, size: int, batch_size: int, steps: int, policy: str) -> Measurement:
    """Trains one network for a few steps on random images, in this process."""
    import keras
    import numpy as np

    keras.config.set_dtype_policy(policy)
    if peer == OURS:
        import resnet_keras
        from resnet_keras import optimizers

        model = resnet_keras.ResNet50(input_shape=(size, size, 3), classes=CLASSES)
        optimizer = optimizers.SGD(0.1, momentum=0.9)
    else:
        # Its normalisation is left out and its softmax runs in the policy's precision: both in
        # favour of stock Keras.
        model = keras.applications.ResNet50(
            weights=None, input_shape=(size, size, 3), classes=CLASSES
        )
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch_size, size, size, 3)).astype("float32")
    labels = generator.integers(0, CLASSES, batch_size)
    seconds = []
    for _ in range(steps + 2):  # the first two trace and warm up
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        seconds.append(time.perf_counter() - start)
    return Measurement(batch_size / statistics.median(seconds[2:]), measuring.peak_memory())


def main(
    sizes: tuple[int, ...] = (64, 224),
    batch_size: int = 32,
    steps: int = 12,
    rounds: int = 5,
    policy: str = "auto",
    output: Path = Path("benchmarks/results/training_step.json"),
) -> None:
    """Compare a training step of ResNet-50 with keras.applications.ResNet50.

    Args:
        sizes: sides of the images in pixels.
        batch_size: images a step.
        steps: timed steps in every process.
        rounds: processes of each peer and size.
        policy: float32, mixed_bfloat16, mixed_float16, or what this machine is best at.
        output: where the measurements go, as JSON.
    """
    if policy == "auto":
        from resnet_keras import precision

        policy = precision.decide(precision.describe_machine()).policy
    found: dict[tuple[int, str], list[Measurement]] = {
        (size, peer): [] for size in sizes for peer in (OURS, STOCK)
    }
    turns = [(size, peer) for size in sizes for _ in range(rounds) for peer in (OURS, STOCK)]
    for size, peer in track(turns, "measuring"):
        measured = measuring.in_process(__file__, peer, size, batch_size, steps, policy)
        found[size, peer].append(Measurement(**measured))
    versions = measuring.versions("keras", "tensorflow")
    _print(found, f"{policy}, batch {batch_size}, {os.cpu_count()} CPU cores, {versions}")
    measuring.write_results(
        output,
        versions,
        policy=policy,
        batch_size=batch_size,
        measurements=[
            {"size": size, "peer": peer, **asdict(measurement)}
            for (size, peer), measurements in found.items()
            for measurement in measurements
        ],
    )


def _print(found: dict[tuple[int, str], list[Measurement]], title: str) -> None:
    table = Table(title=f"Training step of ResNet-50: {title}", box=None)
    for heading in ("size", "peer", "images/s", "peak GB", "ratio, pair by pair"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    for (size, peer), measurements in found.items():
        speeds = [measurement.images_per_second for measurement in measurements]
        memory = statistics.median(measurement.peak_memory for measurement in measurements)
        stock = [measurement.images_per_second for measurement in found[size, STOCK]]
        table.add_row(
            str(size),
            peer,
            measuring.spread(speeds, digits=1),
            f"{memory:.2f}",
            measuring.spread(measuring.ratios(speeds, stock)),
        )
    Console().print(table)


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        print(json.dumps(asdict(measure(*arguments))))
    else:
        tyro.cli(main)
