"""Draws the units and shortcuts of the family for docs/explanation/family.md.

`python docs/draw_family.py` makes all pictures again. Each box is a layer of a network that
`resnet_keras.build` has made, and each arrow an output that is another layer's input, so that the
pictures show what is built. The networks are cut to two units in two stages; a unit is the same
in a network of any depth.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line
from matplotlib.textpath import TextPath
from PIL import Image

from resnet_keras.architectures import (
    BN_AFTER_ADDITION,
    FULL_PREACTIVATION,
    NETWORKS,
    OPTION_A,
    OPTION_B,
    OPTION_C,
    ORIGINAL,
    RELU_BEFORE_ADDITION,
    RELU_ONLY_PREACTIVATION,
    Architecture,
    Gating,
    Ordering,
    Scaling,
    ShortcutDropout,
)
from resnet_keras.networks.layers import ZeroPaddedShortcut
from resnet_keras.networks.models import Features, build

FOLDER = Path(__file__).parent / "images" / "family"
DOTS_PER_INCH = 160
PALETTE = 128  # colours of a picture; more make its file larger, and nothing better

# All lengths are in inches, all text sizes in points.
TEXT, TITLE, NOTE, NAME = 9.5, 10.5, 9.0, 7.5
BOX_HEIGHT, NAMED_BOX_HEIGHT = 0.29, 0.42
RADIUS = 0.13
GAP = 0.19  # between a box of one line and the next one below it
FORK = 0.14  # more than that, where the paths part
LINE_HEIGHT = 1.3  # of text, in its sizes
COLUMN_GAP, PANEL_GAP, MARGIN = 0.26, 0.42, 0.12

LINE, SHORTCUT_LINE, MUTED = "#333333", "#8a8a8a", "#666666"
COLORS = {
    "Conv2D": "#cfe2f6",
    "BatchNormalization": "#fde3bd",
    "Activation": "#d3eccd",
    "Rescaling": "#fbf3b0",
    "Dropout": "#f9d2d6",
    "ZeroPadding2D": "#ececec",
    "ZeroPaddedShortcut": "#ececec",
    "MaxPooling2D": "#e0ebe8",
    "AveragePooling2D": "#e0ebe8",
    "gate": "#e3d5f2",
}
SIGNS = {"Add": "+", "Multiply": r"$\times$", "Concatenate": r"$\Vert$"}

INPUT = "x"  # stands for the unit's input among the names of its layers
SHORTCUT, GATE, BRANCH = range(3)  # the columns of a diagram, from left to right


def label(layer: keras.Layer) -> str:
    """What the picture says of a layer."""
    match layer:
        case keras.layers.Conv2D():
            return _convolution_label(layer)
        case keras.layers.BatchNormalization():
            return "BN"
        case keras.layers.Activation() if layer.activation is keras.activations.relu:
            return "ReLU"
        case keras.layers.Rescaling(scale=-1.0, offset=1.0):
            return "$1-g$"
        case keras.layers.Rescaling(offset=0.0):
            return rf"$\times$ {layer.scale:g}"
        case keras.layers.Dropout(noise_shape=None):
            return f"dropout {layer.rate:g}"
        case keras.layers.Dropout():
            return f"drop branch, {layer.rate:.2g}"
        case keras.layers.ZeroPadding2D():
            return f"pad {layer.padding[0][0]}"
        case ZeroPaddedShortcut():
            return f"zero-pad to {layer.filters}{_stride(layer.stride)}"
        case keras.layers.MaxPooling2D():
            return f"max pool{_stride(layer.strides[0])}"
        case keras.layers.AveragePooling2D():
            return f"average pool{_stride(layer.strides[0])}"
        case keras.layers.Add() | keras.layers.Multiply() | keras.layers.Concatenate():
            return SIGNS[type(layer).__name__]
    raise TypeError(f"no label for this kind of layer. Received: {layer!r}")


def _convolution_label(layer: keras.layers.Conv2D) -> str:
    rows, columns = layer.kernel_size
    text = f"{rows}x{columns} conv, {layer.filters}{_stride(layer.strides[0])}"
    if layer.groups > 1:
        text += f"\n{layer.groups} groups"
    if _is_gate(layer):
        text += f"\nsigmoid, bias {layer.bias_initializer.value:g}"
    return text


def _stride(stride: int) -> str:
    return f", /{stride}" if stride > 1 else ""


def _is_gate(layer: keras.Layer) -> bool:
    return getattr(layer, "activation", None) is keras.activations.sigmoid


def _color(layer: keras.Layer) -> str:
    return COLORS["gate" if _is_gate(layer) else type(layer).__name__]


@dataclass(frozen=True)
class Diagram:
    """One unit, read off the layers of a built network; all but `layers` are names of layers.

    Attributes:
        layers: by name, those that are drawn.
        inputs: of each layer: names of layers, or INPUT for what comes from outside.
        trunk: what the paths have in common before they part.
        shortcut: from there to the addition; empty where the input is added as it is.
        branch: likewise; in a unit without addition everything.
        gate: what lies on neither path and acts on them.
        tail: the addition and what follows it.
    """

    layers: dict[str, keras.Layer]
    inputs: dict[str, list[str]]
    trunk: list[str]
    shortcut: list[str]
    branch: list[str]
    gate: list[str]
    tail: list[str]

    @property
    def is_residual(self) -> bool:
        return bool(self.tail)


def read_unit(model: keras.Model, unit: str, also: str = "$^") -> Diagram:
    """Finds a unit's layers in a network, and the two paths to its addition.

    Args:
        unit: stage and label, such as "2b".
        also: a pattern of names of further layers to show, before the unit or after it.
    """
    of_unit = re.compile(rf"[a-z]+{unit}(_.*)?|{also}")
    layers = {layer.name: layer for layer in model.layers if of_unit.fullmatch(layer.name)}
    makers = {id(layer.output): name for name, layer in layers.items()}
    inputs = {
        name: [makers.get(id(tensor), INPUT) for tensor in _tensors(layer.input)]
        for name, layer in layers.items()
    }
    names = list(layers)
    meetings = (keras.layers.Add, keras.layers.Concatenate)
    addition = next((name for name in names if isinstance(layers[name], meetings)), None)
    if addition is None:
        return Diagram(layers, inputs, [], [], names, [], [])
    branch, shortcut = (_path_to(name, inputs) for name in inputs[addition])
    if isinstance(layers[addition], keras.layers.Concatenate):  # whose shortcut comes first
        branch, shortcut = shortcut, branch
    tail = _path_to(names[-1], inputs)
    tail = tail[tail.index(addition) :]
    gate = [name for name in names if name not in {*branch, *shortcut, *tail}]
    trunk = [name for name in branch if name in shortcut]
    branch, shortcut = ([name for name in path if name not in trunk] for path in (branch, shortcut))
    return Diagram(layers, inputs, trunk, shortcut, branch, gate, tail)


def _tensors(tensors: Any) -> list[Any]:
    return tensors if isinstance(tensors, list) else [tensors]


def _path_to(name: str, inputs: dict[str, list[str]]) -> list[str]:
    """The layers that lead to a layer and itself; of several inputs the first is the signal."""
    path = []
    while name != INPUT:
        path.insert(0, name)
        name = inputs[name][0]
    return path


@dataclass(frozen=True)
class Panel:
    """A unit and the words above it.

    Attributes:
        diagram: of the unit.
        title, note: one line or more; the note is printed smaller.
        is_named: whether the layers' names are shown.
        input, output: what comes into the unit and leaves it.
    """

    diagram: Diagram
    title: str
    note: str = ""
    is_named: bool = False
    input: str = "$x_l$"
    output: str = "$x_{l+1}$"

    @property
    def title_width(self) -> float:
        return max(text_size(self.title, TITLE)[0], text_size(self.note, NOTE)[0])

    @property
    def title_height(self) -> float:
        return text_size(self.title, TITLE)[1] + text_size(self.note, NOTE)[1]


class Layout:
    """Where everything of a panel stands, from its upper left corner, y downwards.

    Attributes:
        centers: of the layers and of the input, by name.
        columns: the layers' columns, by name.
        widths: of the columns.
        width, bottom, height: of the panel; `bottom` is where its last arrow ends.
    """

    def __init__(self, panel: Panel, title_height: float) -> None:
        self.panel = panel
        self.diagram = panel.diagram
        self.box_height = NAMED_BOX_HEIGHT if panel.is_named else BOX_HEIGHT
        self.main = SHORTCUT if self.diagram.is_residual else BRANCH
        self.columns, rows = self._places()
        self.widths = [self._column_width(column) for column in range(3)]
        self.centers = {
            name: (self._x(self.columns[name]), title_height + self._y(row))
            for name, row in rows.items()
        }
        self.width = max(self._right(BRANCH), panel.title_width)
        self.bottom = max(y for _, y in self.centers.values()) + self.box_height / 2 + GAP
        self.height = self.bottom + 0.25

    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        """Columns and rows: both paths end in the row above the addition, gates a row earlier."""
        diagram = self.diagram
        columns, rows = {INPUT: self.main}, {INPUT: 0}
        forked = 1 + len(diagram.trunk)
        joined = forked + max(len(diagram.branch), len(diagram.shortcut), len(diagram.gate) + 1)
        for names, column, end in (
            (diagram.trunk, self.main, forked),
            (diagram.shortcut, SHORTCUT, joined),
            (diagram.gate, GATE, joined - 1),
            (diagram.branch, BRANCH, joined),
            (diagram.tail, self.main, joined + len(diagram.tail)),
        ):
            for row, name in enumerate(names, start=end - len(names)):
                columns[name], rows[name] = column, row
        return columns, rows

    def _y(self, row: int) -> float:
        """The middle of a row, from the titles down."""
        if row == 0:
            return 0.24
        forks = FORK if row > len(self.diagram.trunk) else 0.0
        return 0.34 + forks + row * (GAP + self.box_height) - self.box_height / 2

    def _column_width(self, column: int) -> float:
        names = [name for name, place in self.columns.items() if place == column]
        return max((self.size(name)[0] for name in names), default=0.0)

    def _x(self, column: int) -> float:
        return self._right(column) - self.widths[column] / 2

    def _right(self, column: int) -> float:
        used = [width for width in self.widths[: column + 1] if width]
        return sum(used) + COLUMN_GAP * (len(used) - 1)

    def is_round(self, name: str) -> bool:
        return name != INPUT and type(self.diagram.layers[name]).__name__ in SIGNS

    def is_on_shortcut(self, source: str, name: str) -> bool:
        ends = {self.columns[source], self.columns[name]}
        return self.diagram.is_residual and ends == {SHORTCUT}

    def size(self, name: str) -> tuple[float, float]:
        """Width and height of what is drawn for a layer."""
        if name == INPUT:
            return 2 * RADIUS, 0.2
        if self.is_round(name):
            return 2 * RADIUS, 2 * RADIUS
        width, height = text_size(label(self.diagram.layers[name]), TEXT)
        if self.panel.is_named:
            width = max(width, text_size(name, NAME)[0])
        return max(width + 0.18, 0.62), max(height + 0.06, self.box_height)

    def route(self, source: str, name: str) -> list[tuple[float, float]]:
        """The corners of the arrow from one layer to another."""
        (x, y), (to_x, to_y) = self.centers[source], self.centers[name]
        width, height = self.size(source)
        bottom, to_top = y + height / 2, to_y - self.size(name)[1] / 2
        if x == to_x:
            return [(x, bottom), (to_x, to_top)]
        if not self.is_round(name):
            # It leaves the shortcut's line at its side, and that line runs on.
            parting = bottom + (GAP + FORK) / 2
            return [(x, parting), (to_x, parting), (to_x, to_top)]
        to_side = to_x + (RADIUS if x > to_x else -RADIUS)
        if to_x < x:
            return [(x, bottom), (x, to_y), (to_side, to_y)]
        right = x + self.widths[self.columns[source]] / 2 + COLUMN_GAP / 2
        return [(x + width / 2, y), (right, y), (right, to_y), (to_side, to_y)]


def text_size(text: str, points: float) -> tuple[float, float]:
    """Width and height of some lines of text."""
    lines = text.split("\n") if text else []
    widths = [TextPath((0, 0), line, size=points).get_extents().width for line in lines]
    return max(widths, default=0.0) / 72, len(lines) * points * LINE_HEIGHT / 72


def draw_panel(axes: Axes, layout: Layout, left: float, top: float) -> None:
    """Draws a panel on axes whose unit is an inch, y downwards."""
    panel, diagram = layout.panel, layout.diagram

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x, top + y

    _draw_titles(axes, panel, left, top)
    edges = [(source, name) for name in diagram.layers for source in diagram.inputs[name]]
    for source, name in edges:
        points = [place(*point) for point in layout.route(source, name)]
        _draw_arrow(axes, points, layout.is_on_shortcut(source, name))
    for name in diagram.layers:
        _draw_layer(axes, layout, name, place(*layout.centers[name]))
    last = (diagram.tail or diagram.branch)[-1]
    x, y = layout.centers[last]
    start = y + layout.size(last)[1] / 2
    _draw_arrow(axes, [place(x, start), place(x, layout.bottom)], diagram.is_residual)
    ends = {"ha": "center", "va": "center", "size": TITLE}
    axes.text(*place(*layout.centers[INPUT]), panel.input, **ends)
    axes.text(*place(x, layout.bottom + 0.12), panel.output, **ends)


def _draw_titles(axes: Axes, panel: Panel, left: float, top: float) -> None:
    styles = ((panel.title, TITLE, "black", "bold"), (panel.note, NOTE, MUTED, "normal"))
    for text, size, color, weight in styles:
        for line in text.split("\n") if text else []:
            top += size * LINE_HEIGHT / 72
            axes.text(left, top, line, size=size, color=color, weight=weight)


def _draw_arrow(axes: Axes, points: Sequence[tuple[float, float]], is_shortcut: bool) -> None:
    axes.add_patch(
        FancyArrowPatch(
            path=Line(points),
            arrowstyle="-|>",
            mutation_scale=12 if is_shortcut else 9,
            linewidth=2.4 if is_shortcut else 1.1,
            color=SHORTCUT_LINE if is_shortcut else LINE,
            joinstyle="miter",
            capstyle="butt",
            shrinkA=0,
            shrinkB=0,
            zorder=1.0 if is_shortcut else 1.1,
        )
    )


def _draw_layer(axes: Axes, layout: Layout, name: str, center: tuple[float, float]) -> None:
    x, y = center
    layer = layout.diagram.layers[name]
    is_named = layout.panel.is_named
    edge = {"edgecolor": LINE, "zorder": 1.2}
    if layout.is_round(name):
        axes.add_patch(Circle(center, RADIUS, facecolor="white", linewidth=1.1, **edge))
        axes.text(x, y, label(layer), ha="center", va="center_baseline", size=13)
        if is_named:
            axes.text(x + RADIUS + 0.04, y + 0.12, name, size=NAME, color=MUTED, va="center")
        return
    width = layout.widths[layout.columns[name]] if is_named else layout.size(name)[0]
    height = layout.size(name)[1]
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=_color(layer),
            linewidth=0.8,
            **edge,
        )
    )
    offset = 0.08 if is_named else 0.0
    write = partial(axes.text, x, ha="center", va="center")
    write(y - offset, label(layer), size=TEXT, linespacing=1.15)
    if is_named:
        write(y + offset + 0.02, name, size=NAME, color=MUTED)


def draw(*rows: Sequence[Panel]) -> Figure:
    """A figure of panels side by side, in one row or more."""
    layouts = [_aligned(row) for row in rows]
    widths = [sum(one.width for one in row) + PANEL_GAP * (len(row) - 1) for row in layouts]
    heights = [max(one.height for one in row) for row in layouts]
    figure, axes = _canvas(max(widths), sum(heights) + PANEL_GAP * (len(rows) - 1))
    top = 0.0
    for row, width, height in zip(layouts, widths, heights, strict=True):
        # A narrower row is spread over the picture's width.
        gap = PANEL_GAP + (max(widths) - width) / max(len(row) - 1, 1)
        left = 0.0
        for layout in row:
            draw_panel(axes, layout, left, top)
            left += layout.width + gap
        top += height + PANEL_GAP
    return figure


def _aligned(panels: Sequence[Panel]) -> list[Layout]:
    """Layouts whose units begin at one height, however many lines their titles have."""
    title_height = max(panel.title_height for panel in panels)
    return [Layout(panel, title_height) for panel in panels]


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width + 2 * MARGIN, height + 2 * MARGIN), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-MARGIN, width + MARGIN), ylim=(height + MARGIN, -MARGIN))
    axes.set_axis_off()
    return figure, axes


def unit_of(architecture: Architecture, unit: str, also: str = "$^") -> Diagram:
    """Builds the first stages of a network, two units in each, and reads one unit of them."""
    short = replace(architecture, blocks=(2, 2), filters=architecture.filters[:2])
    model = build(short, head=Features(), include_preprocessing=False)
    return read_unit(model, unit, also)


RESNET110 = NETWORKS["resnet110"]


def with_ordering(ordering: Ordering) -> Architecture:
    """ResNet-110 with another order of BN, ReLU and convolutions."""
    return replace(RESNET110, unit=replace(RESNET110.unit, ordering=ordering))


def units() -> Figure:
    """Plain, basic and bottleneck units, and where the bottleneck's stride stands."""
    shown = (
        ("plain34", "2b", "plain"),
        ("resnet34", "2b", "basic"),
        ("resnet50", "2b", "bottleneck"),
        ("resnet50", "3a", "stride on the first 1x1"),
        ("resnet50v1.5", "3a", "stride on the 3x3"),
    )
    return draw(
        [
            Panel(unit_of(NETWORKS[network], unit), title, f"{network}, {unit}")
            for network, unit, title in shown
        ]
    )


