import importlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

from gridpose.core import UsageError
from gridpose.detectors.blazepose.finder import (
    LEVELS,
    BlazePosePersons,
    body_box,
    candidates,
    load_persons,
    search_tiles,
)
from gridpose.detectors.blazepose.person_detector import FoundPeople
from gridpose.detectors.blazepose.regions import Regions
from gridpose.detectors.boxes import (
    FullFrame,
    non_maximum_suppression,
    overlaps,
    person_boxes,
)
from gridpose.detectors.conventions import BLAZEPOSE_33
from gridpose.detectors.hrnet import mmdet_boxes
from gridpose.detectors.hrnet.person_finder import load_person_finder

SAMPLE_PEOPLE = Path(__file__).parents[1] / "data" / "sample_video_people.json"


def boxes_of():
    corners = hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 12), st.just(4)),
        elements=st.floats(-200, 200, width=16),
    )
    return corners.map(lambda c: np.hstack((np.minimum(c[:, :2], c[:, 2:]), c[:, 2:].clip(-200))))


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("measure_detector")


@pytest.fixture(scope="module")
def finder():
    with load_persons(max_persons=20) as opened:
        yield opened


# ------------------------------------------------------------------------- boxes


def test_overlaps_of_known_boxes():
    first = np.array([[0, 0, 10, 10]], np.float32)
    second = np.array(
        [[0, 0, 10, 10], [0, 5, 10, 15], [2, 2, 4, 4], [10, 0, 20, 10], [3, 3, 3, 3]], np.float32
    )
    iou, contained = overlaps(first, second)
    np.testing.assert_allclose(iou, [[1, 1 / 3, 0.04, 0, 0]])
    np.testing.assert_allclose(contained, [[1, 0.5, 1, 0, 0]])


@given(boxes_of())
def test_overlaps_are_symmetric_shares(boxes):
    for share in overlaps(boxes, boxes):
        assert share.shape == (len(boxes), len(boxes))
        assert ((share >= 0) & (share <= 1 + 1e-9)).all()
        np.testing.assert_allclose(share, share.T)


@given(boxes_of(), st.data(), st.floats(0.1, 1))
def test_suppression_keeps_the_best_and_drops_only_for_a_better_one(boxes, data, most):
    scores = np.array(
        data.draw(st.lists(st.floats(0, 1), min_size=len(boxes), max_size=len(boxes)))
    )
    kept = non_maximum_suppression(boxes, scores, most)
    rivals = overlaps(boxes, boxes)[0] >= most
    for position, index in enumerate(kept):
        assert not rivals[index, kept[:position]].any()
    for index in set(range(len(boxes))) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[index]]
        assert rivals[index, better].any()
    assert (np.diff(scores[kept]) <= 0).all()


def test_boxes_are_clipped_and_the_largest_come_first():
    boxes = np.array(
        [[10, 10, 30, 30], [-50, -50, 60, 90], [500, 5, 600, 50], [99, 0, 140, 70]], np.float32
    )
    found = person_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6]), (100, 80), max_persons=5)
    # One lies outside, and of one only a pixel's width inside.
    np.testing.assert_array_equal(found.boxes, [[0, 0, 60, 80], [10, 10, 30, 30]])
    np.testing.assert_allclose(found.scores, [0.8, 0.9])
    assert found.boxes.dtype == found.scores.dtype == np.float32
    largest = person_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6]), (100, 80), max_persons=1)
    np.testing.assert_array_equal(largest.boxes, [[0, 0, 60, 80]])


def test_nobody_is_empty_arrays():
    found = person_boxes(np.zeros((0, 4)), np.zeros(0), (100, 80), 3)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_the_full_frame_is_one_box_for_each_frame():
    frames = [np.zeros((40, 60, 3), np.uint8), np.zeros((30, 20, 3), np.uint8)]
    with FullFrame() as full:
        wide, narrow = full.find(frames)
        assert full.find([]) == []
    np.testing.assert_array_equal(wide.boxes, [[0, 0, 60, 40]])
    np.testing.assert_array_equal(narrow.boxes, [[0, 0, 20, 30]])
    assert wide.scores.tolist() == [1]


