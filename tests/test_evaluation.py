"""Errors, confusion matrix and mistakes, against figures worked out by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from kit import TINY, refusal
from sample_images import folder_with

from resnet_keras.cli import resolve
from resnet_keras.evaluation.evaluate import (
    ClassError,
    Mistake,
    read_evaluation,
    read_evaluations,
    score,
    wilson_interval,
    write_evaluation,
)
from resnet_keras.evaluation.protocols import Protocol
from resnet_keras.networks.models import Classifier, build
from resnet_keras.runs.run import Run

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
    assert str(tmp_path) in refusal(read_evaluation, Run(tmp_path)).received


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("errors", "images", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(errors, images, low, high):
    assert wilson_interval(errors, images) == pytest.approx((low, high), abs=5e-5)
    # An error of 1 - p is as uncertain as one of p.
    assert wilson_interval(images - errors, images) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_interval_at_its_ends():
    assert wilson_interval(0, 360)[0] == 0.0
    assert wilson_interval(360, 360)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_intervals_and_errors_by_class():
    found = score(PROBABILITIES, LABELS)
    assert found.top1_interval == wilson_interval(3, 4)
    assert found.top5_interval == wilson_interval(1, 4)
    assert found.class_errors[0] == ClassError(images=1, wrong=0)
    assert found.class_errors[1] == ClassError(images=1, wrong=1)
    assert [one.error for one in found.class_errors] == [0.0, 1.0, None, 1.0, None, None, 1.0]
    assert found.class_errors[2].interval == (0.0, 1.0)


def test_a_run_keeps_an_evaluation_for_every_protocol(tmp_path):
    run = Run(tmp_path)
    found = score(PROBABILITIES, LABELS)
    other = score(PROBABILITIES[:2], LABELS[:2])
    scales = Protocol("multi-scale", (32, 40))
    write_evaluation(run, other, scales)
    write_evaluation(run, found)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluation-multi-scale.json",
        "evaluation.json",
    ]
    assert read_evaluation(run, "multi-scale") == other
    assert read_evaluation(run, "ten-crop") is None
    assert read_evaluations(run) == [(Protocol(), found), (scales, other)]
    content = json.loads((tmp_path / "evaluation-multi-scale.json").read_text())
    assert content["scales"] == [32, 40]
    assert content["top1_interval"] == list(wilson_interval(1, 2))
    assert content["class_errors"][:3] == [0.0, 1.0, None]


def test_the_evaluation_of_an_earlier_version_is_read(tmp_path):
    golden = Path(__file__).parent / "fixtures" / "golden_run" / "evaluation.json"
    shutil.copy(golden, tmp_path)
    ((protocol, found),) = read_evaluations(Run(tmp_path))
    assert protocol == Protocol()
    assert found.top1_error == json.loads(golden.read_text())["top1_error"]
    assert found.top1_interval[0] < found.top1_error < found.top1_interval[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"images": "many"},
        {"images": 0},
        {"top1_error": 1.5},
        {"top5_error": None},
        {"loss": []},
        {"confusion_matrix": [[1, 2]]},
        {"confusion_matrix": []},
        {"mistakes": [{"image": 4, "label": 0, "predicted": 1, "probability": 0.5}]},
        {"mistakes": [{"image": 0, "label": 0, "predicted": 7, "probability": 0.5}]},
        {"protocol": "single"},
        {"protocol": "double"},
        {"scales": ["small"]},
        {"scales": 224},
    ],
)
def test_damage_in_the_result_of_another_protocol_is_told(tmp_path, changes):
    run = Run(tmp_path)
    write_evaluation(run, score(PROBABILITIES, LABELS), Protocol("ten-crop"))
    path = tmp_path / "evaluation-ten-crop.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert str(path) in refusal(read_evaluations, run).received


def test_the_description_of_a_model_does_not_say_where_its_images_are(tmp_path):
    folder = folder_with(tmp_path / "holiday photos", {})
    build(TINY, (8, 8, 3), Classifier(2), "mine").save(tmp_path / "mine.keras")
    description = resolve.find(tmp_path / "mine.keras", str(folder)).description
    assert "holiday photos" in description and str(tmp_path) not in description


def test_the_description_of_a_model_names_data_that_everybody_has(tmp_path):
    build(TINY, (8, 8, 3), name="mine").save(tmp_path / "mine.keras")
    description = resolve.find(tmp_path / "mine.keras", "digits").description
    assert "digits" in description