def names() -> Figure:
    """The layers' names, in an original and in a pre-activated bottleneck."""
    shown = (("resnet50", "2a"), ("preresnet200", "2b"))
    return draw(
        [
            Panel(unit_of(NETWORKS[network], unit), network, f"unit {unit}", is_named=True)
            for network, unit in shown
        ]
    )


def shortcuts() -> Figure:
    """The identity, and the paper's options A, B and C."""
    stays, changes = "where the\nshape stays", "where the\nshape changes"
    options = (
        (OPTION_A, "2b", "options A and B", stays),
        (OPTION_A, "3a", "option A", changes),
        (OPTION_B, "3a", "options B and C", changes),
        (OPTION_C, "2b", "option C", stays),
    )
    return draw(
        [
            Panel(unit_of(replace(RESNET110, shortcut=option), unit), title, note)
            for option, unit, title, note in options
        ]
    )


def orderings() -> Figure:
    """The five orders of BN, ReLU and convolutions in a basic unit."""
    titles = {
        "(a) original": ORIGINAL,
        "(b) BN after\naddition": BN_AFTER_ADDITION,
        "(c) ReLU before\naddition": RELU_BEFORE_ADDITION,
        "(d) ReLU-only\npre-activation": RELU_ONLY_PREACTIVATION,
        "(e) full\npre-activation": FULL_PREACTIVATION,
    }
    return draw(
        [Panel(unit_of(with_ordering(ordering), "2b"), title) for title, ordering in titles.items()]
    )


