"""A training step: this package beside stock Keras, PyTorch and the convolutions alone.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --policies float32 --rounds 9
    python benchmarks/training_step.py --check

Every peer is a process of its own, and they take turns (A B A B …), so that a machine whose speed
drifts treats them alike. What counts is the ratio, round by round.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import measuring
import tyro
from peers import (
    APPLICATIONS,
    ENVIRONMENTS,
    OURS,
    Task,
    of_cifar,
    of_imagenet,
    start,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

GATE = 1.5  # ours over stock Keras
SECONDS = 2.0  # a turn, of one step at least


def main(
    policies: tuple[str, ...] = (),
    networks: tuple[str, ...] = ("resnet50", "resnet20", "resnet56", "resnet110"),
    rounds: int = 7,
    check: bool = False,
) -> None:
    """Compare training steps with those of stock Keras and PyTorch.

    Args:
        policies: float32, mixed_bfloat16 or mixed_float16; those that this processor computes with
            if none.
        networks: of them.
        rounds: turns of each peer.
        check: compare ResNet-50 with stock Keras alone, in the best policy, and fail where the
            ratio is under 1.5; nothing is written.
    """
    if check:
        sys.exit(_check(rounds))
    for policy in policies or measuring.policies():
        comparisons = {}
        with Progress(transient=True) as progress:
            for network in networks:
                task = _task(network, policy)
                names = of_imagenet() if network == "resnet50" else of_cifar()
                comparisons[network] = {
                    "task": asdict(task),
                    "found": _compare(task, names, rounds, progress),
                }
        for network, comparison in comparisons.items():
            _print(comparison["found"], f"{network}, {policy}")
        measuring.write_results(f"training_step-{policy}", comparisons=comparisons)


def _prepare(peer: str, task: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], Any]]:
    """In the process of a peer."""
    steps = start(peer, Task(**task))
    return {}, lambda: {"images_per_second": steps(SECONDS)}


def _task(network: str, policy: str) -> Task:
    size, batch_size = (224, 32) if network == "resnet50" else (32, 128)
    return Task(network, size, batch_size, policy)


def _compare(
    task: Task, names: list[str], rounds: int, progress: Progress
) -> dict[str, list[float]]:
    """Images a second, round by round, of each peer."""
    workers = {
        name: partial(
            measuring.Worker, __file__, name, asdict(task), environment=ENVIRONMENTS.get(name)
        )
        for name in names
    }
    found = measuring.in_turns(workers, rounds, progress, f"{task.network} {task.policy}")
    return {name: [one["images_per_second"] for one in turns] for name, turns in found.items()}


def _check(rounds: int) -> int:
    task = _task("resnet50", measuring.policies()[0])
    with Progress(transient=True) as progress:
        found = _compare(task, [OURS, APPLICATIONS], rounds, progress)
    ratios = measuring.ratios(found[OURS], found[APPLICATIONS])
    print(
        f"ours over stock Keras, {task.policy}: {measuring.spread(ratios)}, at least {GATE} wanted"
    )
    return 0 if statistics.median(ratios) >= GATE else 1


def _print(found: dict[str, list[float]], title: str) -> None:
    table = Table(title=f"Training step of {title}; {measuring.machine()}", box=None)
    for heading in ("peer", "images/s", "ours over it, round by round"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    for peer, speeds in found.items():
        ratios = measuring.spread(measuring.ratios(found[OURS], speeds))
        table.add_row(peer, measuring.spread(speeds, digits=1), "" if peer == OURS else ratios)
    Console(width=120).print(table)


if __name__ == "__main__":
    if arguments := measuring.worker_arguments():
        measuring.serve(partial(_prepare, *arguments))
    else:
        tyro.cli(main)
