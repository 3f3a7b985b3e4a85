"""Image files of every kind, good and bad, as bytes."""

import io

import numpy as np
from PIL import Image

RED = (255, 0, 0)
ORIENTATION = 0x0112


def saved(image, suffix, **options):
    """The bytes of a file that Pillow writes.

    Args:
        image: a Pillow image.
        suffix: Pillow's name of the format, such as JPEG.
        **options: of `Image.save`.
    """
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def photo(mode="RGB", size=(24, 16)):
    """A Pillow image of smooth colours, which JPEG changes little.

    Args:
        mode: Pillow's, such as RGB or CMYK.
        size: (width, height) in pixels.
    """
    across = np.linspace(0, 255, size[0])[None, :, None]
    down = np.linspace(255, 0, size[1])[:, None, None]
    pixels = np.concatenate(np.broadcast_arrays(across, down, (across + down) / 2), axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def rotated(suffix="JPEG", orientation=6):
    """The bytes of `photo` with the camera's orientation in EXIF; 6 is a quarter turn."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(photo(), suffix, exif=exif)


def animation():
    """The bytes of a GIF of two frames."""
    return saved(photo("P"), "GIF", save_all=True, append_images=[photo("L").convert("P")])


def deep_grey(suffix="PNG", brightest=65535):
    """The bytes of a grey image of 16 bits a pixel, from black to the brightest value."""
    values = np.linspace(0, brightest, 24 * 16).reshape(16, 24).astype(np.uint16)
    return saved(Image.fromarray(values), suffix)


PLAIN = {
    "colour.jpg": saved(photo(), "JPEG"),
    "progressive.jpg": saved(photo(), "JPEG", progressive=True),
    "grey.jpg": saved(photo("L"), "JPEG"),
    "upright.jpg": rotated(orientation=1),
    "colour.jfif": saved(photo(), "JPEG"),
    "colour.png": saved(photo(), "PNG"),
    "grey.png": saved(photo("L"), "PNG"),
    "png-called.jpg": saved(photo(), "PNG"),
}
"""Images that TensorFlow decodes as Pillow does, by file name."""

NOT_PLAIN = {
    "cmyk.jpg": saved(photo("CMYK"), "JPEG"),
    "rotated.jpg": rotated(),
    "rotated.png": rotated("PNG"),
    "alpha.png": saved(photo("RGBA"), "PNG"),
    "grey-alpha.png": saved(photo("LA"), "PNG"),
    "key-colour.png": saved(photo(), "PNG", transparency=RED),
    "palette.png": saved(photo("P"), "PNG"),
    "one-bit.png": saved(photo("1"), "PNG"),
    "deep-grey.png": deep_grey(),
    "still.gif": saved(photo("P"), "GIF"),
    "animation.gif": animation(),
    "photo.webp": saved(photo(), "WEBP"),
    "alpha.webp": saved(photo("RGBA"), "WEBP"),
    "photo.bmp": saved(photo(), "BMP"),
    "photo.ppm": saved(photo(), "PPM"),
    "photo.avif": saved(photo(), "AVIF"),
    "photo.tif": saved(photo(), "TIFF", compression="tiff_lzw"),
    "rotated.tiff": rotated("TIFF"),
    "jpeg-called.png": rotated(orientation=3),
}
"""Images that TensorFlow would decode otherwise than Pillow, or not at all."""

BAD = {
    "empty.jpg": (b"", "the file is empty"),
    "text.jpg": (b"Not Found: photo 17", "no image format, it begins with b'Not Found: p'"),
    "page.png": (b"<!DOCTYPE html><html>", "no image format"),
    "truncated.jpg": (saved(photo(size=(640, 480)), "JPEG")[:4000], "truncated"),
    "truncated.png": (PLAIN["colour.png"][:-40], "truncated"),
    "damaged.png": (PLAIN["colour.png"][:60] + b"\0\0\0\0" + PLAIN["colour.png"][64:], "broken"),
    "header.png": (b"\x89PNG\r\n\x1a\n", "no image format"),
    "header.jpg": (b"\xff\xd8\xff\xe0", "no image format"),
    "truncated.gif": (animation()[:200], ""),
    "truncated.webp": (NOT_PLAIN["photo.webp"][:60], ""),
    "truncated.bmp": (NOT_PLAIN["photo.bmp"][:200], "truncated"),
    "pixel.png": (saved(Image.new("RGB", (1, 1)), "PNG"), "1x1 pixels, a placeholder"),
    "line.png": (saved(Image.new("RGB", (9, 1)), "PNG"), "9x1 pixels, a placeholder"),
    "figures.png": (saved(Image.new("F", (4, 4)), "TIFF"), "32 bits"),
    "postscript.jpg": (saved(photo(), "EPS"), "no image format"),
}
"""Bytes that are no image to train on, and words of the reason."""


def folder_with(root, files, others=6):
    """Writes a data folder: two classes of good images, a and b, and further files in a.

    Args:
        root: the folder, a path; parents are made.
        files: bytes by file name.
        others: good images in each class.

    Returns:
        The folder.
    """
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(others):
            (root / name / f"good{number}.png").write_bytes(PLAIN["colour.png"])
    for name, content in files.items():
        (root / "a" / name).write_bytes(content)
    return root


def photographs():
    """Files of every kind, not square, by name: turned, CMYK, grey, transparent, 16 bits."""
    picture = photo(size=(90, 61))
    transparent = picture.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(picture.size))
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    return {
        "colour.jpg": saved(picture, "JPEG", quality=95),
        "turned.jpg": saved(picture, "JPEG", quality=95, exif=turned),
        "cmyk.jpg": saved(picture.convert("CMYK"), "JPEG", quality=95),
        "grey.jpg": saved(picture.convert("L"), "JPEG", quality=95),
        "colour.png": saved(picture, "PNG"),
        "turned.png": saved(picture, "PNG", exif=turned),
        "transparent.png": saved(transparent, "PNG"),
        "palette.png": saved(picture.convert("P"), "PNG"),
        "one-bit.png": saved(picture.convert("1"), "PNG"),
        "deep-grey.png": deep_grey(),
    }
