"""Training recipes: everything about a training run but the network and the data.

A preset states only what differs from the defaults of `Recipe`.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal, get_args

from resnet_keras.bounds import IMAGE_SIZE, LARGEST_FLOAT, POSITIVE, check_fields, number, whole
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
from resnet_keras.errors import InputError, nearest

Optimizer = Literal["sgd", "lamb"]
Loss = Literal["cross-entropy", "binary"]
Decay = Literal["cosine", "steps"]
Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
WarmUpShape = Literal["linear", "constant"]


NO_AUGMENTATION = Augmentation()

HEAD = "head"
NOTHING, BACKBONE = "nothing", "backbone"  # to be frozen


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: a warm-up, then a decaying learning rate.

    Attributes:
        epochs: passes over the training images, in full batches; which few are left over changes
            from epoch to epoch.
        batch_size: images a step.
        accumulate: steps whose gradients are averaged into one update of the weights.
        optimizer: "sgd" with momentum, or "lamb" (You et al. 2020).
        learning_rate: the highest, after the warm-up.
        momentum: of SGD; the learning rate stands inside it, as in the papers' Caffe.
        momentum_correction: scale the momentum along when the learning rate changes (Goyal et al.
            2017, remark 2), as if the learning rate stood outside.
        l2: factor of the L2 term that is added to the gradient of every parameter before momentum,
            which is what both papers call weight decay.
        l2_on_bn: whether the gamma and beta of batch normalisation have that term, too.
        weight_decay: factor of decoupled weight decay (Loshchilov & Hutter 2019), of kernels alone:
            biases and batch normalisation are left out. LAMB has it inside its trust ratio.
        clip_norm: the norm of all gradients together is cut to this; None leaves it.
        ema: share of the past in an exponential moving average of the weights, which then is what
            is validated and kept as best; 0 for none.
        warmup_epochs: epochs of warm-up.
        warmup: "linear" grows the learning rate, "constant" holds it at `warmup_rate`.
        warmup_start: the learning rate of a linear warm-up's first update; 0 for one increment.
        warmup_rate: of a constant warm-up.
        decay: "cosine" to zero, or "steps" by `decay_factor`.
        decay_at: when the steps come, as fractions of all epochs.
        decay_factor: what each step multiplies the learning rate by.
        loss: "cross-entropy" of a softmax, or "binary" cross-entropy of one sigmoid for every
            class, to which all classes mixed into an image are present (Wightman et al. 2021).
        zero_init_last_gamma: start residual units as the identity (Goyal et al. 2017); plain
            networks have none and ignore it.
        classifier_std: standard deviation of the classifier's initial weights, which are then drawn
            from a normal distribution; None draws them as all other kernels (He et al. 2015).
        augmentation: what is done to the training images.
        image_size: side in pixels; None takes the smaller of the network's and the data's own.
        centre: side of the centre square that is shown in validation, as a share of the shorter
            side: 224 / 256 shows what resizing the shorter side to 256 and cropping 224 does.
        head_epochs: first epochs, in which the head alone is trained.
        freeze: what keeps its weights and statistics afterwards, too: "nothing"; "stem", "stage2"
            and on, each with all parts below it; or "backbone", everything but the head.
        freeze_bn: keep the batch normalisations of the other parts as they are, too: a few small
            batches of other images are no measure for them.
        stage_decay: learning rate of each part (head, last stage, …, stem) over that of the part
            above it. Howard & Ruder 2018 call this discriminative fine-tuning.
        precision: "auto", or a Keras policy: float32, mixed_bfloat16, mixed_float16.
        seed: of the initial weights, the order of the images and the augmentation.
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
    decay_at: tuple[float, ...] = (0.5, 0.75)
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
        for name in ("freeze_bn", "l2_on_bn"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"{name} has the wrong type",
                    received=repr(getattr(self, name)),
                    accepted="True or False",
                )
        for name, kind in CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"unknown {name}",
                    received=repr(getattr(self, name)),
                    accepted=" or ".join(map(repr, get_args(kind))),
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
        """The same course in another number of epochs: its parts keep their shares of them."""
        share = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=self.warmup_epochs * share,
            # A new head needs one epoch at least, and in longer courses no more than in this one.
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


CHOICES = {
    "optimizer": Optimizer,
    "warmup": WarmUpShape,
    "decay": Decay,
    "loss": Loss,
    "precision": Precision,
}

QUICK = Recipe(
    epochs=24,
    batch_size=32,
    learning_rate=0.05,
    warmup_epochs=3,
    zero_init_last_gamma=True,
    augmentation=Augmentation(PadAndCrop()),
)
"""Minutes on a CPU, for small data. `make train-resnet50`: 1 to 2% test error on digits, run
here."""

PAPER_CIFAR10 = Recipe(
    epochs=182,
    decay="steps",
    augmentation=Augmentation(PadAndCrop(), flip=True),
)
"""He et al. 2016, section 4.2: 64k iterations of 128 out of 45,000 images, 0.1 divided by 10 at 32k
and 48k; docs/recipes.md has the departures. `resnet-keras train resnet56 --data cifar10 --recipe
paper-cifar10`: 6.97% in the paper. Not run here on CIFAR-10."""

PAPER_CIFAR10_WARMUP = Recipe(
    epochs=182,
    decay="steps",
    warmup_epochs=400 / 351,
    warmup="constant",
    augmentation=PAPER_CIFAR10.augmentation,
)
"""The same for ResNet-110, which starts with 400 iterations at 0.01 (section 4.2: until the
training error is below 80%). `resnet-keras train resnet110 --data cifar10 --recipe
paper-cifar10-warmup`: 6.43% in the paper. Not run here on CIFAR-10."""

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
10 where the error stops falling; here that is every 30 epochs. `resnet-keras train resnet50 --data
imagenet2012 --recipe paper-imagenet`: 22.85% top-1 (10-crop) in the paper. Not run here."""

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
images, and the error is that of the best validation epoch, not the median of the last five.
`resnet-keras train resnet50v1.5 --data imagenet2012 --recipe large-batch`: 23.74% top-1 in that
paper (table 1). Not run here."""

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
pixels. `resnet-keras train resnet50v1.5 --data imagenet2012 --recipe rsb-a3`: 78.1% top-1 accuracy
at 224 in that paper (table 2). Not run here."""

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
"""For a few hundred photographs, from weights that are already good. `resnet-keras train resnet50
--data photos --recipe finetune --weights imagenet`: what it reaches depends on both. Not run here
on photographs; docs/weights.md has figures of digits."""

RECIPES = {
    "quick": QUICK,
    "paper-cifar10": PAPER_CIFAR10,
    "paper-cifar10-warmup": PAPER_CIFAR10_WARMUP,
    "paper-imagenet": PAPER_IMAGENET,
    "large-batch": LARGE_BATCH,
    "rsb-a3": RSB_A3,
    "finetune": FINETUNE,
}


def find(recipe: str) -> Recipe:
    """The preset of a name.

    Raises:
        InputError: there is no such recipe; the nearest names are suggested.
    """
    if recipe not in RECIPES:
        raise InputError(
            "unknown recipe", received=repr(recipe), accepted=nearest(recipe, list(RECIPES))
        )
    return RECIPES[recipe]
