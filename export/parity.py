"""How far a file's answers are from Keras's, and how long they take."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""From images (n, height, width, 3) uint8 to probabilities (n, classes) float32."""

WARM_UP_CALLS = 3
TIMED_CALLS = 50
TIMED_SECONDS = 5.0


@dataclass(frozen=True)
class Tolerance:
    """How far from Keras a file may be, each limit as a fraction, 0..1.

    Attributes:
        probability: the largest difference of any class's probability on any image.
        disagreement: images on which another class is the most probable one.
        accuracy_drop: how much less often than Keras it is right.
    """

    probability: float = 1.0
    disagreement: float = 0.0
    accuracy_drop: float = 0.0


@dataclass(frozen=True)
class Parity:
    """What a comparison on held-out images found.

    Attributes:
        images: how many.
        probability_difference: the largest, of any class on any image.
        agreement: share of the images on which both have the same most probable class.
        accuracy, keras_accuracy: shares of the images on which that is the right one.
    """

    images: int
    probability_difference: float
    agreement: float
    accuracy: float
    keras_accuracy: float


def compare(found: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> Parity:
    """Compares probabilities with Keras's.

    Args:
        found, expected: (n, classes), the file's and Keras's.
        labels: (n,), the right classes.
    """
    answers, keras_answers = found.argmax(axis=1), expected.argmax(axis=1)
    return Parity(
        images=len(labels),
        # NaN is as far away as anything can be.
        probability_difference=float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()),
        agreement=float((answers == keras_answers).mean()),
        accuracy=float((answers == labels).mean()),
        keras_accuracy=float((keras_answers == labels).mean()),
    )


def complaints(parity: Parity, tolerance: Tolerance) -> list[str]:
    """What is beyond the tolerance, and by how much; empty where all is well."""
    measured = (
        (
            "largest difference of a probability",
            parity.probability_difference,
            tolerance.probability,
            ".3g",
        ),
        ("other answers than Keras", 1 - parity.agreement, tolerance.disagreement, ".2%"),
        ("accuracy lost", parity.keras_accuracy - parity.accuracy, tolerance.accuracy_drop, ".2%"),
    )
    return [
        f"{what} {value:{form}}, allowed {limit:{form}}"
        for what, value, limit, form in measured
        if value > limit
    ]


def answers(predict: Predict, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Runs a file over images in batches; the last one may be smaller."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([predict(images[start : start + batch_size]) for start in starts])


def farthest(
    predict: Predict,
    images: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray,
    batch_sizes: Sequence[int],
) -> Parity:
    """Compares a file with Keras at every batch size, and gives the worst that was found."""
    found = [compare(answers(predict, images, size), expected, labels) for size in batch_sizes]
    return Parity(
        images=len(labels),
        probability_difference=max(one.probability_difference for one in found),
        agreement=min(one.agreement for one in found),
        accuracy=min(one.accuracy for one in found),
        keras_accuracy=found[0].keras_accuracy,
    )


def latency(predict: Predict, images: np.ndarray) -> float:
    """Median milliseconds of an answer to one image."""
    for number in range(WARM_UP_CALLS):
        predict(images[number % len(images)][None])
    seconds: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(seconds) < TIMED_CALLS and (not seconds or time.perf_counter() < end):
        image = images[len(seconds) % len(images)][None]
        start = time.perf_counter()
        predict(image)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)
