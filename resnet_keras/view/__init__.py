"""The view: which pixels of an image file a network sees.

Training validates by it, evaluation, prediction and explanations follow it, and every exported
file and page carries it. `tf_view` is the same in TensorFlow's graphs, export/web/images.js in a
browser.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

Window = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


@dataclass(frozen=True)
class View:
    """How an image file becomes a network's input.

    The file is decoded as by `data.images.decode`: the camera's rotation (EXIF) is applied, grey
    and CMYK become RGB, 16 bits become 8, transparency is laid on white. The centre piece of the
    input's proportions is cut out and resized by bilinear interpolation with antialiasing.

    Attributes:
        height, width: of the input, in pixels.
        centre: sides of the centre piece over those of the largest one: 224 / 256 shows what
            resizing the shorter side to 256 and cropping 224 does.
        channels: 3 for RGB, 1 for grey.
    """

    height: int
    width: int
    centre: float = 1.0
    channels: int = 3

    def window(self, height: int, width: int) -> Window:
        """The centre piece of an image of this size; in float64, so that all languages agree."""
        if width * self.height >= height * self.width:
            sides = float(height), height * self.width / self.height
        else:
            sides = width * self.height / self.width, float(width)
        rows, columns = (max(math.floor(side * self.centre + 0.5), 1) for side in sides)
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def show(self, image: np.ndarray) -> np.ndarray:
        """What the network sees of an image.

        Args:
            image: (height, width, 3) uint8 of any size, RGB pixels 0..255.

        Returns:
            (height, width, channels) uint8.
        """
        top, left, height, width = self.window(*image.shape[:2])
        piece = image[top : top + height, left : left + width]
        shown = piece
        if (height, width) != (self.height, self.width):
            resized = Image.fromarray(np.ascontiguousarray(piece)).resize(
                (self.width, self.height), Image.Resampling.BILINEAR
            )
            shown = np.asarray(resized)
        if self.channels == 1:
            return np.asarray(Image.fromarray(np.ascontiguousarray(shown)).convert("L"))[..., None]
        return shown
