"""Errors, confusion matrix and mistakes, against figures worked out by hand."""

import numpy as np
import pytest

from resnet_keras.errors import InputError
from resnet_keras.evaluation import Mistake, read_evaluation, score, write_evaluation
from resnet_keras.runs import Run

PROBABILITIES = np.array(
    [
        [0.6, 0.3, 0.1, 0.0, 0.0, 0.0, 0.0],  # right
        [0.4, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0],  # its label comes second
        [0.30, 0.20, 0.18, 0.12, 0.11, 0.07, 0.02],  # its label comes last of seven
        [0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 0.0],  # its label comes second
    ]
)
LABELS = np.array([0, 1, 6, 3])


def test_score():
    found = score(PROBABILITIES, LABELS)
    assert found.images == 4
    assert found.top1_error == 3 / 4
    assert found.top5_error == 1 / 4
    assert found.loss == pytest.approx(-np.log([0.6, 0.3, 0.02, 0.1]).mean())
    matrix = np.zeros((7, 7), int)
    matrix[[0, 1, 6, 3], [0, 0, 0, 2]] = 1
    np.testing.assert_array_equal(found.confusion_matrix, matrix)
    assert found.mistakes == (
        Mistake(image=3, label=3, predicted=2, probability=0.9),
        Mistake(image=1, label=1, predicted=0, probability=0.4),
        Mistake(image=2, label=6, predicted=0, probability=0.3),
    )


def test_score_equals_the_obvious_way():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(12), 200)
    labels = generator.integers(0, 12, 200)
    found = score(probabilities, labels)
    ranked = [sorted(range(12), key=lambda c, p=p: -p[c]) for p in probabilities]
    wrong1 = sum(label != order[0] for order, label in zip(ranked, labels, strict=True))
    wrong5 = sum(label not in order[:5] for order, label in zip(ranked, labels, strict=True))
    assert (found.top1_error, found.top5_error) == (wrong1 / 200, wrong5 / 200)
    assert np.sum(found.confusion_matrix) == 200
    assert len(found.mistakes) == wrong1


def test_a_network_that_has_not_decided_is_not_right():
    found = score(np.full((3, 10), 0.1), np.array([9, 8, 7]))
    assert (found.top1_error, found.top5_error) == (1.0, 1.0)


def test_a_run_keeps_its_evaluation(tmp_path):
    found = score(PROBABILITIES, LABELS)
    assert read_evaluation(Run(tmp_path)) is None
    write_evaluation(Run(tmp_path), found)
    assert read_evaluation(Run(tmp_path)) == found


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"mistakes": 3}', '{"mistakes": [{}]}'])
def test_a_damaged_evaluation_is_told(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match="damaged") as error:
        read_evaluation(Run(tmp_path))
    assert "\n" not in str(error.value)
