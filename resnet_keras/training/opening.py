"""Opens a run: builds its model, takes the run folder, and finds where training goes on."""

import dataclasses
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import keras

from resnet_keras.architectures import Architecture, model_name
from resnet_keras.data.splits import Split, shortened
from resnet_keras.errors import InputError, TrainingError
from resnet_keras.networks.loading import fit_weights, read_weights
from resnet_keras.networks.models import Builder, Classifier, build, dtype_policy
from resnet_keras.recipes import Recipe
from resnet_keras.runs.checkpoints import Checkpoint, Checkpoints
from resnet_keras.runs.run import Run, RunDetails
from resnet_keras.training import fine_tuning, losses
from resnet_keras.training.devices import DeviceGroup
from resnet_keras.training.fine_tuning import Phase
from resnet_keras.training.plan import Plan, check_same, pairs
from resnet_keras.training.precision import Precision
from resnet_keras.version import versions
from resnet_keras.weights.loaded import LoadedWeights

NAMED_CLASSES = 5


@dataclass(frozen=True)
class OpenRun:
    """A run that is ready to be trained.

    Attributes:
        run: the folder.
        plan: of the training.
        details: content of run.json.
        group: the devices.
        model: not compiled yet; its weights are those that training starts from.
        phases: what is trained when.
        checkpoints: of the folder.
        start: the checkpoint that training goes on from; None begins.
    """

    run: Run
    plan: Plan
    details: RunDetails
    group: DeviceGroup
    model: keras.Model
    phases: list[Phase]
    checkpoints: Checkpoints
    start: Checkpoint | None

    @property
    def training(self) -> Split:
        return self.plan.data.load("train")

    @property
    def validation(self) -> Split:
        return self.plan.data.load("validation")

    @property
    def precision(self) -> Precision:
        assert self.plan.precision
        return self.plan.precision


@dataclass(frozen=True)
class _Network:
    """What makes the model: a builder, the weights it starts from, and run.json as far as known."""

    builder: Builder
    stored: LoadedWeights | None
    details: RunDetails


@contextmanager
def open_run(
    plan: Plan, run: Run, group: DeviceGroup, start_over: bool
) -> Iterator[OpenRun | None]:
    """Opens a run, and keeps other processes from training into its folder while inside.

    The folder is touched only when all that was asked for has proved possible.

    Args:
        plan: with the precision.
        run: the folder, made if missing.
        group: the devices.
        start_over: moves a run that is in the folder aside.

    Yields:
        The run; None if it is finished.

    Raises:
        InputError: the folder holds another run, the weights do not fit, or `DeviceGroup.check`
            refuses the batch.
        TrainingError: a file cannot be written, while inside too.
    """
    with ExitStack() as locks:
        is_begun = run.exists and not start_over
        if run.exists and group.is_first:
            locks.enter_context(run.locked())
        found = check_same(run, plan.details) if is_begun else None
        if found and found.finished:
            if group.is_first:
                run.remove_checkpoints()  # a kill may have left them
            print(f"{run} is finished: {found.recipe.epochs} epochs")
            yield None
            return
        network = _network(plan, group, found)
        model = _build(plan, network, group)
        phases = fine_tuning.phases(model, plan.request.recipe)
        if group.is_first:
            if run.exists and start_over:
                print(f"the earlier run was moved to {run.set_aside()}")
            run.make_folder()
            if not is_begun:
                locks.enter_context(run.locked())
                run.create(network.details)
        with _file_errors_stop_training():
            if group.is_first:
                _tidy(run, plan)
            checkpoints = Checkpoints(run.checkpoints, is_writer=group.is_first)
            start = _start(run, checkpoints, group, plan.details)
            if is_begun and start is None:  # stopped before a checkpoint
                _read_weights_again(plan, model, group)
            _announce(plan, network.details, group)
            yield OpenRun(run, plan, network.details, group, model, phases, checkpoints, start)


