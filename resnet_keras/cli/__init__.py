"""The command line: `resnet-keras COMMAND` turns arguments into calls.

Arguments to calls, nothing else. Whatever needs TensorFlow is imported inside the commands, so that
`--help` and `list` answer at once.
"""

import dataclasses
import errno
import io
import os
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro
from rich.console import Console

from resnet_keras import architectures, recipes, studies
from resnet_keras.bounds import COUNT, IMAGE_SIZE, PORTS, check_arguments
from resnet_keras.cli import console as summaries
from resnet_keras.cli.arguments import dispatch
from resnet_keras.errors import (
    ExportError,
    InputError,
    Interrupted,
    TrainingError,
    nearest,
)
from resnet_keras.evaluation import results
from resnet_keras.evaluation.checks import (
    MODEL_FILES,
    check_measurable,
    check_model,
    check_readable,
    check_subject,
)
from resnet_keras.evaluation.protocols import ONE_VIEW, Protocol
from resnet_keras.files.atomic import check_writable
from resnet_keras.runs.checkpoints import CHECKPOINT_STEPS
from resnet_keras.runs.run import Run
from resnet_keras.training import launch as supervision
from resnet_keras.training import plan
from resnet_keras.weights.checks import check_conversion, check_weights

if TYPE_CHECKING:
    import numpy as np

    from resnet_keras.evaluation.results import Evaluation

RUNS = Path("runs")
SHOWN_REASONS = 10
BACKENDS = ("tensorflow", "jax")
NO_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)

# Options that replace one value of the recipe; None leaves it.
_of_recipe = "(default: the recipe's)"
_LATEST = "(default: the latest run)"
Count = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_of_recipe)]
Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=_of_recipe)]
Word = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint=_of_recipe)]


def list_networks(pattern: tyro.conf.Positional[str] = "*") -> None:
    """List the networks with their parameters and multiply-adds.

    Args:
        pattern: show only the names that match, such as "*50*".
    """
    names = architectures.list_models(pattern)
    if not names:
        everything = list(architectures.NETWORKS)
        raise InputError(
            "no network matches",
            received=repr(pattern),
            accepted=nearest(pattern.strip("*"), everything),
        )
    console = Console()
    for group in architectures.FAMILY:
        shown = {name: network for name, network in group.networks.items() if name in names}
        if shown:
            console.print(f"[bold]{group.title}[/bold]\n{group.purpose}")
            console.print(summaries.networks(shown))


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
        request = plan.Request(
            network, chosen, shortcut, weights=weights, skip_bad_images=skip_bad_images
        )
        aim = plan.make_plan(request, check(source, skip_bad_images))
        plan.check_same(folder, aim.details)
        with folder.locked():
            folder.remove_checkpoints()  # a kill may have left them
        print(f"{folder} is finished (epochs: {chosen.epochs})")
        _tell_results(folder)
        return
    with _quiet_tensorflow():
        from resnet_keras.training import devices as distribution
        from resnet_keras.training import train as training

    is_first = True
    with ExitStack() as stack:
        if hosts:
            supervision.follow_parent()
            address = None if hosts == "auto" else hosts
            is_first = stack.enter_context(
                distribution.initialize_distributed(address, process, processes)
            )
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
            verbose=_verbosity(),
        )
    if is_first:
        _tell_results(folder)


def _tell_results(run: Run) -> None:
    """Prints the errors of a finished run, which is measured first if it was not yet."""
    measured = results.read_evaluation(run)
    if measured is None or not run.report.exists():
        measured = _measure(run)
    summaries.print_summary(run, measured)


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


@check_arguments
def launch(
    command: tyro.conf.Positional[tuple[str, ...]],
    processes: Annotated[
        int, supervision.PROCESSES, tyro.conf.arg(name="n", aliases=("-n",), metavar="INT")
    ] = 2,
) -> None:
    """Train with several processes of this machine on JAX: launch -n 2 train resnet50 ...

    Ctrl-C and SIGTERM reach them all; when one fails the others are stopped.

    Args:
        command: train, with its arguments.
        processes: how many.
    """
    raise SystemExit(supervision.launch(processes, command))


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
    measured = [_measure(folder, chosen) for folder in folders]
    if len(folders) == 1:
        summaries.print_summary(folders[0], measured[0])
        return
    summaries.print_comparisons(zip(folders, details, measured, strict=True))
    for folder in folders:
        print(f"report  {folder.report}")


