"""resnet-keras recipe: presets, and recipes as files to be edited."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from resnet_keras import recipes
from resnet_keras.cli import console
from resnet_keras.errors import InputError
from resnet_keras.files.atomic import make_folder, write_text
from resnet_keras.files.settings import SUFFIX


def recipe(
    action: tyro.conf.Positional[Literal["list", "show"]],
    name: tyro.conf.Positional[
        Annotated[str | None, tyro.conf.arg(metavar="RECIPE", help_behavior_hint="(with show)")]
    ] = None,
    output: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", aliases=("-o",), help_behavior_hint="(default: print it)"),
    ] = None,
) -> None:
    """List the recipes, or print a recipe as a file to edit.

    `train --recipe mine.toml` uses the file.

    Example: resnet-keras recipe show finetune -o mine.toml

    Args:
        action: list all presets, or show one recipe.
        name: name of a preset, or a .toml file.
        output: file to write, which must not exist yet.
    """
    if action == "list":
        if name is not None or output is not None:
            raise InputError(
                "recipe list takes no further argument",
                received=name or f"--output {output}",
                accepted="recipe list, or recipe show NAME_OR_FILE",
            )
        console.print_presets()
        return
    if name is None:
        raise InputError(
            "recipe show needs a recipe",
            received="none",
            accepted="recipe show NAME_OR_FILE, or recipe list",
        )
    text = recipes.write(recipes.find(name))
    if output is None:
        print(text, end="")
        return
    if output.exists() or output.suffix != SUFFIX:
        raise InputError(
            "the recipe cannot be written to this file",
            received=f"{output}{' (the file exists)' if output.exists() else ''}",
            accepted=f"a new {SUFFIX} file",
        )
    make_folder(output.parent, "the folder of the recipe")
    write_text(output, text)
    train = console.command("resnet-keras", "train", "resnet50", "--recipe", output)
    print(f"written: {output}\nnext:\n  {train}")
