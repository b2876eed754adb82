"""Curves of joint angles over time, by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gridpose.core import BoolArray, DoubleArray
from gridpose.visualize.palette import LIGHT, hex_of
from gridpose.visualize.plots import INK, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS: Final = (
    ("knee flexion", ("left_knee_flexion", "right_knee_flexion"), (0, 90)),
    ("hip flexion", ("left_hip_flexion", "right_hip_flexion"), (0, 60)),
    ("elbow flexion", ("left_elbow_flexion", "right_elbow_flexion"), (0, 90)),
    ("shoulder elevation", ("left_shoulder_elevation", "right_shoulder_elevation"), (0, 90)),
    ("trunk lean", ("trunk_forward_lean", "trunk_left_lean"), (-15, 15)),
)
"""Title, curves, and the range that is always shown."""
_COLOURS: Final = {
    "left": LIGHT.families[0].left,
    "right": LIGHT.families[0].right,
    "forward": LIGHT.families[0].trunk,
}
_ABOVE: Final[dict[str, Any]] = {
    "loc": "lower right",
    "bbox_to_anchor": (1, 1),
    "borderaxespad": 0.2,
}
_FILLED: Final = "#eceef1"


def angle_curves(
    times: DoubleArray,
    angles: Mapping[str, DoubleArray],
    filled: Mapping[str, BoolArray],
    title: str,
) -> Figure:
    """One person's angles.

    Args:
        times: (T,) s.
        angles: (T,) degrees by name, as ``pipeline.angles.ANGLES`` has them; NaN where absent.
        filled: (T,) by name, where positions were interpolated: shaded.
        title: one line above all.
    """
    figure = new_figure(10, 11)
    rows = figure.subplots(len(_PANELS), 1, sharex=True)
    for axes, (name, curves, shown) in zip(rows, _PANELS, strict=True):
        dress(axes, "y")
        axes.set_title(name, loc="left", color=INK, fontsize=10)
        axes.set_ylabel("degrees", color=INK, fontsize=9)
        for curve in curves:
            side = next(word for word in curve.split("_") if word in _COLOURS)
            colour = hex_of(_COLOURS[side])
            label = side if side != "forward" else "forwards"
            label = f"to the {side}" if curve == "trunk_left_lean" else label
            axes.plot(times, _broken(angles[curve]), color=colour, linewidth=1.5, label=label)
        _shade(axes, times, np.logical_or.reduce([filled[curve] for curve in curves]))
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, shown[0]), max(high, shown[1]))
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=3, **_ABOVE)
    rows[-1].set_xlabel("time, s", color=INK, fontsize=10)
    rows[-1].set_xlim(times[0], max(times[-1], times[0] + 1e-3))
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, weight="bold")
    return figure


def _broken(angle: DoubleArray) -> DoubleArray:
    """Without the line from 180 to -180 degrees."""
    jumps = np.abs(np.diff(angle, append=angle[-1:])) > 300
    return np.where(jumps, np.nan, angle)


def _shade(axes: Axes, times: DoubleArray, filled: BoolArray) -> None:
    """Where values are interpolated."""
    half = float(np.median(np.diff(times))) / 2 if len(times) > 1 else 0.5
    edges = np.flatnonzero(np.diff(np.concatenate(([False], filled, [False])).astype(np.int8)))
    for count, (start, stop) in enumerate(edges.reshape(-1, 2)):
        label = "interpolated" if count == 0 else None
        span = (times[start] - half, times[stop - 1] + half)
        axes.axvspan(*span, color=_FILLED, linewidth=0, zorder=0, label=label)
