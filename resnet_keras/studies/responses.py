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
    Findings,
    Picture,
    Result,
    Results,
    Setting,
    Study,
    Table,
    Training,
    spread,
)

IMAGES = 256  # of the test images, at most


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [
        training(f"{kind}{depth}", setting, seed)
        for depth in _depths(setting)
        for kind in ("plain", "resnet")
    ]


def _depths(setting: Setting) -> tuple[int, ...]:
    if setting.has_large_images:
        return (18, 34)
    return (20, 56) if setting.scale == "quick" else (20, 56, 110)


def _examine(results: Results) -> Findings:
    strengths = {
        label: np.mean([_strengths(result) for result in results.of(label)], axis=0)
        for label in results.labels
    }
    plain, residual = (
        [label for label in results.labels if label.startswith(kind)]
        for kind in ("plain", "resnet")
    )

    def mean(label: str) -> float:
        return fmean(strengths[label])

    less = all(mean(one) < mean(other) for one, other in zip(residual, plain, strict=True))
    deeper = mean(residual[-1]) < mean(residual[0])
    said = ", ".join(f"{label} {mean(label):.2f}" for label in results.labels)
    return Findings(
        f"Residual networks {'have' if less else 'do not have'} smaller responses than plain "
        f"networks of the same depth. The deeper residual network "
        f"{'has' if deeper else 'does not have'} smaller responses than the shallower one. The "
        f"mean standard deviation of a layer's response is: {said}.",
        (
            Picture(
                "responses",
                "Standard deviation of each 3x3 layer's response, after batch normalisation and "
                "before the ReLU and the addition. Above: in the layers' order. Below: sorted.",
                _drawn(strengths),
            ),
            _table(results, strengths),
        ),
    )


def _table(results: Results, strengths: Mapping[str, np.ndarray]) -> Table:
    return Table(
        "Standard deviation of the responses; the paper prints a figure alone",
        ("network", "layers", "mean", "least", "largest"),
        tuple(
            (
                label,
                str(len(strengths[label])),
                spread([fmean(_strengths(result)) for result in results.of(label)]),
                f"{min(strengths[label]):.2f}",
                f"{max(strengths[label]):.2f}",
            )
            for label in results.labels
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
    claim=(
        "Residual networks have smaller responses than their plain counterparts. The deeper the "
        "residual network, the less each layer changes the signal."
    ),
    seeds={"quick": 2, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
