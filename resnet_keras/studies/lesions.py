"""Residual units removed from trained networks, and swapped [Veit et al. 2016]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import keras
import numpy as np
from matplotlib.figure import Figure

from resnet_keras.evaluation.evaluate import data_of, load_run_model, score, shown
from resnet_keras.networks.feature_maps import pieces
from resnet_keras.networks.models import view_of
from resnet_keras.runs.run import Run
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

COUNTS = (1, 2, 3, 4, 6, 8, 10)  # of units removed or swapped together
DRAWS = 10  # of units, for every count
IMAGES = 1000  # at most, to measure on
BATCH = 128
WHOLE, WITHOUT_ONE = "test error, all units", "test error, one unit removed"
FAILS = 10  # points of test error


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    return [training(label, setting, seed) for label in _labels(setting)]


def _labels(setting: Setting) -> list[str]:
    depth = 34 if setting.has_large_images else 44 if setting.scale == "quick" else 110
    return [f"{kind}{depth}" for kind in ("plain", "resnet")]


def _claims(setting: Setting) -> Sequence[Claim]:
    plain, residual = _labels(setting)
    without = {label: Quantity(label, WITHOUT_ONE) for label in (plain, residual)}
    return (
        Claim(
            "A plain network fails without one layer, the mean over the layers.",
            without[plain],
            Quantity(plain, WHOLE),
            "above",
            FAILS,
        ),
        Claim(
            "A residual network works without one unit, the mean over the units.",
            without[residual],
            Quantity(residual, WHOLE),
            "below",
            FAILS,
        ),
        Claim(
            "Without one layer, the plain network has the higher test error of the two.",
            without[plain],
            without[residual],
            "above",
            FAILS,
        ),
    )


def _measuring(setting: Setting) -> float:
    """Multiply-adds: on average a lesion is in the middle, and half of the network comes after."""
    total = 0
    for one in _trainings(setting, 0):
        units = sum(one.architecture.blocks) - len(one.architecture.blocks) + 1
        passes = units / 2 + 2 * len(COUNTS) * DRAWS
        total += passes * one.architecture.multiply_adds(one.recipe.image_size)
    return total * min(IMAGES, setting.test_images)


class Patient:
    """A run's best model, taken apart.

    Attributes:
        names: of its pieces, see `feature_maps.pieces`.
        removable: indices of the units that can go, as they do not change the shape.
    """

    def __init__(self, run: Run) -> None:
        model, test = load_run_model(run), data_of(run).load("test")
        split = shown(test, view_of(model), IMAGES)
        parts = pieces(model)
        self.names, self.parts = zip(*parts, strict=True)
        self.labels = split.labels
        # What goes into each piece, so that a lesion costs only what comes after it.
        self.inputs = [split.images]
        for part in self.parts[:-1]:
            self.inputs.append(_answer(part, self.inputs[-1]))
        self.removable = [
            index
            for index, (before, after) in enumerate(
                zip(self.inputs[1:-1], self.inputs[2:], strict=True), start=1
            )
            if before.shape == after.shape
        ]

    def error(self, order: Sequence[int]) -> float:
        """Test error in per cent with the pieces in this order, some of them left out."""
        same = 0
        while same < len(order) and order[same] == same:
            same += 1
        # The head is always there, and always last.
        same = min(same, len(order) - 1)
        x = self.inputs[same]
        for index in order[same:]:
            x = _answer(self.parts[index], x)
        return 100 * score(x, self.labels).top1_error

    def without(self, gone: Sequence[int]) -> float:
        """Test error in per cent without some units."""
        return self.error([index for index in range(len(self.parts)) if index not in gone])

    def swapped(self, generator: np.random.Generator, count: int) -> float:
        """Test error in per cent after so many swaps of two units of one shape."""
        order = list(range(len(self.parts)))
        for _ in range(count):
            one = generator.choice(self.removable)
            alike = [
                other
                for other in self.removable
                if self.inputs[other].shape == self.inputs[one].shape and other != one
            ]
            other = generator.choice(alike)
            at, to = order.index(one), order.index(other)
            order[at], order[to] = order[to], order[at]
        return self.error(order)


def _answer(part: keras.Model, images: np.ndarray) -> np.ndarray:
    # Thousands of calls, of which Keras's predict would take most of the time itself.
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([part.predict_on_batch(batch) for batch in batches])


@dataclass(frozen=True)
class _Lesioned:
    """Test errors in per cent of one trained network.

    Attributes:
        units: names of those that can be removed.
        whole: with all of them.
        single: without each of them.
        removed, swapped: without so many, and after so many swaps, as `COUNTS` has them; means of
            several draws.
    """

    units: tuple[str, ...]
    whole: float
    single: tuple[float, ...]
    removed: tuple[float, ...]
    swapped: tuple[float, ...]


def _lesioned(result: Result) -> _Lesioned:
    print(f"lesions of {result.training.name}", flush=True)
    patient = Patient(result.run)
    generator = np.random.default_rng(result.training.recipe.seed)

    def some(count: int) -> list[int]:
        return generator.choice(patient.removable, count, replace=False).tolist()

    return _Lesioned(
        units=tuple(patient.names[index] for index in patient.removable),
        whole=patient.without([]),
        single=tuple(patient.without([index]) for index in patient.removable),
        removed=tuple(
            fmean(patient.without(some(count)) for _ in range(DRAWS)) for count in COUNTS
        ),
        swapped=tuple(
            fmean(patient.swapped(generator, count) for _ in range(DRAWS)) for count in COUNTS
        ),
    )


def _examine(results: Results) -> Findings:
    lesioned = {
        label: [_lesioned(result) for result in results.of(label)] for label in results.labels
    }
    return Findings(
        (
            Picture(
                "single",
                "Test error after the removal of one unit, by unit. Dashed: the whole network.",
                _bars(lesioned),
            ),
            Picture(
                "counts",
                f"Test error after the removal, and after swaps, of several units ({DRAWS} draws).",
                _lines(lesioned),
            ),
            _table(lesioned),
        ),
        {
            Quantity(label, measure): per_seed(map(error, of_seeds))
            for label, of_seeds in lesioned.items()
            for measure, error in (
                (WHOLE, lambda one: one.whole),
                (WITHOUT_ONE, lambda one: fmean(one.single)),
            )
        },
    )


def _table(lesioned: Mapping[str, Sequence[_Lesioned]]) -> Table:
    return Table(
        "Top-1 test error, %",
        ("network", "whole", "one unit removed", *(f"{n} removed" for n in COUNTS[1:])),
        tuple(
            (
                label,
                spread([one.whole for one in of_seeds]),
                spread([fmean(one.single) for one in of_seeds]),
                *(spread([one.removed[at] for one in of_seeds]) for at in range(1, len(COUNTS))),
            )
            for label, of_seeds in lesioned.items()
        ),
    )


def _bars(lesioned: Mapping[str, Sequence[_Lesioned]]) -> Figure:
    figure = Figure(figsize=(10, 3.2 * len(lesioned)), layout="constrained")
    panels = figure.subplots(len(lesioned), 1)
    for axes, (label, of_seeds) in zip(panels, lesioned.items(), strict=True):
        axes.bar(of_seeds[0].units, np.mean([one.single for one in of_seeds], axis=0))
        axes.axhline(fmean(one.whole for one in of_seeds), color="#d55e00", linestyle="--")
        axes.set(title=label, ylabel="test error, %")
        axes.set_ylim(0, 100)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lines(lesioned: Mapping[str, Sequence[_Lesioned]]) -> Figure:
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = zip(figure.subplots(1, 2, sharey=True), ("removed", "swapped"), strict=True)
    for axes, what in panels:
        for label, of_seeds in lesioned.items():
            errors = np.mean([getattr(one, what) for one in of_seeds], axis=0)
            axes.plot(COUNTS, errors, marker=".", label=label)
        axes.set(title=f"units {what}", xlabel="how many", ylabel="test error, %")
        axes.set_ylim(0, 100)
        tidy(axes)
        axes.legend(frameon=False)
    return figure


STUDY = Study(
    title="Lesions",
    source="He et al. 2016, section 4.2 (small responses); Veit et al. 2016, figures 3 and 5",
    paper_claim=(
        "A residual network works without any one unit. Its error grows smoothly with the number "
        "of units removed or swapped. A plain network fails without any one layer."
    ),
    seeds={"quick": 3, "full": 3},
    trainings=_trainings,
    claims=_claims,
    examine=_examine,
    measuring=_measuring,
)
