"""ResNets beside rivals and regularisers: parameters, arithmetic, training speed and error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from matplotlib.figure import Figure

from resnet_keras.architectures import find
from resnet_keras.studies import schedules
from resnet_keras.studies.study import (
    Claim,
    Findings,
    Picture,
    Result,
    Results,
    Setting,
    Study,
    Table,
    Training,
    lower_error,
    test_error,
)

SIDE = 16  # pixels of the quick scale, where highway19 and densenet100-k12 cost minutes
SIDE_OF_PHOTOGRAPHS = 32  # which densenet121 needs
LOWER = 0.1  # points of test error


@dataclass(frozen=True)
class Rival:
    """A row of the table.

    Attributes:
        network: its name, with variant.
        paper: the published test error on CIFAR-10, or on ImageNet by ten crops, in per cent.
    """

    network: str
    paper: str = ""


# CIFAR-10: He et al. 2016, table 6; Xie et al. 2017, table 7; Huang et al. 2017, table 2, whose
# ResNet with stochastic depth is of 110 layers, too.
QUICK = (
    Rival("resnet20", "8.75"),
    Rival("resnet20-dropout"),
    Rival("resnet20-stochastic-depth"),
    Rival("resnet20-dense-shortcuts"),
    Rival("highway19", "7.54"),
    Rival("densenet100-k12", "4.51"),
)
FULL = (
    Rival("resnet110", "6.43"),
    Rival("resnet110-dropout"),
    Rival("resnet110-stochastic-depth", "5.23"),
    Rival("resnet110-dense-shortcuts"),
    Rival("resnext29-8x64d", "3.65"),
    Rival("highway19", "7.54"),
    Rival("densenet100-k12", "4.51"),
    Rival("densenet250-k24", "3.62"),
    Rival("densenet190-k40", "3.46"),
)
# ImageNet, ten crops [1, table 3].
LARGE = (Rival("resnet50", "22.85"), Rival("resnext50-32x4d"), Rival("densenet121"))


def _trained(setting: Setting) -> tuple[Rival, ...]:
    if setting.has_large_images:
        return LARGE
    return QUICK if setting.scale == "quick" else FULL


def _listed(setting: Setting) -> tuple[Rival, ...]:
    """All rows: trained networks, and networks that are too costly for the quick scale."""
    rows = _trained(setting)
    if rows is QUICK:
        rows += tuple(rival for rival in FULL if rival not in QUICK)
    return rows


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    side = SIDE_OF_PHOTOGRAPHS if setting.has_large_images else SIDE
    recipe = replace(schedules.quick(setting), image_size=side)
    return [
        schedules.training(rival.network, setting, seed, quick_recipe=recipe, tag="compared")
        for rival in _trained(setting)
    ]


def _claims(setting: Setting) -> Sequence[Claim]:
    resnet, *rivals = _trained(setting)
    return [
        lower_error(
            rival.network,
            resnet.network,
            f"{rival.network} has a lower test error than the ResNet.",
            LOWER,
        )
        for rival in rivals
    ]


def _images_per_second(result: Result) -> float:
    """The median over the epochs, but for the first, in which the graph is made."""
    speeds = [row["images_per_second"] for row in result.run.read_speeds()]
    return median(speeds[1:] or speeds)


def _examine(results: Results) -> Findings:
    size = results.all[0].run.read_details().image_size
    sums = {
        rival.network: find(rival.network).multiply_adds(size) / 1e6
        for rival in _listed(results.setting)
    }
    speeds = {label: results.mean(label, _images_per_second) for label in results.labels}
    return Findings(
        (
            Picture(
                "comparison",
                f"Multiply-adds of one image of {size} pixels, images a second in training, and "
                "top-1 test error.",
                _bars(
                    {
                        "multiply-adds, 1e6": {label: sums[label] for label in results.labels},
                        "training, images/s": speeds,
                        "test error, %": {
                            label: results.mean(label, test_error) for label in results.labels
                        },
                    }
                ),
            ),
            _table(results, size, sums, speeds),
            "Rows without a speed are not trained at this scale.",
        ),
    )


def _table(
    results: Results, size: int, sums: Mapping[str, float], speeds: Mapping[str, float]
) -> Table:
    setting = results.setting
    classes = len(results.all[0].run.read_details().class_names)
    data = "ImageNet, ten crops" if setting.has_large_images else "CIFAR-10"
    return Table(
        f"Parameters are of {classes} classes, multiply-adds of {size}x{size} pixels",
        (
            "network",
            "parameters",
            "multiply-adds, 1e6",
            "images/s",
            "test error, %",
            f"paper: error on {data}, %",
        ),
        tuple(
            (
                rival.network,
                f"{find(rival.network).parameters(classes, size).trainable:,}",
                f"{sums[rival.network]:,.1f}",
                f"{speeds[rival.network]:.0f}" if rival.network in speeds else "",
                results.spread(rival.network, test_error) if rival.network in speeds else "",
                rival.paper,
            )
            for rival in _listed(setting)
        ),
    )


def _bars(panels: Mapping[str, Mapping[str, float]]) -> Figure:
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        bars = axes.barh(list(values), list(values.values()), color="#3b528b")
        axes.bar_label(bars, fmt="%.3g", padding=3)
        axes.set(title=title)
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()  # of all panels, which share it
    return figure


STUDY = Study(
    title="Comparison",
    source="He et al. 2016, section 3.3 and table 6; Huang et al. 2016 and 2017",
    paper_claim=(
        "A residual network needs fewer parameters than a highway network and has a lower error. "
        "Stochastic depth, grouped convolutions and concatenation lower the error further."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
)
