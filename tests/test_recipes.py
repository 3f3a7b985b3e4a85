"""What a recipe accepts."""

import dataclasses

import numpy as np
import pytest
from kit import refusal

from resnet_keras import recipes
from resnet_keras.data.augmentation import Augmentation, PadAndCrop, RandomResizedCrop
from resnet_keras.recipes import RECIPES, Recipe
from resnet_keras.runs.run import Run, RunDetails
from resnet_keras.training import optimizers


@pytest.mark.parametrize(
    ("values", "received", "accepted"),
    [
        ({"epochs": 0}, "0", "from 1 to"),
        ({"epochs": 24.0}, "24.0", "whole"),
        ({"epochs": None}, "None", "whole"),
        ({"batch_size": -1}, "-1", "from 1 to"),
        ({"batch_size": 10**23}, str(10**23), "1,000,000"),
        ({"image_size": 0}, "0", "from 1 to"),
        ({"image_size": 100_000}, "100000", "8,192"),
        ({"seed": 10**23}, str(10**23), "4,294,967,295"),
        ({"seed": True}, "True", "whole"),
        ({"learning_rate": 0.0}, "0.0", "(0, "),
        ({"learning_rate": float("nan")}, "nan", "(0, "),
        ({"learning_rate": float("inf")}, "inf", "(0, "),
        ({"l2": -1e-4}, "-0.0001", "[0, "),
        ({"l2": float("inf")}, "inf", "[0, "),
        ({"l2": float("nan")}, "nan", "[0, "),
        ({"stage_decay": 1e308}, "1e+308", "100]"),
        ({"momentum": 1.0}, "1.0", "[0, 1)"),
        ({"ema": "much"}, "'much'", "[0, 1)"),
        ({"centre": 0.0}, "0.0", "(0, 1]"),
        ({"accumulate": 0}, "0", "from 1 to"),
        ({"clip_norm": 0.0}, "0.0", "(0, "),
        ({"weight_decay": -1.0}, "-1.0", "[0, "),
        ({"decay": "linear"}, "'linear'", "'cosine' or 'steps'"),
        ({"optimizer": "adam"}, "'adam'", "'sgd' or 'lamb'"),
        ({"loss": "hinge"}, "'hinge'", "'cross-entropy' or 'binary'"),
        ({"optimizer": "lamb", "momentum_correction": True}, "'lamb'", "'sgd'"),
        (
            {"loss": "binary", "augmentation": Augmentation(label_smoothing=0.1)},
            "label_smoothing=0.1",
            "'cross-entropy'",
        ),
    ],
)
def test_refused_values(values, received, accepted):
    error = refusal(Recipe, **values)
    assert any(name in error.problem for name in values)
    assert received in error.received and accepted in error.accepted


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(RECIPES["quick"], "epochs", 3)  # noqa: B010


def test_unknown_recipe_names_the_nearest():
    error = refusal(recipes.find, "quik")
    assert error.received == "'quik'" and error.accepted == "did you mean quick?"


def test_paper_recipe_is_the_papers():
    recipe = recipes.find("paper-cifar10")
    assert recipe.epochs * (45_000 // recipe.batch_size) == 63_882  # docs/recipes.md
    iterations = recipe.epochs * (45_000 / recipe.batch_size)
    assert iterations == pytest.approx(64_000, rel=0.01)
    assert [at * 64 for at in recipe.decay_at] == [32, 48]
    assert (recipe.learning_rate, recipe.momentum, recipe.l2) == (0.1, 0.9, 1e-4)
    assert recipe.augmentation == Augmentation(PadAndCrop(4 / 32), flip=True)


def test_resnet110_warms_up_as_in_the_paper():
    recipe = recipes.find("paper-cifar10-warmup")
    steps = 45_000 // recipe.batch_size
    rate = optimizers.schedule(recipe, steps)
    assert [float(rate(step)) for step in (0, 399, 400)] == pytest.approx([0.01, 0.01, 0.1])
    assert [float(rate(step)) for step in (31_000, 33_000, 49_000)] == pytest.approx(
        [0.1, 0.01, 0.001]
    )


def test_large_batch_is_that_of_the_paper():
    """Goyal et al. 2017, section 5.1, with k = 256 workers of n = 32 images."""
    recipe = recipes.find("large-batch")
    assert (recipe.accumulate, recipe.batch_size, recipe.epochs) == (256, 32, 90)
    assert recipe.learning_rate == pytest.approx(0.1 * 256 * 32 / 256)
    assert (recipe.momentum, recipe.momentum_correction) == (0.9, True)
    assert (recipe.l2, recipe.l2_on_bn, recipe.weight_decay) == (1e-4, False, 0)
    assert recipe.zero_init_last_gamma and recipe.classifier_std == 0.01
    assert recipe.augmentation == Augmentation(RandomResizedCrop(), flip=True)
    steps = 1_281_167 // recipe.batch_size
    rate, updates = optimizers.schedule(recipe, steps), steps / recipe.accumulate
    at = [0, *(round(epoch * updates) for epoch in (2.5, 5, 29, 31, 61, 81))]
    expected = [0.1, 1.65, 3.2, 3.2, 0.32, 0.032, 0.0032]
    assert [float(rate(update)) for update in at] == pytest.approx(expected, rel=2e-3)
    increments = np.diff([[float(rate(first + n)) for n in (0, 1)] for first in (0, 400, 780)])
    np.testing.assert_allclose(increments, 3.1 / round(5 * updates), rtol=1e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_turn_to_json_and_back(name, tmp_path):
    details = RunDetails(
        "resnet20", None, "digits", ("0",), 8, RECIPES[name], "float32", {}, "today", "0123"
    )
    run = Run(tmp_path / "run")
    run.create(details)
    assert run.read_details() == details


def test_a_shorter_course_warms_up_for_the_same_share():
    shorter = RECIPES["quick"].in_epochs(8)
    assert (shorter.epochs, shorter.warmup_epochs) == (8, 1)
    assert dataclasses.replace(shorter, epochs=24, warmup_epochs=3) == RECIPES["quick"]
