import numpy as np
import pytest

from gridpose.core import JOINT_NAMES, MIRRORED, Person
from gridpose.visualize import SceneRenderer, SideBySide, View, draw_people
from gridpose.visualize.palette import BACKGROUND, FAMILIES, FLOOR, family

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


@pytest.mark.parametrize("azimuth", [0.0, 20.0, -30.0])
def test_scene_is_upright_not_mirrored_and_on_its_floor(azimuth):
    image = SceneRenderer((720, 720), View(azimuth=azimuth)).draw([person()])
    colours = family(1)
    legend = rows(share(image, colours.left)).max()
    image = image[: legend - 20]
    left, right = share(image, colours.left), share(image, colours.right)
    # Somebody who faces the viewer has their left at the right of the picture.
    assert np.median(columns(left)) > np.median(columns(right))
    trunk = rows(share(image, colours.trunk))
    assert trunk.min() < rows(left).min()  # the head is above the arms
    floor = rows(share(image, FLOOR, 2))
    feet = rows(left).max()
    assert floor.min() < feet < floor.max() + 40


def test_from_behind_the_sides_change_places():
    front = SceneRenderer((720, 720), View(azimuth=0)).draw([person()])[:650]
    back = SceneRenderer((720, 720), View(azimuth=180)).draw([person()])[:650]
    colour = family(1).left
    middle = 360
    assert np.median(columns(share(front, colour))) > middle
    assert np.median(columns(share(back, colour))) < middle


def test_jumping_moves_the_person_up_and_leaves_the_shadow():
    renderer = SceneRenderer((720, 720))
    standing = renderer.draw([person()])[:650]
    renderer = SceneRenderer((720, 720))
    jumping = renderer.draw([person(height=0.25)])[:650]
    colour = family(1).left
    assert rows(share(jumping, colour)).max() < rows(share(standing, colour)).max() - 40


def test_unsure_joints_are_faint():
    colour = family(1).left
    sure = SceneRenderer((480, 480)).draw([person()])[:430]
    unsure = SceneRenderer((480, 480)).draw([person(confidence=0.2)])[:430]
    assert share(sure, colour).sum() > 200
    assert share(unsure, colour).sum() == 0
    assert (unsure != SceneRenderer((480, 480)).draw([])[:430]).any()


def test_two_people_stand_side_by_side_in_their_own_colours():
    image = SceneRenderer((720, 720)).draw([person(1, x=200), person(2, x=600)])[:650]
    first = columns(share(image, family(1).trunk))
    second = columns(share(image, family(2).trunk))
    assert first.max() < second.min()


def test_nobody_is_cut_off():
    renderer = SceneRenderer((720, 720))
    people = [person(number, x=200.0 * number) for number in (1, 2, 3, 4)]
    for _ in range(60):
        image = renderer.draw(people, 1 / 30)
    for number in (1, 4):
        for colour in (family(number).left, family(number).right):
            seen = columns(share(image[:650], colour))
            assert seen.min() > 2
            assert seen.max() < 717


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
    assert share(region, family(1).left, 30).any()


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
    layout = SideBySide(size)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    frame = np.full((size[1], size[0], 3), 200, np.uint8)
    canvas = layout.compose(layout.panel(frame), [], 0.0)
    assert canvas.shape == (layout.size[1], layout.size[0], 3)
    shown = share(canvas, (200, 200, 200), 0)
    aspect = len(columns(shown)) / len(rows(shown))
    assert aspect == pytest.approx(size[0] / size[1], rel=0.1)


def test_layout_scales_keypoints_with_the_picture():
    layout = SideBySide((2560, 1440))
    one = person(x=1000)
    canvas = layout.compose(layout.panel(np.zeros((1440, 2560, 3), np.uint8)), [one], 0.0)
    panel = canvas[:, :1280]
    wrist = one.keypoints_2d[JOINT_NAMES.index("left_wrist")] / 2
    at = columns(share(panel, family(1).left, 30))
    assert at.max() == pytest.approx(wrist[0], abs=6)


def test_empty_scene_is_background_and_floor():
    image = SceneRenderer((300, 300)).draw([])
    assert share(image, BACKGROUND, 0).mean() > 0.3
    assert share(image, FLOOR, 0).any()


def test_mirrored_indices_are_an_involution():
    assert [MIRRORED[MIRRORED[i]] for i in range(17)] == list(range(17))
    assert {MIRRORED[i] for i in LEFT} == {
        i for i, name in enumerate(JOINT_NAMES) if name.startswith("right_")
    }
