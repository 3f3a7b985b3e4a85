"""How long a study takes on two CPU cores, by its multiply-adds."""

from collections.abc import Mapping

from resnet_keras.architectures import RESNET20
from resnet_keras.studies.study import Setting, Study, Training

BACKWARD = 2  # times the multiply-adds of the forward pass
# Seconds of a training step of resnet20, with a batch of 128 images of 28x28 pixels.
STEP = {"AVX-512 and bfloat16": 0.17, "AVX2": 0.38}
MULTIPLY_ADDS_PER_SECOND = {
    cores: 128 * (1 + BACKWARD) * RESNET20.multiply_adds(28) / seconds
    for cores, seconds in STEP.items()
}

# What the pages of studies tell the minutes of: digits, Fashion-MNIST and CIFAR-10.
SETTINGS = (
    Setting("quick", "digits", 64, 0, 1_257, 180, 360),
    Setting("quick", "fashion-mnist", 28, 0, 10_000, 5_000, 10_000),
    Setting("full", "cifar10", 32, 0, 45_000, 5_000, 10_000),
)


def minutes(study: Study, setting: Setting, seeds: int) -> Mapping[str, float]:
    """Minutes that a study takes by itself on two cores of each kind.

    Additions, activations and batch normalisations are not counted, nor the time in which a
    network's graph is made. Trainings that other studies share are counted as this study's.
    """
    total = seeds * (
        sum(_multiply_adds(one, setting) for one in study.trainings(setting, 0))
        + study.measuring(setting)
    )
    return {cores: total / rate / 60 for cores, rate in MULTIPLY_ADDS_PER_SECOND.items()}


def _multiply_adds(training: Training, setting: Setting) -> float:
    """Of all epochs with their validation, and of the test."""
    architecture, recipe = training.architecture, training.recipe
    of_image = architecture.multiply_adds(size_of(training, setting))
    epoch = (1 + BACKWARD) * setting.training_images + setting.validation_images
    return of_image * (recipe.epochs * epoch + setting.test_images)


def size_of(training: Training, setting: Setting) -> int:
    """Side of the images that a network is trained on, in pixels, as `plan.make_plan` has it."""
    return training.recipe.image_size or min(training.architecture.input_size, setting.image_size)


def in_words(minutes: float) -> str:
    """Minutes as a table has them, in hours or days where there are many."""
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes / size:,.0f} {unit}"
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
