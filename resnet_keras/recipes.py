"""Training recipes: everything about a training run but the network and the data.

A preset states only what differs from the defaults of `Recipe`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from resnet_keras.data.augmentation import (
    Augmentation,
    CutMix,
    MixUp,
    PadAndCrop,
    PCAColor,
    RandAugment,
    RandomResizedCrop,
    ScaleJitterCrop,
)
from resnet_keras.errors import (
    IMAGE_SIZE,
    LARGEST_FLOAT,
    POSITIVE,
    InputError,
    check_fields,
    nearest,
    number,
    whole,
)
from resnet_keras.files import settings

Optimizer = Literal["sgd", "lamb"]
Loss = Literal["cross-entropy", "binary"]
Decay = Literal["cosine", "steps"]
Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
WarmUpShape = Literal["linear", "constant"]


NO_AUGMENTATION = Augmentation()

FILE = "recipe.toml"  # of every run folder
SHORT_OPTIONS = (
    *("epochs", "batch_size", "learning_rate", "image_size", "precision", "seed"),
    *("accumulate", "l2", "head_epochs", "freeze", "freeze_bn", "stage_decay"),
)
"""Fields that the command line replaces by options of their own name, such as --epochs."""
HEADING = (
    "Edit this file, then train with it: resnet-keras train NETWORK --recipe FILE",
    'A line that is deleted takes its default, or the value of a preset: base = "quick".',
)

HEAD = "head"
NOTHING, BACKBONE = "nothing", "backbone"  # to be frozen
_FREEZABLE = re.compile(rf"{NOTHING}|stem|stage\d+|{BACKBONE}")
_FREEZABLE_NAMES = (NOTHING, "stem", "stage2", "stage3", "stage4", "stage5", BACKBONE)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: a warm-up, then a decaying learning rate.

    The first sentence of each attribute is also its help on the command line and in recipe files.

    Attributes:
        epochs: passes over the training images. Batches are full; the few images that are left over
            change from epoch to epoch.
        batch_size: images a step.
        accumulate: steps whose gradients are averaged into one update of the weights.
        optimizer: sgd with momentum, or lamb. You et al. 2020 have the latter.
        learning_rate: highest learning rate, after the warm-up.
        momentum: momentum of SGD. The learning rate stands inside it, as in the papers' Caffe.
        momentum_correction: scale the momentum when the learning rate changes. Goyal et al. 2017,
            remark 2: as if the learning rate stood outside of the momentum.
        l2: factor of the L2 term on every parameter (the papers' weight decay). The term is added
            to the gradient before momentum.
        l2_on_bn: let the L2 term include gamma and beta of batch normalisation.
        weight_decay: factor of decoupled weight decay, on kernels only. Loshchilov & Hutter 2019;
            biases and batch normalisation are left out, and LAMB has it inside its trust ratio.
        clip_norm: largest norm of all gradients together. None leaves the gradients.
        ema: share of the past in a moving average of the weights, or 0 for none. The average is
            then what is validated and kept as best.
        warmup_epochs: epochs of warm-up.
        warmup: linear grows the learning rate, constant holds it at warmup_rate.
        warmup_start: learning rate at the start of a linear warm-up, or 0 for one increment.
        warmup_rate: learning rate of a constant warm-up.
        decay: cosine to zero, or steps by decay_factor.
        decay_at: when the steps come, as fractions of all epochs.
        decay_factor: factor of the learning rate at each step.
        loss: cross-entropy of a softmax, or binary cross-entropy of a sigmoid for every class. In
            the latter all classes mixed into an image are present (Wightman et al. 2021).
        zero_init_last_gamma: start residual units as the identity. Goyal et al. 2017; plain
            networks have no residual units and ignore it.
        classifier_std: standard deviation of the classifier's initial weights. They are drawn from
            a normal distribution; None draws them as all other kernels (He et al. 2015).
        augmentation: changes of the training images.
        image_size: side of the images in pixels. None takes the smaller of the network's and the
            data's own.
        centre: centre square that validation shows, as a share of the shorter side. 224 / 256 shows
            what resizing the shorter side to 256 and cropping 224 does.
        head_epochs: first epochs, in which the new head alone is trained.
        freeze: frozen part: nothing, stem, stage2 and on with all parts below, or backbone. It
            keeps its weights and statistics after the head's epochs, too.
        freeze_bn: keep the statistics of the other batch normalisations. A few small batches of
            other images are no measure for them.
        stage_decay: learning rate of each part over that of the part above it. The parts are head,
            last stage, …, stem; Howard & Ruder 2018 call this discriminative fine-tuning.
        precision: auto, float32, mixed_bfloat16 or mixed_float16.
        seed: seed of the initial weights, the order of the images and the augmentation.
    """

    epochs: Annotated[int, whole(1, 1_000_000)] = 90
    batch_size: Annotated[int, whole(1, 1_000_000)] = 128
    accumulate: Annotated[int, whole(1, 1_000_000)] = 1
    optimizer: Optimizer = "sgd"
    learning_rate: Annotated[float, POSITIVE] = 0.1
    momentum: Annotated[float, number(0, 1, "[)")] = 0.9
    momentum_correction: bool = False
    l2: Annotated[float, number(0, 1000)] = 1e-4
    l2_on_bn: bool = True
    weight_decay: Annotated[float, number(0, 1000)] = 0.0
    clip_norm: Annotated[float | None, POSITIVE] = None
    ema: Annotated[float, number(0, 1, "[)")] = 0.0
    warmup_epochs: Annotated[float, number(0, 1_000_000)] = 0.0
    warmup: WarmUpShape = "linear"
    warmup_start: Annotated[float, number(0, LARGEST_FLOAT)] = 0.0
    warmup_rate: Annotated[float, POSITIVE] = 0.01
    decay: Decay = "cosine"
    decay_at: Annotated[tuple[float, ...], number(0, 1, "()")] = (0.5, 0.75)
    decay_factor: Annotated[float, POSITIVE] = 0.1
    loss: Loss = "cross-entropy"
    zero_init_last_gamma: bool = False
    classifier_std: Annotated[float | None, POSITIVE] = None
    augmentation: Augmentation = NO_AUGMENTATION
    image_size: Annotated[int | None, IMAGE_SIZE] = None
    centre: Annotated[float, number(0, 1, "(]")] = 1.0
    head_epochs: Annotated[int, whole(0, 1_000_000)] = 0
    freeze: str = NOTHING
    freeze_bn: bool = False
    stage_decay: Annotated[float, number(0, 100, "(]")] = 1.0
    precision: Precision = "auto"
    seed: Annotated[int, whole(0, 2**32 - 1)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        bounds = (0, *self.decay_at, 1)
        if any(not earlier < later for earlier, later in pairwise(bounds)):
            raise InputError(
                "decay_at is out of range",
                received=self.decay_at,
                accepted="fractions of all epochs between 0 and 1, each above the one before",
            )
        if not (isinstance(self.freeze, str) and _FREEZABLE.fullmatch(self.freeze)):
            raise InputError(
                "freeze has an unknown value",
                received=repr(self.freeze),
                accepted=nearest(str(self.freeze), _FREEZABLE_NAMES),
            )
        if self.loss == "binary" and self.augmentation.label_smoothing:
            raise InputError(
                "label_smoothing would make every class present in binary loss",
                received=f"label_smoothing={self.augmentation.label_smoothing}, loss={self.loss!r}",
                accepted="label_smoothing=0, or loss='cross-entropy'",
            )
        if self.momentum_correction and self.optimizer != "sgd":
            raise InputError(
                "momentum_correction needs SGD",
                received=f"optimizer={self.optimizer!r}",
                accepted="optimizer='sgd', or momentum_correction=False",
            )

    def in_epochs(self, epochs: int) -> "Recipe":
        """The same schedule in another number of epochs: its parts keep their shares of them."""
        share = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=self.warmup_epochs * share,
            # A new head needs one epoch at least, and in longer schedules no more than in this one.
            head_epochs=min(self.head_epochs, max(1, round(self.head_epochs * share))),
        )

    def check_weights(self, weights: object | None) -> None:
        """Raises InputError if it keeps some of the weights to start from, and there are none."""
        if weights is None and (self.head_epochs > 0 or self.freeze != NOTHING or self.freeze_bn):
            raise InputError(
                "head_epochs, freeze and freeze_bn need weights to start from",
                received="no weights",
                accepted="--weights, a file or imagenet",
            )