def _measure(run: Run, protocol: Protocol = ONE_VIEW) -> "Evaluation":
    with _quiet_tensorflow():
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.evaluation import report

    print(f"measuring the best model of {run} on the test images, {protocol}")
    measured = evaluation.evaluate_run(run, _bar(), protocol=protocol)
    report.write_report(run)
    return measured


def _evaluate_ensemble(runs: list[Run], protocol: Protocol, output: Path | None) -> None:
    with _quiet_tensorflow():
        from resnet_keras.evaluation import ensembles, report

    folder = output or ensembles.default_folder(runs, protocol, RUNS)
    together = ensembles.evaluate_ensemble(runs, folder, protocol, verbose=_bar())
    page = report.write_ensemble_report(folder)
    summaries.print_comparison(
        [
            *((member.run, member.alone) for member in together.members),
            ("all together", together.evaluation),
        ],
        together.evaluation.classes,
    )
    print(f"ensemble folder  {folder}\n{summaries.to_open(page)}")


@check_arguments
def predict(
    images: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="")]
    ],
    model: Annotated[Path, tyro.conf.arg(metavar="RUN|MODEL.keras", aliases=("--run",))],
    top: Annotated[int, COUNT] = 5,
    explain: bool = False,
    class_name: Annotated[
        str | None,
        tyro.conf.arg(
            name="class", metavar="NAME", help_behavior_hint="(default: the most probable)"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: beside the image)"),
    ] = None,
) -> None:
    """Print the most probable classes of image files, and show why.

    Args:
        images: JPEG, PNG, WebP or other image files, of any size, and folders of them.
        model: that answers: a run folder, for its best one, or a file that knows its classes, such
            as convert writes.
        top: how many classes to print.
        explain: write pictures too: IMAGE-grad-cam.png of where the class is seen,
            IMAGE-features.png of the stages' maps, IMAGE-responses.png of the layers.
        class_name: the class to look for.
        output: where the pictures go.
    """
    if not images:
        raise InputError(
            "predict needs an image", received="none", accepted="one or more image files or folders"
        )
    for option, value in (("--class", class_name), ("--output", output)):
        if value is not None and not explain:
            raise InputError(
                f"{option} applies to explanations only",
                received=f"{option} {value}",
                accepted=f"{option} with --explain",
            )
    unreadable: dict[Path, InputError] = {}
    paths = [path for given in images for path in _image_files(given, unreadable)]
    check_model(model)
    if (run := Run(model)).exists:
        _label_of(class_name, run.read_details().class_names)
    readable = _read_images(paths, unreadable)
    first = next(readable, None)  # where there is none, TensorFlow need not be waited for
    if first is None:
        raise _unreadable(unreadable, paths)
    with _quiet_tensorflow():
        from resnet_keras.cli import resolve
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.evaluation import explanation

    network, class_names = resolve.classifier(model)
    label = _label_of(class_name, class_names)
    places = dict(zip(paths, explanation.places(paths, output), strict=True)) if explain else {}
    for path, image in chain([first], readable):
        print(path)
        for name, probability in evaluation.classify(network, image, class_names, top):
            print(f"  {probability:7.2%}  {name}")
        if pictures := places.get(path):
            explanation.write(explanation.explain(network, image, class_names, label), pictures)
            print(f"  why: {', '.join(map(str, pictures.values()))}")
    if unreadable:
        raise _unreadable(unreadable, paths)


def _image_files(given: Path, unreadable: dict[Path, InputError]) -> list[Path]:
    """A file as it was given; of a folder the image files, and what cannot be read is noted."""
    from resnet_keras.data.images import EXTENSIONS, UnreadableImageError
    from resnet_keras.data.listing import Listing, describe_ignored

    if not given.is_dir():
        return [given]
    listing = Listing()
    found = [Path(path) for path in listing.images(given)]
    problems = [(Path(one.path), one.reason) for one in listing.problems]
    unreadable |= {path: UnreadableImageError(reason, path) for path, reason in problems}
    ignored = describe_ignored(listing.ignored)
    if not found and not problems:
        raise InputError(
            "the folder has no images",
            received=f"{given} ({ignored or 'it is empty'})",
            accepted=f"*{', *'.join(EXTENSIONS)}",
        )
    if ignored:
        print(f"resnet-keras: {given}: {ignored}", file=sys.stderr)
    return [*found, *(path for path, _ in problems)]


