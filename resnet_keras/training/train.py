"""One training run: network, data and recipe in, a run folder out."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import keras

from resnet_keras import recipes
from resnet_keras.data import pipelines, sources
from resnet_keras.data.checks import check, naming_lost_images
from resnet_keras.data.splits import Source
from resnet_keras.errors import InputError
from resnet_keras.files.atomic import write_file
from resnet_keras.networks.loading import WeightsSource, load_model
from resnet_keras.networks.models import Builder
from resnet_keras.recipes import Recipe
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS
from resnet_keras.runs.run import Run, best_row
from resnet_keras.runs.tensorboard import EventLog
from resnet_keras.training import diagnostics, precision
from resnet_keras.training.devices import select_devices
from resnet_keras.training.fitting import Options, fit
from resnet_keras.training.opening import OpenRun, open_run
from resnet_keras.training.plan import Request, check_run_folder, make_plan


def train(
    network: str,
    source: Source | str,
    recipe: Recipe | str | PathLike[str],
    run: Run | str | PathLike[str],
    shortcut: str | None = None,
    *,
    builder: Builder | None = None,
    weights: WeightsSource | None = None,
    start_over: bool = False,
    skip_bad_images: bool = False,
    devices: int | None = None,
    recompute: bool = False,
    checkpoint_steps: int = CHECKPOINT_STEPS,
    log_diagnostics: bool = True,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains a network into a run folder, or goes on with a run that was interrupted.

    The model that validates best is kept as best.keras, see `history.validates_best`. A finished
    run is left as it is. An interrupted one goes on after the step of its last checkpoint, and ends
    with the weights and the history that it would have had uninterrupted.

        train("resnet20", sources.find("digits"), RECIPES["quick"], Run("runs/mine"))

    Callbacks of yours are called after the loss was checked, in the order given, and before the
    history, the best model and the checkpoint are written: what they change in the model is in all
    three. They may read and change the model and its optimizer. `model.stop_training = True` ends
    the training with the running epoch; the run is then finished. A run that goes on calls them
    anew from the step after its last checkpoint, so that steps after it are seen twice. Their own
    state starts afresh: a run stays exact where a callback depends on the epoch, the batch and the
    model alone. A callback that defines `on_train_batch_end` makes every step wait for the device.
    With several processes, each calls its own callbacks, and all have to do the same.

    Args:
        network: its name, such as "resnet50".
        source: labelled images, or as --data spells them; the training and validation splits are
            used.
        recipe: how to train, the name of a preset, or a .toml file, see `recipes.read`.
        run: the folder; made if missing.
        shortcut: option "A", "B" or "C" in place of the network's own.
        builder: makes a network that has no name here; a run that goes on needs it again.
        weights: of the same network, to start from, see `loading.read_weights`; the network then
            has their preprocessing. Their classifier is left out if it tells other classes apart. A
            run that goes on does not read them again.
        start_over: move a run that is in the folder aside, and begin again.
        skip_bad_images: go on without images that cannot be used; skipped.csv tells which.
        devices: how many devices of each process to train on; None for all, see devices.py.
        recompute: keep fewer activations, see recomputation.py; the weights come out the same.
        checkpoint_steps: steps between checkpoints; every epoch ends in one anyway.
        log_diagnostics: let TensorBoard show pictures and gradient norms, too, see diagnostics.py.
        verbose: 0 prints no progress, 2 a line an epoch, 1 and "auto" a bar, too, on a terminal.
        callbacks: Keras callbacks of yours.

    Raises:
        InputError: the arguments do not fit each other, images are bad, the folder holds another
            run or is damaged, or it cannot be written.
        TrainingError: the loss is not finite, or a file cannot be written.
        Interrupted: SIGINT or SIGTERM came; the running step was finished and kept.
    """
    recipe = recipe if isinstance(recipe, Recipe) else recipes.find(recipe)
    request = Request(network, recipe, shortcut, builder, weights, skip_bad_images)
    options = Options(recompute, checkpoint_steps, log_diagnostics, verbose, tuple(callbacks))
    source, run = _source(source), run if isinstance(run, Run) else Run(run)
    group = select_devices(devices)
    if group.is_first:
        check_run_folder(run, start_over)
    pipelines.check(recipe.augmentation)
    data = check(source, skip_bad_images)
    for note in data.notes:
        print(f"data: {note}")
    plan = make_plan(request, data, precision.describe_machine())
    with open_run(plan, run, group, start_over) as opened:
        if opened:  # None: the run is finished already
            model = fit(opened, options)
            if group.is_first:
                _finish(opened, model, options)


def fine_tune(
    network: str,
    source: Source | str,
    weights: WeightsSource,
    run: Run | str | PathLike[str],
    recipe: Recipe | str | PathLike[str] = "finetune",
    **how: Any,
) -> keras.Model:
    """Fits a network that has learnt other images to those of a source.

    A new head is trained alone first, then all that the recipe does not freeze, see `Recipe`.

        fine_tune("resnet50", "photos", "imagenet", "runs/photos")

    Args:
        network: its name.
        source: labelled images, or as --data spells them; the classes are theirs.
        weights: what the network has learnt, see `loading.read_weights`.
        run: the run folder, as of every training.
        recipe: as of `train`.
        **how: further arguments of `train`, such as `callbacks`; `train` tells what is raised, too.

    Returns:
        The model that validates best.
    """
    run = run if isinstance(run, Run) else Run(run)
    train(network, source, recipe, run, weights=weights, **how)
    return load_model(run.best_model)


def _source(source: Source | str) -> Source:
    source = sources.find(source) if isinstance(source, str) else source
    if not hasattr(source, "class_names"):
        raise InputError(
            "training needs a source of labelled images",
            received=f"a {type(source).__name__}",
            accepted="what sources.find returns, a spelling of --data, or Arrays((images, labels))",
        )
    return source


def _finish(opened: OpenRun, model: keras.Model, options: Options) -> None:
    """Writes the last model and TensorBoard's pictures, and marks the run as finished."""
    run, details = opened.run, opened.details
    write_file(run.last_model, model.save)
    if options.log_diagnostics:
        with EventLog(run.events / "validation") as log, naming_lost_images(opened.validation):
            diagnostics.log_mistakes(log, load_model(run.best_model), opened.validation, details)
    run.write_details(replace(details, finished=True))
    run.remove_checkpoints()
    best = best_row(run.read_history())
    print(
        f"best epoch: {best['epoch']:.0f}, validation accuracy "
        f"{1 - best['validation_top1_error']:.2%} "
        "(the latest epoch within one standard error of the highest accuracy)"
    )
