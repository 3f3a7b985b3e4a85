"""The images that tell int8 formats what values there are."""

import numpy as np


def of_full_range(images: np.ndarray) -> np.ndarray:
    """The images, the first with a black and a white pixel in opposite corners.

    The input's scale, too, comes from the calibration. Apps hand over their pixels as they are, so
    it has to be 1; were the brightest pixel 200, each would be read as 200/255 of its value.
    """
    images = images.copy()
    images[0, 0, 0] = 0
    images[0, -1, -1] = 255
    return images
