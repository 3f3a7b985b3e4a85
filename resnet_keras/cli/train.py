"""resnet-keras train: one run, from the images to the report."""

import os
import re
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnet_keras import architectures, recipes
from resnet_keras.architectures.networks import SHORTCUT_OPTIONS
from resnet_keras.cli import console
from resnet_keras.cli.arguments import FLAG, HIDDEN
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.cli.evaluate import measure
from resnet_keras.cli.folders import RUNS
from resnet_keras.cli.recipe_options import LongOptions, ShortOptions, table_of
from resnet_keras.errors import COUNT, InputError, check_arguments
from resnet_keras.evaluation import results
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS
from resnet_keras.runs.run import Run
from resnet_keras.training import launch, plan
from resnet_keras.weights.checks import check_content, check_weights

if TYPE_CHECKING:
    from resnet_keras.data.splits import Source


@dataclass(frozen=True)
class RunOptions:
    """What the run folder is, and what it keeps."""

    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/NETWORK-DATA-RECIPE)"),
    ] = None
    """run folder."""
    start_over: Annotated[bool, FLAG] = False
    """move the run folder aside if there is one, and begin again."""
    checkpoint_steps: Annotated[int, COUNT] = CHECKPOINT_STEPS
    """steps between checkpoints. Every epoch ends in a checkpoint anyway."""
    log_diagnostics: Annotated[bool, FLAG] = True
    """no pictures and gradient norms in TensorBoard, which cost a step an epoch."""


@dataclass(frozen=True)
class MachineOptions:
    """Memory and devices of each process."""

    devices: Annotated[
        int | None, COUNT, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all)")
    ] = None
    """number of GPUs to train on."""
    recompute: Annotated[bool, FLAG] = False
    """save memory at the cost of a second forward pass a step. Very deep networks then fit."""


@dataclass(frozen=True)
class HostOptions:
    """Training with other processes on JAX: docs/how-to/many-devices.md."""

    hosts: Annotated[
        str | None, tyro.conf.arg(metavar="HOST:PORT|auto", help_behavior_hint="(default: none)")
    ] = None
    """address of process 0, or auto under SLURM, Open MPI and Kubernetes."""
    process: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(with HOST:PORT)")
    ] = None
    """number of this process, from 0 on."""
    processes: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(with HOST:PORT)")
    ] = None
    """number of all processes."""

    @property
    def address(self) -> str | None:
        """The address of process 0; None where the cluster tells it."""
        return None if self.hosts == "auto" else self.hosts

    def check(self) -> None:
        """Raises InputError if the three options do not fit each other."""
        given = [
            option
            for option, value in (("--process", self.process), ("--processes", self.processes))
            if value is not None
        ]
        if self.hosts in (None, "auto"):
            if given:
                raise InputError(
                    f"{given[0]} needs an address",
                    received=f"--hosts {self.hosts}" if self.hosts else "no --hosts",
                    accepted="--hosts HOST:PORT",
                )
            return
        if not re.fullmatch(r".+:\d+", self.hosts):
            raise InputError(
                "unknown hosts", received=repr(self.hosts), accepted="auto, or HOST:PORT"
            )
        number, count = self.process, self.processes
        if number is None or count is None or not 0 <= number < count:
            raise InputError(
                "--process or --processes is missing or out of range",
                received=f"--process {number} --processes {count}",
                accepted="--process I --processes N, with I from 0 to N - 1",
            )