def _network(plan: Plan, group: DeviceGroup, found: RunDetails | None) -> _Network:
    """Finds out what is to be built: of a run on disk, what it was begun with."""
    request = plan.request
    details = found or dataclasses.replace(
        plan.details, versions=versions("keras", "numpy", keras.backend.backend())
    )
    architecture, stored = request.architecture, None
    if architecture is None:
        assert request.builder
        return _Network(request.builder, None, details)
    if request.weights is not None and found is None:
        stored = read_weights(request.weights, request.network, architecture)
        stored = stored.for_classes(plan.data.class_names)
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
    return _Network(
        partial(build, _configure(architecture, request.recipe, group)), stored, details
    )


def _configure(architecture: Architecture, recipe: Recipe, group: DeviceGroup) -> Architecture:
    defaults = dataclasses.replace(
        architecture.defaults,
        bn_synchronized=group.synchronizes_normalization,
        zero_init_last_gamma=architecture.defaults.zero_init_last_gamma
        or (recipe.zero_init_last_gamma and architecture.is_residual),
    )
    return dataclasses.replace(architecture, defaults=defaults)


def _build(plan: Plan, network: _Network, group: DeviceGroup) -> keras.Model:
    recipe, data = plan.request.recipe, plan.data
    keras.utils.set_random_seed(recipe.seed)
    training, _ = data.load("train"), data.load("validation")
    group.check(min(recipe.batch_size, len(training)), recipe)
    assert plan.precision
    size = plan.details.image_size
    with group.scope(), dtype_policy(plan.precision.policy):
        model = network.builder(
            (size, size, 3),
            Classifier(
                len(data.class_names),
                losses.activation(recipe),
                data.class_names,
                recipe.centre,
                recipe.classifier_std,
            ),
            model_name(plan.request.network),
        )
        if network.stored:
            _take_over(model, network.stored)
    return model


def _take_over(model: keras.Model, stored: LoadedWeights) -> None:
    left = fit_weights(model, stored.weights, stored.source, skip_classifier=True)
    fresh = f"; the head ({', '.join(left)}) is new, because the classes differ" if left else ""
    print(f"weights: {stored.source}{fresh}")


def _read_weights_again(plan: Plan, model: keras.Model, group: DeviceGroup) -> None:
    request = plan.request
    if request.weights is None:
        return
    assert request.architecture
    stored = read_weights(request.weights, request.network, request.architecture)
    with group.scope():
        _take_over(model, stored.for_classes(plan.data.class_names))


def _tidy(run: Run, plan: Plan) -> None:
    run.remove_partial()
    if plan.data.skipped:
        skipped = run.write_skipped(plan.data.skipped)
        print(f"skipped images are listed in {skipped}")


@contextmanager
def _file_errors_stop_training() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"training stopped: {error}. The last checkpoint is whole. Mend the cause, then run "
            "the same command to resume"
        ) from error


def _start(
    run: Run, checkpoints: Checkpoints, group: DeviceGroup, asked: RunDetails
) -> Checkpoint | None:
    """Reads the checkpoint that the run goes on from, the same in all processes.

    Raises:
        InputError: the processes see different runs, or were asked for different ones.
    """
    group.all_reduce_max(0)  # Nobody looks before the first process has prepared the folder.
    start = checkpoints.read_latest()
    aims = repr([value for _, value, _ in pairs(asked, asked)])
    states = group.all_gather([start.step if start else 0, zlib.crc32(aims.encode()) >> 1])
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


def _announce(plan: Plan, details: RunDetails, group: DeviceGroup) -> None:
    recipe, names, splits = details.recipe, details.class_names, plan.data.splits
    shown = [shortened(name) for name in names]
    classes = ", ".join(shown) if len(names) <= NAMED_CLASSES else f"{shown[0]} to {shown[-1]}"
    test_images = len(splits["test"]) if "test" in splits else 0
    print(
        f"dataset: {len(names)} classes ({classes}); {len(splits['train']):,} training, "
        f"{len(splits['validation']):,} validation and {test_images:,} test images, "
        f"resized to {details.image_size}x{details.image_size} pixels"
    )
    print(f"precision: {details.precision}")
    if group.count > 1:
        print(f"devices: {group.count}")
    if recipe.accumulate > 1:
        images = recipe.batch_size * recipe.accumulate
        print(f"weights are updated every {recipe.accumulate} steps, from {images:,} images")