def preactivation() -> Figure:
    """A pre-activated network's first and last unit, and its projection."""
    network = with_ordering(FULL_PREACTIVATION)
    projecting = replace(network, shortcut=OPTION_B)
    first = unit_of(network, "2a", also="conv1|bn_conv1|conv1_relu")
    last = unit_of(network, "3b", also="(bn|res)_final.*")
    return draw(
        [
            Panel(first, "first unit", "after the stem", input="image"),
            Panel(unit_of(network, "2b"), "inner unit"),
            Panel(unit_of(projecting, "3a"), "with projection", "option B"),
            Panel(last, "last unit", "before the head", output="head"),
        ]
    )


def manipulations() -> Figure:
    """What the second paper did to the shortcut."""

    def panel(title: str, **changes: Any) -> Panel:
        return Panel(unit_of(replace(RESNET110, **changes), "2b"), title)

    return draw(
        [
            panel("(a) original"),
            panel("(b) constant scaling", manipulation=Scaling()),
            panel("(c) exclusive gating", manipulation=Gating(bias=-6, gates_branch=True)),
        ],
        [
            panel("(d) shortcut-only gating", manipulation=Gating(bias=-6, gates_branch=False)),
            panel("(e) 1x1 conv", shortcut=OPTION_C),
            panel("(f) dropout", manipulation=ShortcutDropout()),
        ],
    )


