"""Pictures of a training run, drawn with matplotlib; each is given as PNG bytes.

Class names are text in any script, and no formulas though they may hold dollar signs.
"""

import functools
import io
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np
from matplotlib import colormaps, font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

TRAINING, VALIDATION = "#0072b2", "#d55e00"  # told apart by colour-blind readers too
NAMED_LAYERS = 60  # at most, below an axis
PITCH = 1.04  # from image to image, where the unit is the side of one
NAMED_CLASSES = 40  # at most, beside a confusion matrix; of more the most confused pairs are listed
LISTED_PAIRS = 15
LONGEST_NAME = 28  # characters of a class's name on an axis
CAPTION_WIDTH = 20  # characters of a line above an image
# For what DejaVu Sans lacks, as far as they are installed: Chinese, Japanese, Korean, emoji.
FALLBACK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "IPAGothic", "PingFang SC", "Hiragino Sans", "Microsoft YaHei"),
    *("Noto Sans", "Noto Sans Devanagari", "Noto Sans Arabic", "Noto Emoji", "Symbola"),
)

_Arguments = ParamSpec("_Arguments")


def _of_any_script(draw: Callable[_Arguments, bytes]) -> Callable[_Arguments, bytes]:
    """Lets a function draw names of any script; what no font has is a box, without a warning."""
    untyped: Callable[..., bytes] = draw

    @functools.wraps(draw)
    def drawn(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> bytes:
        settings: dict[Any, Any] = {"text.parse_math": False, "font.family": _fonts()}
        with rc_context(settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            return untyped(*map(_drawable, arguments), **_drawable(options))

    return drawn


def _drawable(value: object) -> Any:
    """Texts, also in lists and tables, with escapes for bytes of file names that are not UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_drawable(key): _drawable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_drawable(one) for one in value]
    return value


@functools.cache
def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]


def shortened(name: str, length: int = LONGEST_NAME) -> str:
    """A name of at most so many characters; of a longer one both ends, which tell names apart."""
    if len(name) <= length:
        return name
    end = length // 3
    return f"{name[: length - end - 1]}…{name[-end:]}"


def wrapped(caption: str) -> str:
    """A caption in lines that fit above a small image; words that are too long are broken."""
    return "\n".join(
        line for text in caption.split("\n") for line in textwrap.wrap(text, CAPTION_WIDTH) or [""]
    )


@_of_any_script
def curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Loss, top-1 error and learning rate against the epoch, from the rows of history.csv."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, error, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]

    def draw(axes: Axes, column: str, scale: float = 1) -> None:
        for name, color, label in (
            (column, TRAINING, "training"),
            (f"validation_{column}", VALIDATION, "validation"),
        ):
            values = [scale * row[name] for row in history]
            axes.plot(epochs, values, color=color, label=label, marker=".", linewidth=1.8)
        axes.legend(frameon=False)

    draw(loss, "loss")
    loss.set(title="Cross-entropy loss")
    low, high = loss.dataLim.intervaly
    if high > 4 * low > 0:
        loss.set_yscale("log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_major_formatter("{x:g}")
        loss.yaxis.set_minor_locator(NullLocator())
    draw(error, "top1_error", scale=100)
    error.set(title="Top-1 error, %")
    error.set_ylim(0, 1.05 * max(error.dataLim.y1, 1))
    rates = [row["learning_rate"] for row in history]
    rate.plot(epochs, rates, color="#555555", marker=".", linewidth=1.8)
    rate.set(title="Learning rate")
    rate.set_ylim(bottom=0)
    for axes in (loss, error, rate):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(history) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


@_of_any_script
def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Counts by true class (rows) and predicted class (columns), shaded by the row's share.

    Of more than `NAMED_CLASSES` classes, the most confused pairs are listed below.
    """
    counts = np.asarray(matrix)
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(name) for name in class_names]
    longest = max(map(len, names)) if classes <= NAMED_CLASSES else 0
    side = min(4 + 0.3 * classes, 16) + 0.08 * longest
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class")
    if classes > NAMED_CLASSES:
        axes.set_title(_confused_pairs(counts, class_names), loc="left", fontsize=10)
    else:
        upright = classes <= 12 and classes * longest <= 60  # or they would run into each other
        axes.set_xticks(range(classes), names, rotation=0 if upright else 90)
        axes.set_yticks(range(classes), names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color)
    return _png(figure)


def _confused_pairs(counts: np.ndarray, class_names: Sequence[str]) -> str:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED_PAIRS]
    pairs = [divmod(int(place), len(class_names)) for place in order if wrong.flat[place]]
    lines = [
        f"{wrong[label, predicted]} x {shortened(class_names[label])} "
        f"taken for {shortened(class_names[predicted])}"
        for label, predicted in pairs
    ]
    return "\n".join(["Most confused:", *lines]) if lines else "No mistakes"


