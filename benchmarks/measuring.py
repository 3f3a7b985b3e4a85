"""What benchmarks share: peers in processes of their own that take turns, and results as JSON."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from rich.progress import Progress

RESULTS = Path(__file__).parent / "results"
WORKER = "--worker"
VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16")
PACKAGES = (
    *("keras", "tensorflow", "jax", "jaxlib", "torch", "transformers", "timm", "torchvision"),
    *("ai-edge-litert", "onnxruntime"),
)


class Worker:
    """A peer in a process of its own, which prepares itself and then measures when it is asked to.

    Args:
        script: the benchmark, which hands `worker_arguments` to `serve`.
        arguments: for it, of JSON's types.
        environment: variables to set, or to unset where None.

    Raises:
        RuntimeError: the process has ended; the message has the end of what it said.
    """

    def __init__(
        self, script: str, *arguments: Any, environment: Mapping[str, str | None] | None = None
    ) -> None:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115, close() does
        changed = {"TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}
        kept = {name: value for name, value in os.environ.items() if name not in changed}
        self._process = subprocess.Popen(
            [sys.executable, script, WORKER, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=kept | {name: value for name, value in changed.items() if value is not None},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def prepared(self) -> dict[str, Any]:
        """Waits until it is prepared, and tells what that took."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            raise RuntimeError("a peer has ended: " + self._said.read()[-2000:])
        return json.loads(line)

    def measure(self) -> dict[str, Any]:
        """Lets it measure once."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.prepared()


def serve(prepare: Callable[[], tuple[dict[str, Any], Callable[[], dict[str, Any]]]]) -> None:
    """What the process of a `Worker` does: prepares itself, then measures for every line it reads.

    Args:
        prepare: gives what the preparation took, and the function that measures.
    """
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # nothing that libraries print comes among them
        took, measure = prepare()
        _answer(answers, took)
        for _ in sys.stdin:
            _answer(answers, measure())


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=answers, flush=True)


def command(main: Callable[..., None]) -> None:
    """Runs a benchmark by its command line; bad input ends in one line, and in status 2."""
    import tyro

    from resnet_keras.errors import InputError

    try:
        tyro.cli(main)
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def require(holds: bool, problem: str, *, received: object, accepted: object) -> None:
    """Refuses bad input.

    Raises:
        InputError: it does not hold.
    """
    # Not at the top, nor in a benchmark's: this package sets TensorFlow to oneDNN's kernels, and
    # stock Keras's processes, which import the same modules, are to have it as it comes.
    from resnet_keras.errors import InputError

    if not holds:
        raise InputError(problem, received=received, accepted=accepted)


def require_positive(**numbers: float) -> None:
    """Refuses numbers of zero or less, as `require` does."""
    for name, number in numbers.items():
        require(number > 0, f"{name} is out of range", received=number, accepted="a number above 0")


def worker_arguments() -> list[Any] | None:
    """What a `Worker` handed to this process, or None if it did not start it."""
    return json.loads(sys.argv[2]) if sys.argv[1:2] == [WORKER] else None


def in_turns(
    peers: Mapping[str, Callable[[], Worker]],
    rounds: int,
    progress: Progress,
    title: str,
    at_once: int = 2,
) -> dict[str, list[dict[str, Any]]]:
    """Lets peers measure in turns, A B A B …, each in its process, after all are prepared.

    Args:
        peers: by name, what starts them.
        rounds: how often each measures.
        progress: to show.
        title: of the comparison.
        at_once: how many prepare themselves side by side; 1 where that is measured too.

    Returns:
        What each peer found, round by round, with what its preparation took as `prepared`.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    task = progress.add_task(title, total=len(peers) * (rounds + 1))
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}

        def prepared(name: str) -> dict[str, Any]:
            progress.update(task, description=f"{title}: {name} starts")
            workers[name] = stack.enter_context(peers[name]())
            took = workers[name].prepared()
            progress.advance(task)
            return took

        with ThreadPoolExecutor(at_once) as pool:
            took = dict(zip(peers, pool.map(prepared, peers), strict=True))
        for _ in range(rounds):
            for name in peers:
                progress.update(task, description=f"{title}: {name}")
                found[name].append({"prepared": took[name], **workers[name].measure()})
                progress.advance(task)
    return found


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


def versions() -> dict[str, str]:
    """Of Python and of the packages that are compared, where they are installed.

    Not those of resnet_keras.version: importing that changes TensorFlow's settings.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor: what it is, its cores, and the widest vectors it computes with."""
    flags = _cpuinfo("flags").split()
    vectors = [name for name in VECTORS if name in flags]
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {', '.join(vectors) or platform.machine()}"


def _cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def policies() -> list[str]:
    """The dtype policies that this processor computes with as it is, the fastest first."""
    # Another process keeps TensorFlow, its log and its threads out of the one that waits for peers.
    code = (
        "from resnet_keras.training import precision\n"
        "print(precision.decide(precision.describe_machine()).policy)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return list(dict.fromkeys([told.stdout.decode().split()[-1], "float32"]))


def write_results(name: str, **content: Any) -> Path:
    """Writes measurements as JSON, with the date, the machine and the versions."""
    from resnet_keras.files.atomic import write_text

    RESULTS.mkdir(parents=True, exist_ok=True)
    header = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    path = RESULTS / f"{name}.json"
    write_text(path, json.dumps({**header, **content}, indent=2) + "\n")
    return path


def read_results(name: str) -> dict[str, Any] | None:
    """What `write_results` wrote, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None
