"""Image files and arrays as the networks take them: RGB, uint8, square."""

import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from resnet_keras.data.budget import IN_FLIGHT
from resnet_keras.errors import InputError, did_you_mean_beside
from resnet_keras.view import View

HEIC_EXTRA = "pip install 'resnet-keras[heic]'"
_HAS_HEIF = find_spec("pillow_heif") is not None

# Of what Pillow knows, the formats of photographs; of the others some start foreign programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF") + ("HEIF",) * _HAS_HEIF

HEIF_EXTENSIONS = (".heic", ".heif")
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
    *(HEIF_EXTENSIONS * _HAS_HEIF),
)
"""Endings of the files that are read from folders, in lower case. The content tells the format."""

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
    RuntimeError,
    struct.error,
    Image.DecompressionBombError,
)

EXPLANATIONS = ("grad-cam", "features", "responses")
"""Pictures that `predict --explain` puts beside IMAGE, as IMAGE-grad-cam.png and so on."""

NO_REGULAR_FILE = "a pipe, a device or the like, which is never opened"

_EXIF_ORIENTATION = 0x0112
_HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_PNG_HEADER = slice(24, 26)  # bit depth and colour type in the IHDR chunk, which comes first
_TIFF_BITS = 258
_BRIGHTEST_OF_12_BITS = 4095 >> 8  # once 16 bits have become 8
_NEARLY_BLACK = (
    "16 bits a channel, but no value above 4095: nearly black in 8 bits "
    "(values of 12 bits have to be multiplied by 16)"
)
_STRIP = 1 << 20  # pixels that are converted at a time


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


@dataclass(frozen=True)
class Inspection:
    """What `inspect` finds out about an image.

    Attributes:
        width, height: in pixels, before the camera's rotation is applied.
        is_plain: whether simpler decoders would do: a JPEG in colour or grey or a PNG of 8 bits in
            colour or grey without transparency, not to be rotated. A decoder that knows nothing of
            CMYK and EXIF, such as TensorFlow's, reads plain images as `decode` does, but for the
            rounding of the JPEG transform.
        remarks: on what is odd, though the image can be read.
    """

    width: int
    height: int
    is_plain: bool
    remarks: tuple[str, ...]


def read_image(path: str | PathLike[str]) -> np.ndarray:
    """Reads an image file, see `decode`.

    What is odd about the image comes as a UserWarning that names the file.

    Returns:
        (height, width, 3) uint8, RGB pixels 0..255.

    Raises:
        InputError: the file is missing, unreadable, no regular file or no image.
    """
    try:
        data = read_regular_file(path)
        with collected_warnings() as taken:
            pixels, remarks = _decode(data)
            remarks = [*taken(), *remarks]
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
    for remark in remarks:
        warnings.warn(f"{path}: {remark}", stacklevel=2)
    return pixels


def read_regular_file(path: str | PathLike[str]) -> bytes:
    """The bytes of a file. A pipe, which may never end, raises UnreadableImageError."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise UnreadableImageError(NO_REGULAR_FILE, path)
    with open(path, "rb") as file:
        return file.read()


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
    return _decode(data)[0]


def _decode(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Pixels, and remarks."""
    with _opened(data) as image, IN_FLIGHT.take(image.width * image.height):
        ImageOps.exif_transpose(image, in_place=True)
        # In strips: whole, every step of a conversion would need as much memory as the image.
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        rows = max(_STRIP // image.width, 1)
        for top in range(0, image.height, rows):
            bottom = min(top + rows, image.height)
            pixels[top:bottom] = np.asarray(_rgb(image.crop((0, top, image.width, bottom))))
        return pixels, _remarks(image, data)


def inspect(data: bytes) -> Inspection:
    """Decodes the bytes of an image file, and keeps no pixels.

    Raises:
        UnreadableImageError: as for `decode`.
    """
    with _opened(data) as image, IN_FLIGHT.take(image.width * image.height):
        width, height = image.size
        is_plain = _is_plain(image, data)
        image.draft(None, (1, 1))  # of a JPEG, fewer pixels come from the same bytes
        image.load()
        _rgb(ImageOps.exif_transpose(image.crop((0, 0, 1, 1))))  # tells if this kind can be had
        return Inspection(width, height, is_plain, tuple(_remarks(image, data)))


def shorter_side(data: bytes) -> int:
    """Reads from its header how many pixels the shorter side of an image has.

    Raises:
        UnreadableImageError: there is no such header.
    """
    with _opened(data) as image:
        return min(image.size)


@contextmanager
def collected_warnings() -> Iterator[Callable[[], list[str]]]:
    """Inside, what Pillow warns of is collected instead of shown, for each thread by itself.

    Yields:
        a function that takes the warnings that came in its thread since its last call.
    """
    of_thread = threading.local()
    categories = (UserWarning, Image.DecompressionBombWarning)

    def take() -> list[str]:
        return of_thread.__dict__.pop("told", [])

    with warnings.catch_warnings():
        show = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *place: object) -> None:
            if issubclass(category, categories):
                of_thread.__dict__.setdefault("told", []).append(str(message).strip())
            else:
                show(message, category, *place)  # pyright: ignore[reportArgumentType]

        for category in categories:
            warnings.simplefilter("always", category)
        warnings.showwarning = collect
        yield take


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """An image of which the header is read; what goes wrong inside is UnreadableImageError."""
    received = f"{len(data)} bytes"
    if not data:
        raise UnreadableImageError("the file is empty", received)
    _register_heif()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        reason = f"no image format, it begins with {data[:12]!r}"
        if data[4:12] in _HEIF_BRANDS and not _HAS_HEIF:
            reason = f"perhaps HEIC, which needs {HEIC_EXTRA}"
        raise UnreadableImageError(reason, received) from error
    except _BROKEN as error:
        raise UnreadableImageError(str(error) or type(error).__name__, received) from error


@cache
def _register_heif() -> None:
    """Makes HEIC and HEIF known to Pillow, where the extra "heic" is installed."""
    if _HAS_HEIF:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]

        register_heif_opener()


def _is_plain(image: Image.Image, data: bytes) -> bool:
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1 or image.mode not in ("RGB", "L"):
        return False
    if image.format == "PNG":
        grey_or_colour_of_8_bits = (b"\x08\x00", b"\x08\x02")
        return data[_PNG_HEADER] in grey_or_colour_of_8_bits and not image.has_transparency_data
    return image.format == "JPEG"


def _remarks(image: Image.Image, data: bytes) -> list[str]:
    """What is odd about the values of a decoded image."""
    if image.format == "PNG":
        is_deep = data[_PNG_HEADER.start] == 16
    else:
        is_deep = image.format == "TIFF" and image.tag_v2.get(_TIFF_BITS, (8,))[0] == 16  # pyright: ignore[reportAttributeAccessIssue]
    return [_NEARLY_BLACK] if is_deep and _brightest(image) <= _BRIGHTEST_OF_12_BITS else []


def _brightest(image: Image.Image) -> int:
    """The largest value of any colour, in 8 bits."""
    if image.mode.startswith("I;16"):
        return int(np.asarray(image).max()) >> 8
    highest = np.atleast_2d(np.array(image.getextrema()))[:, 1]
    bands = zip(image.getbands(), highest, strict=True)
    return max(int(high) for name, high in bands if name != "A")


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
