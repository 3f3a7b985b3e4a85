"""Precision, recall and F1 of every class, and the classes that are confused most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_fscore_support


@dataclass(frozen=True)
class Scores:
    """Fractions 0..1; None where nothing defines the fraction, such as a class never predicted.

    Attributes:
        precision: share of the images predicted as the class that are of the class.
        recall: share of the images of the class that are predicted as the class.
        f1: harmonic mean of the two.
    """

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ConfusedPair:
    """A kind of mistake.

    Attributes:
        label, predicted: indices of the true and the predicted class.
        images: number of images of the true class that were predicted so.
        share: the same as a fraction of the images of the true class.
    """

    label: int
    predicted: int
    images: int
    share: float


def class_scores(matrix: Sequence[Sequence[int]] | np.ndarray) -> tuple[list[Scores], Scores]:
    """Scores of every class, and their unweighted means, as scikit-learn computes them.

    Args:
        matrix: counts (classes, classes), rows are the true classes, columns the predicted ones.

    Returns:
        The scores in the order of the classes; the means leave undefined ones out.
    """
    counts = np.asarray(matrix)
    true, predicted = np.nonzero(counts)
    settings = {
        "labels": range(len(counts)),
        "sample_weight": counts[true, predicted],
        "zero_division": np.nan,
    }
    columns = precision_recall_fscore_support(true, predicted, **settings)[:3]
    means = precision_recall_fscore_support(true, predicted, average="macro", **settings)[:3]
    return [_scores(row) for row in zip(*columns, strict=True)], _scores(means)


def _scores(values: Sequence[float]) -> Scores:
    return Scores(*(None if math.isnan(value) else float(value) for value in values))


def confused_pairs(
    matrix: Sequence[Sequence[int]] | np.ndarray, at_most: int
) -> list[ConfusedPair]:
    """The pairs of a true and a predicted class with the most mistakes, most first.

    Args:
        matrix: counts as of `class_scores`.
        at_most: number of pairs.
    """
    counts = np.asarray(matrix)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:at_most]
    places = [divmod(int(place), len(counts)) for place in order if wrong.flat[place]]
    return [
        ConfusedPair(
            label,
            predicted,
            int(counts[label, predicted]),
            float(counts[label, predicted] / counts[label].sum()),
        )
        for label, predicted in places
    ]
