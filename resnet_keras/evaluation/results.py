"""Results of a measurement: error rates with their intervals, and the files that hold them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from resnet_keras.data.splits import Split
from resnet_keras.errors import InputError
from resnet_keras.evaluation.protocols import NAMES, ONE_VIEW, SINGLE, Protocol
from resnet_keras.files.atomic import write_text
from resnet_keras.files.structured import JsonObject, convert, read
from resnet_keras.runs.run import Run

CONFIDENCE = 0.95
EVALUATION_ACCEPTED = "the file that evaluate wrote (evaluate writes it again)"
FOR_OTHER_READERS = ("top1_interval", "top5_interval", "class_errors")  # follow from the rest

Interval = tuple[float, float]


@dataclass(frozen=True)
class Mistake:
    """One wrongly classified image.

    Attributes:
        image: its index in the split.
        label, predicted: indices of its class and of the class with the highest probability.
        probability: that the network gave to the class it predicted.
        file: path of the image's file; None of an image that is no file of its own, and in results
            of earlier versions.
        true_class, predicted_class: names of the two classes; None where they are not known.
    """

    image: int
    label: int
    predicted: int
    probability: float
    file: str | None = None
    true_class: str | None = None
    predicted_class: str | None = None


@dataclass(frozen=True)
class ClassError:
    """The top-1 error on the images of one class.

    Attributes:
        images: how many there are of it.
        wrong: how many of them were taken for another class.
    """

    images: int
    wrong: int

    @property
    def error(self) -> float | None:
        """A fraction 0..1; None of a class without images."""
        return self.wrong / self.images if self.images else None

    @property
    def interval(self) -> Interval:
        """The 95% interval of the error; of a class without images it could be anything."""
        return wilson_interval(self.wrong, self.images)


@dataclass(frozen=True)
class ErrorRates:
    """Errors as fractions of the images, 0..1, and their 95% intervals, see `wilson_interval`.

    Attributes:
        images: how many.
        top1_error, top5_error: as the papers count them; top-5 is 0 with five classes or fewer.
    """

    images: int
    top1_error: float
    top5_error: float

    def __post_init__(self) -> None:
        if self.images < 1 or not (0 <= self.top1_error <= 1 and 0 <= self.top5_error <= 1):
            raise ValueError(
                "errors are fractions of one image or more. Received: "
                f"{self.top1_error} and {self.top5_error} of {self.images}"
            )

    @property
    def top1_interval(self) -> Interval:
        return wilson_interval(round(self.top1_error * self.images), self.images)

    @property
    def top5_interval(self) -> Interval:
        return wilson_interval(round(self.top5_error * self.images), self.images)

    @property
    def top1_accuracy(self) -> float:
        return 1 - self.top1_error

    @property
    def top5_accuracy(self) -> float:
        return 1 - self.top5_error

    @property
    def top1_accuracy_interval(self) -> Interval:
        low, high = self.top1_interval
        return 1 - high, 1 - low

    @property
    def top5_accuracy_interval(self) -> Interval:
        low, high = self.top5_interval
        return 1 - high, 1 - low


@dataclass(frozen=True)
class Evaluation(ErrorRates):
    """Error rates, and what they consist of.

    Attributes:
        loss: mean cross-entropy, in nats.
        confusion_matrix: counts, rows are the true classes, columns the predicted ones.
        mistakes: all of them, those that the network was surest of first.
    """

    loss: float
    confusion_matrix: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if {len(row) for row in self.confusion_matrix} != {self.classes}:
            raise ValueError("the confusion matrix is not square")
        counts = [count for row in self.confusion_matrix for count in row]
        if min(counts) < 0 or sum(counts) != self.images:
            raise ValueError(f"the confusion matrix is not of {self.images} images")
        if not all(self._is_possible(mistake) for mistake in self.mistakes):
            raise ValueError("a mistake is of no image or class")

    def _is_possible(self, mistake: Mistake) -> bool:
        classes = range(self.classes)
        return (
            mistake.image in range(self.images)
            and mistake.label in classes
            and mistake.predicted in classes
            and 0 <= mistake.probability <= 1
        )

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.confusion_matrix)

    @property
    def class_errors(self) -> tuple[ClassError, ...]:
        """The top-1 errors class by class, in the order of the matrix."""
        return tuple(
            ClassError(sum(row), sum(row) - row[label])
            for label, row in enumerate(self.confusion_matrix)
        )


def with_names(evaluation: Evaluation, split: Split, class_names: Sequence[str]) -> Evaluation:
    """The evaluation, whose mistakes name their files and classes.

    Args:
        evaluation: of the split.
        split: the images.
        class_names: in the order of the labels.
    """
    paths = getattr(split, "paths", None)
    return replace(
        evaluation,
        mistakes=tuple(
            replace(
                mistake,
                file=paths[mistake.image] if paths else None,
                true_class=class_names[mistake.label],
                predicted_class=class_names[mistake.predicted],
            )
            for mistake in evaluation.mistakes
        ),
    )


def wilson_interval(errors: int, images: int) -> Interval:
    """95% confidence interval of the true error rate (Wilson score).

    Wilson 1927, "Probable inference, the law of succession, and statistical inference". The
    interval holds for few images and for no errors, too.

    Args:
        errors: number of wrong images.
        images: number of images, drawn independently of each other.

    Returns:
        Lower and upper end, fractions 0..1.
    """
    if images == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # half a second, which --help need not wait for

    low, high = binomtest(errors, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def write_evaluation(run: Run, evaluation: Evaluation, protocol: Protocol = ONE_VIEW) -> None:
    """Keeps an evaluation in the run folder, in place of an earlier one by the same protocol."""
    content = json.dumps(to_content(evaluation, protocol), indent=2)
    write_text(evaluation_file(run, protocol.name), content + "\n")


def read_evaluation(run: Run, protocol: str = SINGLE) -> Evaluation | None:
    """The evaluation in the run folder, or None if the run was not evaluated so yet.

    Args:
        run: the run folder.
        protocol: its name.

    Raises:
        InputError: the file is damaged.
    """
    found = _read(run, protocol)
    return found[1] if found else None


def read_evaluations(run: Run) -> list[tuple[Protocol, Evaluation]]:
    """All evaluations in the run folder, with the scales of those that have some.

    Raises:
        InputError: a file is damaged.
    """
    return [found for name in NAMES if (found := _read(run, name))]


def evaluation_file(run: Run, protocol: str) -> Path:
    """The file of a run's evaluation by a protocol, named."""
    name = "evaluation" if protocol == SINGLE else f"evaluation-{protocol}"
    return run.folder / f"{name}.json"


