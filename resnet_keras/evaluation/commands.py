"""Shell commands that a report shows: how to train the run again, and what to do with it next."""

import shlex
from dataclasses import fields

from resnet_keras.architectures import NETWORKS
from resnet_keras.data.arrays import Arrays
from resnet_keras.recipes import RECIPES, SHORT_OPTIONS, Recipe, changed
from resnet_keras.runs.run import Run, RunDetails


def training_command(run: Run, details: RunDetails) -> str | None:
    """The command that trains a run, or trains it again in another folder.

    Returns:
        None of a network or of images that only a Python program can name.
    """
    if details.network not in NETWORKS or details.data.startswith(Arrays.prefix):
        return None
    words = ["resnet-keras", "train", details.network, "--data", details.data]
    words += _recipe_words(run, details.recipe)
    if details.weights:
        words += ["--weights", details.weights]
    if details.shortcut:
        words += ["--shortcut", details.shortcut]
    if details.skip_bad_images:
        words += ["--skip-bad-images"]
    return shlex.join([*words, "--run", str(run)])


def _recipe_words(run: Run, recipe: Recipe) -> list[str]:
    """A preset and the fewest options that make it the recipe; else the recipe file of the run."""
    found = [
        (name, options)
        for name, preset in RECIPES.items()
        if (options := _options(preset, recipe)) is not None
    ]
    if not found:
        return ["--recipe", str(run.recipe)]
    name, options = min(found, key=lambda pair: len(pair[1]))
    words = ["--recipe", name]
    for field, value in options.items():
        words += [f"--{field.replace('_', '-')}", str(value)]
    return words


def _options(preset: Recipe, recipe: Recipe) -> dict[str, int | float | str] | None:
    """Options that change a preset into the recipe; None where options of other names do."""
    differing = {
        field.name: getattr(recipe, field.name)
        for field in fields(Recipe)
        if getattr(recipe, field.name) != getattr(preset, field.name)
    }
    plain = {
        name: value
        for name, value in differing.items()
        if name in SHORT_OPTIONS and type(value) in (int, float, str)
    }
    for dropped in ({"head_epochs"}, set()):  # with the epochs, those of the head change too
        options = {name: value for name, value in plain.items() if name not in dropped}
        if changed(preset, options) == recipe:
            return options
    return None


def next_commands(run: Run) -> list[tuple[str, str]]:
    """What each of the commands that go on from a run is for, and the command."""
    return [
        (purpose, shlex.join(["resnet-keras", *map(str, words)]))
        for purpose, words in (
            ("Classify images", ("predict", run.folder / "examples", "--model", run)),
            (
                "Show why, as heat maps",
                (
                    "predict",
                    run.folder / "examples",
                    "--explain",
                    "--output",
                    "why",
                    "--model",
                    run,
                ),
            ),
            (
                "Average ten views of each test image",
                ("evaluate", run, "--protocol", "ten-crop"),
            ),
            ("Write files for an app", ("export", run)),
        )
    ] + [("Compare the curves of runs", shlex.join(["tensorboard", "--logdir", str(run.events)]))]