QUICK = Recipe(
    epochs=24,
    batch_size=32,
    learning_rate=0.05,
    warmup_epochs=3,
    zero_init_last_gamma=True,
    augmentation=Augmentation(PadAndCrop()),
)
"""Ours."""

PAPER_CIFAR10 = Recipe(
    epochs=182,
    decay="steps",
    augmentation=Augmentation(PadAndCrop(), flip=True),
)
"""He et al. 2016, section 4.2: 64k iterations of 128 out of 45,000 images, 0.1 divided by 10 at 32k
and 48k; docs/reference/recipes.md has the departures."""

PAPER_CIFAR10_WARMUP = Recipe(
    epochs=182,
    decay="steps",
    warmup_epochs=400 / 351,
    warmup="constant",
    augmentation=PAPER_CIFAR10.augmentation,
)
"""The same for ResNet-110, which starts with 400 iterations at 0.01 (section 4.2: until the
training error is below 80%)."""

PAPER_IMAGENET = Recipe(
    epochs=120,
    batch_size=256,
    decay="steps",
    decay_at=(0.25, 0.5, 0.75),
    augmentation=Augmentation(ScaleJitterCrop(), flip=True, color=PCAColor()),
    image_size=224,
    centre=224 / 256,
)
"""He et al. 2016, section 3.4: up to 60e4 iterations of 256. The paper divides the learning rate by
10 where the error stops falling; here that is every 30 epochs."""

