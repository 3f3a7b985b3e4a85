"""One training run: network, data and recipe in, a run folder out."""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from os import PathLike
from typing import Annotated, Any

import keras
import numpy as np

from resnet_keras import recipes
from resnet_keras.architectures import Architecture, find, model_name
from resnet_keras.bounds import COUNT, check_arguments
from resnet_keras.data import pipelines, sources
from resnet_keras.data.augmentation import PadAndCrop
from resnet_keras.data.checks import check, naming_lost_images
from resnet_keras.data.epochs import steps_per_epoch
from resnet_keras.data.splits import ArraySplit, Source, Split, resized
from resnet_keras.errors import InputError, TrainingError
from resnet_keras.evaluation.evaluate import evaluation_data
from resnet_keras.files.atomic import write_file
from resnet_keras.networks import recomputation
from resnet_keras.networks.loading import Source as Weights
from resnet_keras.networks.loading import Stored, fit_weights, load_model, read_weights
from resnet_keras.networks.models import Builder, Classifier, build, dtype_policy
from resnet_keras.recipes import Recipe
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS, Checkpoint, Checkpoints, restore
from resnet_keras.runs.run import Run, RunDetails, best_row
from resnet_keras.runs.tensorboard import EventLog
from resnet_keras.training import diagnostics, fine_tuning, losses, optimizers, precision, signals
from resnet_keras.training.callbacks import Logs, Recorder
from resnet_keras.training.devices import Placement, place
from resnet_keras.training.diagnostics import Diagnostics
from resnet_keras.training.fine_tuning import Phase
from resnet_keras.training.plan import check_run_folder, check_same, pairs, planned
from resnet_keras.version import versions
from resnet_keras.view import View

NAMED_CLASSES = 5