# ------------------------------------------------------------------------- tiles


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from(LEVELS))
def test_tiles_show_some_of_the_frame_and_are_squares_beside_the_first(width, height, levels):
    if max(width, height) > 30 * min(width, height):
        return
    tiles = search_tiles(width, height, levels)
    assert tiles[0] == (0, 0, width, height)
    assert len(set(tiles)) == len(tiles)
    for x0, y0, x1, y1 in tiles:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < min(y1, height)
    assert all(y1 - y0 >= x1 - x0 for x0, y0, x1, y1 in tiles[1:])
    assert all(y1 - y0 == x1 - x0 for x0, y0, x1, y1 in tiles[1:] if y1 <= height)


@given(st.integers(150, 2000), st.integers(150, 2000), st.floats(0, 1), st.floats(0, 1))
def test_each_level_shows_any_small_person_whole_in_some_tile(width, height, across, down):
    # As long as half the overlap allows, wherever they stand.
    for level, share in ((2, 1.0), (3, 2 / 3)):
        side = round(share * min(width, height))
        tiles = [t for t in search_tiles(width, height, level) if t[2] - t[0] == side]
        size = 0.45 * side
        x, y = across * (width - size), down * (height - size)
        assert any(
            x0 - 1 <= x and y0 - 1 <= y and x + size <= x1 + 1 and y + size <= y1 + 1
            for x0, y0, x1, y1 in tiles
        )


@given(st.integers(150, 2000), st.integers(150, 2000), st.floats(0, 1), st.sampled_from((2, 3)))
def test_whoever_the_lower_edge_cuts_is_in_the_upper_part_of_some_tile(
    width, height, across, level
):
    side = round((1.0, 2 / 3)[level - 2] * min(width, height))
    seen = 0.4 * side
    x, y = across * (width - seen), height - seen
    assert any(
        x0 - 1 <= x and x + seen <= x1 + 1 and y0 - 1 <= y and y1 - height >= 0.45 * side
        for x0, y0, x1, y1 in search_tiles(width, height, level)
        if y1 - y0 == side
    )


def test_more_levels_are_more_tiles_and_small_frames_need_none():
    def counts(width, height):
        tiles = [search_tiles(width, height, level) for level in LEVELS]
        return [(len(each), sum(y1 <= height for *_, y1 in each)) for each in tiles]

    assert counts(1920, 1080) == [(1, 1), (7, 4), (25, 14)]
    turned = {(y0, x0, y1, x1) for x0, y0, x1, y1 in search_tiles(1080, 1920, 3) if y1 <= 1920}
    assert turned == {tile for tile in search_tiles(1920, 1080, 3) if tile[3] <= 1080}
    assert all(tile[2:] >= (64, 64) for tile in search_tiles(64, 64, 3))


def shown(*regions, scores=None):
    """What one tile shows: regions (x, y, side, degrees)."""
    places = np.array(regions, float).reshape(-1, 4)
    return FoundPeople(
        Regions(places[:, :2], places[:, 2], np.radians(places[:, 3])),
        np.array(scores or [0.5] * len(places), np.float32),
    )


def test_what_several_tiles_show_is_one_person_and_what_one_shows_is_doubtful():
    found = candidates(
        [
            shown((100, 100, 200, 0), (900, 100, 200, 0)),
            shown((105, 98, 210, 5)),
            shown(),
            shown((100, 100, 200, 90), scores=[0.9]),
        ]
    )
    # The one who lies where somebody stands may be a part of them: a look from close by will tell.
    np.testing.assert_allclose(found.regions.centers[:, 0], [100, 100, 900], atol=6)
    np.testing.assert_allclose(found.support, [1.0, 0.9, 0.5])
    assert found.doubtful.tolist() == [False, True, True]
    nobody = candidates([shown(), shown()])
    assert len(nobody.regions) == len(nobody.support) == len(nobody.doubtful) == 0


