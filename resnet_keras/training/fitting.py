"""Trains the model of an open run, phase by phase."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import keras
import numpy as np

from resnet_keras.data import pipelines
from resnet_keras.data.augmentation import PadAndCrop
from resnet_keras.data.checks import naming_lost_images
from resnet_keras.data.epochs import steps_per_epoch
from resnet_keras.data.splits import ArraySplit, resized
from resnet_keras.errors import COUNT, InputError, check_fields
from resnet_keras.evaluation.evaluate import evaluation_data
from resnet_keras.networks import recomputation
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS, Checkpoint, restore
from resnet_keras.runs.run import Run
from resnet_keras.runs.tensorboard import EventLog
from resnet_keras.training import diagnostics, fine_tuning, losses, optimizers, signals
from resnet_keras.training.callback_list import CallbackList
from resnet_keras.training.callbacks import (
    Averages,
    Progress,
    RestoreMetrics,
    StopOnNonFiniteLoss,
)
from resnet_keras.training.checkpointing import StopOnSignal, WriteCheckpoints
from resnet_keras.training.diagnostics import Diagnostics
from resnet_keras.training.fine_tuning import Phase
from resnet_keras.training.history import EpochHistory, LogCurves, Logs
from resnet_keras.training.opening import OpenRun
from resnet_keras.training.plan import START_OVER
from resnet_keras.training.printing import printing
from resnet_keras.view import View


@dataclass(frozen=True)
class Options:
    """How a run is trained; the arguments are those of `train`, and change no weights.

    Raises:
        InputError: one of the callbacks is none of Keras's, or a number is out of its bounds.
    """

    recompute: bool = False
    checkpoint_steps: Annotated[int, COUNT] = CHECKPOINT_STEPS
    log_diagnostics: bool = True
    verbose: int | str = "auto"
    callbacks: Sequence[keras.callbacks.Callback] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for callback in self.callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise InputError(
                    "callbacks holds an object that is no callback",
                    received=f"a {type(callback).__name__}",
                    accepted="objects of keras.callbacks.Callback",
                )


def fit(opened: OpenRun, options: Options) -> keras.Model:
    """Trains an open run to its end, or until a callback of the caller's stops the training.

    Args:
        opened: the run.
        options: how to train it.

    Returns:
        The trained model, compiled.

    Raises:
        InputError: an image was lost, or the checkpoint is of another version of Keras.
        DivergedError: the loss is not finite.
        Interrupted: a signal came.
    """
    recipe, start = opened.details.recipe, opened.start
    steps = steps_per_epoch(len(opened.training), recipe.batch_size)
    progress = Progress(steps, start.step if start else 0)
    if start:
        total = steps * recipe.epochs
        print(f"resuming {opened.run} after step {start.step:,} of {total:,}")
    with ExitStack() as stack:
        stack.enter_context(opened.group.scope())
        stack.enter_context(naming_lost_images(opened.training, opened.validation))
        model = recomputation.recompute(opened.model) if options.recompute else opened.model
        batches = partial(_training_batches, opened, _in_memory(opened), steps)
        chosen = stack.enter_context(_callbacks(opened, options, progress, batches))
        callbacks = CallbackList(chosen, model, recipe.epochs)
        measured_on = _validation_data(opened)
        for phase in opened.phases:
            if progress.step > steps * phase.last:
                continue
            _begin(model, phase, opened, steps)
            if start and start.step > steps * phase.first:
                _restore(model, start, opened.run)
            while progress.step < steps * phase.last and not model.stop_training:
                epoch, done = divmod(progress.step, steps)
                model.fit(
                    batches(progress.step),
                    initial_epoch=epoch,
                    # Keras counts steps from its start: the rest of an epoch is a fit of its own.
                    epochs=epoch + 1 if done else phase.last,
                    steps_per_epoch=steps - done,
                    callbacks=callbacks,
                    validation_data=measured_on,
                    verbose=0,  # PrintProgress says more
                    shuffle=False,  # the pipeline has done it
                )
            if model.stop_training:
                break
        return model


@contextmanager
def _callbacks(
    opened: OpenRun, options: Options, progress: Progress, batches: Any
) -> Iterator[list[keras.callbacks.Callback]]:
    """The callbacks of a run, in the order in which they are called."""
    group, start, recipe = opened.group, opened.start, opened.details.recipe
    images = (min(recipe.batch_size, len(opened.training)), len(opened.validation))
    loss = StopOnNonFiniteLoss(progress, opened.checkpoints)
    averages = Averages(recipe.ema > 0)
    rows = start.notes["history"] if start else []
    history = EpochHistory(opened.run if group.is_first else None, progress, averages, images, rows)
    checkpoints = WriteCheckpoints(
        opened.checkpoints, progress, history, loss, options.checkpoint_steps
    )
    restore_metrics = [RestoreMetrics(start, progress)] if start else []
    with ExitStack() as stack:
        logging = []
        if group.is_first:
            logs = stack.enter_context(_logs(opened.run, start))
            if options.log_diagnostics:
                shown = (np.asarray(array) for array in next(iter(batches(0))))
                logging.append(Diagnostics(logs.training, *shown, begins=not start))
            logging.append(LogCurves(logs, history))
        lines = stack.enter_context(printing(progress, history, recipe.epochs, options.verbose))
        # What follows the last step is soon done again, and waits for no signal.
        interruption = stack.enter_context(signals.awaited())
        yield [
            progress,
            loss,
            *restore_metrics,
            averages,
            *options.callbacks,
            history,
            *logging,
            *lines,
            checkpoints,
            StopOnSignal(interruption, group, progress, checkpoints),
        ]


@contextmanager
def _logs(run: Run, start: Checkpoint | None) -> Iterator[Logs]:
    logged = len(start.notes["history"]) if start else -1
    with (
        EventLog(run.events / "training", logged) as training,
        EventLog(run.events / "validation", logged, without=diagnostics.AT_THE_END) as validation,
    ):
        yield Logs(training, validation)


def _in_memory(opened: OpenRun) -> Any:
    """The training images, in memory of the network's size where every one is shown whole."""
    training, details = opened.training, opened.details
    crop = details.recipe.augmentation.crop
    if isinstance(training, ArraySplit) and isinstance(crop, PadAndCrop | None):
        return resized(training, details.image_size)
    return training


