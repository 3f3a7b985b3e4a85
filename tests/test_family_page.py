"""The page that draws the family: its pictures are there and show the layers."""

import re
from dataclasses import replace

import kit
import pytest
from matplotlib.figure import Figure

from resnet_keras.architectures import (
    BOTTLENECK_V15,
    FULL_PREACTIVATION,
    NETWORKS,
    NO_SHORTCUT,
    OPTION_B,
    ORIGINAL,
    RESNET20,
    Gating,
    Scaling,
    ShortcutDropout,
)

DOCS = kit.ROOT / "docs"
PAGE = DOCS / "explanation" / "family.md"
TINY = kit.tiny(RESNET20)
DENSE = kit.tiny(NETWORKS["densenet100-k12"])
PREACTIVATED = replace(TINY, unit=replace(TINY.unit, ordering=FULL_PREACTIVATION))
CONV, STRIDED, SUM, PRODUCT = "3x3 conv, 4", "3x3 conv, 8, /2", "+", r"$\times$"


@pytest.fixture(scope="module")
def drawing():
    return kit.docs_script("draw_family")


def labels(drawing, diagram, part):
    return [drawing.label(diagram.layers[name]) for name in getattr(diagram, part)]


def test_the_page_shows_every_picture(drawing):
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE.read_text("utf-8"))
    drawn = [f"../images/family/{name}.png" for name in drawing.PICTURES]
    there = [f"../{path.relative_to(DOCS).as_posix()}" for path in DOCS.glob("images/family/*")]
    assert sorted(shown) == sorted(drawn) == sorted(there)


@pytest.mark.parametrize(
    ("architecture", "unit", "expected"),
    [
        (TINY, "2b", {"branch": [CONV, "BN", "ReLU", CONV, "BN"], "tail": [SUM, "ReLU"]}),
        (
            PREACTIVATED,
            "2b",
            {"branch": ["BN", "ReLU", CONV, "BN", "ReLU", CONV], "tail": [SUM]},
        ),
        (PREACTIVATED, "2a", {"branch": [CONV, "BN", "ReLU", CONV], "tail": [SUM]}),
        (
            replace(PREACTIVATED, shortcut=OPTION_B),
            "3a",
            {
                "trunk": ["BN", "ReLU"],
                "branch": ["pad 1", STRIDED, "BN", "ReLU", "3x3 conv, 8"],
                "shortcut": ["1x1 conv, 8, /2"],
                "tail": [SUM],
            },
        ),
        (
            replace(TINY, shortcut=NO_SHORTCUT),
            "2b",
            {"branch": [CONV, "BN", "ReLU", CONV, "BN", "ReLU"]},
        ),
        (
            TINY,
            "3a",
            {
                "branch": ["pad 1", STRIDED, "BN", "ReLU", "3x3 conv, 8", "BN"],
                "shortcut": ["zero-pad to 8, /2"],
                "tail": [SUM, "ReLU"],
            },
        ),
        (
            replace(TINY, unit=replace(BOTTLENECK_V15, groups=2), shortcut=OPTION_B),
            "3b",
            {
                "branch": [
                    *("1x1 conv, 8", "BN", "ReLU"),
                    *("3x3 conv, 8\n2 groups", "BN", "ReLU"),
                    *("1x1 conv, 32", "BN"),
                ],
                "tail": [SUM, "ReLU"],
            },
        ),
        (
            replace(TINY, manipulation=Scaling(shortcut=0.25, branch=0.5)),
            "2b",
            {
                "branch": [CONV, "BN", "ReLU", CONV, "BN", rf"{PRODUCT} 0.5"],
                "shortcut": [rf"{PRODUCT} 0.25"],
                "tail": [SUM, "ReLU"],
            },
        ),
        (
            replace(TINY, manipulation=Gating(bias=-3.0, gates_branch=True)),
            "2b",
            {
                "branch": [CONV, "BN", "ReLU", CONV, "BN", PRODUCT],
                "shortcut": [PRODUCT],
                "gate": ["1x1 conv, 4\nsigmoid, bias -3", "$1-g$"],
                "tail": [SUM, "ReLU"],
            },
        ),
        (
            DENSE,
            "2b",
            {
                "branch": ["BN", "ReLU", "1x1 conv, 16", "BN", "ReLU", CONV],
                "tail": [r"$\Vert$"],
            },
        ),
        (DENSE, "3a", {"branch": ["BN", "ReLU", "1x1 conv, 6", "average pool, /2"]}),
        (
            replace(TINY, manipulation=ShortcutDropout(0.25), final_survival=0.6),
            "2b",
            {
                "branch": [CONV, "BN", "ReLU", CONV, "BN", "drop branch, 0.2"],
                "shortcut": ["dropout 0.25"],
                "tail": [SUM, "ReLU"],
            },
        ),
    ],
)
def test_a_unit_is_drawn_as_its_layers_are(drawing, architecture, unit, expected):
    diagram = drawing.unit_of(architecture, unit)
    parts = ("trunk", "branch", "shortcut", "gate", "tail")
    found = {part: labels(drawing, diagram, part) for part in parts}
    assert found == {part: expected.get(part, []) for part in parts}
    assert len(diagram.layers) == sum(map(len, found.values()))


def test_the_stem_and_the_end_belong_to_the_units_beside_them(drawing):
    first = drawing.unit_of(PREACTIVATED, "2a", also="conv1|bn_conv1|conv1_relu")
    assert labels(drawing, first, "trunk") == [CONV, "BN", "ReLU"]
    last = drawing.unit_of(PREACTIVATED, "3b", also="(bn|res)_final.*")
    assert labels(drawing, last, "tail") == [SUM, "BN", "ReLU"]


def test_boxes_keep_clear_of_each_other_and_within_the_picture(drawing):
    gated = replace(TINY, manipulation=Gating(bias=-6.0, gates_branch=True))
    panels = [
        drawing.Panel(drawing.unit_of(architecture, unit), "a title", "and\na note")
        for architecture, unit in ((gated, "2b"), (PREACTIVATED, "2b"), (TINY, "3a"))
    ]
    figure = drawing.draw(panels[:2], panels[2:])
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    [axes] = figure.axes
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, texts[index]
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, texts[index]
        for other in range(index):
            assert not box.overlaps(boxes[other]), (texts[index], texts[other])
    shown = [text.get_text() for text in texts]
    assert shown.count("BN") == 2 + 2 + 2 and shown.count(SUM) == 3


def test_a_picture_has_the_same_bytes_every_time(drawing):
    panel = drawing.Panel(drawing.unit_of(TINY, "2b"), str(ORIGINAL.joined))
    first, second = (drawing.png(drawing.draw([panel])) for _ in range(2))
    assert first == second
    assert b"matplotlib" not in first.lower()