def test_a_child_before_somebody_stays_if_several_tiles_show_it():
    big, child = (300, 300, 600, 0), (330, 360, 250, 0)
    found = candidates([shown(big, child), shown(big, child), shown(big)])
    assert found.regions.sides.tolist() == [600, 250]
    assert found.doubtful.tolist() == [False, True]


def upright(height=100.0):
    """BlazePose keypoints (33, 2) of someone who stands, from eyes to toes."""
    keypoints = np.zeros((33, 2), np.float32)
    index = BLAZEPOSE_33.keypoints.index
    keypoints[:, 1] = height / 2
    keypoints[index("right_wrist")] = (-height / 4, height / 2)
    keypoints[index("left_wrist")] = (height / 4, height / 2)
    for name in BLAZEPOSE_33.keypoints[:9]:
        keypoints[index(name)] = (0, 0)
    for name in ("mouth_left", "mouth_right"):
        keypoints[index(name)] = (0, height * 0.05)
    for name in ("left_foot_index", "right_foot_index"):
        keypoints[index(name)] = (0, height)
    return keypoints


def test_the_box_holds_crown_and_soles():
    keypoints = upright()
    left, top, right, bottom = body_box(keypoints)
    # The crown is about as far above the eyes as the chin below them: a tenth of the height.
    assert -20 < top < -10
    assert 102 < bottom < 108
    assert left < -25
    assert right > 25


def test_the_crown_is_where_the_head_is():
    standing, handstand = body_box(upright()), body_box(upright() * (1, -1))
    np.testing.assert_allclose(handstand, standing[[0, 3, 2, 1]] * (1, -1, 1, -1), atol=1e-4)


# ------------------------------------------------------------------------- loading


def test_a_finder_is_loaded_by_name():
    for name in ("full-frame", "blazepose"):
        with load_person_finder(name) as finder:
            assert finder.name == name


def test_auto_is_blazepose_without_mmdet_or_its_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("gridpose.detectors.blazepose.finder.load_persons", lambda _: "them")
    monkeypatch.setattr(mmdet_boxes, "find_spec", lambda name: None)
    assert mmdet_boxes.why_unusable() == "mmdet is not installed"
    assert load_person_finder() == "them"
    monkeypatch.setattr(mmdet_boxes, "find_spec", lambda name: object())
    missing = tmp_path / "none.pth"
    monkeypatch.setattr(mmdet_boxes, "default_weights", lambda: missing)
    assert str(missing) in mmdet_boxes.why_unusable()
    assert load_person_finder() == "them"


def test_unknown_names_levels_and_counts_are_refused():
    with pytest.raises(UsageError, match=r"'yolo'.*full-frame"):
        load_person_finder("yolo")
    with pytest.raises(UsageError, match="max_persons is 0"):
        load_person_finder("full-frame", max_persons=0)
    with pytest.raises(UsageError, match="not 4"):
        BlazePosePersons(None, None, levels=4)


