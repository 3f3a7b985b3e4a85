"""What a recipe accepts."""

import dataclasses

import pytest

from resnet_keras import optimizers, recipes
from resnet_keras.data.augmentation import Augmentation, PadAndCrop
from resnet_keras.errors import InputError
from resnet_keras.recipes import RECIPES, Recipe
from resnet_keras.runs import Run, RunDetails


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
        ({"ema": 1.0}, "ema must lie in [0, 1)"),
        ({"centre": 0.0}, "centre must lie in (0, 1]"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"decay": "linear"}, "decay is 'cosine' or 'steps'. Received: 'linear'"),
        ({"optimizer": "adam"}, "optimizer is 'sgd' or 'lamb'. Received: 'adam'"),
        ({"loss": "hinge"}, "loss is 'cross-entropy' or 'binary'. Received: 'hinge'"),
        ({"optimizer": "lamb", "momentum_correction": True}, "momentum_correction is SGD's"),
        (
            {"loss": "binary", "augmentation": Augmentation(label_smoothing=0.1)},
            "label_smoothing would make every class present",
        ),
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
    assert recipe.augmentation == Augmentation(PadAndCrop(4 / 32), flip=True)


def test_resnet110_warms_up_as_in_the_paper():
    recipe = recipes.find("paper-cifar10-warmup")
    steps = 45_000 // recipe.batch_size
    rate = optimizers.schedule(recipe, steps)
    assert [float(rate(step)) for step in (0, 399, 400)] == pytest.approx([0.01, 0.01, 0.1])
    assert [float(rate(step)) for step in (31_000, 33_000, 49_000)] == pytest.approx(
        [0.1, 0.01, 0.001]
    )


def test_large_batch_follows_linear_scaling():
    recipe = recipes.find("large-batch")
    assert recipe.learning_rate == pytest.approx(0.1 * recipe.batch_size * recipe.accumulate / 256)
    assert recipe.momentum_correction and recipe.warmup_epochs == 5


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_turn_to_json_and_back(name, tmp_path):
    details = RunDetails(
        "resnet20", None, "digits", ("0",), 8, RECIPES[name], "float32", {}, "today"
    )
    run = Run(tmp_path / "run")
    run.create(details)
    assert run.read_details() == details


def test_a_shorter_course_warms_up_for_the_same_share():
    shorter = RECIPES["quick"].in_epochs(8)
    assert (shorter.epochs, shorter.warmup_epochs) == (8, 1)
    assert dataclasses.replace(shorter, epochs=24, warmup_epochs=3) == RECIPES["quick"]