@check_arguments
def train(
    network: str,
    source: Source | str,
    recipe: Recipe | str | PathLike[str],
    run: Run | str | PathLike[str],
    shortcut: str | None = None,
    *,
    builder: Builder | None = None,
    weights: Weights | None = None,
    start_over: bool = False,
    skip_bad_images: bool = False,
    devices: int | None = None,
    recompute: bool = False,
    checkpoint_steps: Annotated[int, COUNT] = CHECKPOINT_STEPS,
    log_diagnostics: bool = True,
    verbose: int | str = "auto",
) -> None:
    """Trains a network into a run folder, or goes on with a run that was interrupted.

    The model that validates best is kept as best.keras, see `recorder.validates_best`. A finished
    run is left as it is. An interrupted one goes on after the step of its last checkpoint, and ends
    with the weights and the history that it would have had uninterrupted.

        train("resnet20", sources.find("digits"), RECIPES["quick"], Run("runs/mine"))

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
        devices: how many devices of each process to train on; None for all, see distribution.py.
        recompute: keep fewer activations, see recomputation.py; the weights come out the same.
        checkpoint_steps: steps between checkpoints; every epoch ends in one anyway.
        log_diagnostics: let TensorBoard show pictures and gradient norms, too, see diagnostics.py.
        verbose: of Keras's progress bar: 0 none, 1 a bar, 2 a line an epoch, "auto" either.

    Raises:
        InputError: the arguments do not fit each other, images are bad, the folder holds another
            run or is damaged, or it cannot be written.
        TrainingError: the loss is not finite, or a file cannot be written.
        Interrupted: SIGINT or SIGTERM came; the running step was finished and kept.
    """
    source = sources.find(source) if isinstance(source, str) else source
    recipe = recipe if isinstance(recipe, Recipe) else recipes.find(recipe)
    run = run if isinstance(run, Run) else Run(run)
    if not hasattr(source, "class_names"):
        raise InputError(
            "training needs a source of labelled images",
            received=f"a {type(source).__name__}",
            accepted="what sources.find returns, a spelling of --data, or Arrays((images, labels))",
        )
    recipe.check_weights(weights)
    if weights is not None and builder is not None:
        raise InputError(
            "weights need a network that has a name",
            received="weights and a builder",
            accepted="one of the two",
        )
    placement = place(devices)
    if placement.is_first:
        check_run_folder(run, start_over)
    architecture = None if builder else find(network, shortcut)
    data = check(source, skip_bad_images)
    for note in data.notes:
        print(f"data: {note}")
    aim = planned(
        network,
        architecture,
        data,
        recipe,
        shortcut=shortcut,
        weights=_name(weights),
        skip_bad_images=skip_bad_images,
    )
    image_size = aim.image_size
    pipelines.check(recipe.augmentation)
    chosen = precision.decide(precision.describe_machine(), recipe.precision)
    details = asked = dataclasses.replace(
        aim, precision=str(chosen), versions=versions("keras", "numpy", keras.backend.backend())
    )
    with ExitStack() as locks:
        begun = run.exists and not start_over
        if run.exists and placement.is_first:
            locks.enter_context(run.locked())
        if begun:
            details = check_same(run, details)
            if details.finished:
                if placement.is_first:
                    run.remove_checkpoints()  # a kill may have left them
                print(f"{run} is finished (epochs: {recipe.epochs})")
                return

        stored = None
        if architecture:
            if weights is not None and not begun:
                stored = read_weights(weights, network, architecture).for_classes(data.class_names)
                architecture = stored.architecture
            elif details.preprocessing is not None:
                assert details.bn_epsilon
                # As the weights wanted it with which the run was begun.
                architecture = architecture.adapted(details.preprocessing, details.bn_epsilon)
            details = dataclasses.replace(
                details,
                preprocessing=architecture.preprocessing,
                bn_epsilon=architecture.defaults.bn_epsilon,
            )
            builder = partial(build, _configure(architecture, recipe, placement))
        assert builder
        keras.utils.set_random_seed(recipe.seed)
        training, validation = data.load("train"), data.load("validation")
        placement.check(min(recipe.batch_size, len(training)), recipe)
        with placement.scope(), dtype_policy(chosen.policy):
            model = builder(
                (image_size, image_size, 3),
                Classifier(
                    len(data.class_names),
                    losses.activation(recipe),
                    data.class_names,
                    recipe.centre,
                    recipe.classifier_std,
                ),
                model_name(network),
            )
            if stored:
                _take_over(model, stored)
        plan = fine_tuning.phases(model, recipe)
        # Only now, when all that was asked for has proved possible, is anything on disk touched.
        if placement.is_first:
            if run.exists and start_over:
                print(f"the run that was there is now {run.set_aside()}")
            run.make_folder()
            if not begun:
                locks.enter_context(run.locked())
                run.create(details)
        try:
            if placement.is_first:
                run.remove_partial()
                if data.skipped:
                    skipped = run.write_skipped(data.skipped)
                    print(f"what is left out as bad is listed in {skipped}")
            kept = Checkpoints(run.checkpoints)
            start = _start(run, kept, placement, asked)
            if weights is not None and begun and start is None:  # stopped before a checkpoint
                assert architecture
                stored = read_weights(weights, network, architecture)
                with placement.scope():
                    _take_over(model, stored.for_classes(data.class_names))
            test = len(data.splits["test"]) if "test" in data.splits else 0
            _announce(details, placement, len(training), len(validation), test)
            with placement.scope(), naming_lost_images(training, validation):
                if recompute:
                    model = recomputation.recompute(model)
                _fit(
                    model,
                    plan,
                    training,
                    validation,
                    details,
                    run,
                    chosen,
                    placement,
                    kept,
                    start,
                    checkpoint_steps,
                    log_diagnostics,
                    verbose,
                )
            if not placement.is_first:
                return
            write_file(run.last_model, model.save)
            if log_diagnostics:
                with EventLog(run.events / "validation") as log, naming_lost_images(validation):
                    best = load_model(run.best_model)
                    diagnostics.log_mistakes(log, best, validation, details)
            run.write_details(dataclasses.replace(details, finished=True))
        except OSError as error:
            raise TrainingError(
                f"training stopped: {error}. Nothing that was there before is lost; when this is "
                "mended, the same command goes on"
            ) from error
        run.remove_checkpoints()
    best = best_row(run.read_history())
    print(
        f"kept as best: epoch {best['epoch']:.0f}, validation top-1 error "
        f"{best['validation_top1_error']:.2%} (the latest within one standard error of the lowest)"
    )


