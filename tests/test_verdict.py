"""The rule that judges claims, against calculations by hand and stock SciPy."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from resnet_keras.evaluation.evaluate import score
from resnet_keras.recipes import Recipe
from resnet_keras.runs.run import Run
from resnet_keras.studies import page
from resnet_keras.studies.study import (
    TRAINING_ERROR,
    Claim,
    Findings,
    Quantity,
    Result,
    Results,
    Setting,
    Study,
    Training,
    errors_of,
    lower_error,
)
from resnet_keras.studies.verdict import Effect, effect_of

T = {1: 12.7062, 2: 4.30265, 4: 2.77645}  # Student's t, 97.5%, by degrees of freedom (any table)


def ends(mean, half):
    return pytest.approx((mean, mean - half, mean + half), rel=1e-5)


def test_without_images_it_is_the_paired_t_interval():
    # Mean 2, variance 1, three seeds: 4.303 * sqrt(1 / 3).
    effect = effect_of(np.array([[1.0], [2.0], [3.0]]))
    assert (effect.mean, effect.low, effect.high) == ends(2, T[2] * math.sqrt(1 / 3))
    first, second = np.random.default_rng(0).normal(size=(2, 5))
    effect = effect_of((first - second)[:, None])
    theirs = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((theirs.low, theirs.high))


def test_variances_of_seeds_and_images_add_up():
    # Seeds have means 1 and 3, variance 2, over two: 1. Images likewise. So the variance is 2, with
    # (1 + 1)^2 / (1^2 / 1 + 1^2 / 1) = 2 degrees of freedom.
    effect = effect_of(np.array([[0.0, 2.0], [2.0, 4.0]]))
    assert (effect.mean, effect.low, effect.high) == ends(2, T[2] * math.sqrt(2))


def test_seeds_that_agree_leave_the_images_uncertainty():
    # Image means 1, 2, 3, 4, 5: variance 2.5, over five: 0.5, with 4 degrees of freedom.
    effect = effect_of(np.tile(np.arange(1.0, 6), (2, 1)))
    assert (effect.mean, effect.low, effect.high) == ends(3, T[4] * math.sqrt(0.5))
    # Nothing varies, so nothing is known.
    assert effect_of(np.full((2, 1), 7.0)) == Effect(7, -math.inf, math.inf)


def test_one_seed_shows_nothing():
    effect = effect_of(np.full((1, 100), 50.0))
    assert effect == Effect(50, -math.inf, math.inf)
    assert effect.verdict("above", 0) == "not shown"


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [
        (2.1, 3.0, "shown", "contradicted"),
        (1.0, 1.9, "contradicted", "shown"),
        (1.0, 3.0, "not shown", "not shown"),
        (2.0, 3.0, "not shown", "not shown"),
    ],
)
def test_verdicts_by_the_side_of_the_threshold(low, high, above, below):
    effect = Effect((low + high) / 2, low, high)
    assert (effect.verdict("above", 2), effect.verdict("below", 2)) == (above, below)


@pytest.mark.parametrize(("seeds", "deviation", "least"), [(2, 3.0, 0.84), (3, 1.0, 0.93)])
def test_how_often_the_interval_covers_the_truth(seeds, deviation, least):
    """The seeds' deviation is in units of the images' share of the standard error."""
    generator, images, draws = np.random.default_rng(0), 50, 400
    covered = 0
    for _ in range(draws):
        parts = [
            generator.normal(0, scale, shape)
            for scale, shape in (
                (deviation, (seeds, 1)),
                (math.sqrt(images), (1, images)),
                (math.sqrt(images), (seeds, images)),
            )
        ]
        effect = effect_of(sum(parts, np.zeros((seeds, images))))
        covered += effect.low <= 0 <= effect.high
    assert covered / draws >= least


# Claims of studies


def result(network, seed, wrong, training_error=0.25):
    """A training that classifies `wrong` of 100 test images wrongly; None if it diverged."""
    labels, predicted = np.zeros(100, int), np.zeros(100, int)
    if wrong is not None:
        predicted[:wrong] = 1
    row = {"epoch": 1.0, "top1_error": training_error}
    evaluation = None if wrong is None else score(np.eye(2)[predicted], labels)
    training = Training(network, Recipe(seed=seed))
    return Result(training, Run(Path("nowhere")), [row], evaluation, 1.0)


SETTING = Setting("quick", "digits", 64, 2, 100, 100, 100)


def test_errors_by_seed_and_image():
    results = Results(SETTING, [result("a", 0, 10), result("a", 1, 20), result("b", 0, None)])
    measured = errors_of(results)
    assert measured[Quantity("a")].shape == (2, 100)
    assert measured[Quantity("a")].mean(axis=1).tolist() == [10, 20]
    assert set(measured[Quantity("a")][0, :10]) == {100}
    assert measured[Quantity("a", TRAINING_ERROR)].tolist() == [[25], [25]]
    # A network that diverged classifies no image rightly.
    assert measured[Quantity("b")].tolist() == [[100] * 100]
    assert measured[Quantity("b", TRAINING_ERROR)].tolist() == [[100]]


def test_claims_are_judged_in_their_order():
    claims = (
        lower_error("a", "b", "A is better.", 10),
        lower_error("b", "a", "B is better."),
        Claim("They are alike.", Quantity("b"), Quantity("a"), "below", 30),
    )
    study = Study("", "", "", {}, lambda *_: [], lambda _: claims, lambda _: Findings(()))
    wrong = {("a", 0): 10, ("a", 1): 11, ("b", 0): 40, ("b", 1): 41}
    results = Results(SETTING, [result(*one, count) for one, count in wrong.items()])
    judged = page.judge(study, results, Findings(()))
    assert [round(effect.mean) for effect in judged.values()] == [30, -30, 30]
    assert page.headline(judged) == "1 shown, 1 not shown, 1 contradicted of 3 claims"
    row = page._claims(judged).splitlines()[2]
    assert re.search(r"\| 30\.00 \(\d+\.\d\d to \d+\.\d\d\) \| \*\*shown\*\* \|", row)
    assert claims[0].comparison == "test error: b - a" and claims[0].counts == "above 10 points"
