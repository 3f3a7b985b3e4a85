"""What of a network is trained, when, and how fast: fine-tuning with the ordinary training code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras

from resnet_keras.architectures.layer_names import part_of
from resnet_keras.errors import InputError, nearest
from resnet_keras.recipes import BACKBONE, HEAD, NOTHING, Recipe


@dataclass(frozen=True)
class Phase:
    """Epochs in which the same layers are trained.

    Attributes:
        first, last: epochs that are done before it and at its end.
        frozen: the parts of the network that keep their weights and statistics.
        trained: the others, from the stem on.
    """

    first: int
    last: int
    frozen: tuple[str, ...]
    trained: tuple[str, ...]


def phases(model: keras.Model, recipe: Recipe) -> list[Phase]:
    """The recipe's: the head alone, if it asks for that, and then all that is not frozen.

    Args:
        model: a network by this package's names.
        recipe: how it is trained.

    Raises:
        InputError: the recipe freezes a part that the network does not have.
    """
    parts = parts_of(model)
    if recipe.freeze in (NOTHING, BACKBONE):
        count = 0 if recipe.freeze == NOTHING else len(parts) - 1
    elif recipe.freeze in parts[:-1]:
        count = parts.index(recipe.freeze) + 1
    else:
        accepted = [NOTHING, *parts[:-1], BACKBONE]
        raise InputError(
            f"{model.name!r} has no such part to freeze",
            received=f"freeze={recipe.freeze!r}",
            accepted=nearest(recipe.freeze, accepted),
        )
    head_epochs = min(recipe.head_epochs, recipe.epochs)
    if count == len(parts) - 1:
        head_epochs = 0  # it is one phase
    bounds = [(0, head_epochs, len(parts) - 1), (head_epochs, recipe.epochs, count)]
    return [
        Phase(first, last, parts[:frozen], parts[frozen:])
        for first, last, frozen in bounds
        if first < last
    ]


def parts_of(model: keras.Model) -> tuple[str, ...]:
    """The parts of a network that can be trained apart: "stem", "stage2" and on, "head"."""
    return tuple(dict.fromkeys(part_of(layer.name) for layer in model.layers if layer.weights))


def begin(model: keras.Model, phase: Phase, recipe: Recipe) -> tuple[float, ...]:
    """Freezes what the phase freezes and nothing else; the model has then to be compiled.

    A frozen layer keeps its weights to the bit. A frozen batch normalisation normalises by its
    moving statistics, and keeps them, too: `trainable=False` means both in Keras.

    Returns:
        By how much each trainable variable's learning rate is multiplied; none if all are the same.
    """
    for layer in model.layers:
        if layer.weights:
            is_kept = part_of(layer.name) in phase.frozen
            layer.trainable = not (is_kept or (recipe.freeze_bn and _normalizes(layer)))
    if recipe.stage_decay == 1:
        return ()
    below_head = {part: number for number, part in enumerate(reversed(parts_of(model)))}
    return tuple(
        recipe.stage_decay ** below_head[part_of(weight.path.split("/")[-2])]
        for weight in model.trainable_variables
    )


def describe(model: keras.Model, phase: Phase, recipe: Recipe) -> Iterator[str]:
    """Lines for the log of what a phase, just begun, trains and what it keeps."""
    kept = sum(_normalizes(layer) and not layer.trainable for layer in model.layers)
    if not phase.frozen and not kept and recipe.stage_decay == 1:
        return
    epochs = f"epochs {phase.first + 1} to {phase.last}"
    if phase.last - phase.first == 1:
        epochs = f"epoch {phase.last}"
    yield (
        f"{epochs}: {_listed(phase.trained)} "
        f"{'is' if len(phase.trained) == 1 else 'are'} trained"
        + (f", {_listed(phase.frozen)} frozen" if phase.frozen else "")
    )
    if kept:
        total = sum(map(_normalizes, model.layers))
        yield f"  {kept} of {total} batch normalisations are frozen and keep their statistics"
    if recipe.stage_decay != 1 and phase.trained != (HEAD,):
        yield f"  each part's learning rate is {recipe.stage_decay:g} of that of the part above it"


def _normalizes(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{parts[0]} to {parts[-1]}"