def _read_images(
    paths: Sequence[Path], unreadable: dict[Path, InputError]
) -> Iterator[tuple[Path, "np.ndarray"]]:
    """Those that can be read, one after the other; of the others, what is wrong is noted."""
    from resnet_keras.data.images import read_image

    for path in paths:
        if path in unreadable:
            continue
        try:
            with warnings.catch_warnings(
                record=True, action="always", category=UserWarning
            ) as remarks:
                image = read_image(path)
        except InputError as error:
            unreadable[path] = error
            continue
        for remark in remarks:
            print(f"resnet-keras: {remark.message}", file=sys.stderr)
        yield path, image


def _unreadable(errors: dict[Path, InputError], paths: Sequence[Path]) -> InputError:
    from resnet_keras.data.images import FORMATS

    if len(paths) == 1:
        return errors[paths[0]]
    told = [f"{path} ({getattr(e, 'reason', 'no such file')})" for path, e in errors.items()]
    more = f" and {len(told) - SHOWN_REASONS} more" if len(told) > SHOWN_REASONS else ""
    return InputError(
        f"{len(told)} of {len(paths)} images cannot be read",
        received=f"{', '.join(told[:SHOWN_REASONS])}{more}",
        accepted=", ".join(FORMATS),
    )


def _label_of(class_name: str | None, class_names: Sequence[str]) -> int | None:
    if class_name is None:
        return None
    if class_name not in class_names:
        raise InputError(
            "unknown class", received=repr(class_name), accepted=nearest(class_name, class_names)
        )
    return class_names.index(class_name)


@check_arguments
def reproduce(
    study: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="STUDY")]],
    data: str = "digits",
    scale: Literal["quick", "full"] = "quick",
    seeds: Annotated[
        int | None,
        studies.SEEDS,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the study's)"),
    ] = None,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/studies/DATA-SCALE)"),
    ] = None,
) -> None:
    """Repeat a table or figure of the papers: train its networks, and write a page.

    The same command goes on where it was stopped. Studies of one folder share their trainings.

    Args:
        study: degradation, shortcuts, depth, orderings, shortcut-manipulations, responses,
            gradients, single-layer-units, lesions, crops-and-ensembles or comparison.
        data: labelled images, as for train.
        scale: quick takes minutes on small data, full is what the papers did.
        seeds: how many times every network is trained.
        output: where runs and pages go.
    """
    from resnet_keras.data import sources

    studies.check(study)
    sources.find(data)
    with _quiet_tensorflow():
        from resnet_keras.studies import running

        studies.find(study)  # its module, which may load TensorFlow

    page = running.reproduce(study, data, scale, seeds, output, _bar()) / "index.html"
    print(f"\npage  {page}\n{summaries.to_open(page)}")


