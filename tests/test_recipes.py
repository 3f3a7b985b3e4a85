"""What a recipe accepts."""

import dataclasses

import numpy as np
import pytest
from kit import refusal

from resnet_keras import recipes
from resnet_keras.data.augmentation import (
    Augmentation,
    MixUp,
    PadAndCrop,
    RandomResizedCrop,
    ScaleJitterCrop,
)
from resnet_keras.recipes import PRESETS, RECIPES, Recipe
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
        ({"freeze": "steam"}, "'steam'", "did you mean stem"),
        ({"freeze": None}, "None", "stage2"),
        ({"freeze_bn": "no"}, "'no'", "True or False"),
        ({"momentum_correction": 1}, "1", "True or False"),
        ({"decay_at": [0.5]}, "[0.5]", "(0, 1)"),
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
    assert recipe.epochs * (45_000 // recipe.batch_size) == 63_882  # docs/reference/recipes.md
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


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_turn_to_toml_and_back(name, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(recipes.write(RECIPES[name]))
    again = recipes.find(path)
    assert again == RECIPES[name]
    assert recipes.write(again) == path.read_text()


def file(folder, text):
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_states_what_differs_from_its_base(tmp_path):
    text = """
        base = "finetune"
        optimizer = "lamb"
        learning_rate = 1
        clip_norm = 2.0
        [augmentation]
        flip = false
        crop.area = [0.5, 1.0]  # of the base's kind: the aspect ratio stays
        mixup = {}
    """
    base = RECIPES["finetune"]
    augmentation = dataclasses.replace(
        base.augmentation, flip=False, crop=RandomResizedCrop((0.5, 1.0)), mixup=MixUp()
    )
    assert recipes.find(str(file(tmp_path, text))) == dataclasses.replace(
        base, optimizer="lamb", learning_rate=1.0, clip_norm=2.0, augmentation=augmentation
    )


def test_a_file_without_a_base_starts_from_the_defaults(tmp_path):
    assert recipes.find(file(tmp_path, "epochs = 3\naugmentation.crop.pad = 0.25")) == Recipe(
        epochs=3, augmentation=Augmentation(PadAndCrop(0.25))
    )


def test_another_kind_of_crop_takes_the_place_of_the_bases(tmp_path):
    text = 'base = "rsb-a3"\nimage_size = "none"\naugmentation.crop.shortest = 300'
    recipe = recipes.find(file(tmp_path, text))
    assert recipe.augmentation.crop == ScaleJitterCrop(300) and recipe.image_size is None
    text = 'base = "rsb-a3"\n[augmentation]\ncrop = "none"\ncutmix = "none"'
    augmentation = recipes.find(file(tmp_path, text)).augmentation
    assert augmentation.crop is None and augmentation.cutmix is None and augmentation.mixup


def test_epochs_of_a_file_leave_the_other_parts_their_shares(tmp_path):
    recipe = recipes.find(file(tmp_path, 'base = "finetune"\nepochs = 5'))
    assert recipe == RECIPES["finetune"].in_epochs(5)
    recipe = recipes.find(file(tmp_path, 'base = "finetune"\nepochs = 5\nhead_epochs = 3'))
    assert (recipe.head_epochs, recipe.warmup_epochs) == (3, 1 / 3)


@pytest.mark.parametrize(
    ("text", "received", "accepted"),
    [
        ("epoch = 3", "'epoch'", "did you mean epochs"),
        ('epochs = "3"', "'3'", "a whole number from 1 to 1,000,000"),
        ("epochs = 1.5", "1.5", "a whole number from 1 to 1,000,000"),
        ("epochs = 0", "0", "from 1 to"),
        ("epochs = true", "True", "from 1 to"),
        ("epochs = 1979-05-27", "1979-05-27", "from 1 to"),
        ("learning_rate = inf", "inf", "(0, "),
        ('optimizer = "adam"', "'adam'", "sgd or lamb"),
        ('freeze_bn = "yes"', "'yes'", "true or false"),
        ("decay_at = 3", "3", "(0, 1)"),
        ('clip_norm = "nothing"', "'nothing'", "(0, "),
        ('l2 = "none"', "'none'", "[0, "),
        ('base = "quik"', "'quik'", "did you mean quick"),
        ("base = []", "[]", "quick"),
        ("augmentation = 3", "3", "a table"),
        ("augmentation.flp = true", "'flp'", "did you mean flip"),
        ("augmentation.crop.aera = 1", "'aera'", "did you mean area"),
        ("augmentation.crop = {}", "no field", "pad"),
        ("augmentation.crop = {pad = 0.1, longest = 3}", "pad, longest", "shortest and longest"),
        ("augmentation.mixup.alpha = -1", "-1", "(0, "),
        ("epochs = 3\nepochs =\n", "line 2", "recipe show"),
        ("epochs = 3\nepochs = 4", "overwrite", "recipe show"),
        (b"\xff", "utf-8", "recipe show"),
        ("a = " + "[" * 9999, "mine.toml", "recipe show"),
        ("a = " + "9" * 9999, "mine.toml", "recipe show"),
    ],
)
def test_refused_files(tmp_path, text, received, accepted):
    error = refusal(recipes.find, file(tmp_path, text))
    assert "mine.toml" in str(error)
    assert received in error.received and accepted in error.accepted


def test_no_such_file_guesses_its_name(tmp_path):
    file(tmp_path, "")
    assert "mine.toml" in refusal(recipes.find, tmp_path / "mien.toml").accepted
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml" in refusal(recipes.find, tmp_path / "folder.toml").received


def test_a_recipe_that_is_no_file_of_its_kind(tmp_path):
    (tmp_path / recipes.FILE).touch()
    assert str(tmp_path / recipes.FILE) in refusal(recipes.find, tmp_path).accepted
    assert ".toml" in refusal(recipes.find, "mine.yaml").accepted


def test_presets_name_their_recipe_in_their_command():
    assert {name: preset.recipe for name, preset in PRESETS.items()} == RECIPES
    for name, preset in PRESETS.items():
        assert name in preset.command or name == "quick"


def test_names_of_recipes(tmp_path):
    assert recipes.name_of("quick") == "quick"
    assert recipes.name_of("some/mine.toml") == "mine"
    assert recipes.name_of("runs/one/recipe.toml") == "one"


def test_a_shorter_course_warms_up_for_the_same_share():
    shorter = RECIPES["quick"].in_epochs(8)
    assert (shorter.epochs, shorter.warmup_epochs) == (8, 1)
    assert dataclasses.replace(shorter, epochs=24, warmup_epochs=3) == RECIPES["quick"]
