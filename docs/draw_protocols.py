"""Draws what a network is shown in testing, into docs/images/protocols.png.

`python docs/draw_protocols.py` makes the picture again, of a photograph that ships with
scikit-learn, at the sizes of a network of 224 pixels.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_sample_image

from resnet_keras.data.images import resize_whole
from resnet_keras.evaluation.protocols import PAPER_SCALES, PAPER_SIZE, PAPER_TEN_CROP_SIDE
from resnet_keras.evaluation.views import five_crops

PICTURE = Path(__file__).parent / "images" / "protocols.png"
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#ffffff")  # told apart by all readers
GAP = 24  # pixels between scales


def draw_crops(axes: Axes, image: np.ndarray) -> None:
    """The corners and the centre of the image, framed."""
    whole = resize_whole(image, PAPER_TEN_CROP_SIDE)
    axes.imshow(whole)
    for (top, left), color in zip(five_crops(whole.shape, PAPER_SIZE), COLORS, strict=True):
        # Frames that share a side lie beside each other.
        inset = 2 + 3 * COLORS.index(color)
        side = PAPER_SIZE - 2 * inset
        axes.add_patch(
            Rectangle((left + inset, top + inset), side, side, fill=False, edgecolor=color, lw=2)
        )
    height, width, _ = whole.shape
    axes.set_title(
        f"ten-crop: {width}x{height} pixels, five crops of {PAPER_SIZE}\nand their mirror images",
        fontsize=10,
    )


def draw_scales(axes: Axes, image: np.ndarray) -> None:
    """The whole image at every scale, all on one."""
    left = 0
    for side in PAPER_SCALES:
        whole = resize_whole(image, side)
        height, width, _ = whole.shape
        axes.imshow(whole, extent=(left, left + width, height, 0))
        axes.text(left + width / 2, height + 20, str(side), ha="center", va="top", fontsize=9)
        left += width + GAP
    axes.set(xlim=(0, left - GAP), ylim=(max(PAPER_SCALES) + 70, 0))
    axes.set_title(
        "multi-scale: the whole image at five shorter sides, and their mirror images", fontsize=10
    )


def main() -> None:
    """Draws the picture."""
    image = load_sample_image("china.jpg")
    figure = Figure(figsize=(11, 2.7), layout="constrained")
    crops, scales = figure.subplots(1, 2, width_ratios=(1, 2.4))
    draw_crops(crops, image)
    draw_scales(scales, image)
    for axes in (crops, scales):
        axes.set_axis_off()
    figure.savefig(PICTURE, dpi=90)
    print(PICTURE.name)


if __name__ == "__main__":
    main()
