"""Gradients by layer: whether they vanish [He et al. 2016, section 4.1]."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from resnet_keras import architectures
from resnet_keras.architectures.layer_names import is_convolution
from resnet_keras.evaluation.evaluate import data_of, load_run_model, shown
from resnet_keras.evaluation.introspection import gradient_norms
from resnet_keras.networks.models import Classifier, build, view_of
from resnet_keras.studies.figures import tidy
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    TRAINING_ERROR,
    Claim,
    Findings,
    Measured,
    Picture,
    Quantity,
    Result,
    Results,
    Setting,
    Study,
    Table,
    Training,
    lower_error,
    per_seed,
    test_error,
)

BATCH = 128  # training images, whose gradient is measured
FIRST, LAST = (
    f"log10 of the starting gradient norm, {which} three layers" for which in ("first", "last")
)
SHRUNK = -1  # decades: a tenth of the last layers' gradient, in the first ones
HARDER = 2  # points of training error
KINDS = ("plain{}", "resnet{}", "plain{}-without-bn", "resnet{}-without-bn")

Norms = Mapping[str, Mapping[str, float]]  # of gradients, by the network and the layer


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [training(kind.format(_depth(setting)), setting, seed) for kind in KINDS]


def _depth(setting: Setting) -> int:
    if setting.has_large_images:
        return 34
    return 44 if setting.scale == "quick" else 110


def _claims(setting: Setting) -> Sequence[Claim]:
    plain, residual, *_ = (kind.format(_depth(setting)) for kind in KINDS)
    return (
        Claim(
            f"Gradients do not vanish in {plain} with batch normalisation.",
            Quantity(plain, FIRST),
            Quantity(plain, LAST),
            "above",
            SHRUNK,
            "decades",
        ),
        lower_error(
            residual,
            plain,
            f"Nevertheless {plain} has a higher training error than {residual}.",
            HARDER,
            TRAINING_ERROR,
        ),
    )


def _examine(results: Results) -> Findings:
    first = {label: results.of(label)[0] for label in results.labels}
    plain = KINDS[0].format(_depth(results.setting))
    starts = [_norms(result, _fresh(result)) for result in results.of(plain)]
    start = {
        label: starts[0] if label == plain else _norms(result, _fresh(result))
        for label, result in first.items()
    }
    end = {
        label: _norms(result, load_run_model(result.run))
        for label, result in first.items()
        if result.evaluation
    }
    return Findings(
        (
            Picture(
                "layers",
                "Norm of the gradient of each convolution's weights, from the first layer to the "
                "last. Left: before training. Right: after training, where the norm is not 0.",
                _by_layer(start, end),
            ),
            Picture(
                "training",
                "Norm of the gradient by stage, epoch by epoch, on one batch.",
                _by_epoch(first),
            ),
            _table(results, start, end),
        ),
        _measured(plain, starts),
    )


def _measured(label: str, of_seeds: Sequence[Mapping[str, float]]) -> Measured:
    norms = np.array([list(norms.values()) for norms in of_seeds])
    ends = {FIRST: norms[:, :3], LAST: norms[:, -3:]}
    return {
        Quantity(label, measure): per_seed(np.log10(end.mean(axis=1)))
        for measure, end in ends.items()
    }


def _table(results: Results, start: Norms, end: Norms) -> Table:
    return Table(
        "Norm of the gradient, mean of three layers, of the first seed's networks",
        (
            "network",
            *("first, start", "last, start", "first, trained", "last, trained"),
            "test error, %",
        ),
        tuple(
            (
                label,
                *_ends(start[label]),
                *(_ends(end[label]) if label in end else ("diverged", "diverged")),
                results.spread(label, test_error),
            )
            for label in results.labels
        ),
    )


def _ends(norms: Mapping[str, float]) -> tuple[str, str]:
    values = list(norms.values())
    return f"{np.mean(values[:3]):.3g}", f"{np.mean(values[-3:]):.3g}"


def _fresh(result: Result) -> keras.Model:
    """The network as it was before training."""
    details = result.run.read_details()
    keras.utils.set_random_seed(result.training.recipe.seed)
    return build(
        architectures.find(details.network, details.shortcut),
        (details.image_size, details.image_size, 3),
        Classifier(len(details.class_names), centre=details.recipe.centre),
    )


def _norms(result: Result, model: keras.Model) -> dict[str, float]:
    """Of the units' convolutions and the stem's, from the first on."""
    batch = shown(data_of(result.run).load("train"), view_of(model), BATCH)
    model.compile(loss="sparse_categorical_crossentropy")
    norms = gradient_norms(model, batch.images, batch.labels)
    return {layer: norm for layer, norm in norms.items() if is_convolution(layer)}


def _by_layer(start: Norms, end: Norms) -> Figure:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = zip(
        figure.subplots(1, 2, sharey=True),
        (("before training", start), ("after training", end)),
        strict=True,
    )
    colors = dict(zip(start, colormaps["viridis"](np.linspace(0.85, 0.0, len(start))), strict=True))
    for axes, (title, norms) in panels:
        for label, by_layer in norms.items():
            style = "--" if label.startswith("plain") else "-"
            layers = np.arange(1, len(by_layer) + 1)
            axes.plot(layers, list(by_layer.values()), style, color=colors[label], label=label)
        axes.set(title=title, xlabel="layer", yscale="log")
        tidy(axes)
    figure.axes[0].set_ylabel("norm of the gradient")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False
    )
    return figure


def _by_epoch(results: Mapping[str, Result]) -> Figure:
    figure = Figure(figsize=(3.6 * len(results), 3.8), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True)
    for axes, (label, result) in zip(panels, results.items(), strict=True):
        path = str(result.run.events / "training")
        events = EventAccumulator(path, size_guidance={"tensors": 0}).Reload()  # all epochs
        tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("gradient_norm/")]
        for tag in tags:
            points = events.Tensors(tag)
            axes.plot(
                [point.step for point in points],
                [make_ndarray(point.tensor_proto) for point in points],
                marker=".",
                label=tag.partition("/")[2],
            )
        axes.set(title=label, xlabel="epoch", yscale="log")
        tidy(axes)
        if tags:
            axes.legend(frameon=False)
        else:
            axes.text(0.5, 0.5, "no epoch ended", transform=axes.transAxes, ha="center")
            axes.set_xticks([])
    panels[0].set_ylabel("norm of the gradient")
    return figure


STUDY = Study(
    title="Gradients",
    source="He et al. 2016, section 4.1",
    paper_claim=(
        "Plain networks are hard to train, but not because gradients vanish. With batch "
        "normalisation their gradients have healthy norms."
    ),
    seeds={"quick": 2, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