@_of_any_script
def class_errors(
    errors: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    class_names: Sequence[str],
) -> bytes:
    """A bar for the error of every class, in the order given, with its interval as a line.

    Args:
        errors: fractions 0..1.
        intervals: lowest and highest of each.
        class_names: as many.
    """
    figure = Figure(figsize=(9, 0.9 + 0.26 * len(errors)), layout="constrained")
    axes = figure.subplots()
    shares = 100 * np.array(errors)
    low, high = 100 * np.array(intervals).T
    rows = np.arange(len(errors))
    axes.barh(rows, shares, color="#9ecae1")
    axes.hlines(rows, low, high, color="#08519c", linewidth=1.5)
    axes.plot(shares, rows, "o", color="#08519c", markersize=4, clip_on=False)
    axes.set_yticks(rows, [shortened(name) for name in class_names])
    axes.set(xlabel="top-1 error, %", xlim=(0, min(1.05 * max(high), 100)))
    axes.set_ylim(len(errors) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


@_of_any_script
def gallery(images: np.ndarray, captions: Sequence[str], columns: int = 6) -> bytes:
    """Images (n, h, w, 3) in rows, each under its caption."""
    rows = -(-len(images) // columns)
    texts = [wrapped(caption) for caption in captions]
    lines = max(text.count("\n") + 1 for text in texts)
    figure = Figure(figsize=(2 * columns, (2.1 + 0.2 * lines) * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, text in zip(figure.axes, images, texts, strict=False):
        axes.imshow(image)
        axes.set_title(text, fontsize=10)
    return _png(figure)


@_of_any_script
def heat_maps(image: np.ndarray, heats: Mapping[str, np.ndarray], title: str) -> bytes:
    """A square image, and beside it the same in grey with heat on it, once for each map.

    Args:
        image: (size, size, 3) uint8.
        heats: maps (h, w) 0..1 of any resolution, by what stands above each.
        title: of all.
    """
    width = PITCH * (len(heats) + 1)
    figure, axes = _board(width, 1.3, inch=2.4)
    _draw_heat(axes, (0, 0.25), image, heats.values(), ("image", *heats))
    axes.text(width / 2, 0.02, title, ha="center", va="top", fontsize=12)
    return _png(figure)


@_of_any_script
def explained_mistakes(
    images: np.ndarray,
    heats: Sequence[tuple[np.ndarray, np.ndarray]],
    captions: Sequence[tuple[str, str, str]],
) -> bytes:
    """Square images in two columns, beside each the heat of two classes as in `heat_maps`.

    Args:
        images: (n, size, size, 3) uint8.
        heats: for each image two maps (h, w) 0..1.
        captions: for each image its own, and one for each map; two lines at most.
    """
    rows = -(-len(images) // 2)
    gap = 0.15
    column_width, row_height = 3 * PITCH + gap, 1.27
    figure, axes = _board(2 * column_width - gap, rows * row_height, inch=1.7)
    for index, (image, pair, texts) in enumerate(zip(images, heats, captions, strict=True)):
        row, column = divmod(index, 2)
        corner = (column * column_width, (row + 1) * row_height - 1)
        _draw_heat(axes, corner, image, pair, texts)
    return _png(figure)


def _board(width: float, height: float, inch: float) -> tuple[Figure, Axes]:
    """Axes without a frame; their unit, so many inches long, is the side of an image.

    A grid of axes would take seconds to lay out.
    """
    margin = PITCH - 1
    figure = Figure(figsize=(inch * (width + margin), inch * (height + margin)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-margin, width), ylim=(height + margin, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def _draw_heat(
    axes: Axes,
    corner: tuple[float, float],
    image: np.ndarray,
    heats: Iterable[np.ndarray],
    captions: Iterable[str],
) -> None:
    """Draws an image, and to its right the same in grey under each map, all with a caption."""
    # Faded, so that all that is coloured and all that shines is heat.
    grey = 0.2 + 0.6 / 255 * np.asarray(Image.fromarray(image).convert("L"), "float32")
    left, top = corner
    for place, (heat, caption) in enumerate(zip((None, *heats), captions, strict=True)):
        x = left + PITCH * place
        square = (x, x + 1, top + 1, top)
        axes.text(x + 0.5, top - 0.03, caption, ha="center", va="bottom", fontsize=9)
        if heat is None:
            axes.imshow(image, extent=square)
            continue
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=square)
        alpha = 0.8 * np.sqrt(heat)  # what is cold stays as it is
        shades = {"cmap": "inferno", "vmin": 0, "vmax": 1, "alpha": alpha}
        axes.imshow(heat, **shades, interpolation="bilinear", extent=square)


@_of_any_script
def maps(rows: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    """Maps (h, w) in rows, each shaded from its own lowest to its own highest value.

    Args:
        rows: by what stands beside them the maps, these by what stands above each.
    """
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.6 * columns, 1.85 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for line, (name, shown) in zip(panels, rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=10)
        for axes, (caption, values) in zip(line, shown.items(), strict=False):
            axes.imshow(values, cmap="viridis")
            axes.set_title(caption, fontsize=9)
    return _png(figure)


@_of_any_script
def layer_responses(strengths: Mapping[str, float], parts: Sequence[str]) -> bytes:
    """A bar for every layer's response, coloured by the part of the network it is in.

    Args:
        strengths: standard deviations by layer, in the layers' order.
        parts: of the network, one for each layer.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(parts))
    colors = colormaps["viridis"](np.linspace(0, 0.85, len(kinds)))
    for kind, color in zip(kinds, colors, strict=True):
        places = [place for place, part in enumerate(parts, 1) if part == kind]
        heights = [list(strengths.values())[place - 1] for place in places]
        axes.bar(places, heights, color=color, label=kind)
    axes.legend(frameon=False, ncols=len(kinds), loc="lower right", bbox_to_anchor=(1, 1))
    if len(strengths) <= NAMED_LAYERS:
        axes.set_xticks(range(1, len(strengths) + 1), strengths, rotation=90, fontsize=8)
    else:
        axes.set_xlabel("layer")
    axes.set(ylabel="standard deviation", xlim=(0, len(strengths) + 1))
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def pixels(png: bytes) -> np.ndarray:
    """The pixels (height, width, 3) uint8 of a PNG picture."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