def resnext() -> Figure:
    """ResNeXt's unit beside the bottleneck."""
    networks = ("resnet50", "resnext50-32x4d", "resnext29-8x64d")
    return draw([Panel(unit_of(NETWORKS[name], "2b"), name, "unit 2b") for name in networks])


def rivals() -> Figure:
    """Units and transitions of a highway network and a DenseNet."""
    highway, densenet = NETWORKS["highway19"], NETWORKS["densenet100-k12"]
    pooling = replace(highway, unstrided_stages=())  # the last two of its transitions
    return draw(
        [
            Panel(unit_of(highway, "2b"), "highway layer", "highway19"),
            Panel(unit_of(pooling, "3a"), "plain layer", "between its stages"),
            Panel(unit_of(densenet, "2b"), "dense layer", "densenet100-k12"),
            Panel(unit_of(densenet, "3a"), "transition", "between its blocks"),
        ]
    )


def stochastic_depth() -> Figure:
    """How often each unit is kept, and a unit that may lose its branch."""
    network = replace(RESNET110, final_survival=0.5)
    [layout] = _aligned([Panel(unit_of(network, "2b"), "a unit in training", "the second of four")])
    plot_width = 5.2
    figure, axes = _canvas(plot_width + layout.width, layout.height)
    draw_panel(axes, layout, plot_width, 0)
    width, height = figure.get_size_inches()
    plot = figure.add_axes((0.6 / width, 0.6 / height, 4.1 / width, (height - 1.2) / height))
    _plot_survival(plot, [1 - unit.merge.drop_rate for unit in network.units()])
    return figure


