"""One training run: network, data and recipe in, a run folder out."""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import keras
import numpy as np

from resnet_keras import optimizers, pictures, precision, recomputation
from resnet_keras.architectures import Architecture, find
from resnet_keras.data.augmentation import Augmentation, PadAndCrop
from resnet_keras.data.epochs import steps_per_epoch
from resnet_keras.data.splits import ArraySplit, Source, resized
from resnet_keras.errors import InputError
from resnet_keras.evaluation import evaluate
from resnet_keras.events import EventLog, image_grid
from resnet_keras.models import Classifier, build, load_model, model_name
from resnet_keras.recipes import Recipe
from resnet_keras.runs import HistoryRow, Run, RunDetails, best_row, versions, write_file

GRID_IMAGES = 32


def train(
    network: str,
    source: Source,
    recipe: Recipe,
    run: Run,
    shortcut: str | None = None,
    start_over: bool = False,
    verbose: int | str = "auto",
    recompute: bool = False,
) -> None:
    """Trains a network into a run folder, or goes on with a run that was interrupted.

    The model that validates best is kept as best.keras, see `validates_best`. A finished run is
    left as it is. An interrupted one continues after its last finished epoch.

        train("resnet20", sources.find("digits"), RECIPES["quick"], Run("runs/mine"))

    Args:
        network: its name, such as "resnet50".
        source: labelled images; its training and validation splits are used.
        recipe: how to train.
        run: the folder; made if missing.
        shortcut: option "A", "B" or "C" in place of the network's own.
        start_over: move a run that is in the folder aside, and begin again.
        verbose: of Keras's progress bar: 0 none, 1 a bar, 2 a line an epoch, "auto" either.
        recompute: keep fewer activations, see recomputation.py; the weights come out the same.

    Raises:
        InputError: the arguments do not fit each other, the folder holds another run or is damaged,
            or it cannot be written.
    """
    architecture = _configure(find(network, shortcut), recipe)
    image_size = recipe.image_size or min(architecture.input_size, source.image_size)
    chosen = precision.decide(precision.describe_machine(), recipe.precision)
    details = RunDetails(
        network=network,
        shortcut=shortcut,
        data=source.name,
        class_names=source.class_names,
        image_size=image_size,
        recipe=recipe,
        precision=str(chosen),
        versions=versions(),
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    if run.exists and not start_over:
        details = _check_same(run, details)
        if details.finished:
            print(f"{run} is finished (epochs: {recipe.epochs})")
            return

    keras.utils.set_random_seed(recipe.seed)
    training = resized(source.load("train"), image_size)
    validation = resized(source.load("validation"), image_size)
    with dtype_policy(chosen.policy):
        model = build(
            architecture,
            (image_size, image_size, 3),
            Classifier(len(source.class_names)),
            model_name(network),
        )
    # Only now, when all that was asked for has proved possible, is anything on disk touched.
    if run.exists and start_over:
        print(f"the run that was there is now {run.set_aside()}")
    if not run.exists:
        run.create(details)
    print(f"precision: {details.precision}")
    history = _fit(model, training, validation, recipe, run, chosen, recompute, verbose)
    run.write_details(dataclasses.replace(details, finished=True))
    best = best_row(history)
    print(
        f"kept as best: epoch {best['epoch']:.0f}, validation top-1 error "
        f"{best['validation_top1_error']:.2%} (the latest within one standard error of the lowest)"
    )


def _configure(architecture: Architecture, recipe: Recipe) -> Architecture:
    if not (recipe.zero_init_last_gamma and architecture.is_residual):
        return architecture
    style = dataclasses.replace(architecture.style, zero_init_last_gamma=True)
    return dataclasses.replace(architecture, style=style)


def _check_same(run: Run, asked: RunDetails) -> RunDetails:
    """The details of the run on disk, if it is the one that is asked for."""
    found = run.read_details()
    differences = [
        f"{name} is {there!r} there and {here!r} here"
        for name, there, here in _pairs(found, asked)
        if there != here
    ]
    if differences:
        raise InputError(
            f"{run} holds another run: {'; '.join(differences)}. "
            "Name another folder (--run; with make RUN=), or begin again, which moves this one "
            "aside (--start-over; with make START_OVER=1)"
        )
    return found


def _pairs(found: RunDetails, asked: RunDetails) -> Iterator[tuple[str, Any, Any]]:
    for name in ("network", "shortcut", "data", "class_names", "image_size"):
        yield name, getattr(found, name), getattr(asked, name)
    for field in dataclasses.fields(Recipe):
        if field.name != "image_size":  # the run's own tells what it came to
            yield field.name, getattr(found.recipe, field.name), getattr(asked.recipe, field.name)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside take this Keras dtype policy; the one before it returns afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _fit(
    model: keras.Model,
    training: ArraySplit,
    validation: ArraySplit,
    recipe: Recipe,
    run: Run,
    chosen: precision.Precision,
    recompute: bool,
    verbose: int | str,
) -> list[HistoryRow]:
    steps = steps_per_epoch(len(training), recipe.batch_size)
    optimizer = optimizers.optimizer(recipe, steps, chosen.loss_scaling)
    history: list[HistoryRow] = []
    if run.last_model.exists():
        model = load_model(run.last_model)
        optimizer = model.optimizer
        epochs_done = int(optimizer.iterations) // steps
        history = run.read_history()[:epochs_done]
        print(f"{run} was interrupted; going on after epoch {epochs_done}")
    if recompute:
        model = recomputation.recompute(model)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5_accuracy"),
        ],
        jit_compile=chosen.jit_compile,
    )
    batches = _training_batches(training, recipe, model.output_shape[-1], first_epoch=len(history))
    with ExitStack() as stack:
        training_log = stack.enter_context(EventLog(run.events / "training"))
        validation_log = stack.enter_context(EventLog(run.events / "validation"))
        if not history:
            training_log.graph(model)
            images = np.asarray(next(iter(batches))[0])[:GRID_IMAGES]
            training_log.image(0, "augmented_inputs", image_grid(images))
        recorder = Recorder(
            run, history, steps * recipe.batch_size, len(validation), training_log, validation_log
        )
        model.fit(
            batches,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            validation_data=(validation.images, validation.labels),
            callbacks=[recorder],
            shuffle=False,  # the pipeline has done it
            verbose=verbose,
        )
        matrix = evaluate(load_model(run.best_model), validation, verbose=0).confusion_matrix
        names = run.read_details().class_names
        picture = pictures.confusion_matrix(np.array(matrix), names)
        validation_log.image(recipe.epochs, "confusion_matrix", pictures.pixels(picture))
    return recorder.history


