"""What the benchmarks share: processes of their own, spreads, and results as JSON."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

WORKER = "--worker"


def in_process(script: str, *arguments: Any) -> dict[str, Any]:
    """Runs a benchmark's worker in a process of its own.

    Args:
        script: the benchmark, which calls `worker_arguments` and prints a JSON object last.
        arguments: for the worker, of JSON's types.
    """
    finished = subprocess.run(
        [sys.executable, script, WORKER, json.dumps(arguments)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return json.loads(finished.stdout.splitlines()[-1])


def worker_arguments() -> list[Any] | None:
    """What `in_process` handed to this process, or None if it did not start it."""
    return json.loads(sys.argv[2]) if sys.argv[1:2] == [WORKER] else None


def peak_memory() -> float:
    """The most that this process has held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Median, lowest and highest."""
    values = list(values)
    median = statistics.median(values)
    return f"{median:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Value over reference, round by round."""
    return [value / reference for value, reference in zip(values, references, strict=True)]


def versions(*packages: str) -> dict[str, str]:
    """The installed versions."""
    return {package: version(package) for package in packages}


def write_results(output: Path, of: dict[str, str], **content: Any) -> None:
    """Writes measurements as JSON, under the date, the machine and the versions `of` packages."""
    output.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": of,
    }
    output.write_text(json.dumps({**header, **content}, indent=2) + "\n")