def test_importing_finders_imports_no_network():
    code = (
        "import sys, gridpose.detectors.boxes, gridpose.detectors.blazepose.finder, "
        "gridpose.detectors.hrnet.mmdet_boxes\n"
        "print([m for m in ('torch', 'openvino', 'mmengine') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------- BlazePose


def test_nobody_is_found_where_nobody_is(finder):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    frames = [np.zeros((240, 320, 3), np.uint8), noise, np.zeros((1, 1, 3), np.uint8)]
    assert [len(found.boxes) for found in finder.find(frames)] == [0, 0, 0]
    assert finder.find([]) == []


@pytest.fixture(scope="module")
def pictures(script, shared):
    folder = shared / "video"
    return script.read_truth(folder / "coco_keypoints.json", [folder])


@pytest.fixture(scope="module")
def found(finder, pictures):
    """Whom the finder finds in the pictures, the last of which shows a crowd."""
    return finder.find([picture.image for picture in pictures])


def test_most_people_of_real_pictures_are_found_and_nobody_else(script, found, pictures):
    outcomes = [script.compare(*pair) for pair in zip(pictures, found, strict=True)]
    assert sum(outcome.people for outcome in outcomes) == 12
    assert sum(value > 0 for outcome in outcomes for value in outcome.iou) >= 9
    # A skier at the left edge whom annotators passed over, and his trunk and legs once more.
    assert sum(value == 0 for outcome in outcomes for value in outcome.iou) <= 2
    for picture, people in zip(pictures, found, strict=True):
        height, width = picture.image.shape[:2]
        areas = (people.boxes[:, 2:] - people.boxes[:, :2]).prod(-1)
        assert (np.diff(areas) <= 0).all()
        assert ((people.boxes >= 0) & (people.boxes <= [width, height, width, height])).all()
        assert ((people.scores > 0) & (people.scores <= 1)).all()


def test_tiles_find_people_whom_the_whole_frame_hides(found, pictures):
    with load_persons(max_persons=20, levels=1) as whole:
        (few,) = whole.find([pictures[-1].image])
    assert len(few.boxes) <= 2
    assert len(found[-1].boxes) >= 4


def test_frames_stand_alone(finder, found, pictures):
    backward = finder.find([picture.image for picture in pictures][::-1])[::-1]
    for one, other in zip(found, backward, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_the_largest_are_taken_of_many(found, pictures):
    with load_persons(max_persons=2) as limited:
        (two,) = limited.find([pictures[-1].image])
    np.testing.assert_array_equal(two.boxes, found[-1].boxes[:2])


def test_both_people_of_the_sample_video_are_found_and_nobody_else(script, finder, sample_video):
    people = script.read_truth(SAMPLE_PEOPLE, [sample_video.parent])
    assert len(people) == 12
    found = finder.find([picture.image for picture in people])
    outcomes = [script.compare(*pair) for pair in zip(people, found, strict=True)]
    assert sum(outcome.people for outcome in outcomes) == 20
    assert sum(value > 0 for outcome in outcomes for value in outcome.iou) >= 18
    # Two on some processors, three on others: they round differently.
    assert sum(value == 0 for outcome in outcomes for value in outcome.iou) <= 3


# ------------------------------------------------------------------------- the script


def test_matching_counts_each_person_once_and_excuses_the_unmarked(script):
    picture = script.Picture(
        "",
        np.zeros((1, 1, 3), np.uint8),
        people=np.array([[0, 0, 10, 10], [100, 0, 110, 10]], float),
        excused=np.array([[50, 50, 90, 90]], float),
    )
    boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [55, 55, 80, 80], [200, 0, 210, 10], [102, 0, 112, 10]]
    found = script.PersonBoxes(
        np.array(boxes, np.float32), np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    )
    outcome = script.compare(picture, found)
    assert outcome.people == 2
    np.testing.assert_allclose(outcome.iou, [0.9, 0, 0, 2 / 3])
    np.testing.assert_allclose(outcome.scores, [0.9, 0.8, 0.6, 0.5])


def test_the_script_reports_on_a_picture(script, tmp_path):
    cv2.imwrite(str(tmp_path / "crop_7.png"), np.zeros((80, 60, 3), np.uint8))
    truth = tmp_path / "truth.json"
    truth.write_text(
        '{"images": [{"id": 1, "file_name": "7.png"}],'
        ' "annotations": [{"image_id": 1, "bbox": [0, 0, 60, 70]}]}'
    )
    options = ["--media", str(tmp_path), "--finder", "full-frame"]
    done = CliRunner().invoke(script.app, ["persons", str(truth), *options])
    assert done.exit_code == 0, done.output
    assert "1 of 1 found, 0 false, mean IoU 0.88" in done.output
