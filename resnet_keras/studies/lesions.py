"""Residual units removed from trained networks, and swapped [Veit et al. 2016]."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from resnet_keras.evaluation import data_of, load_run_model, score, shown
from resnet_keras.models import pieces
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

COUNTS = (1, 2, 3, 4, 6, 8, 10)  # of units removed or swapped together
DRAWS = 5  # of units, for every count
IMAGES = 1000  # at most, to measure on


def _trainings(setting: Setting, seed: int) -> Sequence[Training]:
    depth = 34 if setting.has_large_images else 44 if setting.scale == "quick" else 110
    return [training(f"{kind}{depth}", setting, seed) for kind in ("plain", "resnet")]


class _Patient:
    """A trained network, taken apart."""

    def __init__(self, result: Result) -> None:
        details = result.run.read_details()
        test = data_of(result.run).load("test")
        split = shown(test, details.image_size, details.recipe.centre, IMAGES)
        parts = pieces(load_run_model(result.run))
        self.names, self.parts = zip(*parts, strict=True)
        self.labels = split.labels
        # What goes into each piece, so that a lesion costs only what comes after it.
        self.inputs = [split.images]
        for part in self.parts[:-1]:
            self.inputs.append(_answer(part, self.inputs[-1]))
        # The stem, the head, and units that change the shape cannot go.
        self.removable = [
            index
            for index, (before, after) in enumerate(
                zip(self.inputs[1:-1], self.inputs[2:], strict=True), start=1
            )
            if before.shape == after.shape
        ]

    def error(self, order: Sequence[int]) -> float:
        """Test error in per cent with the pieces in this order, some of them left out."""
        whole = range(len(self.parts))
        same = next(
            (at for at, (one, other) in enumerate(zip(order, whole, strict=False)) if one != other),
            len(order),
        )
        x = self.inputs[same] if same < len(order) else self.inputs[-1]
        for index in order[min(same, len(order) - 1) :]:
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


def _answer(part, images: np.ndarray) -> np.ndarray:
    return part.predict(images, verbose=0, batch_size=128)


def _examine(results: Results) -> Findings:
    labels = results.labels
    single: dict[str, list[list[float]]] = {label: [] for label in labels}
    removed: dict[str, list[list[float]]] = {label: [] for label in labels}
    swaps: dict[str, list[list[float]]] = {label: [] for label in labels}
    whole: dict[str, list[float]] = {label: [] for label in labels}
    names: Sequence[str] = ()
    for result in results.all:
        print(f"lesions of {result.training.name}", flush=True)
        patient, label = _Patient(result), result.training.label
        generator = np.random.default_rng(result.training.recipe.seed)
        names = [patient.names[index] for index in patient.removable]
        whole[label].append(patient.without([]))
        single[label].append([patient.without([index]) for index in patient.removable])
        removed[label].append(
            [
                float(
                    np.mean(
                        [
                            patient.without(generator.choice(patient.removable, n, replace=False))
                            for _ in range(DRAWS)
                        ]
                    )
                )
                for n in COUNTS
            ]
        )
        swaps[label].append(
            [float(np.mean([patient.swapped(generator, n) for _ in range(DRAWS)])) for n in COUNTS]
        )
    plain, residual = labels
    cost = {label: np.mean(single[label]) - np.mean(whole[label]) for label in labels}
    return Findings(
        f"Without any one unit {residual}'s test error grows by {cost[residual]:.1f} points in the "
        f"mean, {plain}'s by {cost[plain]:.1f}; without {COUNTS[-1]} units they make "
        f"{np.mean(removed[residual], axis=0)[-1]:.0f}% and "
        f"{np.mean(removed[plain], axis=0)[-1]:.0f}%.",
        (
            Picture(
                "single",
                "Test error after the removal of one unit, by the unit; dashed, the whole network.",
                _bars(names, single, whole),
            ),
            Picture(
                "counts",
                f"Test error after the removal, and after swaps, of several units ({DRAWS} draws).",
                _lines(removed, swaps),
            ),
            Table(
                "Top-1 test error, %",
                ("network", "whole", "one unit removed", *(f"{n} removed" for n in COUNTS[1:])),
                tuple(
                    (
                        label,
                        spread(whole[label]),
                        spread([float(np.mean(one)) for one in single[label]]),
                        *(
                            spread([one[at] for one in removed[label]])
                            for at in range(1, len(COUNTS))
                        ),
                    )
                    for label in labels
                ),
            ),
        ),
    )


def _bars(names, single, whole) -> Figure:
    figure = Figure(figsize=(10, 3.4 * len(single)), layout="constrained")
    for axes, (label, errors) in zip(figure.subplots(len(single), 1), single.items(), strict=True):
        axes.bar(names, np.mean(errors, axis=0), color="#0072b2")
        axes.axhline(np.mean(whole[label]), color="#d55e00", linestyle="--")
        axes.set(title=label, ylabel="test error, %")
        axes.set_ylim(0, 100)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lines(removed, swaps) -> Figure:
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = {"removed": removed, "swapped": swaps}
    for axes, (title, errors) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for label, of_seeds in errors.items():
            axes.plot(COUNTS, np.mean(of_seeds, axis=0), marker=".", label=label)
        axes.set(title=f"units {title}", xlabel="how many", ylabel="test error, %")
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


STUDY = Study(
    title="Lesions",
    source="He et al. 2016, section 4.2 (small responses); Veit et al. 2016, figures 3 and 5",
    claim=(
        "A residual network does without any one unit, and its error grows smoothly with the "
        "number removed or swapped; a plain network fails without any one layer."
    ),
    seeds={"quick": 2, "full": 1},
    trainings=_trainings,
    examine=_examine,
)
