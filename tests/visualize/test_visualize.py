from itertools import pairwise

import numpy as np
import pytest

from gridpose.core import JOINT_NAMES, MIRRORED, Person, UsageError
from gridpose.visualize import (
    LAYOUTS,
    VIEWS,
    Layout,
    Look,
    SceneRenderer,
    View,
    draw_people,
    parse_resolution,
    parse_view,
)
from gridpose.visualize.inset import CORNERS, Inset, parse_inset
from gridpose.visualize.palette import DARK, FAMILIES, LIGHT

LEFT = [i for i, name in enumerate(JOINT_NAMES) if name.startswith("left_")]


def person(track_id=1, confidence=1.0, x=300.0, height=0.0):
    """Upright, facing the viewer, arms out: image and world agree."""
    up = dict(
        zip(
            JOINT_NAMES,
            (0.96, 0.96, 0.5, 0.08, 0.96, 0.5, 0.08, 1.2, 1.45, 1.55, 1.65)
            + (1.42, 1.42, 1.42) * 2,
            strict=True,
        )
    )
    out = {"hip": 0.13, "knee": 0.15, "ankle": 0.16, "shoulder": 0.15, "elbow": 0.42, "wrist": 0.66}
    world = np.zeros((17, 3), np.float32)
    for index, name in enumerate(JOINT_NAMES):
        side = {"left": 1, "right": -1}.get(name.split("_")[0], 0)
        world[index] = (side * out.get(name.split("_")[-1], 0) if side else 0, 0, up[name] + height)
    keypoints = np.stack((x + 150 * world[:, 0], 400 - 150 * world[:, 2]), -1).astype(np.float32)
    bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
    certain = np.full(17, confidence, np.float32)
    camera = np.stack((world[:, 0], -world[:, 2], world[:, 1]), -1).astype(np.float32)
    return Person(track_id, bbox, keypoints, certain, camera - camera[0], world)


def share(image, colour, tolerance=12):
    """Where ``image`` has a colour: bool (H, W)."""
    return (np.abs(image.astype(int) - colour) <= tolerance).all(-1)


def columns(mask):
    return np.flatnonzero(mask.any(0))


def rows(mask):
    return np.flatnonzero(mask.any(1))


@pytest.mark.parametrize("view", [View(0, 14), View(20, 14), View(110, 50), View(-75, 89)])
def test_views_are_rotations(view):
    """Right, up and away are at right angles, and the floor is seen from above."""
    np.testing.assert_allclose(view.axes @ view.axes.T, np.eye(3), atol=1e-12)
    right, up, away = view.axes
    np.testing.assert_allclose(np.cross(away, right), -up, atol=1e-12)
    assert away[2] < 0
    assert up[2] > 0


def test_what_is_farther_on_the_floor_is_higher_in_the_picture():
    near, far = person(1), person(2)
    near.pose_world[:, 1] -= 2.0
    renderer = SceneRenderer((720, 720), View(0, 20), arrangement="places")
    image = renderer.draw([near, far])
    feet = [rows(share(image[:650], DARK.family(number).left)).max() for number in (1, 2)]
    assert feet[1] < feet[0] - 40
    heights = [np.ptp(rows(share(image[:650], DARK.family(number).left))) for number in (1, 2)]
    assert heights[1] < 0.9 * heights[0]


def test_places_keep_the_distances_between_people():
    first, second = person(1), person(2, x=700)
    second.pose_world[:, 0] += 3.0
    image = SceneRenderer((1280, 720), View(0, 5), arrangement="places").draw([first, second])
    trunks = [np.median(columns(share(image[:650], DARK.family(n).trunk))) for n in (1, 2)]
    reach = np.ptp(columns(share(image[:650], DARK.family(1).left)))  # 0.66 m, wrist to spine or so
    assert (trunks[1] - trunks[0]) / reach == pytest.approx(3.0 / 0.55, rel=0.25)


def test_a_row_ignores_where_people_are():
    far = person()
    far.pose_world[:, :2] += (50.0, 80.0)
    np.testing.assert_array_equal(
        SceneRenderer((300, 300)).draw([far]), SceneRenderer((300, 300)).draw([person()])
    )


def test_from_above_and_from_the_side():
    above = SceneRenderer((720, 720), parse_view("top")).draw([person()])[:650]
    trunk = share(above, DARK.family(1).trunk)
    assert np.ptp(columns(trunk)) < 80
    assert np.ptp(rows(trunk)) < 80  # a trunk seen along its length
    side = SceneRenderer((720, 720), parse_view("side")).draw([person()])[:650]
    assert np.ptp(columns(share(side, DARK.family(1).left))) < 120  # outstretched arms seen end on