@check_arguments
def export(
    model: tyro.conf.Positional[
        Annotated[Path | None, tyro.conf.arg(metavar="RUN|MODEL.keras", help_behavior_hint=_LATEST)]
    ] = None,
    data: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: the run's)")
    ] = None,
    formats: tuple[str, ...] = (),
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: RUN/export, MODEL-export)"),
    ] = None,
    images: Annotated[int, COUNT] = 500,
    calibration_images: Annotated[int, COUNT] = 200,
) -> None:
    """Write a model as SavedModel, TFLite and ONNX, each compared with Keras on test images.

    A file that does not answer as Keras does takes no place; what was there before stays.

    Args:
        model: a run folder, or a model file, which needs --data.
        data: labelled images, as for train: those to test and to calibrate with.
        formats: saved-model, tflite-float32, tflite-float16, tflite-dynamic-int8, tflite-int8,
            onnx-float32, onnx-int8 or core-ml; all but the last if none.
        output: the export folder.
        images: how many test images to compare on, at most.
        calibration_images: how many training images show int8 formats what values there are.
    """
    from resnet_keras.export import exporting
    from resnet_keras.export import formats as known

    known.find(formats)
    path = model or _latest_run()
    check_subject(path, data)
    folder = output or _export_folder(path)
    check_writable(folder, exporting.FOLDER)
    with _quiet_tensorflow():
        from resnet_keras.cli import resolve
        from resnet_keras.evaluation import evaluate as evaluation
        from resnet_keras.networks.models import view_of

    subject = resolve.find(path, data)
    for note in subject.data.notes:
        print(f"data: {note}")
    view = view_of(subject.model)
    test = evaluation.shown(subject.data.load("test"), view, images)
    calibration = evaluation.shown(subject.data.load("train"), view, calibration_images)
    print(f"exporting {subject.description}", flush=True)
    manifest = exporting.export(
        subject.model,
        test.images,
        test.labels,
        calibration.images,
        folder,
        class_names=subject.data.class_names,
        description=subject.description,
        formats=formats,
    )
    summaries.print_parity(manifest)
    print(f"\nexport folder  {folder}\n{summaries.to_open(folder / 'index.html')}")
    if any(exported.file.endswith(".tflite") for exported in manifest.files):
        print(f"  {summaries.command('resnet-keras', 'serve', folder)}")


@check_arguments
def serve(
    export: tyro.conf.Positional[
        Annotated[Path | None, tyro.conf.arg(metavar="RUN|FOLDER", help_behavior_hint=_LATEST)]
    ] = None,
    port: Annotated[int, PORTS] = 8000,
) -> None:
    """Show exported files as a page that classifies photographs, on a phone too.

    Nothing leaves the device; the page is served to this machine alone.

    Args:
        export: a run folder that was exported, or an export folder.
        port: of the address http://localhost:PORT.
    """
    from resnet_keras.export import serving

    folder = export or _latest_run()
    serving.serve(folder / "export" if (folder / "run.json").exists() else folder, port)


def _export_folder(path: Path) -> Path:
    """Where the export of a run folder or of a .keras file goes by default."""
    return path.with_name(f"{path.stem}-export") if path.suffix in MODEL_FILES else path / "export"


def _latest_run() -> Path:
    """The run whose best model is the newest."""
    models = sorted(RUNS.glob("*/best.keras"), key=lambda path: path.stat().st_mtime)
    if not models:
        raise InputError(
            "there is no run yet",
            received=f"nothing with a model in {RUNS}/",
            accepted="a run folder (make train-resnet50 trains one)",
        )
    return models[-1].parent


@check_arguments
def convert(
    source: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]],
    network: Annotated[str, tyro.conf.arg(metavar="NETWORK")],
    output: Annotated[Path, tyro.conf.arg(metavar="FILE", aliases=("-o",))],
    image_size: Annotated[
        int | None,
        IMAGE_SIZE,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the network's)"),
    ] = None,
    class_names: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: the source's)")
    ] = None,
) -> None:
    """Turn weights of another project into a model of this one, or back: docs/weights.md.

    The model takes pixels 0..255, whatever its source took, and knows its classes if they have
    names.

    Args:
        source: a file of keras.applications (.h5), KerasHub (.keras), torch (.safetensors, .pth) or
            the Caffe release (.h5, .npz), a model or run of this package, a folder of transformers
            or the Hugging Face hub, a preset of KerasHub, or imagenet to fetch published ones.
        network: whose weights they are, such as resnet50v1.5.
        output: a .keras file, or .safetensors by torchvision's names; what is there is replaced.
        image_size: side of the images that the model takes, in pixels.
        class_names: a text file with a class in each line, in the order of the outputs.
    """
    check_conversion(source, network, output, image_size)
    names = None if class_names is None else _read_class_names(class_names)
    with _quiet_tensorflow():
        from resnet_keras.networks import conversion

    stored = conversion.convert(source, network, output, image_size, names)
    mean, std = stored.architecture.preprocessing.mean, stored.architecture.preprocessing.std
    if stored.class_names:
        known = f"{stored.classes}, {stored.class_names[0]} to {stored.class_names[-1]}"
    elif stored.classes:
        known = f"{stored.classes} without names; --class-names FILE gives them some"
    else:
        known = "none, as there is no classifier"
    print(
        f"{network} from {stored.source}"
        f"\npreprocessing  mean {summaries.triple(mean)}, "
        f"standard deviation {summaries.triple(std)} of 0..255"
        f"\nclasses  {known}"
        f"\nwritten  {output}"
    )


