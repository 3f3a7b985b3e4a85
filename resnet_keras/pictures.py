"""Pictures of a training run, drawn with matplotlib; each is given as PNG bytes."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

TRAINING, VALIDATION = "#0072b2", "#d55e00"  # told apart by colour-blind readers too


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


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Counts by true class (rows) and predicted class (columns), shaded by the row's share."""
    counts = np.asarray(matrix)
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.3 * classes, 16)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class")
    if classes <= 40:
        axes.set_xticks(range(classes), class_names, rotation=90 if classes > 12 else 0)
        axes.set_yticks(range(classes), class_names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color)
    return _png(figure)


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
    axes.set_yticks(rows, class_names)
    axes.set(xlabel="top-1 error, %", xlim=(0, min(1.05 * max(high), 100)))
    axes.set_ylim(len(errors) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def gallery(images: np.ndarray, captions: Sequence[str], columns: int = 6) -> bytes:
    """Images (n, h, w, 3) in rows, each under its caption."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2 * columns, 2.5 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image)
        axes.set_title(caption, fontsize=10)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def pixels(png: bytes) -> np.ndarray:
    """The pixels (height, width, 3) uint8 of a PNG picture."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