def test_orbit_turns_and_comes_round():
    renderer = SceneRenderer((240, 240), parse_view("orbit"))
    first = renderer.draw([person()])
    quarter = renderer.draw([person()], 90 / 24)
    again = renderer.draw([person()], 270 / 24)
    assert (first != quarter).mean() > 0.02
    np.testing.assert_allclose(first, again, atol=1)


def test_trails_show_where_hands_were():
    def moving(trails):
        renderer = SceneRenderer((480, 480), trails=trails)
        for step in range(10):
            one = person()
            one.pose_world[JOINT_NAMES.index("left_wrist"), 2] += 0.05 * step
            image = renderer.draw([one], 1 / 30)
        return image

    drawn = (moving(True) != moving(False)).any(-1)
    assert 50 < drawn.sum() < 0.05 * drawn.size


@pytest.mark.parametrize("text", ["front", "side", "top", "orbit", "default"])
def test_views_by_name(text):
    assert parse_view(text) == VIEWS[text]


def test_views_by_angles():
    assert parse_view("-30, 45.5") == View(-30, 45.5)
    for text in ("", "behind", "10", "10,95", "nan,0", "1,2,3"):
        with pytest.raises(UsageError, match=r"`view=.*`: must be"):
            parse_view(text)


def test_resolutions():
    assert parse_resolution("1920x1080") == (1920, 1080)
    assert parse_resolution("720p") == (1280, 720)
    assert parse_resolution("4K") == (3840, 2160)
    for text in ("", "0x10", "1080", "10x10", "99999x100", "-1920x1080"):
        with pytest.raises(UsageError, match=r"`resolution=.*`: must be"):
            parse_resolution(text)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("resolution", [None, (320, 568), (1920, 1080)])
@pytest.mark.parametrize("source", [(1768, 994), (607, 1081)])
def test_every_layout_in_every_size(name, resolution, source):
    look = Look(layout=name, resolution=resolution, theme="light", trails=True)
    layout = Layout(source, look)
    frame = np.full((source[1], source[0], 3), (200, 30, 30), np.uint8)
    for moment in (0.0, 0.1):
        canvas = layout.compose(layout.panel(frame), [person(), person(2, x=500)], moment)
    assert canvas.shape == (layout.size[1], layout.size[0], 3)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    if resolution is not None:
        assert layout.size[0] <= resolution[0]
        assert layout.size[1] <= resolution[1]
        # Sources keep their shape; scenes fill what they get.
        assert layout.size == resolution or name in ("overlay", "inset")
    source_share = share(canvas, (200, 30, 30), 8).mean()
    assert layout.shows_source == (name not in ("skeleton", "views"))
    assert (source_share > 0.15) == layout.shows_source
    ground = share(canvas, LIGHT.background, 3).mean()
    assert (ground > 0.02) == (name != "overlay")


def test_inset_covers_a_corner_of_the_source():
    layout = Layout((1280, 720), Look(layout="inset"))
    canvas = layout.compose(layout.panel(np.full((720, 1280, 3), 255, np.uint8)), [person()], 0.0)
    covered = share(canvas, DARK.background, 3) | share(canvas, DARK.floor, 3)
    assert covered[-200:, -200:].mean() > 0.3
    assert covered[:, :640].mean() < 0.01


