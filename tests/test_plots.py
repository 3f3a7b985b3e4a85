"""Pictures with the class names of real data: long ones, formulas, any script, many classes."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from resnet_keras.evaluation import plots

NAMES = (
    "$price$ of $x^2$",
    "Japanese_spaniel",
    "Maltese_dog, Maltese terrier, Maltese",
    "日本語のクラス",
    "emoji 🎉, \udcff",
    "Tomato___Tomato_Yellow_Leaf_Curl_Virus",
)
IMAGES = np.zeros((len(NAMES), 8, 8, 3), np.uint8)


def size(png):
    height, width, _ = plots.pixels(png).shape
    return height, width


# Warnings are errors in tests, those about glyphs that no font has included.


def test_every_name_is_drawn_in_a_confusion_matrix():
    matrix = np.arange(36).reshape(6, 6)
    plain = size(plots.confusion_matrix(matrix, tuple("abcdef")))
    assert np.greater(size(plots.confusion_matrix(matrix, NAMES)), plain).all()


def test_many_classes_have_their_most_confused_pairs_instead_of_ticks():
    matrix = np.eye(60, dtype=int)
    matrix[3, 5] = 7
    names = [f"class {number}" for number in range(60)]
    drawn = plots.pixels(plots.confusion_matrix(matrix, names))
    matrix[3, 5] = 0
    without = plots.pixels(plots.confusion_matrix(matrix, names))
    assert drawn.shape == without.shape and (drawn != without).any()


def test_heat_maps_take_any_name():
    heat = {"C2": np.ones((2, 2), "float32")}
    for name in NAMES:
        assert plots.heat_maps(IMAGES[0], heat, name)


def test_heat_colours_warm_places_and_leaves_cold_ones_grey():
    heat = np.array([[0, 0], [0, 1]], "float32")
    drawn = plots.with_heat(np.full((8, 8, 3), (200, 30, 30), np.uint8), heat).astype(int)
    cold, warm = drawn[2, 2], drawn[-2, -2]
    assert np.ptp(cold) == 0 and np.ptp(warm) > 60


def test_curves_are_svg_for_light_and_dark_pages():
    row = {"learning_rate": 0.1, "loss": 1.0, "top1_error": 0.25}
    row |= {f"validation_{name}": value for name, value in row.items()}
    history = [{"epoch": epoch, **row} for epoch in (1, 2)]
    panels = plots.curve_panels(history)
    assert list(panels) == ["Cross-entropy loss", "Accuracy, %", "Learning rate"]
    for svg in panels.values():
        tree = ElementTree.fromstring(svg)
        style = tree.findtext(".//{http://www.w3.org/2000/svg}style", "")
        assert "prefers-color-scheme: dark" in style
        # Nothing but the style states the colour of the axes: they are dark on light pages alone.
        assert svg.decode().count(plots.INK) == style.count(plots.INK) == 1
    assert ">75" in panels["Accuracy, %"].decode()  # an error of 0.25


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shortened_to_both_ends(name):
    found = plots.shortened(name, 20)
    assert len(found) <= 20
    assert found == name or (found[:10] == name[:10] and found[-6:] == name[-6:])
