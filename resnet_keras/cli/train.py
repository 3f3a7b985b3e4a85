"""resnet-keras train: one run, from the images to the report."""

import dataclasses
import os
import re
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Annotated

import tyro

from resnet_keras import architectures, recipes
from resnet_keras.bounds import COUNT, check_arguments
from resnet_keras.cli import console
from resnet_keras.cli.backend import quiet_tensorflow
from resnet_keras.cli.evaluate import measure
from resnet_keras.cli.folders import RUNS
from resnet_keras.errors import InputError
from resnet_keras.evaluation import results
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS
from resnet_keras.runs.run import Run
from resnet_keras.training import launch, plan
from resnet_keras.weights.checks import check_weights

# Options that replace one value of the recipe; None leaves it.
_of_recipe = "(default: the recipe's)"
Count = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_of_recipe)]
Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=_of_recipe)]
Word = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint=_of_recipe)]


@check_arguments
def train(
    network: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NETWORK")]],
    data: str = "digits",
    recipe: str = "quick",
    epochs: Count = None,
    batch_size: Count = None,
    accumulate: Count = None,
    learning_rate: Number = None,
    l2: Number = None,
    image_size: Count = None,
    precision: Word = None,
    seed: Count = None,
    shortcut: Annotated[
        str | None, tyro.conf.arg(metavar="A|B|C", help_behavior_hint="(default: the network's)")
    ] = None,
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/NETWORK-DATA-RECIPE)"),
    ] = None,
    weights: Annotated[
        str | None, tyro.conf.arg(metavar="FILE|imagenet", help_behavior_hint="(default: none)")
    ] = None,
    head_epochs: Count = None,
    freeze: Word = None,
    freeze_bn: Annotated[
        str | None, tyro.conf.arg(metavar="yes|no", help_behavior_hint=_of_recipe)
    ] = None,
    stage_decay: Number = None,
    start_over: bool = False,
    skip_bad_images: bool = False,
    recompute: bool = False,
    checkpoint_steps: Annotated[int, COUNT] = CHECKPOINT_STEPS,
    log_diagnostics: bool = True,
    devices: Annotated[
        int | None, COUNT, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all)")
    ] = None,
    hosts: Annotated[
        str | None, tyro.conf.arg(metavar="HOST:PORT|auto", help_behavior_hint="(default: none)")
    ] = None,
    process: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(with --hosts HOST:PORT)")
    ] = None,
    processes: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(with --hosts HOST:PORT)")
    ] = None,
) -> None:
    """Train a network, measure it on the test images and write its report.

    The same command goes on with a run that was interrupted, and leaves a finished one alone.

    Args:
        network: its name, such as resnet50; `resnet-keras list` shows them all.
        data: labelled images: digits, a folder of photographs, cifar10, tfds:NAME, HDF5 files;
            docs/data.md tells all spellings.
        recipe: quick, paper-cifar10, paper-cifar10-warmup, paper-imagenet, large-batch, rsb-a3 or
            finetune; the options below replace its values.
        epochs: passes over the training images, in full batches; the warm-up and the head's epochs
            keep their shares.
        batch_size: images a step.
        accumulate: steps whose gradients are averaged into one update of the weights.
        learning_rate: the highest, after the warm-up.
        l2: factor of the L2 term on every parameter (the papers' weight decay).
        image_size: side of the images in pixels.
        precision: auto, float32, mixed_bfloat16 or mixed_float16.
        seed: of weights, order and augmentation.
        shortcut: option A, B or C in place of the network's own.
        run: the run folder.
        weights: to start from, of the same network: a model or weights file of this package or of
            another project, a run's folder, or imagenet to fetch published ones; docs/weights.md.
        head_epochs: first epochs, in which the new head alone is trained.
        freeze: nothing; stem, stage2 and on, each with all parts below it; or backbone.
        freeze_bn: keep the statistics of the other batch normalisations, too.
        stage_decay: learning rate of each stage over that of the one above it.
        start_over: move the run folder aside if there is one, and begin again.
        skip_bad_images: go on without images that cannot be used, and list them in skipped.csv.
        recompute: save memory, for a second forward pass a step; deep nets then fit.
        checkpoint_steps: steps between checkpoints; every epoch ends in one anyway.
        log_diagnostics: let TensorBoard show pictures and gradient norms, too: a step more an
            epoch.
        devices: how many GPUs of this machine to train on, or of every process.
        hosts: train together with other processes, on JAX: the address of process 0, where they
            meet, or auto under SLURM, Open MPI and Kubernetes; docs/scaling.md.
        process: number of this one, from 0 on.
        processes: how many there are.
    """
    _check_hosts(hosts, process, processes)
    architecture = architectures.find(network, shortcut)
    if weights is not None:
        check_weights(weights, network)
    base = recipes.find(recipe)
    if epochs is not None and epochs >= 1:
        base = base.in_epochs(epochs)
    values = {
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "l2": l2,
        "image_size": image_size,
        "head_epochs": head_epochs,
        "freeze": freeze,
        "freeze_bn": None if freeze_bn is None else _yes_or_no(freeze_bn, "--freeze-bn"),
        "stage_decay": stage_decay,
        "precision": precision,
        "seed": seed,
    }
    given = {name: value for name, value in values.items() if value is not None}
    chosen = dataclasses.replace(base, **given)
    chosen.check_weights(weights)
    if chosen.image_size is not None:
        architecture.check_sides(chosen.image_size, chosen.image_size)
    option = f"-{shortcut}" if shortcut else ""

    from resnet_keras.data import sources
    from resnet_keras.data.checks import check

    folder = Run(run or RUNS / f"{network}{option}-{sources.slug(data)}-{recipe}")
    source = sources.find(data)
    plan.check_run_folder(folder, start_over)
    if not (hosts or start_over) and folder.exists and folder.read_details().finished:
        aim = plan.planned(
            network,
            architecture,
            check(source, skip_bad_images),
            chosen,
            shortcut=shortcut,
            weights=weights,
            skip_bad_images=skip_bad_images,
        )
        plan.check_same(folder, aim)
        with folder.locked():
            folder.remove_checkpoints()  # a kill may have left them
        print(f"{folder} is finished (epochs: {chosen.epochs})")
        _tell_results(folder)
        return
    with quiet_tensorflow():
        from resnet_keras.training import devices as distribution
        from resnet_keras.training import train as training

    is_first = True
    with ExitStack() as stack:
        if hosts:
            launch.follow_parent()
            address = None if hosts == "auto" else hosts
            is_first = stack.enter_context(distribution.joined(address, process, processes))
            if not is_first:
                stack.enter_context(
                    redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
                )
        training.train(
            network,
            source,
            chosen,
            folder,
            shortcut,
            weights=weights,
            start_over=start_over,
            skip_bad_images=skip_bad_images,
            devices=devices,
            recompute=recompute,
            checkpoint_steps=checkpoint_steps,
            log_diagnostics=log_diagnostics,
            verbose=console.verbosity(),
        )
    if is_first:
        _tell_results(folder)


