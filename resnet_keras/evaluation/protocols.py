"""How test images are shown: one view of each, ten crops, or whole at several scales.

[1] He et al. 2016, "Deep Residual Learning", section 3.4: networks are compared on ten crops, the
best results are those of whole images at several scales. [2] Krizhevsky et al. 2012, "ImageNet
classification with deep convolutional neural networks", section 4.1: the ten crops. views.py does
what is described here.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Self

from resnet_keras.architectures import Architecture
from resnet_keras.errors import IMAGE_SIZE, InputError, check_fields, nearest

NAMES = (SINGLE, TEN_CROP, MULTI_SCALE) = ("single", "ten-crop", "multi-scale")
VIEWS = {
    SINGLE: "one view of each image",
    TEN_CROP: "mean over four corners, the centre and their mirror images",
    MULTI_SCALE: "mean over whole images at several scales and their mirror images",
}

# In pixels, for a network of images of 224: the shorter side that ten crops are cut from [2], and
# those of whole images [1].
PAPER_SIZE = 224
PAPER_TEN_CROP_SIDE = 256
PAPER_SCALES = (224, 256, 384, 480, 640)


@dataclass(frozen=True)
class Protocol:
    """A way to test, by name.

    Attributes:
        name: "single", "ten-crop" or "multi-scale".
        scales: of multi-scale: shorter sides of the whole images, in pixels. If None, the paper's
            in proportion to the size of the network's images.

    Raises:
        InputError: no such name, scales with another name than multi-scale, or no scales or one
            of less than a pixel.
    """

    name: str = SINGLE
    scales: Annotated[tuple[int, ...] | None, IMAGE_SIZE] = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise InputError(
                "unknown protocol",
                received=repr(self.name),
                accepted=nearest(self.name, list(NAMES)),
            )
        if self.scales is None:
            return
        received = " ".join(map(str, self.scales)) or "none"
        if self.name != MULTI_SCALE:
            raise InputError(
                "only multi-scale testing takes scales",
                received=f"scales {received} with {self.name}",
                accepted=f"{self.name} without scales, or {MULTI_SCALE}",
            )
        if not self.scales:
            raise InputError(
                "there is no scale",
                received=received,
                accepted="one or more shorter sides in pixels",
            )
        check_fields(self)

    def __str__(self) -> str:
        return " ".join([self.name, *map(str, self.scales or ())])

    def scales_for(self, image_size: int) -> tuple[int, ...]:
        """The scales of multi-scale, for a network of images of this size in pixels."""
        return self.scales or tuple(proportional(side, image_size) for side in PAPER_SCALES)

    def at(self, image_size: int) -> Self:
        """The same with its scales told, for a network of images of this size in pixels."""
        if self.name != MULTI_SCALE:
            return self
        return replace(self, scales=self.scales_for(image_size))

    def check(self, architecture: Architecture) -> None:
        """Raises InputError if a scale is smaller than the network can take."""
        minimum = architecture.minimum_input_size
        if self.scales and min(self.scales) < minimum:
            raise InputError(
                "a scale is too small for the network",
                received=f"{min(self.scales)} pixels",
                accepted=f"at least {minimum}",
            )


ONE_VIEW = Protocol()


def proportional(side: int, image_size: int) -> int:
    """A length of the paper's, for a network of images of another size, in pixels."""
    return round(side * image_size / PAPER_SIZE)


def says_top5(classes: int) -> bool:
    """Whether a top-5 error tells anything: of five classes or fewer it is always 0."""
    return classes > 5
