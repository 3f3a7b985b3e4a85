"""Image files and arrays as the networks take them: RGB, uint8, square."""

import io
import struct
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.view import View

# Of what Pillow knows, the formats of photographs; of the others some start foreign programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# What Pillow's decoders raise over broken files.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)

EXPLANATIONS = ("grad-cam", "features", "responses")
"""Pictures that `predict --explain` puts beside IMAGE, as IMAGE-grad-cam.png and so on."""

_EXIF_ORIENTATION = 0x0112
_PNG_HEADER = slice(24, 26)  # bit depth and colour type in the IHDR chunk, which comes first


class UnreadableImageError(InputError):
    """Bytes that are no image, or one that cannot be decoded.

    Attributes:
        reason: what is wrong with them, in a few words.
    """

    def __init__(self, reason: str, received: object) -> None:
        self.reason = reason
        super().__init__(
            "not an image that can be read",
            received=f"{received} ({reason})",
            accepted=", ".join(FORMATS),
        )


def read_image(path: str | PathLike[str]) -> np.ndarray:
    """Reads an image file, see `decode`.

    Returns:
        (height, width, 3) uint8, RGB pixels 0..255.

    Raises:
        InputError: the file is missing, unreadable or no image.
    """
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except FileNotFoundError as error:
        raise InputError(
            "no such image file",
            received=path,
            accepted=f"an existing file{did_you_mean_beside(Path(path))}",
        ) from error
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error), path) from error
    except UnreadableImageError as error:
        raise UnreadableImageError(error.reason, path) from error


def decode(data: bytes) -> np.ndarray:
    """Decodes the bytes of an image file, whatever its name says it is.

    Grey and CMYK become RGB (CMYK as Adobe's programs store it in a JPEG, inverted), 16 bits become
    8, transparency is laid on white, the camera's rotation is applied, of an animation the first
    picture is taken.

    Args:
        data: a whole file of one of `FORMATS`.

    Returns:
        (height, width, 3) uint8, RGB pixels 0..255.

    Raises:
        UnreadableImageError: they are no image, a broken one, or one of so many pixels
            (`PIL.Image.MAX_IMAGE_PIXELS`, twice) that it can only be meant to fill the memory.
    """
    return inspect(data)[0]


def inspect(data: bytes) -> tuple[np.ndarray, bool]:
    """Decodes the bytes of an image file, and tells whether simpler decoders would do.

    Returns:
        The pixels, as `decode` gives them, and whether the image is plain: a JPEG in colour or
        grey or a PNG of 8 bits in colour or grey without transparency, not to be rotated. A decoder
        that knows nothing of CMYK and EXIF, such as TensorFlow's, reads plain images as this
        one does, but for the rounding of the JPEG transform.

    Raises:
        UnreadableImageError: as for `decode`.
    """
    received = f"{len(data)} bytes"
    if not data:
        raise UnreadableImageError("the file is empty", received)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            plain = _is_plain(image, data)
            return np.asarray(_rgb(ImageOps.exif_transpose(image))), plain
    except UnidentifiedImageError as error:
        reason = f"no image format, it begins with {data[:12]!r}"
        raise UnreadableImageError(reason, received) from error
    except _BROKEN as error:
        raise UnreadableImageError(str(error) or type(error).__name__, received) from error


def shorter_side(data: bytes) -> int:
    """Reads from its header how many pixels the shorter side of an image has.

    Raises:
        UnreadableImageError: there is no such header.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return min(image.size)
    except _BROKEN as error:
        raise UnreadableImageError("no image format", f"{len(data)} bytes") from error


def _is_plain(image: Image.Image, data: bytes) -> bool:
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1 or image.mode not in ("RGB", "L"):
        return False
    if image.format == "PNG":
        grey_or_colour_of_8_bits = (b"\x08\x00", b"\x08\x02")
        return data[_PNG_HEADER] in grey_or_colour_of_8_bits and not image.has_transparency_data
    return image.format == "JPEG"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError("grey values of 32 bits have no scale to 0..255")
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey to 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts out the centre square and resizes it to `size` pixels, see `View`.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        (size, size, 3) uint8.
    """
    return View(size, size).show(image)


def resize_whole(image: np.ndarray, shorter_side: int) -> np.ndarray:
    """Resizes an image to a shorter side of so many pixels, and keeps all of it.

    The filter is that of `resize`; the aspect ratio is kept to the nearest pixel.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        (height, width, 3) uint8, the smaller of both `shorter_side`.
    """
    height, width, _ = image.shape
    shorter = min(height, width)
    size = (round(width * shorter_side / shorter), round(height * shorter_side / shorter))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