def _training_batches(split: ArraySplit, recipe: Recipe, classes: int, first_epoch: int) -> Any:
    if keras.backend.backend() == "tensorflow":
        from resnet_keras.data.tf_pipeline import training_batches
    else:
        from resnet_keras.data.numpy_pipeline import training_batches
    steps = steps_per_epoch(len(split), recipe.batch_size)
    return training_batches(
        split,
        Augmentation(PadAndCrop(recipe.shift) if recipe.shift else None, recipe.flip),
        image_size=split.images.shape[1],
        classes=classes,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_epoch * steps,
        last_step=recipe.epochs * steps,
    )


class Recorder(keras.callbacks.Callback):
    """After every epoch: history.csv, TensorBoard's scalars, the last and the best model."""

    def __init__(
        self,
        run: Run,
        history: list[HistoryRow],
        images_per_epoch: int,
        validation_images: int,
        training_log: EventLog,
        validation_log: EventLog,
    ) -> None:
        super().__init__()
        self.run = run
        self.history = history
        self.images_per_epoch = images_per_epoch
        self.validation_images = validation_images
        self.training_log = training_log
        self.validation_log = validation_log

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # Validation follows the last batch, and is not training time.
        self._last_batch_ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        row = self._row(epoch + 1, logs or {})
        errors = [earlier["validation_top1_error"] for earlier in self.history]
        best = validates_best(row["validation_top1_error"], errors, self.validation_images)
        row["best"] = int(best)
        self.history.append(row)
        self.run.write_history(self.history)
        if best:
            write_file(self.run.best_model, self.model.save)
        write_file(self.run.last_model, self.model.save)
        self._log(row)

    def _row(self, epoch: int, logs: dict[str, float]) -> HistoryRow:
        seconds = self._last_batch_ended - self._epoch_started

        def error(accuracy: str) -> float:
            return round(1 - logs[accuracy], 6)  # accuracies are float32

        return {
            "epoch": epoch,
            "loss": logs["loss"],
            "top1_error": error("accuracy"),
            "top5_error": error("top5_accuracy"),
            "validation_loss": logs["val_loss"],
            "validation_top1_error": error("val_accuracy"),
            "validation_top5_error": error("val_top5_accuracy"),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "images_per_second": self.images_per_epoch / seconds,
            "seconds": seconds,
        }

    def _log(self, row: HistoryRow) -> None:
        epoch = int(row["epoch"])
        errors = ("loss", "top1_error", "top5_error")
        speeds = ("learning_rate", "images_per_second")
        self.training_log.scalars(epoch, {name: row[name] for name in (*errors, *speeds)})
        self.validation_log.scalars(epoch, {name: row[f"validation_{name}"] for name in errors})


def validates_best(error: float, earlier: Sequence[float], images: int) -> bool:
    """Whether a validation error makes its epoch the best one so far.

    It does if no earlier error is lower by more than one standard error (Breiman et al. 1984, the
    1-SE rule). Some hundred validation images cannot tell 1% from 2%, and of epochs that they
    cannot tell apart the later one, with the smaller learning rate, does better on other images.

    Args:
        error: top-1 error of the epoch, 0..1.
        earlier: those of the epochs before it.
        images: how many the errors were measured on.
    """
    lowest = min(earlier, default=1.0)
    return error <= lowest + math.sqrt(lowest * (1 - lowest) / images)
