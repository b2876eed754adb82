"""The camera of the 3D view: at rest, and nobody is cut off."""

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from motion_of_camera import FPS, filmed, moments_of, standing

from gridpose.visualize import VIEWS, Layout, Look, SceneRenderer, View

SQUARE, WIDE = (720, 720), (1280, 720)


def test_who_fits_into_the_picture_does_not_move_it():
    """Somebody comes for ten frames and goes, twice: the view stays."""
    people = [
        [standing(1), *([standing(2, across=1.4)] if 40 <= f < 50 or 90 <= f < 100 else [])]
        for f in range(150)
    ]
    row = filmed(moments_of(people), WIDE, "row")
    assert np.ptp(row.spans) == row.path == 0
    # Seen from the side by 20 degrees somebody at the right is farther away, hence higher up.
    places = filmed(moments_of(people), WIDE)
    assert places.spans.max() / places.spans.min() < 1.05
    assert places.scale_rate.max() < 0.1
    assert row.cut_off == places.cut_off == 0


def test_the_view_has_widened_when_somebody_comes_far_away():
    people = [[standing(1), *([standing(2, across=3.5)] if f >= 60 else [])] for f in range(150)]
    film = filmed(moments_of(people), SQUARE)
    assert film.cut_off == 0
    assert film.reversals == 0
    # From 2.7 to 4.8 m in 1.5 s, but no jolt: the pace changes little from frame to frame.
    assert film.scale_rate.max() < 0.6
    assert film.jolt < 0.08
    assert film.path < 2.5
    assert film.spans[:15] == pytest.approx(film.spans[0], abs=1e-3)
    assert film.spans[-1] < 5.6


@pytest.mark.parametrize("view", ["default", "side", "top", "orbit"])
@pytest.mark.parametrize("look_ahead", [0.0, 0.4, 1.5])
def test_nobody_is_cut_off_by_any_view(view, look_ahead):
    people = [
        [
            standing(1, across=-4 + 1.5 * f / FPS, height=3.0),
            *([standing(2, across=3, away=4)] if f > 70 else []),
        ]
        for f in range(150)
    ]
    film = filmed(moments_of(people), SQUARE, view=VIEWS[view], look_ahead=look_ahead)
    assert film.cut_off == 0


def test_a_walk_of_eight_metres_on_a_roof():
    """At 1.4 m/s, then standing: the zoom is slow, and the picture never nearly empty."""
    people = [[standing(1, across=-4 + min(8, 1.4 * f / FPS), height=3.0)] for f in range(300)]
    film = filmed(moments_of(people), WIDE)
    assert film.cut_off == 0
    assert film.scale_rate.max() <= 0.15
    assert film.pan_speed.max() <= 1.6
    assert film.filled.min() > 0.25


def test_a_walker_on_the_floor_is_followed():
    people = [[standing(1, across=1.4 * f / FPS)] for f in range(400)]
    film = filmed(moments_of(people), SQUARE)
    assert film.cut_off == 0
    assert film.scale_rate.max() <= 0.15
    assert film.pan_speed.max() <= 1.8
    assert film.filled.min() > 0.2


def test_an_empty_floor_does_not_last():
    people = [[standing(1), *([standing(2, across=5)] if f < 60 else [])] for f in range(700)]
    film = filmed(moments_of(people), SQUARE)
    assert film.spans[60 + 90] == pytest.approx(film.spans[0], rel=0.02)  # not at once
    assert film.spans[-1] < 3.2
    assert film.scale_rate.max() <= 0.15
    assert film.reversals == 0


def test_while_nobody_is_there_the_view_stays():
    people = [[standing(1, across=2)] if f < 30 or f > 200 else [] for f in range(230)]
    film = filmed(moments_of(people), SQUARE)
    assert np.ptp(film.spans) == 0
    assert film.path == 0


def test_someone_missing_for_a_moment_keeps_their_slot():
    def at(frame):
        shown = [standing(1), standing(2), standing(3)]
        return [shown[0], *([] if 30 <= frame < 42 else shown[1:2]), shown[2]]

    renderer = SceneRenderer(WIDE)
    pictures = [renderer.draw(at(frame), 1 / FPS) for frame in range(60)]
    np.testing.assert_array_equal(pictures[10], pictures[-1])