def _plot_survival(axes: Axes, survival: Sequence[float]) -> None:
    places = range(1, len(survival) + 1)
    axes.bar(places, survival, width=0.8, color=COLORS["Conv2D"], edgecolor=LINE, linewidth=0.4)
    axes.set_title("probability that a branch is kept", size=TITLE, weight="bold", loc="left")
    axes.set_xlabel(f"unit of resnet110, final_survival={survival[-1]:g}", size=TEXT)
    axes.set(ylim=(0, 1.05), xlim=(0, len(survival) + 1))
    axes.tick_params(labelsize=NOTE)
    axes.set_xticks([1, *range(9, len(survival) + 1, 9)])
    axes.axhline(survival[-1], color=MUTED, linewidth=1, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)


PICTURES: dict[str, Callable[[], Figure]] = {
    "units": units,
    "names": names,
    "shortcuts": shortcuts,
    "orderings": orderings,
    "preactivation": preactivation,
    "manipulations": manipulations,
    "resnext": resnext,
    "rivals": rivals,
    "stochastic-depth": stochastic_depth,
}


def png(figure: Figure) -> bytes:
    """The figure as a PNG file: the same bytes from the same versions."""
    rendered, file = io.BytesIO(), io.BytesIO()
    figure.savefig(rendered, format="png", dpi=DOTS_PER_INCH)
    picture = Image.open(rendered).convert("RGB")
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
    return file.getvalue()


def main() -> None:
    """Draws all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.png").write_bytes(png(picture()))
        print(f"{name}.png")


if __name__ == "__main__":
    main()
