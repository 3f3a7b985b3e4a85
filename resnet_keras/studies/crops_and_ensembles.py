"""Ten crops, several scales and ensembles [He et al. 2016, section 3.4 and tables 3 to 5]."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from resnet_keras.data.augmentation import Augmentation, ScaleJitterCrop
from resnet_keras.evaluation.ensembles import (
    RESULT,
    Ensemble,
    default_folder,
    evaluate_ensemble,
    read_ensemble,
)
from resnet_keras.evaluation.evaluate import ErrorRates
from resnet_keras.evaluation.protocols import (
    MULTI_SCALE,
    NAMES,
    PAPER_SIZE,
    PAPER_TEN_CROP_SIDE,
    SINGLE,
    TEN_CROP,
    Protocol,
    proportional,
)
from resnet_keras.recipes import PAPER_IMAGENET, Recipe
from resnet_keras.runs.run import Run, RunDetails
from resnet_keras.studies import schedules
from resnet_keras.studies.study import (
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
    per_seed,
    spread,
)

# Top-1 / top-5 error in per cent [1, tables 3 and 4].
PAPER = {
    "resnet34": {TEN_CROP: "24.52 / 7.46", MULTI_SCALE: "21.84 / 5.71"},
    "resnet34-C": {TEN_CROP: "24.19 / 7.40", MULTI_SCALE: "21.53 / 5.60"},
    "resnet50": {TEN_CROP: "22.85 / 6.71", MULTI_SCALE: "20.74 / 5.25"},
    "resnet101": {TEN_CROP: "21.75 / 6.05", MULTI_SCALE: "19.87 / 4.60"},
    "resnet152": {TEN_CROP: "21.43 / 5.71", MULTI_SCALE: "19.38 / 4.49"},
}
PAPER_ENSEMBLE = "3.57"  # top-5 error of six networks on the test images [1, table 5]
TOGETHER = "ensemble"  # the row, and the bars, of all networks together
BEST = "the best network"
MEAN = "the networks, their mean"
LOWER = 0.1  # points of test error

Rates = Mapping[str, Sequence[ErrorRates]]  # by the network's label, for every seed


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    networks: list[tuple[str, str | None]]
    if setting.has_large_images:
        deep = [(f"resnet{depth}", None) for depth in (50, 101, 152)]
        networks = [("resnet34", None), ("resnet34", "C"), *deep]
    else:
        depths = (8, 14, 20) if setting.scale == "quick" else (20, 32, 44, 56, 110)
        networks = [(f"resnet{depth}", None) for depth in depths]
    return [
        schedules.training(network, setting, seed, shortcut, _jittered(setting), "jittered")
        for network, shortcut in networks
    ]


def _claims(setting: Setting) -> Sequence[Claim]:
    def lower(better: Quantity, worse: Quantity, text: str) -> Claim:
        return Claim(text, worse, better, "above", LOWER)

    single = _by(MEAN, SINGLE)
    return (
        lower(_by(MEAN, TEN_CROP), single, "Ten crops lower the test error."),
        lower(
            _by(MEAN, MULTI_SCALE),
            single,
            "Whole images at several scales lower the test error.",
        ),
        lower(
            _by(TOGETHER, SINGLE),
            _by(BEST, SINGLE),
            "Several networks together have a lower test error than the best of them.",
        ),
    )


def _by(label: str, protocol: str) -> Quantity:
    return Quantity(label, f"{'single-view' if protocol == SINGLE else protocol} test error")


def _measuring(setting: Setting) -> float:
    """Multiply-adds of all views of the test images, of mirror images too."""
    total = 0
    for one in _trainings(setting, 0):
        size = one.recipe.image_size or PAPER_SIZE
        scales = Protocol(MULTI_SCALE).scales_for(size)
        views = 10 + 2 * sum((side / size) ** 2 for side in scales)
        total += views * one.architecture.multiply_adds(size)
    return total * setting.test_images


def _jittered(setting: Setting) -> Recipe:
    """Shows crops, scales and mirror images in training, too, as the paper does."""
    minutes = schedules.quick(setting)
    sides = [
        proportional(side, minutes.image_size or PAPER_SIZE)
        for side in (ScaleJitterCrop.shortest, ScaleJitterCrop.longest)
    ]
    return replace(
        minutes,
        augmentation=Augmentation(ScaleJitterCrop(*sides), flip=True),
        centre=PAPER_IMAGENET.centre,
    )


def _examine(results: Results) -> Findings:
    of_seeds = defaultdict(list)
    for result in results.all:
        if result.evaluation:
            of_seeds[result.training.recipe.seed].append(result)
    complete = [trained for trained in of_seeds.values() if len(trained) == len(results.labels)]
    rates = {name: _measure(complete, Protocol(name)) for name in NAMES}
    return Findings(
        (
            Picture(
                "protocols",
                "Top-1 test error of each network and of the ensemble; the mean over the seeds.",
                _bars(rates),
            ),
            _table(rates),
            _shown(results.all[0].run.read_details()),
            f"The {TOGETHER} answers with the mean of the networks' probabilities, a network of "
            f"each depth. The paper's, of six networks, makes *{PAPER_ENSEMBLE}*% top-5 error on "
            "ImageNet's test images.",
        ),
        _measured(rates),
    )


def _measured(rates: Mapping[str, Rates]) -> Measured:
    *networks, together = rates[SINGLE]

    def errors(name: str, label: str) -> list[float]:
        return [100 * one.top1_error for one in rates[name][label]]

    of_networks = {name: np.array([errors(name, label) for label in networks]) for name in NAMES}
    return {
        **{_by(MEAN, name): per_seed(of_networks[name].mean(axis=0)) for name in NAMES},
        _by(BEST, SINGLE): per_seed(of_networks[SINGLE].min(axis=0)),
        _by(TOGETHER, SINGLE): per_seed(errors(SINGLE, together)),
    }


def _table(rates: Mapping[str, Rates]) -> Table:
    return Table(
        "Top-1 / top-5 error, %",
        ("network", *NAMES, f"paper: {TEN_CROP}", f"paper: {MULTI_SCALE}"),
        tuple(
            (
                label,
                *(_told(rates[name][label]) for name in NAMES),
                *(PAPER.get(label, {}).get(name, "") for name in (TEN_CROP, MULTI_SCALE)),
            )
            for label in rates[SINGLE]
        ),
    )


def _shown(details: RunDetails) -> str:
    """What the networks saw in training and see in the tests."""
    jitter = details.recipe.augmentation.crop
    size = details.image_size
    trained = (
        f"crops of {size}x{size} pixels from images whose shorter side is {jitter.shortest} to "
        f"{jitter.longest}, and their mirror images"
        if isinstance(jitter, ScaleJitterCrop)
        else f"images of {size}x{size} pixels, shifted and mirrored"
    )
    scales = ", ".join(map(str, Protocol(MULTI_SCALE).scales_for(size)))
    return (
        f"The networks were trained on {trained}. Ten crops are cut where the shorter side is "
        f"{proportional(PAPER_TEN_CROP_SIDE, size)}; several scales are whole images with shorter "
        f"sides of {scales}."
    )


def _measure(of_seeds: Sequence[Sequence[Result]], protocol: Protocol) -> Rates:
    """Every network alone and all together, which come last."""
    rates = defaultdict(list)
    together = []
    for results in of_seeds:
        ensemble = _ensemble([result.run for result in results], protocol)
        for result, member in zip(results, ensemble.members, strict=True):
            rates[result.training.label].append(member.alone)
        together.append(ensemble.evaluation)
    return {**rates, TOGETHER: together}


def _ensemble(runs: Sequence[Run], protocol: Protocol) -> Ensemble:
    """Measures runs together, unless that was done with the models that are there."""
    folder = default_folder(runs, protocol, runs[0].folder.parent)
    result = folder / RESULT
    newest = max(run.best_model.stat().st_mtime for run in runs)
    if result.exists() and result.stat().st_mtime > newest:
        return read_ensemble(folder)
    return evaluate_ensemble(runs, folder, protocol, verbose=0)


def _top1(of_seeds: Sequence[ErrorRates]) -> float:
    """Their mean, in per cent."""
    return 100 * fmean(rates.top1_error for rates in of_seeds)


def _told(of_seeds: Sequence[ErrorRates]) -> str:
    top1 = spread([100 * rates.top1_error for rates in of_seeds])
    top5 = spread([100 * rates.top5_error for rates in of_seeds])
    return f"{top1} / {top5}"


def _bars(rates: Mapping[str, Rates]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    labels = list(rates[SINGLE])
    places = np.arange(len(labels))
    width = 0.8 / len(rates)
    colors = colormaps["viridis"](np.linspace(0.85, 0.15, len(rates)))
    for index, (color, (name, by_label)) in enumerate(zip(colors, rates.items(), strict=True)):
        heights = [_top1(by_label[label]) for label in labels]
        at = places + (index - (len(rates) - 1) / 2) * width
        axes.bar_label(
            axes.bar(at, heights, width, color=color, label=name), fmt="%.1f", fontsize=8
        )
    axes.set_xticks(places, labels)
    axes.set_ylabel("top-1 test error, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(rates))
    return figure


STUDY = Study(
    title="Crops, scales and ensembles",
    source="He et al. 2016, section 3.4 and tables 3 to 5",
    paper_claim=(
        "Comparisons of networks use ten crops. Whole images at several scales, and several "
        "networks together, lower the error."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
    measuring=_measuring,
)
