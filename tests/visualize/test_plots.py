"""Diagrams: what is drawn where, not only that something is."""

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest

from gridpose.core import JOINT_NAMES
from gridpose.visualize.plots import evaluation_figure, save, training_curves

ACTIONS = {
    "Eating": {"mpjpe": 50.0, "pa_mpjpe": 40.0, "samples": 3},
    "Walking Together": {"mpjpe": 30.25, "pa_mpjpe": 20.0, "samples": 1},
}
JOINTS = {
    "mpjpe": {name: 10.0 + number for number, name in enumerate(JOINT_NAMES)},
    "pa_mpjpe": {name: 5.0 + number for number, name in enumerate(JOINT_NAMES)},
}


def bars(axes):
    """Lengths of the bars from top to bottom, by series."""
    return [[bar.get_width() for bar in series] for series in axes.containers]


def texts(figure):
    return [text.get_text() for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))]


def test_bars_have_the_errors_in_the_order_given():
    left, right = evaluation_figure(ACTIONS, JOINTS, (40.125, 30.0), "name", "words").axes
    assert bars(left) == [[50.0, 30.25], [40.0, 20.0]]
    assert [label.get_text() for label in left.get_yticklabels()] == list(ACTIONS)
    assert bars(right) == [list(JOINTS["mpjpe"].values()), list(JOINTS["pa_mpjpe"].values())]
    top, *_, last = (label.get_text() for label in right.get_yticklabels())
    assert (top, last) == ("hip", "right wrist")
    assert left.yaxis_inverted()


def test_values_totals_title_and_caption_are_written():
    written = texts(evaluation_figure(ACTIONS, JOINTS, (40.125, 30.0), "name", "words"))
    for expected in ("50.0", "30.2", "MPJPE 40.12 mm", "PA-MPJPE 30.00 mm", "name", "words"):
        assert expected in written, expected


def test_everything_lies_inside_the_picture_and_bars_do_not_hide_labels():
    many = {f"A long action {number}": ACTIONS["Eating"] for number in range(30)}
    figure = evaluation_figure(many, JOINTS, (50, 40), "t" * 60, "words " * 60)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    box = figure.get_tightbbox().padded(0)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 * figure.dpi <= width
    assert box.y1 * figure.dpi <= height


def test_a_long_title_is_shortened_in_its_middle():
    written = texts(evaluation_figure(ACTIONS, JOINTS, (40, 30), "a" * 50 + "b" * 50))
    (title,) = (text for text in written if text.startswith("aaa"))
    assert len(title) == 60
    assert title.endswith("bbb")
    assert "…" in title


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_files_are_of_the_kind_their_name_says(tmp_path, suffix):
    file = tmp_path / f"errors{suffix}"
    save(evaluation_figure(ACTIONS, JOINTS, (40, 30)), file)
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert file.read_bytes().startswith(start)


def test_the_picture_has_both_colours(tmp_path):
    save(evaluation_figure(ACTIONS, JOINTS, (40, 30)), tmp_path / "errors.png", dpi=60)
    picture = cv2.imread(str(tmp_path / "errors.png"))[..., ::-1]
    for colour in ((0x3B, 0x6F, 0xD4), (0xE8, 0x92, 0x1E)):
        share = (np.abs(picture.astype(int) - colour).max(-1) < 8).mean()
        assert 0.02 < share < 0.5


def rows(count):
    return [
        {
            "epoch": number + 1,
            "loss": 0.1 / (number + 1),
            "lr": 1e-3 * 0.96**number,
            "temperature": max(1.0, 30.0 - 3 * number),
            "mpjpe": 100.0 / (number + 1),
            "pa_mpjpe": 80.0 / (number + 1),
            "seconds": 3.0,
        }
        for number in range(count)
    ]


def curve(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 1]


@pytest.mark.parametrize("count", [2, 100])
def test_curves_go_through_the_rows(count):
    values = rows(count)
    loss, error, rate, heat = training_curves(values, "run").axes
    for axes, names in (
        (loss, ["loss"]),
        (error, ["mpjpe", "pa_mpjpe"]),
        (rate, ["lr"]),
        (heat, ["temperature"]),
    ):
        lines = curve(axes)
        assert len(lines) == len(names)
        for line, name in zip(lines, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(count) + 1)
            np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in values])
    assert loss.get_yscale() == "log"
    assert heat.get_ylim()[0] == 0


def test_the_best_epoch_is_marked():
    values = rows(5)
    values[2]["mpjpe"] = 1.5
    figure = training_curves(values)
    _, error, *_ = figure.axes
    assert [3.0, 1.5] in [[*line.get_xdata(), *line.get_ydata()] for line in error.get_lines()]
    assert "MPJPE, best 1.50" in texts(figure)


def test_epochs_without_validation_are_left_out():
    values = rows(4)
    values[1]["mpjpe"] = math.nan
    del values[2]["mpjpe"]
    _, error, *_ = training_curves(values).axes
    np.testing.assert_array_equal(curve(error)[0].get_xdata(), [1, 4])


@pytest.mark.parametrize("values", [[], [{"epoch": 1, "loss": 0.0}], rows(1)])
def test_short_trainings_are_drawn(tmp_path, values):
    figure = training_curves(values)
    save(figure, tmp_path / "curves.png", dpi=40)
    missing = texts(figure).count("not recorded")
    assert missing == {0: 4, 2: 3, 7: 0}[len(values[0]) if values else 0]


def test_no_display_is_asked_for():
    code = (
        "import sys, gridpose.visualize.plots as plots\n"
        "plots.training_curves([]).canvas.draw()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
