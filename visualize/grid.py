"""The grid of a lifting network drawn: which joints its cells hold, and what lies beside what."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from gridpose.core import BONES, JOINT_NAMES
from gridpose.visualize.bones import line_colour
from gridpose.visualize.palette import DARK, FAMILIES, Colour, blend, hex_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cells = Sequence[Sequence[Sequence[int]]]
"""Rows of cells; a cell is the joints (Human3.6M-17) whose mean it holds."""

_WIDTH: Final = 0.80
_HEIGHT: Final = 0.66
_PITCH: Final = (1.62, 1.06)
"""Inches from cell to cell."""
_LETTERS: Final = 6.5
"""Of the heading, to the inch."""
_NARROWEST: Final = 7.2
"""Inches that the line below the heading takes."""
_HEAD: Final = 0.85
_FOOT: Final = 0.55
_SIDE: Final = 0.3
_INK: Final[Colour] = (22, 26, 33)
_DIM: Final[Colour] = blend(DARK.text, DARK.background, 0.62)
_COLOURS: Final = FAMILIES[0]
_SAME, _JOINED = 11.0, 3.5


def draw_grid(cells: Cells, title: str = "", note: str = "") -> Figure:
    """A picture of a grid: a labelled cell for each joint, coloured by limb.

    A broad band joins neighbouring cells that hold the same joint, a line those whose joints share
    a bone; so one sees what a 3x3 convolution has in view together.

    Args:
        cells: H rows of W cells, each the indices of its joints; an empty cell holds none.
        title: heading.
        note: one line below the picture.

    Raises:
        ValueError: no cells, or rows of different lengths.
    """
    height, width = len(cells), len(cells[0]) if cells else 0
    if not width or any(len(row) != width for row in cells):
        raise ValueError("the rows of a grid must be equally long, and not empty")
    wide, high = width * _PITCH[0], height * _PITCH[1]
    across, down = max(wide + 2 * _SIDE, _NARROWEST), high + _HEAD + _FOOT
    figure = Figure(figsize=(across, down), facecolor=hex_of(DARK.background))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((_SIDE / across, _FOOT / down, wide / across, high / down))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    for one, other in _neighbours(height, width):
        _draw_link(axes, cells, one, other)
    for row, line in enumerate(cells):
        for column, joints in enumerate(line):
            _draw_cell(axes, row, column, joints)
    left, top = (_SIDE + 0.1 * _PITCH[0]) / across, 1 - 0.36 / down
    longest = int(across * _LETTERS)
    heading = title if len(title) <= longest else f"{title[: longest - 1]}…"
    figure.text(
        left, top, heading, color=hex_of(DARK.text), fontsize=15, weight="bold", va="center"
    )
    _draw_legend(figure, left, 1 - 0.68 / down, across)
    figure.text(left, 0.26 / down, note, color=hex_of(_DIM), fontsize=9.5, va="center")
    return figure


def _neighbours(height: int, width: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of cells side by side, above each other, or diagonal."""
    for row in range(height):
        for column in range(width):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                if row + down < height and 0 <= column + right < width:
                    yield (row, column), (row + down, column + right)


def _draw_link(axes: Axes, cells: Cells, one: tuple[int, int], other: tuple[int, int]) -> None:
    (row, column), (next_row, next_column) = one, other
    joints, neighbours = set(cells[row][column]), set(cells[next_row][next_column])
    straight = row == next_row or column == next_column
    corners = [set(cells[row][next_column]), set(cells[next_row][column])]
    if not straight and (joints & neighbours or any(c in (joints, neighbours) for c in corners)):
        return  # the straight links around it say as much
    places = ([column, next_column], [row, next_row])
    style: dict[str, Any] = {"solid_capstyle": "butt", "zorder": 1.0}
    if joints & neighbours:
        axes.plot(*places, color=hex_of(_colour(joints)), linewidth=_SAME, **style)
        return
    for parent, child in BONES:
        if {parent, child} & joints and {parent, child} & neighbours:
            colour = line_colour(child, _COLOURS)
            axes.plot(*places, color=hex_of(colour), linewidth=_JOINED, **style)


def _draw_cell(axes: Axes, row: int, column: int, joints: Sequence[int]) -> None:
    colour = _colour(joints)
    axes.add_patch(
        FancyBboxPatch(
            (column - _WIDTH / 2, row - _HEIGHT / 2),
            _WIDTH,
            _HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.09",
            mutation_aspect=_PITCH[0] / _PITCH[1],
            facecolor=hex_of(colour),
            edgecolor=hex_of(DARK.background),
            linewidth=2.5,
            zorder=2,
        )
    )
    style: dict[str, Any] = {"color": hex_of(_INK), "ha": "center", "va": "center", "zorder": 3}
    numbers = " + ".join(map(str, joints)) if joints else "–"
    names = " + ".join(JOINT_NAMES[joint].replace("_", " ") for joint in joints)
    axes.text(column, row - 0.1, numbers, fontsize=16, weight="bold", **style)
    axes.text(column, row + 0.17, names, fontsize=9.5, **style)


def _draw_legend(figure: Figure, left: float, level: float, across: float) -> None:
    """One line: the colours of limbs, and the two kinds of links."""
    entries = (
        ("left", _COLOURS.left, _SAME, 0.15),
        ("right", _COLOURS.right, _SAME, 0.15),
        ("trunk and head", _COLOURS.trunk, _SAME, 0.15),
        ("same joint", _DIM, _SAME, 0.3),
        ("joined by a bone", _DIM, _JOINED, 0.3),
    )
    x = left
    for text, colour, thick, length in entries:
        end = x + length / across
        sample = Line2D(
            [x, end], [level, level], color=hex_of(colour), lw=thick, solid_capstyle="butt"
        )
        figure.add_artist(sample)
        text_at = end + 0.08 / across
        figure.text(text_at, level, text, color=hex_of(_DIM), fontsize=9.5, va="center_baseline")
        x = text_at + (0.28 + 0.074 * len(text)) / across


def _colour(joints: Collection[int]) -> Colour:
    """Of the limb; of the trunk where the joints of a cell belong to several."""
    colours = {line_colour(joint, _COLOURS) for joint in joints}
    if not colours:
        return blend(DARK.text, DARK.background, 0.25)
    return colours.pop() if len(colours) == 1 else _COLOURS.trunk
