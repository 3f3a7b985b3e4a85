"""Options of `train` that replace values of a recipe."""

import functools
from dataclasses import fields, is_dataclass, replace
from typing import get_args

import pytest
from kit import refusal

from resnet_keras import recipes
from resnet_keras.cli import COMMANDS
from resnet_keras.cli.arguments import dispatch, options_of
from resnet_keras.cli.recipe_options import table_of
from resnet_keras.data.augmentation import (
    Augmentation,
    Crop,
    CutMix,
    PadAndCrop,
    PCAColor,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
)
from resnet_keras.recipes import RSB_A3, Recipe

BASE = RSB_A3
OTHER = Recipe(
    epochs=7,
    batch_size=3,
    accumulate=2,
    optimizer="sgd",
    learning_rate=0.3,
    momentum=0.5,
    momentum_correction=True,
    l2=0.5,
    l2_on_bn=False,
    weight_decay=0.5,
    clip_norm=None,
    ema=0.5,
    warmup_epochs=2.5,
    warmup="constant",
    warmup_start=0.5,
    warmup_rate=0.5,
    decay="steps",
    decay_at=(0.25, 0.75, 0.875),
    decay_factor=0.5,
    loss="cross-entropy",
    zero_init_last_gamma=False,
    classifier_std=0.5,
    augmentation=Augmentation(
        PadAndCrop(0.25),
        flip=False,
        randaugment=RandAugment(3, 5.0, 0.25),
        color=PCAColor(0.5),
        erasing=RandomErasing(0.5, (0.1, 0.2), (0.5, 2.0)),
        mixup=None,
        cutmix=CutMix(0.5),
        label_smoothing=0.1,
    ),
    image_size=None,
    centre=0.5,
    head_epochs=1,
    freeze="stem",
    freeze_bn=True,
    stage_decay=0.5,
    precision="float32",
    seed=3,
)
"""Differs from `BASE` in every field."""


def options(settings, prefix="--recipe."):
    """Every value of a recipe as an option."""
    for field in fields(settings):
        name, value = prefix + field.name.replace("_", "-"), getattr(settings, field.name)
        if is_dataclass(value):
            yield from options(value, f"{name}.")
        elif isinstance(value, tuple):
            yield from (name, *map(str, value))
        else:
            words = {"None": "none", "True": "yes", "False": "no"}
            yield from (name, words.get(str(value), str(value)))


def parsed(*arguments):
    """The recipe that `train` makes of `BASE` and options."""
    called = {}

    @functools.wraps(COMMANDS["train"])
    def train(*_, **given):
        called.update(table_of({**given["values"], **given["more_values"]}, given["other_values"]))

    dispatch(["train", "resnet20", *arguments], {"train": train})
    return recipes.changed(BASE, called)


def test_every_field_of_a_recipe_is_an_option():
    for base, other in ((BASE, OTHER), (BASE.augmentation, OTHER.augmentation)):
        for field in fields(base):
            assert getattr(base, field.name) != getattr(other, field.name), field.name
    assert parsed(*options(OTHER)) == OTHER


def test_fields_of_every_kind_of_crop_are_options():
    known = options_of(COMMANDS["train"], with_hidden=True)
    for kind in get_args(Crop):
        for field in fields(kind):
            assert f"--recipe.augmentation.crop.{field.name.replace('_', '-')}" in known


def test_short_options_are_those_of_the_same_name():
    assert parsed("--batch-size", "3", "--freeze-bn", "yes") == replace(
        BASE, batch_size=3, freeze_bn=True
    )
    assert parsed("--epochs", "7") == parsed("--recipe.epochs", "7") == BASE.in_epochs(7)
    assert "--epochs" in refusal(parsed, "--epochs", "7", "--recipe.epochs", "8").received


def test_an_option_changes_a_part_that_is_there():
    changed = parsed("--recipe.augmentation.crop.area", "0.5", "1").augmentation
    assert changed == replace(BASE.augmentation, crop=RandomResizedCrop((0.5, 1.0)))


@pytest.mark.parametrize(
    ("arguments", "received", "accepted"),
    [
        (["--recipe.optimizer", "adam"], "'adam'", "sgd, lamb"),
        (["--recipe.optimizr", "lamb"], "--recipe.optimizr", "--recipe.optimizer"),
        (["--recipe.decay-at", "0.5", "x"], "'0.5' 'x'", "numbers"),
        (["--recipe.ema", "1"], "1.0", "[0, 1)"),
        (["--recipe.clip-norm", "no"], "'no'", "a number or none"),
        (["--recipe.l2-on-bn", "true"], "'true'", "yes, no"),
        (["--recipe.augmentation.mixup", "0.2"], "'0.2'", "none"),
        (["--recipe.augmentation.mixup.alpha", "-1"], "-1.0", "(0, "),
        (
            ["--recipe.augmentation.mixup", "none", "--recipe.augmentation.mixup.alpha", "1"],
            "mixup",
            "one of the two",
        ),
        (
            ["--recipe.augmentation.crop.pad", "0.1", "--recipe.augmentation.crop.longest", "9"],
            "pad, longest",
            "one kind",
        ),
        (["--epochs", "None"], "'None'", "a whole number"),
    ],
)
def test_refused_options(arguments, received, accepted):
    error = refusal(parsed, *arguments)
    assert received in error.received and accepted in error.accepted
