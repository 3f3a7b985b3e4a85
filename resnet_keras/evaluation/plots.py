"""Pictures of a training run, drawn with matplotlib; each is given as PNG bytes.

Class names are text in any script, and no formulas though they may hold dollar signs.
"""

import functools
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np
from matplotlib import colormaps, font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image

from resnet_keras.evaluation.class_scores import confused_pairs

TRAINING, VALIDATION = "#0072b2", "#d55e00"  # told apart by colour-blind readers too
INK = "#1b1f24"  # of text and axes
ON_DARK = {INK: "#e6edf3", TRAINING: "#58b4ff", VALIDATION: "#ff9b5e"}
NAMED_LAYERS = 60  # at most, below an axis
SMALLEST_HEAT = 128  # pixels of the side of an image with heat on it
PITCH = 1.04  # from image to image, where the unit is the side of one
NAMED_CLASSES = 40  # at most, beside a confusion matrix; of more the most confused pairs are listed
LISTED_PAIRS = 15
LONGEST_NAME = 28  # characters of a class's name on an axis
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


@_of_any_script
def curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Loss, top-1 accuracy and learning rate by epoch, from the rows of history.csv."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for axes, (title, draw) in zip(panels, CURVES.items(), strict=True):
        draw(axes, history)
        axes.set(title=title)
        _finish_curves(axes, len(history))
    return _png(figure)


def curve_panels(history: Sequence[Mapping[str, float]]) -> dict[str, bytes]:
    """The panels of `curves` by their titles, each as an SVG for a page with a dark version."""
    panels = {}
    colors = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    for title, draw in CURVES.items():
        settings: dict[Any, Any] = dict.fromkeys(colors, INK)
        with rc_context({**settings, "svg.fonttype": "none", "svg.hashsalt": title}):
            figure = Figure(figsize=(4.4, 2.7), layout="constrained")
            axes = figure.subplots()
            draw(axes, history)
            _finish_curves(axes, len(history))
            panels[title] = _svg(figure)
    return panels


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    _draw_both(axes, history, lambda row, prefix: row[f"{prefix}loss"])
    low, high = axes.dataLim.intervaly
    if high > 4 * low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _draw_accuracy(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    _draw_both(axes, history, lambda row, prefix: 100 * (1 - row[f"{prefix}top1_error"]))
    low, high = axes.dataLim.intervaly
    axes.set_ylim(low - 0.05 * max(high - low, 1), min(high + 0.05 * max(high - low, 1), 101))


def _draw_learning_rate(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs, rates = zip(*((row["epoch"], row["learning_rate"]) for row in history), strict=True)
    axes.plot(epochs, rates, color=INK, marker=".", linewidth=1.8)
    axes.set_ylim(bottom=0)


CURVES = {
    "Cross-entropy loss": _draw_loss,
    "Accuracy, %": _draw_accuracy,
    "Learning rate": _draw_learning_rate,
}


def _draw_both(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    value: Callable[[Mapping[str, float], str], float],
) -> None:
    """Draws a value of the training and the validation set by epoch.

    Args:
        value: of a row of history.csv and the prefix of its columns.
    """
    epochs = [row["epoch"] for row in history]
    kinds = (("", TRAINING, "training"), ("validation_", VALIDATION, "validation"))
    for prefix, color, label in kinds:
        values = [value(row, prefix) for row in history]
        axes.plot(epochs, values, color=color, label=label, marker=".", linewidth=1.8)
    axes.legend(frameon=False)


def _finish_curves(axes: Axes, epochs: int) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


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
    lines = [
        f"{pair.images} x {shortened(class_names[pair.label])} "
        f"taken for {shortened(class_names[pair.predicted])}"
        for pair in confused_pairs(counts, LISTED_PAIRS)
    ]
    return "\n".join(["Most confused:", *lines]) if lines else "No mistakes"


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
    left, top = corner
    shown = (image, *(with_heat(image, heat) for heat in heats))
    for place, (pixels, caption) in enumerate(zip(shown, captions, strict=True)):
        x = left + PITCH * place
        axes.text(x + 0.5, top - 0.03, caption, ha="center", va="bottom", fontsize=9)
        axes.imshow(pixels, extent=(x, x + 1, top + 1, top))


def with_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A square image in grey with heat (h, w) 0..1 on it, (size, size, 3) uint8.

    Small images are enlarged, so that the heat has no steps.
    """
    side = max(len(image), SMALLEST_HEAT)
    size = (side, side)
    grey = np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.NEAREST))
    warm = Image.fromarray(heat.astype("float32")).resize(size, Image.Resampling.BILINEAR)
    warm = np.asarray(warm).clip(0, 1)
    # Faded, so that all that is coloured and all that shines is heat.
    faded = 0.2 + 0.6 / 255 * grey[..., None].astype("float32")
    alpha = 0.8 * np.sqrt(warm)[..., None]  # cold regions stay as they are
    colors = colormaps["inferno"](warm)[..., :3]
    return np.rint(255 * (faded + alpha * (colors - faded))).astype(np.uint8)


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


def _svg(figure: Figure) -> bytes:
    """An SVG whose colours follow the reader's choice of a light or a dark page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    light, dark = [], []
    for number, (color, on_dark) in enumerate(ON_DARK.items()):
        text = text.replace(color, f"var(--c{number})")
        light.append(f"--c{number}: {color};")
        dark.append(f"--c{number}: {on_dark};")
    style = (
        f":root {{ {' '.join(light)} }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {' '.join(dark)} }} }}"
    )
    return text.replace("<defs>", f"<style>{style}</style>\n <defs>", 1).encode()


def pixels(png: bytes) -> np.ndarray:
    """The pixels (height, width, 3) uint8 of a PNG picture."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