def _read(run: Run, name: str) -> tuple[Protocol, Evaluation] | None:
    place = evaluation_file(run, name)
    if not place.exists():
        return None
    content = read(place, JsonObject, EVALUATION_ACCEPTED)
    protocol, evaluation = from_content(content, place)
    if protocol.name != name:
        raise InputError(
            f"{place.name} is damaged",
            received=f"{place} (protocol: {protocol.name})",
            accepted=f"results of {name} (evaluate writes them again)",
        )
    return protocol, evaluation


def to_content(evaluation: Evaluation, protocol: Protocol) -> JsonObject:
    """An evaluation as JSON keeps it; intervals and classes are there for other readers."""
    return {
        "protocol": protocol.name,
        "scales": protocol.scales,
        **asdict(evaluation),
        "top1_interval": evaluation.top1_interval,
        "top5_interval": evaluation.top5_interval,
        "class_errors": [one.error for one in evaluation.class_errors],
    }


def from_content(content: object, path: Path) -> tuple[Protocol, Evaluation]:
    """The inverse of `to_content`; of what earlier versions wrote, too.

    Args:
        content: as it was read.
        path: the file, for the message.

    Raises:
        InputError: the content is damaged.
    """
    told = convert(content, JsonObject, path, EVALUATION_ACCEPTED)
    for name in FOR_OTHER_READERS:
        told.pop(name, None)
    shown = {"name": told.pop("protocol", SINGLE), "scales": told.pop("scales", None)}
    protocol = convert(shown, Protocol, path, EVALUATION_ACCEPTED)
    return protocol, convert(told, Evaluation, path, EVALUATION_ACCEPTED)