def _tell_results(run: Run) -> None:
    """Prints the errors of a finished run, which is measured first if it was not yet."""
    measured = results.read_evaluation(run)
    if measured is None or not run.report.exists():
        measured = measure(run)
    console.print_summary(run, measured)


def _yes_or_no(word: str, option: str) -> bool:
    if word not in ("yes", "no"):
        raise InputError(
            f"{option} has an unknown value", received=repr(word), accepted="yes or no"
        )
    return word == "yes"


def _check_hosts(hosts: str | None, process: int | None, processes: int | None) -> None:
    given = [
        name
        for name, value in (("--process", process), ("--processes", processes))
        if value is not None
    ]
    if hosts in (None, "auto"):
        if given:
            raise InputError(
                f"{given[0]} needs an address",
                received=f"--hosts {hosts}" if hosts else "no --hosts",
                accepted="--hosts HOST:PORT",
            )
        return
    if not re.fullmatch(r".+:\d+", hosts):
        raise InputError("unknown hosts", received=repr(hosts), accepted="auto, or HOST:PORT")
    if process is None or processes is None or not 0 <= process < processes:
        raise InputError(
            "--process or --processes is missing or out of range",
            received=f"--process {process} --processes {processes}",
            accepted="--process I --processes N, with I from 0 to N - 1",
        )
