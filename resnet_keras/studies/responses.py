"""The strength of every layer's response [He et al. 2016, section 4.2 and figure 7]."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from resnet_keras.evaluation.evaluate import data_of, load_run_model, shown
from resnet_keras.evaluation.introspection import responses
from resnet_keras.networks.models import view_of
from resnet_keras.studies.figures import tidy
from resnet_keras.studies.schedules import training
from resnet_keras.studies.study import (
    Claim,
    Findings,
    Picture,
    Quantity,
    Result,
    Results,
    Setting,
    Study,
    Table,
    Training,
    per_seed,
    spread,
)

IMAGES = 256  # of the test images, at most
RESPONSE = "mean standard deviation of the responses"
SMALLER = 0.02  # of about 1


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        training(f"{kind}{depth}", setting, seed)
        for depth in _depths(setting)
        for kind in ("plain", "resnet")
    ]


def _depths(setting: Setting) -> tuple[int, ...]:
    if setting.has_large_images:
        return (18, 34)
    return (20, 44) if setting.scale == "quick" else (20, 56, 110)


def _claims(setting: Setting) -> Sequence[Claim]:
    shallow, *_, deep = _depths(setting)

    def smaller(one: str, other: str, text: str) -> Claim:
        return Claim(text, Quantity(other, RESPONSE), Quantity(one, RESPONSE), "above", SMALLER, "")

    return (
        *(
            smaller(
                f"resnet{depth}",
                f"plain{depth}",
                f"With {depth} layers, residual networks have smaller responses than plain ones.",
            )
            for depth in (shallow, deep)
        ),
        smaller(
            f"resnet{deep}",
            f"resnet{shallow}",
            "The deeper residual network has smaller responses than the shallower one.",
        ),
    )


def _examine(results: Results) -> Findings:
    of_seeds = {
        label: np.array([_strengths(result) for result in results.of(label)])
        for label in results.labels
    }
    strengths = {label: values.mean(axis=0) for label, values in of_seeds.items()}
    return Findings(
        (
            Picture(
                "responses",
                "Standard deviation of each 3x3 layer's response, after batch normalisation and "
                "before the ReLU and the addition. Above: in the layers' order. Below: sorted.",
                _drawn(strengths),
            ),
            _table(of_seeds),
        ),
        {Quantity(label, RESPONSE): per_seed(map(fmean, of_seeds[label])) for label in of_seeds},
    )


def _table(of_seeds: Mapping[str, np.ndarray]) -> Table:
    return Table(
        "Standard deviation of the responses; the paper prints a figure alone",
        ("network", "layers", "mean", "least", "largest"),
        tuple(
            (
                label,
                str(values.shape[1]),
                spread(values.mean(axis=1).tolist()),
                f"{values.mean(axis=0).min():.2f}",
                f"{values.mean(axis=0).max():.2f}",
            )
            for label, values in of_seeds.items()
        ),
    )


def _strengths(result: Result) -> list[float]:
    model, test = load_run_model(result.run), data_of(result.run).load("test")
    return list(responses(model, shown(test, view_of(model), IMAGES).images).values())


def _drawn(strengths: Mapping[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(10, 7), layout="constrained")
    above, below = figure.subplots(2, 1)
    colors = colormaps["viridis"](np.linspace(0.85, 0.0, len(strengths)))
    for color, (label, values) in zip(colors, strengths.items(), strict=True):
        style = "--" if label.startswith("plain") else "-"
        for axes, ordered in ((above, values), (below, np.sort(values)[::-1])):
            layers = np.arange(1, len(ordered) + 1)
            axes.plot(layers, ordered, style, color=color, label=label, linewidth=1.6)
    above.set(title="in the layers' order", xlabel="layer")
    below.set(title="sorted", xlabel="rank")
    for axes in (above, below):
        axes.set_ylabel("standard deviation")
        axes.set_ylim(bottom=0)
        tidy(axes)
        axes.legend(frameon=False)
    return figure


STUDY = Study(
    title="Layer responses",
    source="He et al. 2016, section 4.2 and figure 7",
    paper_claim=(
        "Residual networks have smaller responses than their plain counterparts. The deeper the "
        "residual network, the less each layer changes the signal."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