def test_a_cut_begins_anew_at_once():
    renderer = SceneRenderer(SQUARE, trails=True)
    for frame in range(60):
        renderer.draw([standing(n, away=0.01 * frame) for n in (1, 2, 3)], 1 / FPS)
    renderer.cut()
    fresh = SceneRenderer(SQUARE, trails=True)
    np.testing.assert_array_equal(renderer.draw([standing(3)]), fresh.draw([standing(3)]))


def test_a_new_shot_is_named_for_half_a_second():
    layout = Layout((640, 480), Look(layout="skeleton", resolution=(640, 480)))
    panel = layout.panel(np.zeros((480, 640, 3), np.uint8))
    layout.compose(panel, [standing(1)], 0.9)
    layout.cut(2, 1.0)
    pictures = {time: layout.compose(panel, [standing(1)], time) for time in (1.0, 1.4, 1.6, 1.9)}
    strips = {time: image[455:, 400:565] for time, image in pictures.items()}  # beside the time
    assert (strips[1.0] != strips[1.6]).any()
    np.testing.assert_array_equal(strips[1.0], strips[1.4])
    np.testing.assert_array_equal(strips[1.6], strips[1.9])


@pytest.mark.parametrize("view", [View(), VIEWS["top"]])
def test_all_moments_in_one_framing(view):
    people = [[standing(1, across=f / 30), *([standing(2)] if f > 50 else [])] for f in range(100)]
    film = filmed(moments_of(people), SQUARE, view=view, whole=True)
    assert film.cut_off == 0
    assert np.ptp(film.spans) == film.path == 0


def test_what_is_too_wide_for_one_framing_is_followed():
    people = [[standing(1, across=2 * f / FPS)] for f in range(600)]
    film = filmed(moments_of(people), SQUARE, whole=True)
    assert film.cut_off == 0
    assert film.filled.min() > 0.15  # 40 m in one picture: 0.04


@settings(max_examples=25)
@given(st.data())
def test_nobody_is_ever_cut_off(data):
    """Whoever comes and goes wherever, in any arrangement, foreseen or not."""
    place = st.floats(-6, 6)
    there = [
        (data.draw(st.integers(0, 40)), data.draw(st.integers(1, 40)), data.draw(place),
         data.draw(place), data.draw(st.floats(-0.3, 3)))
        for _ in range(data.draw(st.integers(1, 4)))
    ]  # fmt: skip
    people = [
        [
            standing(number, across, away, height)
            for number, (begin, length, across, away, height) in enumerate(there, 1)
            if begin <= frame < begin + length
        ]
        for frame in range(80)
    ]
    view = View(data.draw(st.floats(0, 360)), data.draw(st.floats(-10, 89)))
    size = data.draw(st.sampled_from([(120, 90), (90, 160)]))
    ahead = data.draw(st.sampled_from([0.0, 0.3, 1.5]))
    arrangement = data.draw(st.sampled_from(["row", "places"]))
    film = filmed(moments_of(people), size, arrangement, view, ahead)
    assert film.cut_off == 0


def test_pictures_of_a_fixed_view_have_one_floor():
    layout = Layout(
        (640, 480), Look(layout="skeleton", resolution=(640, 480), arrangement="places")
    )
    moments = moments_of([[standing(1, across=0.1 * f)] for f in range(30)])
    layout.frame_all(moments)
    panel = layout.panel(np.zeros((480, 640, 3), np.uint8))
    first, last = (
        layout.compose(panel, people, time) for time, people in (moments[0], moments[-1])
    )
    difference = cv2.absdiff(first, last)[:440].any(-1)
    assert 0.005 < difference.mean() < 0.12


def test_an_hour_without_frames_is_no_trouble():
    """Broken time stamps leap."""
    renderer = SceneRenderer(SQUARE)
    for elapsed in (0.0, 0.04, 30_000.0, 0.04):
        picture = renderer.draw([standing(1), standing(2, across=3.0)], elapsed)
    assert picture.std() > 0
