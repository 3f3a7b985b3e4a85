"""resnet-keras recipe: presets, and recipes as files to be edited."""

from typing import Annotated, Literal

import tyro

from resnet_keras import recipes
from resnet_keras.cli import console
from resnet_keras.errors import InputError


def recipe(
    action: tyro.conf.Positional[Literal["list", "show"]],
    name: tyro.conf.Positional[
        Annotated[str | None, tyro.conf.arg(metavar="RECIPE", help_behavior_hint="(with show)")]
    ] = None,
) -> None:
    """List the recipes, or print a recipe as a file to edit.

    `resnet-keras recipe show finetune > mine.toml` makes a file for `train --recipe mine.toml`.

    Args:
        action: list all presets, or show one recipe.
        name: name of a preset, or a .toml file.
    """
    if (action == "show") != (name is not None):
        raise InputError(
            f"recipe {action} needs a recipe" if name is None else "recipe list takes no recipe",
            received=name or "none",
            accepted="recipe list, or recipe show NAME_OR_FILE",
        )
    if name is None:
        console.print_presets()
    else:
        print(recipes.write(recipes.find(name)), end="")