LARGE_BATCH = Recipe(
    epochs=90,
    batch_size=32,
    accumulate=256,
    learning_rate=3.2,
    momentum_correction=True,
    l2_on_bn=False,
    warmup_epochs=5,
    warmup_start=0.1,
    decay="steps",
    decay_at=(30 / 90, 60 / 90, 80 / 90),
    zero_init_last_gamma=True,
    classifier_std=0.01,
    augmentation=Augmentation(RandomResizedCrop(), flip=True),
    image_size=224,
    centre=224 / 256,
)
"""Goyal et al. 2017, section 5.1: 0.1 for every 256 images of a batch of 8192, of which each step
has the 32 that a worker of theirs normalises by. Departures: the momentum is plain (theirs is
Nesterov's, "equally effective" by their words), the moving statistics follow every step of 32
images, and the error is that of the best validation epoch, not the median of the last five."""

RSB_A3 = Recipe(
    epochs=100,
    batch_size=256,
    accumulate=8,
    optimizer="lamb",
    learning_rate=8e-3,
    l2=0.0,
    weight_decay=0.02,
    clip_norm=1.0,
    warmup_epochs=5,
    loss="binary",
    zero_init_last_gamma=True,
    augmentation=Augmentation(
        RandomResizedCrop(),
        flip=True,
        randaugment=RandAugment(2, 6.0, magnitude_std=0.5),
        mixup=MixUp(0.1),
        cutmix=CutMix(1.0),
    ),
    image_size=160,
    centre=0.95,
)
"""Wightman et al. 2021, "ResNet strikes back", procedure A3: LAMB and binary cross-entropy at 160
pixels."""

FINETUNE = Recipe(
    epochs=15,
    batch_size=32,
    learning_rate=0.01,
    warmup_epochs=1,
    augmentation=Augmentation(RandomResizedCrop((0.35, 1.0)), flip=True, label_smoothing=0.1),
    centre=0.9,
    head_epochs=3,
    freeze_bn=True,
    stage_decay=0.8,
)
"""Ours; docs/how-to/fine-tune.md describes its phases."""


@dataclass(frozen=True)
class Preset:
    """A recipe that has a name.

    Attributes:
        recipe: how to train.
        purpose: what it is for, in a line.
        command: a command of resnet-keras that trains with it.
        result: what the command reaches, and who ran it.
    """

    recipe: Recipe
    purpose: str
    command: str
    result: str


