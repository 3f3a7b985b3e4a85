"""What a study of the papers is made of: networks to train, and what is to be read off them."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from resnet_keras.architectures import Architecture, find
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import HistoryRow, Run
from resnet_keras.studies.verdict import Direction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_keras.evaluation.results import Evaluation

Scale = Literal["quick", "full"]


@dataclass(frozen=True)
class Training:
    """A network to train; its seed is the recipe's.

    Attributes:
        network, recipe, shortcut: as in `training.train`.
        tag: tells the run from others of the network, which other studies train otherwise.
    """

    network: str
    recipe: Recipe
    shortcut: str | None = None
    tag: str = ""

    @property
    def label(self) -> str:
        """The network as tables call it, whatever its seed."""
        return f"{self.network}-{self.shortcut}" if self.shortcut else self.network

    @property
    def name(self) -> str:
        tag = f"-{self.tag}" if self.tag else ""
        return f"{self.label}{tag}-seed{self.recipe.seed}"

    @property
    def architecture(self) -> Architecture:
        return find(self.network, self.shortcut)


@dataclass(frozen=True)
class Setting:
    """What a study is asked to run on.

    Attributes:
        scale: "quick" for minutes on a CPU, "full" for what the papers did.
        data: as --data spells it.
        image_size: of the data's images, in pixels.
        seeds: how many times every network is trained.
        training_images, validation_images, test_images: how many the data has.
    """

    scale: Scale
    data: str
    image_size: int
    seeds: int
    training_images: int
    validation_images: int
    test_images: int

    @property
    def has_large_images(self) -> bool:
        """Whether the data is for the networks of photographs rather than for those of CIFAR."""
        return self.image_size >= 128


@dataclass(frozen=True)
class Result:
    """A training that is done, and what it left.

    Attributes:
        evaluation: of the model kept as best on the test images; None if the loss was not finite.
        seconds: of training.
    """

    training: Training
    run: Run
    history: list[HistoryRow]
    evaluation: "Evaluation | None"
    seconds: float


class Results:
    """All trainings of a study, by the labels of their networks."""

    def __init__(self, setting: Setting, results: Iterable[Result]) -> None:
        self.setting = setting
        self.all = tuple(results)

    def of(self, label: str) -> list[Result]:
        """Those of one network, a seed each."""
        return [result for result in self.all if result.training.label == label]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(result.training.label for result in self.all))

    def mean(self, label: str, figure: Callable[[Result], float]) -> float:
        """A figure's mean over the network's seeds."""
        return statistics.fmean(figure(result) for result in self.of(label))

    def spread(self, label: str, figure: Callable[[Result], float]) -> str:
        """A figure's mean and standard deviation over the network's seeds, to print."""
        return spread([figure(result) for result in self.of(label)])


TEST_ERROR, TRAINING_ERROR = "test error", "training error"


@dataclass(frozen=True)
class Quantity:
    """Something that is measured for every seed.

    Attributes:
        label: of a network.
        measure: "test error" or "training error", of any study, or what the study itself measures,
            see `Findings`.
    """

    label: str
    measure: str = TEST_ERROR

    def __str__(self) -> str:
        return f"{self.measure} of {self.label}"


@dataclass(frozen=True)
class Claim:
    """A comparison that is stated before the networks are trained, and judged by verdict.py.

    Attributes:
        text: the claim, a sentence.
        first, second: what is compared; the effect is first minus second.
        direction: the side of the threshold on which the claim expects the effect.
        threshold: the smallest effect that counts; of a claim that there is no effect, the largest
            that does not.
        unit: of the effect.
    """

    text: str
    first: Quantity
    second: Quantity
    direction: Direction
    threshold: float
    unit: str = "points"

    @property
    def comparison(self) -> str:
        """What the effect is, such as "test error: plain20 - resnet20"."""
        if self.first.measure == self.second.measure:
            return f"{self.first.measure}: {self.first.label} - {self.second.label}"
        if self.first.label == self.second.label:
            return f"{self.first.label}: {self.first.measure} - {self.second.measure}"
        return f"{self.first} - {self.second}"

    @property
    def counts(self) -> str:
        """Which effects make the claim true, such as "above 2 points"."""
        unit = self.unit.removesuffix("s") if self.threshold == 1 else self.unit
        return f"{self.direction} {self.threshold:g} {unit}".rstrip()


Measured = Mapping[Quantity, np.ndarray]
"""Quantities as `verdict.effect_of` takes them, (seeds, images) or (seeds, 1) float."""


def lower_error(
    better: str, worse: str, text: str, at_least: float = 0, measure: str = TEST_ERROR
) -> Claim:
    """The claim that one network has a lower error than another.

    Args:
        better, worse: labels of the networks.
        text: the claim, a sentence.
        at_least: smallest difference that counts, in points.
        measure: the error, as in `Quantity`.
    """
    return Claim(text, Quantity(worse, measure), Quantity(better, measure), "above", at_least)


def errors_of(results: Results) -> Measured:
    """Test errors and training errors of all networks, in per cent.

    The test error is 100 for each image that a network classifies wrongly and 0 for each other. A
    network whose training diverged classifies every image wrongly.
    """
    images = max((one.evaluation.images for one in results.all if one.evaluation), default=1)
    measured = {}
    for label in results.labels:
        of_seeds = results.of(label)
        wrong = np.full((len(of_seeds), images), 100.0)
        for row, result in zip(wrong, of_seeds, strict=True):
            if result.evaluation:
                row[:] = 0
                row[[mistake.image for mistake in result.evaluation.mistakes]] = 100
        training = [training_error(result) for result in of_seeds]
        measured[Quantity(label)] = wrong
        measured[Quantity(label, TRAINING_ERROR)] = np.nan_to_num(training, nan=100.0)[:, None]
    return measured


def per_seed(values: Iterable[float]) -> np.ndarray:
    """A quantity that is one number for every seed, (seeds, 1), as in `Measured`."""
    return np.fromiter(values, float)[:, None]


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; the value alone where there is one, and words for none."""
    if any(math.isnan(value) for value in values):
        return "diverged"
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def test_error(result: Result) -> float:
    """Top-1 of the model kept as best, in per cent; not a number of one that diverged."""
    return 100 * result.evaluation.top1_error if result.evaluation else math.nan


def training_error(result: Result) -> float:
    """Top-1 over the last epoch, with its augmentation, in per cent, likewise."""
    return 100 * result.history[-1]["top1_error"] if result.evaluation else math.nan


@dataclass(frozen=True)
class Table:
    """A table of a page; columns called "paper: …" hold published figures, all others ours."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure of a page, which becomes name.png and name.svg."""

    name: str
    caption: str
    figure: "Figure"


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        parts: the page's tables, pictures and paragraphs, in their order.
        measured: what its claims compare beside errors.
    """

    parts: tuple[Table | Picture | str, ...]
    measured: Measured = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A table or a figure of the papers, as a command.

    Attributes:
        title: what is studied.
        source: where it was published.
        paper_claim: what the paper claims.
        seeds: how many times a network is trained at each scale, if the user names no number.
        trainings: what is to be trained for one seed.
        claims: the claims that the study judges.
        examine: reads the results.
        measuring: multiply-adds that `examine` takes for one seed, if they are many.
    """

    title: str
    source: str
    paper_claim: str
    seeds: dict[Scale, int]
    trainings: Callable[[Setting, int], Sequence[Training]]
    claims: Callable[[Setting], Sequence[Claim]]
    examine: Callable[[Results], Findings]
    measuring: Callable[[Setting], float] = lambda setting: 0
