"""Training steps across the family: very deep networks with and without recomputation, ResNeXt.

    python benchmarks/family_step.py
    python benchmarks/family_step.py --policy float32 --rounds 1

Every measurement is a process of its own, and the two sides of a comparison take turns (A B A B …).
"""

import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import measuring
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table


@dataclass(frozen=True)
class Case:
    """One side of a comparison: a network, trained on batches of square images."""

    network: str
    image_size: int
    batch_size: int
    recompute: bool = False


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    Attributes:
        build: seconds to build the network.
        first_step: seconds of the first step, which traces and optimises the graph.
        step: seconds of the median step after it.
        memory: peak of the process above what it held when the network was built, in GB.
    """

    build: float
    first_step: float
    step: float
    memory: float


DEEP = tuple(
    (Case(network, 32, batch_size), Case(network, 32, batch_size, recompute=True))
    for network, batch_size in (
        ("resnet110", 128),
        ("resnet164", 128),
    )
)
# Measured once: their first step takes minutes.
VERY_DEEP = tuple(
    (Case(network, 32, 64), Case(network, 32, 64, recompute=True))
    for network in ("resnet1001", "resnet1202")
)
RESNEXT = tuple(
    (Case("resnet50v1.5", size, 32), Case("resnext50-32x4d", size, 32)) for size in (64, 224)
)


def measure(case: Case, policy: str, steps: int) -> Measurement:
    """Trains one network for some steps on random images, in this process."""
    import keras
    import numpy as np

    import resnet_keras
    from resnet_keras import optimizers

    keras.config.set_dtype_policy(policy)
    shape = (case.image_size, case.image_size, 3)
    start = time.perf_counter()
    model = resnet_keras.create(case.network, input_shape=shape)
    build = time.perf_counter() - start
    if case.recompute:
        model = resnet_keras.recompute(model)
    model.compile(
        optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (case.batch_size, *shape)).astype("float32")
    labels = generator.integers(0, model.output_shape[-1], case.batch_size)
    before = measuring.peak_memory()
    seconds = []
    for _ in range(1 + steps):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        seconds.append(time.perf_counter() - start)
    first, *others = seconds
    return Measurement(build, first, statistics.median(others), measuring.peak_memory() - before)


def main(
    policy: str = "float32",
    steps: int = 6,
    rounds: int = 3,
    output: Path = Path("benchmarks/results/family_step.json"),
) -> None:
    """Time training steps of very deep networks and of ResNeXt.

    Args:
        policy: float32, mixed_bfloat16 or mixed_float16.
        steps: timed steps in every process.
        rounds: processes of each case; the very deep ones run once.
        output: where the measurements go, as JSON.
    """
    pairs = RESNEXT + DEEP + VERY_DEEP
    found: dict[Case, list[Measurement]] = {case: [] for case in chain.from_iterable(pairs)}
    turns = [
        case for pair in pairs for _ in range(1 if pair in VERY_DEEP else rounds) for case in pair
    ]
    for case in track(turns, "measuring"):
        measured = measuring.in_process(__file__, asdict(case), policy, steps)
        found[case].append(Measurement(**measured))
    versions = measuring.versions("keras", "tensorflow")
    title = f"{policy}, {os.cpu_count()} CPU cores, {versions}"
    Console().print(_table(pairs, found, title))
    measuring.write_results(
        output,
        versions,
        policy=policy,
        measurements=[
            {**asdict(case), **asdict(measurement)}
            for case, measurements in found.items()
            for measurement in measurements
        ],
    )


def _table(
    pairs: tuple[tuple[Case, Case], ...], found: dict[Case, list[Measurement]], title: str
) -> Table:
    table = Table(title=f"Training steps: {title}", box=None)
    table.add_column("network")
    for heading in ("image", "batch", "build s", "first step s", "step s", "GB", "step, ratio"):
        table.add_column(heading, justify="right")
    for pair in pairs:
        for case in pair:
            steps = [measurement.step for measurement in found[case]]
            references = [measurement.step for measurement in found[pair[0]]]
            table.add_row(
                case.network + (", recomputed" if case.recompute else ""),
                str(case.image_size),
                str(case.batch_size),
                *(
                    f"{statistics.median(getattr(one, name) for one in found[case]):.2f}"
                    for name in ("build", "first_step", "step", "memory")
                ),
                measuring.spread(measuring.ratios(steps, references)),
            )
    return table


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        case, policy, steps = arguments
        print(json.dumps(asdict(measure(Case(**case), policy, steps))))
    else:
        tyro.cli(main)
