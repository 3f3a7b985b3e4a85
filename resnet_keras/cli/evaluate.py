"""resnet-keras evaluate: the accuracy of runs on their test images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnet_keras.cli import console
from resnet_keras.cli.arguments import FLAG
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.cli.folders import RUNS
from resnet_keras.errors import IMAGE_SIZE, InputError, check_arguments
from resnet_keras.evaluation.checks import check_distinct, check_measurable, check_readable
from resnet_keras.evaluation.protocols import (
    NAMES,
    ONE_VIEW,
    PAPER_SCALES,
    SINGLE,
    VIEWS,
    Protocol,
)
from resnet_keras.runs.run import Run

if TYPE_CHECKING:
    from resnet_keras.evaluation.results import Evaluation

_PROTOCOLS = "; ".join(f"{name}: {VIEWS[name]}" for name in NAMES)


@check_arguments
def evaluate(
    runs: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN ...", help_behavior_hint="")]
    ],
    protocol: Annotated[str, tyro.conf.arg(metavar="NAME", help=_PROTOCOLS)] = SINGLE,
    scales: Annotated[
        tuple[int, ...] | None,
        IMAGE_SIZE,
        tyro.conf.arg(
            metavar="INT ...",
            help_behavior_hint=f"(default: {' '.join(map(str, PAPER_SCALES))}, or in proportion "
            "to the network's images)",
        ),
    ] = None,
    ensemble: Annotated[bool, FLAG] = False,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/ensemble-...)"),
    ] = None,
) -> None:
    """Test runs on their test images and write reports.

    The best model of each run is tested. The accuracy has a 95% confidence interval. A table
    compares several runs.

    Example: resnet-keras evaluate runs/resnet50-photos-finetune --protocol ten-crop

    Args:
        runs: one run folder or more.
        scales: shorter sides of the images in pixels, for multi-scale.
        ensemble: average the probabilities of all runs, which must be on the same data.
        output: folder of the ensemble's result.
    """
    folders = [Run(run) for run in runs]
    if not folders:
        raise InputError(
            "evaluate needs a run folder", received="none", accepted="one or more run folders"
        )
    if output is not None and not ensemble:
        raise InputError(
            "only an ensemble has an output folder",
            received=f"--output {output}",
            accepted="--output with --ensemble",
        )
    check_distinct(folders)
    chosen = Protocol(protocol, scales)
    details = [check_measurable(folder, chosen) for folder in folders]
    if ensemble:
        _evaluate_ensemble(folders, chosen, output)
        return
    for folder in folders:
        folder.check_writable()
        check_readable(folder, besides=chosen)
    measured = [measure(folder, chosen) for folder in folders]
    if len(folders) == 1:
        console.print_summary(folders[0], measured[0])
        return
    console.print_comparisons(zip(folders, details, measured, strict=True))
    for folder in folders:
        print(f"report: {folder.report}")


def measure(run: Run, protocol: Protocol = ONE_VIEW) -> "Evaluation":
    """Measures a run's best model on the test images and writes the run's report."""
    with quiet_tensorflow():
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.evaluation import report

    print(f"testing the best model of {run} on the test set, protocol {protocol}", flush=True)
    measured = evaluation.evaluate_run(run, protocol=protocol)
    report.write_report(run)
    return measured


def _evaluate_ensemble(runs: list[Run], protocol: Protocol, output: Path | None) -> None:
    with quiet_tensorflow():
        from resnet_keras.evaluation import ensembles, report

    folder = output or ensembles.default_folder(runs, protocol, RUNS)
    together = ensembles.evaluate_ensemble(runs, folder, protocol)
    page = report.write_ensemble_report(folder)
    console.print_comparison(
        [
            *((member.run, member.alone) for member in together.members),
            ("ensemble", together.evaluation),
        ],
        together.evaluation.classes,
    )
    print(f"ensemble folder: {folder}\n")
    console.print_next(page)
