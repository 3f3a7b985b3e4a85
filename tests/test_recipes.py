"""What a recipe accepts."""

import dataclasses

import pytest

from resnet_keras import recipes
from resnet_keras.errors import InputError
from resnet_keras.recipes import RECIPES, Recipe


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1. Received: 0"),
        ({"batch_size": -1}, "batch_size must be at least 1. Received: -1"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"l2": -1e-4}, "l2 must not be negative"),
        ({"momentum": 1.0}, "momentum must lie in [0, 1)"),
        ({"shift": 1.5}, "shift must lie in [0, 1)"),
        ({"decay": "linear"}, "decay is 'cosine' or 'steps'. Received: 'linear'"),
    ],
)
def test_refused_values(values, words):
    with pytest.raises(InputError) as error:
        Recipe(**values)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["quick"].epochs = 3


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match=r"Received: 'quik'; did you mean quick\?"):
        recipes.find("quik")


def test_paper_recipe_is_the_papers():
    recipe = recipes.find("paper-cifar10")
    iterations = recipe.epochs * (45_000 / recipe.batch_size)
    assert iterations == pytest.approx(64_000, rel=0.01)
    assert [at * 64 for at in recipe.decay_at] == [32, 48]
    assert (recipe.learning_rate, recipe.momentum, recipe.l2) == (0.1, 0.9, 1e-4)
    assert recipe.shift * 32 == 4