def test_text_grows_with_the_picture():
    def ink(height):
        layout = Layout((640, 480), Look(layout="skeleton", resolution=(height * 16 // 9, height)))
        canvas = layout.compose(layout.panel(np.zeros((480, 640, 3), np.uint8)), [], 1.0)
        return share(canvas[-height // 12 :], DARK.text, 20).sum()

    assert ink(2160) > 4 * ink(720) > 0


@pytest.mark.parametrize("azimuth", [0.0, 20.0, -30.0])
def test_scene_is_upright_not_mirrored_and_on_its_floor(azimuth):
    image = SceneRenderer((720, 720), View(azimuth=azimuth)).draw([person()])
    colours = DARK.family(1)
    legend = rows(share(image, colours.left)).max()
    image = image[: legend - 20]
    left, right = share(image, colours.left), share(image, colours.right)
    # Somebody who faces the viewer has their left at the right of the picture.
    assert np.median(columns(left)) > np.median(columns(right))
    trunk = rows(share(image, colours.trunk))
    assert trunk.min() < rows(left).min()  # the head is above the arms
    floor = rows(share(image, DARK.floor, 2))
    feet = rows(left).max()
    assert floor.min() < feet < floor.max() + 40


def test_from_behind_the_sides_change_places():
    front = SceneRenderer((720, 720), View(azimuth=0)).draw([person()])[:650]
    back = SceneRenderer((720, 720), View(azimuth=180)).draw([person()])[:650]
    colour = DARK.family(1).left
    middle = 360
    assert np.median(columns(share(front, colour))) > middle
    assert np.median(columns(share(back, colour))) < middle


def test_jumping_moves_the_person_up_and_leaves_the_shadow():
    renderer = SceneRenderer((720, 720))
    standing = renderer.draw([person()])[:650]
    renderer = SceneRenderer((720, 720))
    jumping = renderer.draw([person(height=0.25)])[:650]
    colour = DARK.family(1).left
    assert rows(share(jumping, colour)).max() < rows(share(standing, colour)).max() - 40


def test_unsure_joints_are_faint():
    colour = DARK.family(1).left
    sure = SceneRenderer((480, 480)).draw([person()])[:430]
    unsure = SceneRenderer((480, 480)).draw([person(confidence=0.2)])[:430]
    assert share(sure, colour).sum() > 200
    assert share(unsure, colour).sum() == 0
    assert (unsure != SceneRenderer((480, 480)).draw([])[:430]).any()


def test_two_people_stand_side_by_side_in_their_own_colours():
    image = SceneRenderer((720, 720)).draw([person(1, x=200), person(2, x=600)])[:650]
    first = columns(share(image, DARK.family(1).trunk))
    second = columns(share(image, DARK.family(2).trunk))
    assert first.max() < second.min()


def test_nobody_is_cut_off():
    renderer = SceneRenderer((720, 720))
    people = [person(number, x=200.0 * number) for number in (1, 2, 3, 4)]
    for _ in range(60):
        image = renderer.draw(people, 1 / 30)
    for number in (1, 4):
        for colour in (DARK.family(number).left, DARK.family(number).right):
            seen = columns(share(image[:650], colour))
            assert seen.min() > 2
            assert seen.max() < 717


@pytest.mark.parametrize("height", [0.0, 1.9, 4.0])
def test_nobody_on_a_roof_is_cut_off(height):
    """One up there and near, one on the ground and 4 m farther away."""
    renderer = SceneRenderer((720, 720), arrangement="places")
    near, far = person(1, x=200.0), person(2, x=600.0)
    near.pose_world[:, 2] += height
    far.pose_world[:, :2] += (1.5, 4.0)
    for _ in range(60):
        image = renderer.draw([near, far], 1 / 30)
    empty = SceneRenderer((720, 720)).draw([])
    drawn = np.abs(image[:6].astype(int) - empty[:6]).max(-1) > 8
    assert not drawn.any()


def test_framing_comes_to_rest():
    renderer = SceneRenderer((720, 720))
    for _ in range(300):
        last = renderer.draw([person()], 1 / 30)
    np.testing.assert_array_equal(renderer.draw([person()], 1 / 30), last)


def test_families_are_distinct_and_left_is_warmer():
    assert len({colour for f in FAMILIES for colour in (f.left, f.right)}) == 2 * len(FAMILIES)
    for colours in FAMILIES:
        assert colours.left[0] - colours.left[2] > colours.right[0] - colours.right[2]


def test_overlay_draws_sides_in_their_hues_at_the_joints():
    image = np.full((480, 640, 3), 90, np.uint8)
    one = person()
    draw_people(image, [one])
    left_wrist = one.keypoints_2d[JOINT_NAMES.index("left_wrist")].round().astype(int)
    region = image[left_wrist[1] - 2 : left_wrist[1] + 3, left_wrist[0] - 6 : left_wrist[0] + 1]
    assert share(region, DARK.family(1).left, 30).any()


def test_overlay_outside_the_image_or_absurd_does_no_harm():
    image = np.zeros((100, 100, 3), np.uint8)
    for shift in (1000.0, -1000.0, 1e9, np.nan):
        one = person()
        one.keypoints_2d[:] += shift
        draw_people(image, [one])
        faint = person(confidence=0.2)
        faint.keypoints_2d[:] += shift
        draw_people(image, [faint])
    assert (image == 0).all()


@pytest.mark.parametrize("size", [(1768, 994), (640, 480), (721, 1281), (321, 241), (50, 2000)])
def test_layout_has_even_sizes_and_shows_the_whole_source(size):
    layout = Layout(size)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    frame = np.full((size[1], size[0], 3), 200, np.uint8)
    canvas = layout.compose(layout.panel(frame), [], 0.0)
    assert canvas.shape == (layout.size[1], layout.size[0], 3)
    shown = share(canvas, (200, 200, 200), 0)
    aspect = len(columns(shown)) / len(rows(shown))
    assert aspect == pytest.approx(size[0] / size[1], rel=0.1)


def test_layout_scales_keypoints_with_the_picture():
    layout = Layout((2560, 1440))
    one = person(x=1000)
    canvas = layout.compose(layout.panel(np.zeros((1440, 2560, 3), np.uint8)), [one], 0.0)
    panel = canvas[:, :1280]
    wrist = one.keypoints_2d[JOINT_NAMES.index("left_wrist")] / 2
    at = columns(share(panel, DARK.family(1).left, 30))
    assert at.max() == pytest.approx(wrist[0], abs=6)


def test_empty_scene_is_background_and_floor():
    image = SceneRenderer((300, 300)).draw([])
    assert share(image, DARK.background, 0).mean() > 0.3
    assert share(image, DARK.floor, 0).any()


def test_mirrored_indices_are_an_involution():
    assert [MIRRORED[MIRRORED[i]] for i in range(17)] == list(range(17))
    assert {MIRRORED[i] for i in LEFT} == {
        i for i, name in enumerate(JOINT_NAMES) if name.startswith("right_")
    }


UNSEEN = [JOINT_NAMES.index(name) for name in ("left_knee", "left_ankle")]


def without_left_leg():
    one = person()
    one.confidence[UNSEEN] = 0
    return one


def test_unseen_joints_are_faint_in_the_scene_or_left_out():
    colour = DARK.family(1).left
    seen, faint = (
        SceneRenderer((720, 720)).draw([one])[400:650] for one in (person(), without_left_leg())
    )
    left_out = SceneRenderer((720, 720), hide_unseen=True).draw([without_left_leg()])[400:650]
    leg = columns(share(seen, colour))  # that leg and nothing else of this colour
    assert len(leg) > 3
    assert not share(faint, colour).any()
    traces = [
        (image != SceneRenderer((720, 720)).draw([])[400:650]).any(-1)
        for image in (seen, faint, left_out)
    ]
    assert traces[0].sum() > traces[1].sum() > traces[2].sum() > 0


def test_unseen_joints_cast_no_shadow_and_leave_no_trail():
    def drawn(one):
        renderer = SceneRenderer((480, 480), trails=True, hide_unseen=True)
        for _ in range(10):
            one.pose_world[UNSEEN, 0] += 0.05
            image = renderer.draw([one], 1 / 30)
        return image

    # Wherever the unseen leg moves to, the picture is the same.
    still, moved = without_left_leg(), without_left_leg()
    moved.pose_world[UNSEEN, 1] += 0.1
    np.testing.assert_array_equal(drawn(still), drawn(moved))


def test_unseen_joints_over_the_picture():
    """Dotted inside it, not drawn to outside it, left out if wished."""

    def ink(one, **options):
        image = np.zeros((480, 640, 3), np.uint8)
        draw_people(image, [one], **options)
        return (image[330:] > 0).any(-1).sum()

    inside = without_left_leg()
    outside = without_left_leg()
    outside.keypoints_2d[UNSEEN, 1] += 200
    assert ink(person()) > ink(inside) > ink(outside)
    assert ink(outside) == ink(inside, hide_unseen=True) == ink(outside, hide_unseen=True) > 0


def test_the_number_of_somebody_without_a_head_stands_over_what_is_seen():
    def label_rows(one):
        renderer = SceneRenderer((480, 480), hide_unseen=True)
        return rows(share(renderer.draw([one])[:400], DARK.rim, 2))

    headless = person()
    legs = ("hip", "knee", "ankle")
    upper = [i for i, name in enumerate(JOINT_NAMES) if not name.endswith(legs)]
    headless.confidence[upper] = 0
    assert label_rows(headless).min() > label_rows(person()).min() + 60
    nobody, other = person(confidence=0.0), person(confidence=0.0)
    other.pose_world[JOINT_NAMES.index("left_knee"), 0] = 0
    drawn = [SceneRenderer((480, 480), hide_unseen=True).draw([one]) for one in (nobody, other)]
    np.testing.assert_array_equal(*drawn)
    image = np.zeros((480, 640, 3), np.uint8)
    draw_people(image, [nobody], hide_unseen=True)
    assert not image.any()


def test_insets_by_name():
    assert parse_inset("top-left, 0.25") == Inset("top-left", 0.25)
    assert parse_inset("bottom-right") == Inset("bottom-right")
    assert parse_inset("auto") == Inset()
    assert parse_inset("0.5") == parse_inset("auto,0.5") == Inset(None, 0.5)
    for text in ("", ",", "middle", "top-left,", "top-left,0.9", "0", "auto,nan", "top-left 0.3"):
        with pytest.raises(UsageError, match=r"`inset=.*`: must be"):
            parse_inset(text)


SOURCE = (1280, 720)


def boxed(left, top, width=200, height=400):
    """Somebody whose box in the source is known."""
    one = person()
    one.bbox[:] = (left, top, left + width, top + height)
    one.keypoints_2d[:] = (left + width / 2, top + height / 2)
    return one


def inset_corners(frames, inset, fixed=False):
    """The corner of the inset in each of some frames, 15 a second, None while it changes."""
    layout = Layout(SOURCE, Look(layout="inset", inset=inset, resolution=(320, 180)))
    moments = [(index / 15, people) for index, people in enumerate(frames)]
    if fixed:
        layout.frame_all(moments)
    panel = layout.panel(np.full((720, 1280, 3), 255, np.uint8))
    found = []
    for index, (time, people) in enumerate(moments):
        canvas = layout.compose(panel, people, time, moments[index + 1 : index + 23])
        ground = share(canvas, DARK.background, 3)
        parts = {
            "top-left": ground[:75, :75],
            "top-right": ground[:75, -75:],
            "bottom-left": ground[-75:, :75],
            "bottom-right": ground[-75:, -75:],
        }
        there = [name for name, part in parts.items() if part.mean() > 0.2]
        found.append(there[0] if len(there) == 1 else None)
    return found


@pytest.mark.parametrize("corner", CORNERS)
def test_the_inset_lies_where_it_is_wished(corner):
    people = [[boxed(0, 0), boxed(1080, 0), boxed(0, 320), boxed(1080, 320)]]
    assert inset_corners(people * 3, Inset(corner)) == [corner] * 3


@pytest.mark.parametrize("size", [0.1, 0.3, 0.5])
def test_the_inset_has_the_size_that_is_wished(size):
    layout = Layout(SOURCE, Look(layout="inset", inset=Inset("top-left", size)))
    canvas = layout.compose(layout.panel(np.full((720, 1280, 3), 255, np.uint8)), [], 0.0)
    assert len(columns((canvas[60:80] < 255).any(-1))) == pytest.approx(1280 * size, abs=2)
    assert len(rows((canvas[:, 100:120] < 255).any(-1))) == pytest.approx(1280 * size, abs=2)


def test_the_inset_takes_the_emptiest_corner():
    people = [[boxed(0, 320), boxed(1080, 320), boxed(1000, 0)]]
    assert inset_corners(people * 3, Inset()) == ["top-left"] * 3


def test_who_walks_through_the_corner_does_not_move_the_inset():
    frames = [[]] * 30 + [[boxed(300 + 24 * f, 320)] for f in range(60)] + [[]] * 30
    here = inset_corners(frames, Inset())
    assert here == ["bottom-right"] * 120


def test_the_inset_makes_way_for_who_stays_and_once_only():
    frames = [[]] * 30 + [[boxed(1000, 300)]] * 120
    corners = inset_corners(frames, Inset())
    assert corners[0] == "bottom-right"
    assert corners[-1] not in ("bottom-right", None)
    changes = sum(a != b for a, b in pairwise(corners))
    assert changes <= 2  # into the change, and out of it
    assert 3 < corners.count(None) < 15
    assert corners[40] == "bottom-right"  # not at once


def test_the_inset_of_a_whole_file_keeps_its_corner():
    frames = [[]] * 30 + [[boxed(1000, 300)]] * 60
    corners = inset_corners(frames, Inset(), fixed=True)
    assert corners == [corners[0]] * 90
    assert corners[0] not in ("bottom-right", None)


def test_a_cut_chooses_the_corner_anew():
    layout = Layout(SOURCE, Look(layout="inset"))
    panel = layout.panel(np.full((720, 1280, 3), 255, np.uint8))
    layout.compose(panel, [], 0.0)
    layout.cut(2, 0.1)
    canvas = layout.compose(panel, [boxed(1000, 300)], 0.1)
    assert share(canvas, DARK.background, 3)[-300:, -300:].mean() < 0.02