@check_arguments
def train(
    network: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NETWORK")]],
    data: str = "digits",
    recipe: Annotated[
        str,
        tyro.conf.arg(
            metavar="RECIPE",
            help=f"{', '.join(recipes.RECIPES)}, or a .toml file as `resnet-keras recipe show` "
            "prints it.",
        ),
    ] = "quick",
    weights: Annotated[
        str | None, tyro.conf.arg(metavar="FILE|imagenet", help_behavior_hint="(default: none)")
    ] = None,
    shortcut: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="|".join(SHORTCUT_OPTIONS), help_behavior_hint="(default: the network's)"
        ),
    ] = None,
    skip_bad_images: Annotated[bool, FLAG] = False,
    values: Annotated[ShortOptions, tyro.conf.arg(name="recipe"), tyro.conf.OmitArgPrefixes] = {},  # noqa: B006 - read only
    other_values: Annotated[LongOptions, tyro.conf.arg(name="recipe"), HIDDEN] = {},  # noqa: B006
    run: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = RunOptions(),
    machine: Annotated[MachineOptions, tyro.conf.OmitArgPrefixes] = MachineOptions(),
    hosts: Annotated[HostOptions, tyro.conf.OmitArgPrefixes] = HostOptions(),
) -> None:
    """Train a network, test it and write a report.

    The same command continues a run that was interrupted. A finished run stays as it is.

    Args:
        network: name of the network, such as resnet50. `resnet-keras list` shows all names.
        data: labelled images: digits, fashion-mnist, a folder of photographs, tfds:NAME;
            docs/reference/datasets.md lists all spellings. --download fetches public ones.
        weights: weights to start from: a file of this package or of another project, a run folder,
            or imagenet, which fetches published ones: docs/how-to/convert-weights.md.
        shortcut: shortcut option in place of the network's own.
        skip_bad_images: train without images that cannot be used, and list them in skipped.csv.
    """
    hosts.check()
    chosen = recipes.changed(recipes.find(recipe), table_of(values, other_values))
    request = plan.Request(
        network, chosen, shortcut, weights=weights, skip_bad_images=skip_bad_images
    )
    if weights is not None:
        check_weights(weights, network)
    if (side := chosen.image_size) is not None:
        architectures.find(network, shortcut).check_sides(side, side)

    from resnet_keras.data import sources  # with h5py, which --help need not wait for

    source = sources.find(data)
    option = f"-{shortcut}" if shortcut else ""
    name = f"{network}{option}-{sources.slug(data)}-{recipes.name_of(recipe)}"
    folder = Run(run.run or RUNS / name)
    plan.check_run_folder(folder, run.start_over)
    if weights is not None and (run.start_over or not folder.exists):
        check_content(weights, network)
    if not (hosts.hosts or run.start_over) and folder.exists and folder.read_details().finished:
        _leave_finished(folder, request, source)
        _tell_results(folder)
    elif _train(request, source, folder, run, machine, hosts):
        _tell_results(folder)


def _leave_finished(run: Run, request: plan.Request, source: "Source") -> None:
    """Says that a run is finished; raises InputError if the command asks for another run."""
    from resnet_keras.data.checks import check

    asked = plan.make_plan(request, check(source, request.skip_bad_images))
    plan.check_same(run, asked.details)
    with run.locked():
        run.remove_checkpoints()  # a kill may have left them
    print(f"{run} is finished (epochs: {request.recipe.epochs})")


def _train(
    request: plan.Request,
    source: "Source",
    folder: Run,
    run: RunOptions,
    machine: MachineOptions,
    hosts: HostOptions,
) -> bool:
    """Trains, with other processes if there are hosts; tells whether this is the first process."""
    with quiet_tensorflow():
        from resnet_keras.training import devices
        from resnet_keras.training import train as training

    is_first = True
    with ExitStack() as stack:
        if hosts.hosts:
            launch.follow_parent()
            is_first = stack.enter_context(
                devices.initialize_distributed(hosts.address, hosts.process, hosts.processes)
            )
            if not is_first:
                stack.enter_context(
                    redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
                )
        training.train(
            request.network,
            source,
            request.recipe,
            folder,
            request.shortcut,
            weights=request.weights,
            start_over=run.start_over,
            skip_bad_images=request.skip_bad_images,
            devices=machine.devices,
            recompute=machine.recompute,
            checkpoint_steps=run.checkpoint_steps,
            log_diagnostics=run.log_diagnostics,
            verbose=console.verbosity(),
        )
    return is_first


def _tell_results(run: Run) -> None:
    """Prints the errors of a finished run, which is measured first if it was not yet."""
    measured = results.read_evaluation(run)
    if measured is None or not run.report.exists():
        measured = measure(run)
    console.print_summary(run, measured)
