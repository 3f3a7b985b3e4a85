"""Image files and arrays as the networks take them: RGB, uint8, square."""

import io
from os import PathLike

import numpy as np
from PIL import Image, ImageOps

from resnet_keras.errors import InputError


def read_image(path: str | PathLike[str]) -> np.ndarray:
    """Reads a JPEG, PNG, WebP or other image file that Pillow knows.

    Grey becomes RGB, transparency is laid on white, the camera's rotation is applied.

    Returns:
        (height, width, 3) uint8, pixels 0..255.

    Raises:
        InputError: the file is missing, unreadable or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError as error:
        raise InputError(f"no such image file. Received: {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"not an image that can be read. Received: {path} ({reason})") from error


def decode(content: bytes) -> np.ndarray:
    """Decodes the bytes of an image file, as `read_image` does.

    Returns:
        (height, width, 3) uint8, pixels 0..255.

    Raises:
        InputError: the bytes are no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"not an image that can be read ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey to 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side to `size` pixels and keeps the centre square.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        (size, size, 3) uint8.
    """
    square = ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square)
