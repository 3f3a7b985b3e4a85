"""How cost grows with depth and batch: build, step and memory; recomputation; and a cold start.

    python benchmarks/growth.py --keep
    python benchmarks/growth.py --very-deep

Every case is a process of its own, and those of a series take turns (A B A B …).
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import measuring
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table


@dataclass(frozen=True)
class Case:
    """A network, trained on batches of square images."""

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
        step: seconds of the median step of a turn.
        memory: peak of the process above what it held when the network was built, in GB, after
            two steps.
    """

    build: float
    first_step: float
    step: float
    memory: float


CIFAR_DEPTHS = tuple(Case(f"resnet{depth}", 32, 64) for depth in (20, 32, 56, 110))
IMAGENET_DEPTHS = tuple(Case(f"resnet{depth}", 64, 16) for depth in (18, 34, 50, 101, 152))
BATCHES = tuple(Case("resnet20", 32, size) for size in (16, 32, 128, 256))  # and 64 above
RECOMPUTED = (Case("resnet110", 32, 128), Case("resnet110", 32, 128, recompute=True))
RESNEXT = (Case("resnet50v1.5", 64, 32), Case("resnext50-32x4d", 64, 32))
# A first step takes minutes.
VERY_DEEP = tuple(
    Case(network, 32, 64, recompute)
    for network in ("resnet1001", "resnet1202")
    for recompute in (False, True)
)

STEPS = 2  # a turn
COLD_STARTS = 3  # of each command

COLD = {
    "resnet-keras --help": ["-m", "resnet_keras", "--help"],
    "resnet-keras list": ["-m", "resnet_keras", "list"],
    "import resnet_keras": ["-c", "import resnet_keras"],
    "import keras, with TensorFlow": ["-c", "import keras"],
    "first step of resnet20": [
        "-c",
        "import resnet_keras, numpy as np\n"
        "model = resnet_keras.create('resnet20')\n"
        "model.compile('sgd', 'sparse_categorical_crossentropy', jit_compile=False)\n"
        "model.train_on_batch(np.zeros((32, 32, 32, 3), 'float32'), np.zeros(32))",
    ],
}


def prepare(case: Case) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Builds a network and makes its first steps on random images, in this process, in float32."""
    import resnet_keras
    from resnet_keras.training import optimizers

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

    def step() -> float:
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        return time.perf_counter() - start

    first = step()
    step()
    memory = measuring.peak_memory() - before
    took = {"build": build, "first_step": first, "memory": memory}
    return took, lambda: {"step": statistics.median(step() for _ in range(STEPS))}


def main(rounds: int = 5, very_deep: bool = False, keep: bool = False) -> None:
    """Measure how time and memory grow with depth and batch.

    Args:
        rounds: turns of each case.
        very_deep: resnet110, 1001 and 1202, with and without recomputation, alone, in one round:
            half an hour.
        keep: write what was found into benchmarks/results/, for docs/explanation/benchmarks.md.
    """
    measuring.require_positive(rounds=rounds)
    if very_deep:
        found = _measure([(case,) for case in (*RECOMPUTED, *VERY_DEEP)], 1)
        _print(found)
        if keep:
            measuring.write_results("growth-very-deep", measurements=_rows(found))
        return
    found = _measure([CIFAR_DEPTHS, IMAGENET_DEPTHS, BATCHES, RECOMPUTED, RESNEXT], rounds)
    _print(found)
    cold = {
        name: [_cold_start(command) for _ in range(COLD_STARTS)] for name, command in COLD.items()
    }
    if keep:
        measuring.write_results("growth", measurements=_rows(found), cold_start=cold)
    for name, seconds in cold.items():
        print(f"{name}: {measuring.spread(seconds)} s")


def _measure(groups: Sequence[Sequence[Case]], rounds: int) -> dict[Case, list[Measurement]]:
    """What each case found; those of a group take turns."""
    found: dict[Case, list[Measurement]] = {}
    with Progress(transient=True) as progress:
        for group in groups:
            workers = {
                str(case): partial(measuring.Worker, __file__, asdict(case)) for case in group
            }
            turns = measuring.in_turns(workers, rounds, progress, group[0].network, at_once=1)
            for case in group:
                found[case] = [
                    Measurement(step=row["step"], **row["prepared"]) for row in turns[str(case)]
                ]
    return found


def _cold_start(arguments: list[str]) -> float:
    start = time.perf_counter()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def _rows(found: dict[Case, list[Measurement]]) -> list[dict[str, Any]]:
    return [
        {**asdict(case), **asdict(measurement)}
        for case, measurements in found.items()
        for measurement in measurements
    ]


def fit(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """The line of least squares: slope, intercept, and the share of the variance it explains."""
    slope, intercept = np.polyfit(xs, ys, 1)
    left = np.asarray(ys) - (slope * np.asarray(xs) + intercept)
    return slope, intercept, 1 - left.var() / np.var(ys)


def _print(found: dict[Case, list[Measurement]]) -> None:
    table = Table(title=f"Growth; {measuring.machine()}", box=None)
    table.add_column("network")
    for heading in ("image", "batch", "build s", "first step s", "step s", "GB"):
        table.add_column(heading, justify="right")
    for case, measurements in found.items():
        table.add_row(
            case.network + (", recomputed" if case.recompute else ""),
            str(case.image_size),
            str(case.batch_size),
            *(
                f"{statistics.median(getattr(one, name) for one in measurements):.2f}"
                for name in ("build", "first_step", "step", "memory")
            ),
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        measuring.serve(partial(prepare, Case(**arguments[0])))
    else:
        measuring.command(main)
