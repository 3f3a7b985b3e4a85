"""resnet-keras evaluate: the errors of runs on their test images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnet_keras.bounds import IMAGE_SIZE, check_arguments
from resnet_keras.cli import console
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.cli.folders import RUNS
from resnet_keras.errors import InputError
from resnet_keras.evaluation.checks import check_measurable, check_readable
from resnet_keras.evaluation.protocols import ONE_VIEW, Protocol
from resnet_keras.runs.run import Run

if TYPE_CHECKING:
    from resnet_keras.evaluation.results import Evaluation


@check_arguments
def evaluate(
    runs: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN ...", help_behavior_hint="")]
    ],
    protocol: Annotated[str, tyro.conf.arg(metavar="single|ten-crop|multi-scale")] = "single",
    scales: Annotated[
        tuple[int, ...] | None,
        IMAGE_SIZE,
        tyro.conf.arg(
            metavar="INT ...", help_behavior_hint="(default: 224 256 384 480 640, in proportion)"
        ),
    ] = None,
    ensemble: bool = False,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/ensemble-...)"),
    ] = None,
) -> None:
    """Measure runs' best models on the test images and write their reports.

    Errors come with 95% intervals. Several runs end in a table that compares them.

    Args:
        runs: one run folder or more.
        protocol: how images are shown: one view of each; four corners, the centre and their mirror
            images, averaged; or whole images at several scales and their mirror images, averaged.
        scales: of multi-scale: the images' shorter sides in pixels. The default is the papers', for
            a network of 224 pixels; for others it is in proportion.
        ensemble: average the probabilities of all runs, which must be on the same data.
        output: the folder of the ensemble's result.
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
        print(f"report  {folder.report}")


def measure(run: Run, protocol: Protocol = ONE_VIEW) -> "Evaluation":
    """Measures a run's best model on the test images and writes the run's report."""
    with quiet_tensorflow():
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.evaluation import report

    print(f"measuring the best model of {run} on the test images, {protocol}")
    measured = evaluation.evaluate_run(run, console.bar(), protocol=protocol)
    report.write_report(run)
    return measured


def _evaluate_ensemble(runs: list[Run], protocol: Protocol, output: Path | None) -> None:
    with quiet_tensorflow():
        from resnet_keras.evaluation import ensembles, report

    folder = output or ensembles.default_folder(runs, protocol, RUNS)
    together = ensembles.evaluate_ensemble(runs, folder, protocol, verbose=console.bar())
    page = report.write_ensemble_report(folder)
    console.print_comparison(
        [
            *((member.run, member.alone) for member in together.members),
            ("all together", together.evaluation),
        ],
        together.evaluation.classes,
    )
    print(f"ensemble folder  {folder}\n{console.to_open(page)}")