PRESETS = {
    "quick": Preset(
        QUICK,
        "minutes on a CPU, for small data",
        "train resnet50",
        "1 to 2% test error on digits, run here",
    ),
    "paper-cifar10": Preset(
        PAPER_CIFAR10,
        "CIFAR-10 as He et al. 2016 train, section 4.2",
        "train resnet56 --data cifar10 --recipe paper-cifar10",
        "6.97% error in the paper, not run here on CIFAR-10",
    ),
    "paper-cifar10-warmup": Preset(
        PAPER_CIFAR10_WARMUP,
        "the same for ResNet-110, which needs a warm-up",
        "train resnet110 --data cifar10 --recipe paper-cifar10-warmup",
        "6.43% error in the paper, not run here on CIFAR-10",
    ),
    "paper-imagenet": Preset(
        PAPER_IMAGENET,
        "ImageNet as He et al. 2016 train, section 3.4",
        "train resnet50 --data imagenet2012 --recipe paper-imagenet",
        "22.85% top-1 error (10-crop) in the paper, not run here",
    ),
    "large-batch": Preset(
        LARGE_BATCH,
        "ImageNet with 8192 images an update, as Goyal et al. 2017 train",
        "train resnet50v1.5 --data imagenet2012 --recipe large-batch",
        "23.74% top-1 error in the paper (table 1), not run here",
    ),
    "rsb-a3": Preset(
        RSB_A3,
        "ImageNet with LAMB at 160 pixels, as Wightman et al. 2021 train",
        "train resnet50v1.5 --data imagenet2012 --recipe rsb-a3",
        "21.9% top-1 error at 224 in the paper (table 2), not run here",
    ),
    "finetune": Preset(
        FINETUNE,
        "a few hundred photographs, from weights that are already good",
        "train resnet50 --data photos --recipe finetune --weights imagenet",
        "depends on the photographs, not run here on any",
    ),
}

RECIPES = {name: preset.recipe for name, preset in PRESETS.items()}

ACCEPTED = "a recipe as `resnet-keras recipe show quick` prints it"


def find(recipe: str | PathLike[str]) -> Recipe:
    """The preset of a name, or the recipe of a .toml file.

    Raises:
        InputError: there is no such recipe; the nearest names are suggested. Or the file cannot be
            read, see `read`.
    """
    if recipe in RECIPES:
        return RECIPES[str(recipe)]
    path = Path(recipe)
    if path.suffix == settings.SUFFIX:
        return read(path)
    names = [*RECIPES, *([str(path / FILE)] if (path / FILE).is_file() else [])]
    raise InputError(
        "unknown recipe",
        received=repr(str(recipe)),
        accepted=nearest(str(recipe), [*names, f"a {settings.SUFFIX} file"]),
    )


def read(path: Path) -> Recipe:
    """The recipe of a TOML file: `base`, the name of a preset, and the values that differ from it.

    Without a base, values that the file does not state are the defaults of `Recipe`. A table such
    as [augmentation.crop] changes that part of the base, or stands for a part of another kind.

    Raises:
        InputError: the file cannot be read or is no TOML, the base or a field is unknown, or a
            value is of another type or out of range. The message names the file.
    """
    table = settings.read(path, ACCEPTED)
    base = table.pop("base", None)
    if base is None:
        return changed(Recipe(), table, str(path))
    if not (isinstance(base, str) and base in RECIPES):
        raise InputError(
            f"{path}: unknown base", received=repr(base), accepted=nearest(str(base), [*RECIPES])
        )
    return changed(RECIPES[base], table, str(path))


def changed(recipe: Recipe, table: Mapping[str, Any], place: str = "") -> Recipe:
    """A recipe with the values of a table in place of its own, see `settings.changed`.

    Another number of epochs leaves the parts of the schedule their shares, see `Recipe.in_epochs`,
    as far as the table does not state them.
    """
    epochs = settings.changed(recipe, table, place).epochs
    return settings.changed(recipe.in_epochs(epochs), table, place)


def write(recipe: Recipe, heading: Sequence[str] = HEADING) -> str:
    """A recipe as a TOML text that states every value, which `read` turns into the same recipe."""
    return settings.write(recipe, heading)


def name_of(recipe: str) -> str:
    """The name of a preset, or a name for the recipe of a file: the file's, or that of its run."""
    path = Path(recipe)
    if recipe in RECIPES:
        return recipe
    return path.absolute().parent.name if path.name == FILE else path.stem
