"""Draws what every augmentation does to a photograph, into docs/images/augmentations.png.

`python docs/draw_augmentations.py` makes the picture again. Each row is one photograph, or two that
are mixed, as the pipeline that training uses gives it in six epochs. The photographs ship with
scikit-learn.
"""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from resnet_keras.data.augmentation import (
    Augmentation,
    CutMix,
    MixUp,
    PadAndCrop,
    PCAColor,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ScaleJitterCrop,
)
from resnet_keras.data.pipelines.tf_pipeline import training_batches
from resnet_keras.data.splits import ArraySplit

PICTURE = Path(__file__).parent / "images" / "augmentations.png"
SIDE = 224  # pixels of an image
SHRINK = 0.6  # the picture, at last: what a page has room for
COLUMNS = 6
SEED = 12

# All lengths are in pixels before it shrinks, all text sizes in points.
LABEL_WIDTH, MARGIN, GAP, ROW_GAP = 400, 28, 8, 22
DOTS_PER_INCH = 200
TITLE, NOTE = 9.5, 8.0
MUTED = "#5f6670"

ROWS: tuple[tuple[str, str, Augmentation], ...] = (
    ("no augmentation", "the centre square", Augmentation()),
    (
        "PadAndCrop",
        "pads by 1/8 and crops;\nwith flip, for CIFAR",
        Augmentation(PadAndCrop(), True),
    ),
    (
        "ScaleJitterCrop",
        "shorter side 256 to 480,\ncrops 224; with flip",
        Augmentation(ScaleJitterCrop(), True),
    ),
    (
        "RandomResizedCrop",
        "8% to 100% of the area;\nwith flip",
        Augmentation(RandomResizedCrop(), True),
    ),
    (
        "PCAColor",
        "shifts along ImageNet's\ncolours; here ten times as\nstrong as std 0.1",
        Augmentation(color=PCAColor(1.0)),
    ),
    ("RandAugment", "2 operations of 14,\nmagnitude 9", Augmentation(randaugment=RandAugment())),
    ("RandomErasing", "2% to 40% of the area", Augmentation(erasing=RandomErasing(1.0))),
    ("MixUp", "alpha 1; shares of\ntemple · flower", Augmentation(mixup=MixUp(1.0))),
    ("CutMix", "alpha 1; shares of\ntemple · flower", Augmentation(cutmix=CutMix(1.0))),
)


def photographs() -> ArraySplit:
    """A temple in China and a flower."""
    temple, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    return ArraySplit(np.stack([temple, flower]), np.array([0, 1]))


def row(augmentation: Augmentation) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the pipeline makes of a photograph in some epochs: images and labels."""
    split = photographs()
    if not augmentation.makes_probabilities:
        split = ArraySplit(split.images[:1], split.labels[:1])
    batches = training_batches(
        split,
        augmentation,
        image_size=SIDE,
        classes=2,
        batch_size=2,
        seed=SEED,
        first_step=0,
        last_step=COLUMNS,
    )
    return [(images[0], labels[0]) for images, labels in batches.as_numpy_iterator()]


def draw() -> Figure:
    """The grid, one row an augmentation."""
    width = LABEL_WIDTH + COLUMNS * (SIDE + GAP) - GAP + MARGIN
    height = 2 * MARGIN + len(ROWS) * (SIDE + ROW_GAP) - ROW_GAP
    figure = Figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH), facecolor="white")
    for number, (title, note, augmentation) in enumerate(ROWS):
        top = height - MARGIN - number * (SIDE + ROW_GAP)
        text = {"x": MARGIN / width, "va": "top"}
        figure.text(y=(top - 34) / height, s=title, size=TITLE, weight="bold", **text)
        figure.text(y=(top - 78) / height, s=note, size=NOTE, color=MUTED, linespacing=1.45, **text)
        for column, (image, label) in enumerate(row(augmentation)):
            left = LABEL_WIDTH + column * (SIDE + GAP)
            axes = figure.add_axes(
                (left / width, (top - SIDE) / height, SIDE / width, SIDE / height)
            )
            axes.imshow(np.rint(image).astype(np.uint8), interpolation="none")
            axes.set_axis_off()
            if augmentation.makes_probabilities:
                shares = f"{label[0]:.0%} · {label[1]:.0%}"
                box = {"facecolor": "black", "alpha": 0.55, "pad": 2.2, "linewidth": 0}
                axes.text(9, SIDE - 9, shares, size=7, color="white", va="bottom", bbox=box)
    return figure


def main() -> None:
    """Draws the picture."""
    rendered = io.BytesIO()
    draw().savefig(rendered, format="png", dpi=DOTS_PER_INCH)
    picture = Image.open(rendered).convert("RGB")
    size = (round(picture.width * SHRINK), round(picture.height * SHRINK))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    palette = picture.quantize(256)  # a third of the file's size; Pillow dithers to a given one
    picture.quantize(palette=palette).save(PICTURE, optimize=True)
    print(PICTURE.name)


if __name__ == "__main__":
    main()
