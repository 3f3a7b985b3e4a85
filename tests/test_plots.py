"""Pictures with the class names of real data: long ones, formulas, any script, many classes."""

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


def test_captions_are_wrapped_and_bars_are_named():
    assert size(plots.gallery(IMAGES, NAMES)) > size(plots.gallery(IMAGES, "abcdef"))
    intervals = [(0.1, 0.3)] * len(NAMES)
    assert plots.class_errors([0.2] * len(NAMES), intervals, NAMES)
    heat = {"C2": np.ones((2, 2), "float32")}
    for name in NAMES:
        assert plots.heat_maps(IMAGES[0], heat, name)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shortened_to_both_ends(name):
    found = plots.shortened(name, 20)
    assert len(found) <= 20
    assert found == name or (found[:10] == name[:10] and found[-6:] == name[-6:])


def test_words_that_are_too_long_for_a_line_are_broken():
    assert plots.wrapped("a taken for b\n87% sure") == "a taken for b\n87% sure"
    lines = plots.wrapped(NAMES[-1]).split("\n")
    assert "".join(lines) == NAMES[-1] and max(map(len, lines)) <= plots.CAPTION_WIDTH
