"""What a study of the papers is made of: networks to train, and what is to be read off them."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import HistoryRow, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_keras.evaluation.results import Evaluation
    from resnet_keras.networks.models import Builder

Scale = Literal["quick", "full"]


@dataclass(frozen=True)
class Training:
    """A network to train; its seed is the recipe's.

    Attributes:
        network, recipe, shortcut, builder: as in `training.train`.
        tag: tells the run from others of the network, which other studies train otherwise.
    """

    network: str
    recipe: Recipe
    shortcut: str | None = None
    builder: "Builder | None" = None
    tag: str = ""

    @property
    def label(self) -> str:
        """The network as tables call it, whatever its seed."""
        return f"{self.network}-{self.shortcut}" if self.shortcut else self.network

    @property
    def name(self) -> str:
        tag = f"-{self.tag}" if self.tag else ""
        return f"{self.label}{tag}-seed{self.recipe.seed}"


@dataclass(frozen=True)
class Setting:
    """What a study is asked to run on.

    Attributes:
        scale: "quick" for minutes on a CPU, "full" for what the papers did.
        data: as --data spells it.
        image_size: of the data's images, in pixels.
        seeds: how many times every network is trained.
    """

    scale: Scale
    data: str
    image_size: int
    seeds: int

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
        verdict: in a sentence or two, with figures: whether the effect shows.
        parts: the page's tables, pictures and paragraphs, in their order.
    """

    verdict: str
    parts: tuple[Table | Picture | str, ...]


@dataclass(frozen=True)
class Study:
    """A table or a figure of the papers, as a command.

    Attributes:
        title: what is studied.
        source: where it was published.
        claim: what was seen there.
        seeds: how many times a network is trained at each scale, if the user names no number.
        trainings: what is to be trained for one seed.
        examine: reads the results.
    """

    title: str
    source: str
    claim: str
    seeds: dict[Scale, int]
    trainings: Callable[[Setting, int], Sequence[Training]]
    examine: Callable[[Results], Findings]
