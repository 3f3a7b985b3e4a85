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
from resnet_keras.cli.recipe_options import HiddenShortOptions, LongOptions, ShortOptions, table_of
from resnet_keras.errors import COUNT, InputError, check_arguments
from resnet_keras.evaluation import results
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS
from resnet_keras.runs.run import Run
from resnet_keras.training import launch, plan
from resnet_keras.weights.checks import check_content, check_weights

if TYPE_CHECKING:
    from resnet_keras.data.splits import Source


@dataclass(frozen=True)
class LogOptions:
    """What the run saves while it trains."""

    checkpoint_steps: Annotated[int, COUNT] = CHECKPOINT_STEPS
    """steps between checkpoints; every epoch ends with a checkpoint, too."""
    log_diagnostics: Annotated[bool, FLAG] = True
    """write no pictures and gradient norms for TensorBoard; they cost a step an epoch."""


@dataclass(frozen=True)
class MachineOptions:
    """Memory and devices of each process."""

    devices: Annotated[
        int | None, COUNT, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all)")
    ] = None
    """number of GPUs to train on."""
    recompute: Annotated[bool, FLAG] = False
    """save memory: compute activations a second time in each step, instead of storing them."""


@dataclass(frozen=True)
class HostOptions:
    """Train with other processes, on JAX: docs/how-to/many-devices.md."""

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
            help=f"{', '.join(recipes.RECIPES)}, or a .toml file.",
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
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/NETWORK-DATA-RECIPE)"),
    ] = None,
    start_over: Annotated[bool, FLAG] = False,
    values: Annotated[ShortOptions, tyro.conf.arg(name="recipe"), tyro.conf.OmitArgPrefixes] = {},  # noqa: B006 - read only
    more_values: Annotated[
        HiddenShortOptions, tyro.conf.arg(name="recipe"), tyro.conf.OmitArgPrefixes, HIDDEN
    ] = {},  # noqa: B006
    other_values: Annotated[LongOptions, tyro.conf.arg(name="recipe"), HIDDEN] = {},  # noqa: B006
    logs: Annotated[LogOptions, tyro.conf.OmitArgPrefixes, HIDDEN] = LogOptions(),
    machine: Annotated[MachineOptions, tyro.conf.OmitArgPrefixes, HIDDEN] = MachineOptions(),
    hosts: Annotated[HostOptions, tyro.conf.OmitArgPrefixes, HIDDEN] = HostOptions(),
) -> None:
    """Train a network, test it and write a report.

    The same command resumes a run that was interrupted. --help-all shows more options: memory,
    devices and hosts, logs, fine-tuning, the whole recipe.

    Example: resnet-keras train resnet50 --data photos --weights imagenet --recipe finetune

    Args:
        network: such as resnet50; `resnet-keras list` shows all networks.
        data: digits, fashion-mnist, a folder of class folders, tfds:NAME and others
            (docs/reference/datasets.md). --download fetches a public dataset.
        weights: pretrained weights: a file, a run folder, or imagenet (published ones, fetched).
        shortcut: shortcut option in place of the network's own.
        skip_bad_images: leave out images that cannot be used, and list them in skipped.csv.
        run: run folder.
        start_over: move an existing run folder aside and begin again.
    """
    hosts.check()
    chosen = recipes.changed(
        recipes.find(recipe), table_of({**values, **more_values}, other_values)
    )
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
    folder = Run(run or RUNS / name)
    plan.check_run_folder(folder, start_over)
    if weights is not None and (start_over or not folder.exists):
        check_content(weights, network)
    if not (hosts.hosts or start_over) and folder.exists and folder.read_details().finished:
        _leave_finished(folder, request, source)
        _tell_results(folder)
    elif _train(request, source, folder, start_over, logs, machine, hosts):
        _tell_results(folder)


def _leave_finished(run: Run, request: plan.Request, source: "Source") -> None:
    """Says that a run is finished; raises InputError if the command asks for another run."""
    from resnet_keras.data.checks import check

    asked = plan.make_plan(request, check(source, request.skip_bad_images))
    plan.check_same(run, asked.details)
    with run.locked():
        run.remove_checkpoints()  # a kill may have left them
    print(f"{run} is finished: {request.recipe.epochs} epochs")


def _train(
    request: plan.Request,
    source: "Source",
    folder: Run,
    start_over: bool,
    logs: LogOptions,
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
            start_over=start_over,
            skip_bad_images=request.skip_bad_images,
            devices=machine.devices,
            recompute=machine.recompute,
            checkpoint_steps=logs.checkpoint_steps,
            log_diagnostics=logs.log_diagnostics,
        )
    return is_first


def _tell_results(run: Run) -> None:
    """Prints the accuracy of a finished run, which is tested first if it was not yet."""
    measured = results.read_evaluation(run)
    if measured is None or not run.report.exists():
        measured = measure(run)
    console.print_summary(run, measured)