def _read_class_names(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text("utf-8-sig")
        if "\0" in text:  # UTF-16 without a byte order mark, whose bytes are valid UTF-8
            raise ValueError("NUL characters")
        names = tuple(text.splitlines())
    except (OSError, ValueError) as error:
        raise InputError(
            "the class names cannot be read",
            received=f"{path} ({error})",
            accepted="a UTF-8 text file with one class name a line",
        ) from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            "a class is named twice",
            received=f"{twice[0]!r} in {path}",
            accepted="every class name once",
        )
    return names


COMMANDS = {
    "list": list_networks,
    "train": train,
    "launch": launch,
    "evaluate": evaluate,
    "predict": predict,
    "reproduce": reproduce,
    "convert": convert,
    "export": export,
    "serve": serve,
}


class _Output:
    """stdout that may be closed at its other end, as by `| head`: the command goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._unheard():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unheard():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is still in the buffer goes there, too, when Python ends.
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends with one line on stderr and exit status 2."""
    if arguments is None:  # as a program of its own
        if isinstance(sys.stdout, io.TextIOWrapper):  # of whatever encoding; stderr does so anyway
            sys.stdout.reconfigure(errors="backslashreplace")
        sys.stdout = _Output(sys.stdout)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not supervision.is_supervised():
        if arguments[:1] == ["train"] and any(one.startswith("--hosts") for one in arguments):
            raise SystemExit(supervision.supervise([arguments]))
        _run(arguments)
        return
    status = 1
    try:
        _run(arguments)
        status = 0
    except SystemExit as end:
        status = end.code
    except Exception as error:
        if _tells_of_a_lost_process(error):
            status = supervision.LOST
        else:
            traceback.print_exc()
    finally:
        # JAX's way out waits for the other processes, which wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def _run(arguments: list[str]) -> None:
    try:
        dispatch(arguments, COMMANDS)
    except InputError as error:
        print(f"resnet-keras: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # a full disk, say
        told, status = str(error), 1
        if error.errno in NO_PATHS:
            received = f"{error.filename} ({error.strerror})"
            accepted = "a path that this file system can have"
            told = str(InputError("this is no path", received=received, accepted=accepted))
            status = 2
        print(f"resnet-keras: error: {told}", file=sys.stderr)
        raise SystemExit(status) from None
    except ModuleNotFoundError as error:
        if error.name not in BACKENDS:
            raise
        print(
            f"resnet-keras: error: Keras is set to compute with {error.name}, which is not "
            f"installed. Install it, or set KERAS_BACKEND; accepted: {', '.join(BACKENDS)}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except (TrainingError, ExportError) as error:
        print(f"resnet-keras: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Interrupted as interruption:
        print(f"resnet-keras: {interruption}", file=sys.stderr)
        raise SystemExit(128 + interruption.signal) from None
    except KeyboardInterrupt:
        print("resnet-keras: interrupted; nothing that was there before is lost", file=sys.stderr)
        raise SystemExit(130) from None


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's start-up log off the terminal, unless TF_CPP_MIN_LOG_LEVEL asks for it.

    Its C++ part writes some lines at import whatever the level is, hence the redirection.
    """
    backend = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if backend not in BACKENDS:
        raise InputError(
            "this package does not support this backend",
            received=f"KERAS_BACKEND={backend}",
            accepted=", ".join(BACKENDS),
        )
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _bar() -> int:
    """Keras's progress bar on a terminal, nothing elsewhere."""
    return 1 if sys.stdout.isatty() else 0


def _verbosity() -> int:
    """Keras's progress bar on a terminal, a line an epoch in a file or a pipe."""
    return 1 if sys.stdout.isatty() else 2


def _tells_of_a_lost_process(error: Exception) -> bool:
    """Whether JAX failed in a collective, or in talking to the process where all meet."""
    return (
        type(error).__name__ == "JaxRuntimeError"
        and re.search(
            "gloo|nccl|UNAVAILABLE|DEADLINE_EXCEEDED|coordination", str(error), re.IGNORECASE
        )
        is not None
    )