def _training_batches(opened: OpenRun, split: Any, steps: int, first_step: int) -> Any:
    details, group = opened.details, opened.group
    recipe = details.recipe
    return pipelines.pipeline().training_batches(
        split,
        recipe.augmentation,
        image_size=details.image_size,
        classes=len(details.class_names),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_step,
        last_step=recipe.epochs * steps,
        share=group.share,
    )


def _validation_data(opened: OpenRun) -> Any:
    details, group = opened.details, opened.group
    view = View(details.image_size, details.image_size, details.recipe.centre)
    multiple = group.count if group.needs_equal_parts else None
    return evaluation_data(opened.validation, view, multiple=multiple, share=group.share)


def _begin(model: keras.Model, phase: Phase, opened: OpenRun, steps: int) -> None:
    """Compiles the model for a phase, whose first step finds it as the last one left it."""
    recipe, chosen = opened.details.recipe, opened.precision
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


def _make_variables(model: keras.Model) -> None:
    """Makes the optimizer's and the metrics' variables, which Keras does in the first step.

    A checkpoint has values for them.
    """
    model.optimizer.build(model.trainable_variables)
    probabilities = np.ones((1, model.output_shape[-1]), "float32")
    model.compute_metrics(x=None, y=np.zeros(1, "int64"), y_pred=probabilities)
    model.reset_metrics()


def _restore(model: keras.Model, start: Checkpoint, run: Run) -> None:
    try:
        restore(model, start.arrays)
    except ValueError as error:
        raise InputError(
            "the run cannot be resumed",
            received=f"{run} ({error})",
            accepted=f"the version of Keras in run.json, or {START_OVER}",
        ) from error
