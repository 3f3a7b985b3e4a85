"""Draws the wings of the code and the imports between them, into docs/images/architecture.png.

`python docs/draw_architecture.py` measures the imports with grimp and draws them again. The floors
are those of the contract in pyproject.toml, the sentences are the docstrings of the packages.
"""

import tomllib
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from textwrap import fill

import grimp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
PICTURE = HERE / "images" / "architecture.png"
PACKAGE = "resnet_keras"
GROUND = ("view", "files", "processes", "errors")  # all wings stand on these: no arrows
LEFT_OUT = ("__main__", "version")
WIDTH, HEIGHT, GAP = 4.6, 0.85, 0.35  # of a wing's box, and between boxes
WING, GROUNDS, EDGE = "#dbe9f6", "#eeeeee", "#5b7a99"

Place = tuple[float, float]


def floors() -> list[list[str]]:
    """The wings by floor, from the top down, as the contract of imports lists them."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))
    (contract,) = (
        one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"
    )
    rows = [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    shown = [[name for name in row if name not in (*GROUND, *LEFT_OUT)] for row in rows]
    return [row for row in shown if row]


def title_and_sentence(wing: str) -> tuple[str, str]:
    """The name of a package or module on disk, and the first line of its docstring."""
    spec = find_spec(f"{PACKAGE}.{wing}")
    assert spec and spec.origin
    title = f"{wing}/" if spec.submodule_search_locations else f"{wing}.py"
    first = Path(spec.origin).read_text("utf-8").splitlines()[0]
    return title, first.strip('"').replace("`", "")


def imports(wings: list[str]) -> list[tuple[str, str]]:
    """Pairs of a wing and a wing that it imports, without pairs that follow from others."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True)
    for wing in wings:
        graph.squash_module(f"{PACKAGE}.{wing}")
    edges = {
        (one, other)
        for one, other in permutations(wings, 2)
        if graph.direct_import_exists(importer=f"{PACKAGE}.{one}", imported=f"{PACKAGE}.{other}")
    }
    follow = {(one, last) for one, middle in edges for start, last in edges if middle == start}
    return sorted(edges - follow)


def draw_wing(axes: Axes, wing: str, place: Place, color: str) -> None:
    """A box with the wing's name and sentence, its lower left corner at `place`."""
    axes.add_patch(
        FancyBboxPatch(
            place,
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=color,
            edgecolor=EDGE,
        )
    )
    title, sentence = title_and_sentence(wing)
    x, y = place[0] + 0.12, place[1] + HEIGHT - 0.1
    axes.text(x, y, title, weight="bold", size=11, va="top")
    axes.text(x, y - 0.27, fill(sentence, 50), size=8.5, va="top")


def laid_out(rows: list[list[str]], bottom: float) -> dict[str, Place]:
    """Lower left corners: rows from the top down, each in the middle."""
    return {
        wing: (
            (column - len(row) / 2) * (WIDTH + 2 * GAP) + GAP,
            bottom + level * (HEIGHT + GAP),
        )
        for level, row in enumerate(reversed(rows))
        for column, wing in enumerate(row)
    }


def main() -> None:
    """Draws the picture."""
    rows = floors()
    ground = laid_out([list(GROUND[:2]), list(GROUND[2:])], 0)
    bottom = 2 * (HEIGHT + GAP) + GAP
    places = laid_out(rows, bottom)
    height = bottom + len(rows) * (HEIGHT + GAP)
    figure = Figure(figsize=(10.5, 0.95 * height), layout="constrained")
    axes = figure.add_subplot()
    for one, other in imports(list(places)):
        (x, y), (to_x, to_y) = places[one], places[other]
        start, end = (x + WIDTH / 2, y), (to_x + WIDTH / 2, to_y + HEIGHT)
        if y - to_y > 2 * (HEIGHT + GAP):  # beside the boxes between
            start = x + WIDTH, y + HEIGHT / 2
            end = (to_x, to_y + HEIGHT / 2) if to_x > x + WIDTH else end
        axes.annotate(
            "",
            end,
            start,
            arrowprops={"arrowstyle": "-|>", "color": EDGE, "shrinkA": 0, "shrinkB": 0},
            zorder=0,
        )
    for wing, place in places.items():
        draw_wing(axes, wing, place, WING)
    for module, place in ground.items():
        draw_wing(axes, module, place, GROUNDS)
    axes.set(xlim=(-WIDTH - 2 * GAP, WIDTH + 2 * GAP), ylim=(-0.1, height))
    axes.set_aspect("equal")
    axes.axis("off")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
