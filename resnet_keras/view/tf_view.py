"""The view in TensorFlow's graphs: for the input pipeline, and inside SavedModels."""

from collections.abc import Sequence

import tensorflow as tf

from resnet_keras.view import View

EXIF_SEARCHED = 1 << 17  # bytes from a file's start; cameras write EXIF data first
EXIF_ENTRIES = 64  # at most, of the first directory
JPEG_EXIF, PNG_EXIF = b"Exif\0\0", b"eXIf"
ORIENTATION = 0x0112


def window(shape: tf.Tensor, view: View) -> tf.Tensor:
    """The centre piece of an image, see `View.window`.

    Args:
        shape: of the image, (2,) or (3,) int32: height, width and perhaps channels.
        view: of the network.

    Returns:
        (4,) int32: top, left, height and width in pixels.
    """
    height, width = shape[0], shape[1]
    is_wide = width * view.height >= height * view.width
    tall, broad = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    rows = tf.where(is_wide, tall, broad * view.height / view.width)
    columns = tf.where(is_wide, tall * view.width / view.height, broad)
    sides = tf.floor(tf.stack([rows, columns]) * tf.constant(view.centre, tf.float64) + 0.5)
    sides = tf.maximum(tf.cast(sides, tf.int32), 1)
    corner = (tf.stack([height, width]) - sides) // 2
    return tf.concat([corner, sides], 0)


def show_bytes(content: tf.Tensor, view: View) -> tf.Tensor:
    """What a network sees of an image file.

    Args:
        content: of a JPEG, PNG, GIF or BMP file, a scalar string; others raise
            InvalidArgumentError.
        view: of the network.

    Returns:
        (height, width, channels) uint8.
    """
    image = decode(content)
    top, left, height, width = tf.unstack(window(tf.shape(image), view))
    return resize(image[top : top + height, left : left + width], view)


def resize(piece: tf.Tensor, view: View) -> tf.Tensor:
    """Resizes the centre piece, (h, w, 3) uint8, to the input's (height, width, channels) uint8."""
    resized = tf.image.resize(piece, (view.height, view.width), antialias=True)
    shown = tf.cast(resized + 0.5, tf.uint8)
    if view.channels == 1:
        shown = grey(shown)
    return tf.ensure_shape(shown, (view.height, view.width, view.channels))


def decode(content: tf.Tensor) -> tf.Tensor:
    """Decodes an image file as `data.images.decode` does: upright, opaque, (h, w, 3) uint8."""

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")

    def png() -> tf.Tensor:
        image = tf.cast(tf.io.decode_png(content, channels=4), tf.int32)
        colours, opacity = image[..., :3], image[..., 3:]
        # Of fewer than 8 bits, TensorFlow fills in their largest number where there is no opacity.
        bits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8)[0], tf.int32)
        is_filler = (bits < 8) & tf.reduce_all(opacity == 2 ** tf.minimum(bits, 8) - 1)
        opacity = tf.where(is_filler, 255, opacity)
        # Rounded as Pillow's alpha_composite does.
        return tf.cast((colours * opacity + 255 * (255 - opacity) + 127) // 255, tf.uint8)

    def other() -> tf.Tensor:
        return tf.io.decode_image(content, channels=3, expand_animations=False)

    is_png = tf.strings.substr(content, 0, 4) == tf.constant(b"\x89PNG")
    is_jpeg = tf.io.is_jpeg(content)
    image = tf.case([(is_jpeg, jpeg), (is_png, png)], default=other)
    return _upright(image, _orientation(content, is_jpeg))


def grey(image: tf.Tensor) -> tf.Tensor:
    """RGB (h, w, 3) uint8 as luma (h, w, 1) uint8, by Pillow's integers (ITU-R 601-2)."""
    weights = tf.constant([19595, 38470, 7471], tf.int32)
    luma = tf.reduce_sum(tf.cast(image, tf.int32) * weights, -1, keepdims=True)
    return tf.cast((luma + 0x8000) // 0x10000, tf.uint8)


def _orientation(content: tf.Tensor, is_jpeg: tf.Tensor) -> tf.Tensor:
    """EXIF's number of the camera's rotation, 1 to 8; 1 where there is none."""
    size = tf.minimum(tf.strings.length(content), EXIF_SEARCHED)
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, size), tf.uint8), tf.int32)
    room = tf.zeros([2 * EXIF_SEARCHED + 12 * EXIF_ENTRIES], tf.int32)  # to read beyond the end
    in_jpeg, start_in_jpeg = _find(head, JPEG_EXIF)
    in_png, start_in_png = _find(head, PNG_EXIF)
    there = tf.where(is_jpeg, in_jpeg, in_png)
    start = tf.where(is_jpeg, start_in_jpeg, start_in_png)
    head = tf.concat([head, room], 0)
    is_little = head[start] == ord("I")

    def number(places: tf.Tensor, length: int) -> tf.Tensor:
        digits = tf.gather(head, tf.expand_dims(places, -1) + tf.range(length))
        digits = tf.where(is_little, digits, tf.reverse(digits, [-1]))
        return tf.reduce_sum(digits * [256**place for place in range(length)], -1)

    directory = start + tf.clip_by_value(number(start + 4, 4), 0, EXIF_SEARCHED)
    entries = directory + 2 + 12 * tf.range(EXIF_ENTRIES)
    is_orientation = (number(entries, 2) == ORIENTATION) & (
        tf.range(EXIF_ENTRIES) < number(directory, 2)
    )
    value = tf.reduce_max(tf.where(is_orientation, number(entries + 8, 2), 0))
    return tf.where(there & (value >= 1) & (value <= 8), value, 1)


def _find(head: tf.Tensor, marker: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a marker is there, and where what follows it begins."""
    count = tf.maximum(tf.size(head) - len(marker) + 1, 0)
    found = tf.reduce_all(
        tf.stack([head[place : place + count] == byte for place, byte in enumerate(marker)]), 0
    )
    padded = tf.concat([found, [True]], 0)  # argmax of nothing is not defined
    first = tf.argmax(tf.cast(padded, tf.int32), output_type=tf.int32)
    return tf.reduce_any(found), first + len(marker)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    transposed = [1, 0, 2]
    turns = (
        lambda: image,
        lambda: image[:, ::-1],
        lambda: image[::-1, ::-1],
        lambda: image[::-1],
        lambda: tf.transpose(image, transposed),
        lambda: tf.transpose(image, transposed)[:, ::-1],
        lambda: tf.transpose(image, transposed)[::-1, ::-1],
        lambda: tf.transpose(image, transposed)[::-1],
    )
    upright = tf.switch_case(orientation - 1, list(turns))
    return tf.ensure_shape(upright, (None, None, 3))
