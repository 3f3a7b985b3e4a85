"""What is done to training images, as values that pipelines read and recipes hold.

An `Augmentation` is composed of parts, each with the figures of the paper that it comes from. All
of them turn to JSON with `dataclasses.asdict` and back with `from_dict`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from resnet_keras.errors import IMAGE_SIZE, POSITIVE, InputError, check_fields, number, whole
from resnet_keras.files.structured import convert


@dataclass(frozen=True)
class PadAndCrop:
    """Pads the image with black and crops its size again (He et al. 2016, section 4.2).

    What is not square yet becomes the centre square of the network's size first.

    Attributes:
        pad: padding as a fraction of the side. 1/8 pads 32 pixels by 4, as the paper does for
            CIFAR.
    """

    pad: Annotated[float, number(0, 1, "[)")] = 1 / 8

    def __post_init__(self) -> None:
        check_fields(self)

    def pixels(self, image_size: int) -> int:
        """The padding of images of this side."""
        return round(self.pad * image_size)


@dataclass(frozen=True)
class ScaleJitterCrop:
    """Draws the length of the shorter side, and crops a square (He et al. 2016, section 3.4).

    Attributes:
        shortest: least length in pixels that the shorter side is resized to.
        longest: greatest length.
    """

    shortest: Annotated[int, IMAGE_SIZE] = 256
    longest: Annotated[int, IMAGE_SIZE] = 480

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.shortest <= self.longest:
            raise InputError(
                "shortest and longest are out of range",
                received=f"shortest {self.shortest}, longest {self.longest}",
                accepted="0 < shortest <= longest",
            )


@dataclass(frozen=True)
class RandomResizedCrop:
    """Resizes a rectangle of any size and place to a square (Szegedy et al. 2015, section 6).

    Attributes:
        area: least and greatest share of the image.
        aspect_ratio: least and greatest width / height.
    """

    area: Annotated[tuple[float, float], number(0, 1, "(]")] = (0.08, 1.0)
    aspect_ratio: Annotated[tuple[float, float], POSITIVE] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        check_fields(self)
        _check_range("area", self.area)
        _check_range("aspect_ratio", self.aspect_ratio)


Crop = PadAndCrop | ScaleJitterCrop | RandomResizedCrop


@dataclass(frozen=True)
class RandAugment:
    """Operations drawn one after another, all of one strength (Cubuk et al. 2020).

    The 14 operations are the paper's; their ranges are timm's "increasing" ones, which Wightman et
    al. 2021 trained with ("RandAugment 6 / 0.5": magnitude 6, magnitude_std 0.5).

    Attributes:
        layers: operations an image.
        magnitude: strength, from 0 to 10.
        magnitude_std: standard deviation of the strength, from operation to operation.
    """

    layers: Annotated[int, whole(1, 100)] = 2
    magnitude: Annotated[float, number(0, 10)] = 9.0
    magnitude_std: Annotated[float, number(0, 10)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PCAColor:
    """Shifts an image's colour along the principal axes of ImageNet's (Krizhevsky et al. 2012).

    Attributes:
        std: standard deviation of the shift along an axis, in units of its eigenvalue.
    """

    std: Annotated[float, POSITIVE] = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


PCA_EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""Of the covariance of ImageNet's RGB values, which run from 0 to 1; from fb.resnet.torch, which
gives them in `Lighting`."""

PCA_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
"""Rows are R, G and B; every column is the axis of an eigenvalue."""


@dataclass(frozen=True)
class RandomErasing:
    """Fills a rectangle of an image with noise (Zhong et al. 2020).

    Attributes:
        probability: share of the images that it happens to.
        area: least and greatest share of the image that is erased.
        aspect_ratio: least and greatest height / width of the rectangle.
    """

    probability: Annotated[float, number(0, 1, "(]")] = 0.25
    area: Annotated[tuple[float, float], number(0, 1, "(]")] = (0.02, 0.4)
    aspect_ratio: Annotated[tuple[float, float], POSITIVE] = (0.3, 1 / 0.3)

    def __post_init__(self) -> None:
        check_fields(self)
        _check_range("area", self.area)
        _check_range("aspect_ratio", self.aspect_ratio)


@dataclass(frozen=True)
class MixUp:
    """Blends every image, and its label, with another of the batch (Zhang et al. 2018).

    Attributes:
        alpha: the shares are drawn from Beta(alpha, alpha).
    """

    alpha: Annotated[float, POSITIVE] = 0.2

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class CutMix:
    """Puts a rectangle of another image of the batch into every image (Yun et al. 2019).

    Its label gets the share that its area has.

    Attributes:
        alpha: the areas are drawn from Beta(alpha, alpha).
    """

    alpha: Annotated[float, POSITIVE] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Augmentation:
    """All that is done to training images; None and False leave a part out.

        Augmentation(PadAndCrop(), flip=True)                          # the paper's, for CIFAR
        Augmentation(ScaleJitterCrop(), flip=True, color=PCAColor())   # for ImageNet

    Attributes:
        crop: None takes the centre square.
        flip: mirror half of the images left to right.
        randaugment: operations drawn from a list.
        color: a shift of colour.
        erasing: a rectangle of noise.
        mixup, cutmix: another image of the batch takes part. With both, every batch draws one.
        label_smoothing: share of the label that all classes get alike. Szegedy et al. 2016,
            section 7.
    """

    crop: Crop | None = None
    flip: bool = False
    randaugment: RandAugment | None = None
    color: PCAColor | None = None
    erasing: RandomErasing | None = None
    mixup: MixUp | None = None
    cutmix: CutMix | None = None
    label_smoothing: Annotated[float, number(0, 1, "[)")] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def makes_probabilities(self) -> bool:
        """Whether labels become probabilities, (batch, classes) float32."""
        return bool(self.mixup or self.cutmix or self.label_smoothing)

    def check_image_size(self, image_size: int) -> None:
        """Raises InputError if a crop of this side does not lie within the resized image."""
        if isinstance(self.crop, ScaleJitterCrop) and image_size > self.crop.shortest:
            raise InputError(
                f"a crop of {image_size} pixels does not fit into the resized image",
                received=f"ScaleJitterCrop({self.crop.shortest}, {self.crop.longest})",
                accepted=f"shortest of {image_size} pixels or more",
            )


def from_dict(values: Mapping[str, object]) -> Augmentation:
    """The augmentation that `dataclasses.asdict` made these values of; JSON may lie in between.

    Raises:
        InputError: a name is unknown, or a value not allowed.
    """
    return convert(values, Augmentation, "the augmentation", "values of Augmentation and its parts")


def _check_range(name: str, values: tuple[float, float]) -> None:
    low, high = values
    if low > high:
        raise InputError(
            f"{name} is out of range", received=values, accepted="(low, high) with low <= high"
        )