def fine_tune(
    network: str,
    source: Source | str,
    weights: Weights,
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
        **how: further arguments of `train`, which tells what is raised, too.

    Returns:
        The model that validates best.
    """
    run = run if isinstance(run, Run) else Run(run)
    train(network, source, recipe, run, weights=weights, **how)
    return load_model(run.best_model)


def _name(weights: Weights | None) -> str | None:
    if weights is None:
        return None
    return str(weights) if isinstance(weights, str | PathLike) else f"model {weights.name}"


def _take_over(model: keras.Model, stored: Stored) -> None:
    left = fit_weights(model, stored.weights, stored.source, skip_classifier=True)
    fresh = f"; {', '.join(left)} starts afresh, as it tells other classes apart" if left else ""
    print(f"weights from {stored.source}{fresh}")


def _configure(architecture: Architecture, recipe: Recipe, placement: Placement) -> Architecture:
    defaults = dataclasses.replace(
        architecture.defaults,
        bn_synchronized=placement.synchronizes_normalization,
        zero_init_last_gamma=architecture.defaults.zero_init_last_gamma
        or (recipe.zero_init_last_gamma and architecture.is_residual),
    )
    return dataclasses.replace(architecture, defaults=defaults)


def _announce(
    details: RunDetails,
    placement: Placement,
    images: int,
    validation_images: int,
    test_images: int,
) -> None:
    recipe, names = details.recipe, details.class_names
    classes = ", ".join(names) if len(names) <= NAMED_CLASSES else f"{names[0]} to {names[-1]}"
    print(
        f"data: {len(names)} classes ({classes}); {images:,} images to train on, "
        f"{validation_images:,} to choose the best epoch by and {test_images:,} to test, at "
        f"{details.image_size}x{details.image_size} pixels"
    )
    print(f"precision: {details.precision}")
    if placement.devices > 1:
        print(f"devices: {placement.devices}")
    if recipe.accumulate > 1:
        images = recipe.batch_size * recipe.accumulate
        print(f"an update every {recipe.accumulate} steps, of {images:,} images")


def _start(
    run: Run, kept: Checkpoints, placement: Placement, asked: RunDetails
) -> Checkpoint | None:
    """What the run goes on from, the same in all processes.

    Raises:
        InputError: the processes see different runs, or were asked for different ones.
    """
    placement.agree(0)  # Nobody looks before the first process has prepared the folder.
    start = kept.read_latest()
    aims = repr([value for _, value, _ in pairs(asked, asked)])
    states = placement.gather([start.step if start else 0, zlib.crc32(aims.encode()) >> 1])
    steps, asked_for = zip(*states, strict=True)
    if len(set(asked_for)) > 1:
        raise InputError(
            "the processes were given different commands or data",
            received=f"{len(set(asked_for))} kinds",
            accepted="the same on every host",
        )
    if len(set(steps)) > 1:
        raise InputError(
            "the processes find different checkpoints",
            received=f"steps {', '.join(map(str, steps))} in {run}",
            accepted="one folder that all hosts share",
        )
    return start


def _fit(
    model: keras.Model,
    plan: Sequence[Phase],
    training: Split,
    validation: Split,
    details: RunDetails,
    run: Run,
    chosen: precision.Precision,
    placement: Placement,
    kept: Checkpoints,
    start: Checkpoint | None,
    checkpoint_steps: int,
    log_diagnostics: bool,
    verbose: int | str,
) -> None:
    recipe = details.recipe
    steps = steps_per_epoch(len(training), recipe.batch_size)
    if isinstance(training, ArraySplit) and isinstance(recipe.augmentation.crop, PadAndCrop | None):
        training = resized(training, details.image_size)
    batches = partial(_training_batches, training, details, steps, placement)
    if start:
        print(f"{run} was interrupted; going on after step {start.step} of {steps * recipe.epochs}")
    with ExitStack() as stack:
        logs = stack.enter_context(_logs(run, start)) if placement.is_first else None
        recorder = Recorder(
            run,
            logs,
            # What follows the last step is soon done again, and waits for no signal.
            stack.enter_context(signals.awaited()),
            kept,
            start,
            steps_per_epoch=steps,
            checkpoint_steps=checkpoint_steps,
            images=(min(recipe.batch_size, len(training)), len(validation)),
            averages=recipe.ema > 0,
            agree=placement.agree,
        )
        callbacks: list[keras.callbacks.Callback] = [recorder]
        if logs and log_diagnostics:
            images, labels = (np.asarray(array) for array in next(iter(batches(0))))
            # Before the recorder, which may end the epoch with an interruption.
            callbacks.insert(0, Diagnostics(logs.training, images, labels, begins=not start))
        view = View(details.image_size, details.image_size, recipe.centre)
        measured_on = evaluation_data(
            validation,
            view,
            multiple=placement.devices if placement.needs_equal_parts else None,
            share=placement.share,
        )
        for phase in plan:
            if recorder.step > steps * phase.last:
                continue
            _begin(model, phase, recipe, steps, chosen)
            if start and start.step > steps * phase.first:
                _restore(model, start, run)
            recorder.phase_end = phase.last
            while recorder.step < steps * phase.last:
                epoch, done = divmod(recorder.step, steps)
                model.fit(
                    batches(recorder.step),
                    initial_epoch=epoch,
                    # What is left of an epoch is a fit of its own, which the recorder ends: Keras
                    # counts steps from its start.
                    epochs=recipe.epochs,
                    steps_per_epoch=steps - done,
                    callbacks=callbacks,
                    validation_data=measured_on,
                    shuffle=False,  # the pipeline has done it
                    verbose=verbose,
                )


def _begin(
    model: keras.Model, phase: Phase, recipe: Recipe, steps: int, chosen: precision.Precision
) -> None:
    """Compiles the model for a phase, whose first step finds it as the last one left it."""
    factors = fine_tuning.begin(model, phase, recipe)
    for line in fine_tuning.describe(model, phase, recipe):
        print(line)
    model.compile(
        optimizer=optimizers.optimizer(
            recipe,
            steps,
            chosen.loss_scaling,
            first_epoch=phase.first,
            rate_factors=factors,
        ),
        loss=losses.loss(recipe),
        weighted_metrics=losses.metrics(model.output_shape[-1]),  # weights tell images from padding
        jit_compile=chosen.jit_compile,
    )
    _make_variables(model)


def _restore(model: keras.Model, start: Checkpoint, run: Run) -> None:
    try:
        restore(model, start.arrays)
    except ValueError as error:
        raise InputError(
            "the run cannot go on",
            received=f"{run} ({error})",
            accepted="the version of Keras in run.json, or --start-over (START_OVER=1 with make), "
            "which moves this run aside",
        ) from error


@contextmanager
def _logs(run: Run, start: Checkpoint | None) -> Iterator[Logs]:
    logged = len(start.notes["history"]) if start else -1
    with (
        EventLog(run.events / "training", logged) as training,
        EventLog(run.events / "validation", logged, without=diagnostics.AT_THE_END) as validation,
    ):
        yield Logs(training, validation)


def _make_variables(model: keras.Model) -> None:
    """Makes the optimizer's and the metrics' variables, which Keras does in the first step.

    A checkpoint has values for them.
    """
    model.optimizer.build(model.trainable_variables)
    probabilities = np.ones((1, model.output_shape[-1]), "float32")
    model.compute_metrics(x=None, y=np.zeros(1, "int64"), y_pred=probabilities)
    model.reset_metrics()


def _training_batches(
    split: Split, details: RunDetails, steps: int, placement: Placement, first_step: int
) -> Any:
    recipe = details.recipe
    # TensorFlow trains in one process, which loads whole batches.
    part = {"share": placement.share} if placement.share.count > 1 else {}
    return pipelines.of_backend().training_batches(
        split,
        recipe.augmentation,
        image_size=details.image_size,
        classes=len(details.class_names),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_step,
        last_step=recipe.epochs * steps,
        **part,
    )
