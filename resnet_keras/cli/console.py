"""What the command line prints at the end: tables, and what to type next."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resnet_keras.evaluation.protocols import says_top5
from resnet_keras.recipes import PRESETS

if TYPE_CHECKING:
    from resnet_keras.architectures import Architecture
    from resnet_keras.evaluation.results import ErrorRates, Evaluation
    from resnet_keras.export import Manifest
    from resnet_keras.runs.run import Run, RunDetails

WIDTH = 120  # in columns, of what is no terminal
WORST_CLASSES = 3


class Output:
    """stdout that may be closed at its other end, as by `| head`: the command goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._unheard():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unheard():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is still in the buffer goes there, too, when Python ends.
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


def confirm(question: str) -> bool:
    """Asks on the terminal; without a terminal the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def networks(of: "Mapping[str, Architecture]") -> Table:
    """Networks by name, with what they cost."""
    table = Table(box=None, pad_edge=False)
    table.add_column("network", width=16, no_wrap=True)
    for heading, width in (
        ("layers", 6),
        ("input", 7),
        ("classes", 7),
        ("parameters", 10),
        ("multiply-adds", 13),
    ):
        table.add_column(heading, width=width, justify="right", no_wrap=True)
    for name, network in of.items():
        table.add_row(
            name,
            str(network.depth),
            f"{network.input_size}x{network.input_size}",
            str(network.classes),
            f"{network.parameters().trainable:,}",
            f"{network.multiply_adds() / 1e6:,.1f} M",
        )
    table.add_row()
    return table


def print_presets() -> None:
    """The recipes that have a name: what each is for, its command and what that reaches."""
    for name, preset in PRESETS.items():
        print(f"{name}: {preset.purpose}\n  resnet-keras {preset.command}\n  {preset.result}")


def print_comparisons(measured: "Iterable[tuple[Run, RunDetails, Evaluation]]") -> None:
    """A table of accuracies of runs on the same images; one a dataset, if there are several."""
    tables: dict[tuple[str, tuple[str, ...], str], list[tuple[str, Evaluation]]] = {}
    for run, details, errors in measured:
        images = (details.data, details.class_names, details.fingerprint)
        tables.setdefault(images, []).append((str(run), errors))
    for (data, class_names, fingerprint), rows in tables.items():
        if len(tables) > 1:
            print(f"\n{data}, {len(class_names)} classes, fingerprint {fingerprint}", end="")
        print_comparison(rows, max(errors.classes for _, errors in rows))
    if len(tables) > 1:
        print("The runs have different test images: do not compare one table with another.\n")


def print_comparison(rows: "Sequence[tuple[str, ErrorRates]]", classes: int) -> None:
    """A row of accuracies for each run, or what else was measured.

    Args:
        rows: names and error rates.
        classes: number of classes.
    """
    of_top5 = ("top-5 accuracy", "95% interval") if says_top5(classes) else ()
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for heading in ("images", "accuracy", "95% interval", *of_top5):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, errors in rows:
        top1 = (f"{errors.top1_accuracy:.2%}", _interval(errors.top1_accuracy_interval))
        top5 = (f"{errors.top5_accuracy:.2%}", _interval(errors.top5_accuracy_interval))
        table.add_row(escape(name), f"{errors.images:,}", *top1, *(top5 if of_top5 else ()))
    Console(width=None if sys.stdout.isatty() else WIDTH).print("", table, "", sep="\n")


def _interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.2%} to {pair[1]:.2%}"


def print_summary(run: "Run", measured: "Evaluation") -> None:
    """Prints the accuracy of a run, the classes with the lowest accuracy, and the next commands."""
    examples = shlex.quote(str(run.folder / "examples"))
    predict = command("resnet-keras", "predict", "--model", run)
    wrong = len(measured.mistakes)
    lines = [
        "",
        f"test accuracy {measured.top1_accuracy:.2%} "
        f"(95% confidence interval {_interval(measured.top1_accuracy_interval)}): "
        f"{wrong:,} of {measured.images:,} images are wrong",
    ]
    if says_top5(measured.classes):
        lines.append(
            f"top-5 accuracy {measured.top5_accuracy:.2%} "
            f"({_interval(measured.top5_accuracy_interval)})"
        )
    if hardest := _hardest(measured, run.read_details().class_names):
        lines.append(f"lowest accuracy by class: {', '.join(hardest)}")
    steps = {
        "see the report": command("python", "-m", "webbrowser", run.report.resolve().as_uri()),
        "see the curves": command("tensorboard", "--logdir", run.events, "--host", "127.0.0.1"),
        "classify images": f"{predict} {examples}/*.png",
        "export to apps": command("resnet-keras", "export", run),
    }
    print("\n".join([*lines, f"run folder: {run}", "", *_next(steps)]))


def _next(steps: Mapping[str, str]) -> list[str]:
    """Lines of commands to type next, by what they are for."""
    width = max(map(len, steps)) + 2
    return ["next:", *(f"  {what:{width}}{line}" for what, line in steps.items())]


def _hardest(measured: "Evaluation", class_names: Sequence[str]) -> list[str]:
    """The classes with the lowest accuracy; none where no image is wrong."""
    from resnet_keras.data.splits import shortened  # with NumPy, which --help need not wait for

    named = [
        (one.wrong / one.images, f"{shortened(name)} {1 - one.wrong / one.images:.1%}")
        for one, name in zip(measured.class_errors, class_names, strict=True)
        if one.wrong
    ]
    return [line for _, line in sorted(named, key=lambda pair: -pair[0])[:WORST_CLASSES]]


def print_parity(manifest: "Manifest") -> None:
    """How exported files compare with Keras."""
    from resnet_keras.export import page

    table = Table(box=None, title="Compared with Keras on held-out images")
    for column in page.COLUMNS:
        is_name = column in ("file", "runtime")
        table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
    for row in page.rows(manifest):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def triple(values: tuple[float, float, float]) -> str:
    """Three numbers, as of colours."""
    return " ".join(f"{value:g}" for value in values)


def print_next(page: Path, **steps: str) -> None:
    """Prints the command that opens a page, and commands for what else can be done next."""
    opening = command("python", "-m", "webbrowser", page.resolve().as_uri())
    others = {name.replace("_", " "): line for name, line in steps.items()}
    print("\n".join(_next({"see the page": opening, **others})))


def command(program: str, *arguments: object) -> str:
    """A command to type, quoted for a shell, of a program that was installed beside this one."""
    beside = Path(sys.executable).with_name(program)
    found = program if shutil.which(program) == str(beside) else beside
    return shlex.join(map(str, (found, *arguments)))
