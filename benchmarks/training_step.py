"""A training step: this package beside stock Keras, PyTorch and the convolutions alone.

    python benchmarks/training_step.py --keep
    python benchmarks/training_step.py --policies float32 --networks resnet50 --rounds 9
    python benchmarks/training_step.py --check

Every peer is a process of its own, and they take turns (A B A B …), so that a machine whose speed
drifts treats them alike. What counts is the ratio, round by round.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, get_args

import measuring
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

Policy = Literal["float32", "mixed_bfloat16"]
Network = Literal["resnet50", "resnet20", "resnet56", "resnet110"]
NETWORKS: tuple[Network, ...] = get_args(Network)


def main(
    policies: tuple[Policy, ...] = (),
    networks: tuple[Network, ...] = NETWORKS,
    rounds: int = 7,
    keep: bool = False,
    check: bool = False,
) -> None:
    """Compare training steps with those of stock Keras and PyTorch.

    Args:
        policies: to train in; without any, those that this processor computes with as it is.
        networks: to train.
        rounds: turns of each peer.
        keep: write what was found into benchmarks/results/, for docs/explanation/benchmarks.md.
        check: compare ResNet-50 with stock Keras alone, in the fastest policy if none is named, and
            fail where the ratio is under 1.5.
    """
    measuring.require_positive(rounds=rounds)
    measuring.require(
        networks == NETWORKS or not (keep or check),
        "--keep and --check choose the networks themselves",
        received=f"--networks {' '.join(networks)}",
        accepted="no --networks",
    )
    if check:
        fast = [_is_fast_enough(policy, rounds) for policy in policies or measuring.policies()[:1]]
        sys.exit(0 if all(fast) else 1)
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
        if keep:
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


def _is_fast_enough(policy: str, rounds: int) -> bool:
    task = _task("resnet50", policy)
    with Progress(transient=True) as progress:
        found = _compare(task, [OURS, APPLICATIONS], rounds, progress)
    ratios = measuring.ratios(found[OURS], found[APPLICATIONS])
    passes = statistics.median(ratios) >= GATE
    print(
        f"training step of {task.network}, {task.image_size}x{task.image_size}, batches of "
        f"{task.batch_size}, {policy}, {rounds} rounds: ours {measuring.spread(ratios)} times as "
        f"fast as keras.applications, at least {GATE} wanted: {'passed' if passes else 'FAILED'}"
    )
    return passes


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
        measuring.command(main)
