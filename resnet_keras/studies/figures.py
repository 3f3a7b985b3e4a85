"""Pictures that several studies draw."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_keras.studies.study import Picture, Results

CAPTION = "Error against the epoch: dashed in training, solid in validation"

FEW = 5  # curves in a panel, with room for their names among them


def curves(
    results: Results,
    panels: Mapping[str, Sequence[str]],
    name: str = "curves",
    caption: str = f"{CAPTION}.",
) -> Picture:
    """Training and validation error against the epoch, as the papers draw them.

    Args:
        results: of a study.
        panels: titles, and the labels of the networks that each panel shows.
        name, caption: of the picture.
    """
    crowded = max(map(len, panels.values())) > FEW
    figure = Figure(figsize=((5.2 + 2 * crowded) * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for one, (title, labels) in zip(axes, panels.items(), strict=True):
        if crowded:
            colors = colormaps["tab10"](np.arange(len(labels)))
        else:
            colors = colormaps["viridis"](np.linspace(0.85, 0.0, max(len(labels), 2)))
        for color, label in zip(colors, labels, strict=False):
            of_seeds = [result.history for result in results.of(label) if result.evaluation]
            if not of_seeds:
                continue  # none of them came to its end
            epochs = [row["epoch"] for row in of_seeds[0]]
            for column, style, legend in (
                ("top1_error", "--", None),
                ("validation_top1_error", "-", label),
            ):
                errors = np.mean([[100 * row[column] for row in one] for one in of_seeds], axis=0)
                one.plot(epochs, errors, style, color=color, label=legend, linewidth=1.6)
        one.set(title=title, xlabel="epoch")
        one.set_ylim(bottom=0)
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(one)
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if crowded else {}
        one.legend(frameon=False, **beside)
    axes[0].set_ylabel("top-1 error, %")
    return Picture(name, caption, figure)


def tidy(axes: Axes) -> None:
    """A pale grid in place of a frame."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
