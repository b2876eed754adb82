"""Diagrams of how good a lifter is and of how it was trained, by matplotlib without a display."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN: Final = "#3b6fd4"
"""MPJPE."""
ALIGNED: Final = "#e8921e"
"""PA-MPJPE."""
INK: Final = "#2b3038"
_FAINT: Final = "#d9dde3"
_GREY: Final = "#6b7280"
_TITLE: Final = 60
_STYLE: Final[dict[str, Any]] = {"color": INK, "fontsize": 10}


def save(figure: Figure, file: Path, dpi: int = 150) -> None:
    """Write a figure in the format that the suffix names (.png, .pdf, .svg)."""
    with warnings.catch_warnings():
        # Names of files may have letters that no font at hand has; they become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, dpi=dpi)


def new_figure(width: float, height: float) -> Figure:
    """White, sized in inches, with room for every label."""
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, grid: str) -> None:
    """Only what helps to read values."""
    for side in ("top", "right", "left" if grid == "y" else "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom" if grid == "y" else "left"].set_color(_GREY)
    axes.grid(axis="y" if grid == "y" else "x", which="both", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0, labelsize=9)


def _bars(
    axes: Axes,
    labels: Sequence[str],
    pairs: Sequence[Sequence[float]],
    means: Sequence[float],
    rows: int,
) -> None:
    """Two horizontal bars for each label, with their values, and lines where the means are.

    There is room for so many ``rows``, that bars are as thick in every panel.
    """
    places = np.arange(len(labels))
    largest = max(
        (value for values in pairs for value in values if math.isfinite(value)), default=1
    )
    for values, mean, colour, name, shift in (
        (pairs[0], means[0], PLAIN, "MPJPE", -0.2),
        (pairs[1], means[1], ALIGNED, "PA-MPJPE", 0.2),
    ):
        axes.barh(places + shift, values, 0.38, color=colour, label=name)
        axes.axvline(mean, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)
        for place, value in zip(places, values, strict=True):
            axes.text(
                value + 0.008 * largest,
                place + shift,
                f"{value:.1f}",
                va="center",
                ha="left",
                fontsize=7.5,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            )
    axes.set_yticks(places, labels)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, largest * 1.1)
    axes.set_xlabel("mm", **_STYLE)
    dress(axes, "x")


def evaluation_figure(
    per_action: Mapping[str, Mapping[str, Any]],
    per_joint: Mapping[str, Mapping[str, float]],
    total: tuple[float, float],
    title: str = "",
    caption: str = "",
) -> Figure:
    """Bars of both protocols for each action and each joint.

    Args:
        per_action: by name, each with ``mpjpe`` and ``pa_mpjpe`` in mm.
        per_joint: under ``mpjpe`` and ``pa_mpjpe`` the error in mm by the joint's name.
        total: MPJPE and PA-MPJPE over all actions, mm: dashed lines.
        title: one line above all.
        caption: small print under the title.
    """
    joints = list(per_joint["mpjpe"])
    rows = max(len(per_action), len(joints))
    figure = new_figure(12, 2.0 + 0.36 * rows)
    left, right = figure.subplots(1, 2)
    _bars(
        left,
        list(per_action),
        [[float(errors[key]) for errors in per_action.values()] for key in ("mpjpe", "pa_mpjpe")],
        total,
        rows,
    )
    left.set_title("by action (dashed: mean of the actions)", loc="left", **_STYLE)
    by_joint = [[float(per_joint[key][joint]) for joint in joints] for key in ("mpjpe", "pa_mpjpe")]
    _bars(
        right,
        [joint.replace("_", " ") for joint in joints],
        by_joint,
        [float(np.mean(values)) for values in by_joint],
        rows,
    )
    right.set_title("by joint (dashed: mean of the joints)", loc="left", **_STYLE)
    handles, _ = left.get_legend_handles_labels()
    figure.legend(
        handles,
        [f"MPJPE {total[0]:.2f} mm", f"PA-MPJPE {total[1]:.2f} mm"],
        loc="outside upper right",
        ncols=2,
        frameon=False,
        fontsize=10,
        labelcolor=INK,
    )
    _head(figure, title, caption)
    return figure


def _head(figure: Figure, title: str, caption: str) -> None:
    """Title in large letters, caption in small ones under it."""
    if len(title) > _TITLE:
        title = f"{title[: _TITLE // 2]}…{title[-_TITLE // 2 + 1 :]}"
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=14, color=INK, fontweight="bold")
    if caption:
        figure.supxlabel(textwrap.fill(caption, 170), x=0.012, ha="left", fontsize=8, color=_GREY)


def _series(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of those rows that have a finite value."""
    epochs, values = [], []
    for row in rows:
        value = row.get(name)
        if value is not None and math.isfinite(float(value)):
            epochs.append(float(row["epoch"]))
            values.append(float(value))
    return epochs, values


def training_curves(rows: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """How a training went, epoch by epoch.

    Args:
        rows: ``epoch`` and what there is of ``loss``, ``mpjpe`` and ``pa_mpjpe`` (mm, of the
            validation), ``lr``, ``temperature``; in the order of epochs. What is missing or not
            finite in a row is left out, further columns are ignored.
        title: one line above all.
    """
    figure = new_figure(11, 7)
    loss, error, rate, heat = figure.subplots(2, 2, sharex=True).flat
    panels: tuple[tuple[Axes, str, tuple[tuple[str, str, str], ...], bool], ...] = (
        (loss, "training loss", (("loss", INK, ""),), True),
        (
            error,
            "validation error, mm",
            (("mpjpe", PLAIN, "MPJPE"), ("pa_mpjpe", ALIGNED, "PA-MPJPE")),
            False,
        ),
        (rate, "learning rate", (("lr", INK, ""),), False),
        (heat, "temperature of the attention", (("temperature", INK, ""),), False),
    )
    for axes, name, curves, logarithmic in panels:
        axes.set_title(name, loc="left", **_STYLE)
        dress(axes, "y")
        positive, drawn = True, False
        for key, colour, label in curves:
            epochs, values = _series(rows, key)
            if not values:
                continue
            drawn, positive = True, positive and min(values) > 0
            marker = "o" if len(values) < 40 else None
            axes.plot(epochs, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5)
            if label:
                best = int(np.argmin(values))
                axes.plot(epochs[best], values[best], "o", color=colour, markersize=7, mfc="white")
                axes.plot([], [], color=colour, label=f"{label}, best {values[best]:.2f}")
        if not drawn:
            axes.text(
                0.5,
                0.5,
                "not recorded",
                transform=axes.transAxes,
                ha="center",
                va="center",
                color=_GREY,
            )
        elif logarithmic and positive:
            axes.set_yscale("log")
        elif axes is not error:
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(bottom=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    for axes in (rate, heat):
        axes.set_xlabel("epoch", **_STYLE)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _head(figure, title, "")
    return figure
