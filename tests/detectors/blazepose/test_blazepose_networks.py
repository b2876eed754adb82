"""BlazePose's regions, networks and what surrounds them, each by itself."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.detectors.blazepose import person_detector
from gridpose.detectors.blazepose.landmarks import KEYPOINTS, LandmarkNetwork, refined
from gridpose.detectors.blazepose.person_detector import PersonDetector, anchors
from gridpose.detectors.blazepose.regions import ENLARGED, Regions, differ
from gridpose.detectors.blazepose.weights import (
    LANDMARKS,
    PERSON_DETECTOR,
    SIZES,
    is_present,
    network_file,
)
from gridpose.detectors.boxes import overlaps

GOLDEN = Path(__file__).parents[2] / "data" / "blazepose_golden.npz"

coordinates = st.floats(-500, 1500)
points = st.tuples(coordinates, coordinates)


def turned(by):
    """Angles apart, in [-pi, pi)."""
    return (np.asarray(by) + math.pi) % (2 * math.pi) - math.pi


# ------------------------------------------------------------------------- regions


@st.composite
def regions(draw, least=1, most=4):
    count = draw(st.integers(least, most))

    def column(low, high):
        return draw(st.lists(st.floats(low, high), min_size=count, max_size=count))

    centers = np.stack((column(-100, 900), column(-100, 900)), -1)
    return Regions(centers, np.array(column(1, 900)), np.array(column(-math.pi, math.pi)))


@given(regions(), st.integers(1, 512))
def test_crops_are_the_regions_squares(some, crop):
    matrices = some.matrices(crop)
    middle = matrices @ np.array((crop / 2, crop / 2, 1))
    np.testing.assert_allclose(middle, some.centers, atol=1e-6)
    sides = np.linalg.norm(matrices[:, :, :2] * crop, axis=1)
    np.testing.assert_allclose(sides, np.stack((some.sides, some.sides), -1), rtol=1e-9)
    assert (np.linalg.det(matrices[:, :, :2]) > 0).all()  # turned, never mirrored


@given(regions())
def test_a_region_is_found_again_from_its_points(some):
    """Hips are in the middle, and the top lies straight above them in the crop."""
    ends = np.array([(0.5, 0.5), (0.5, 0.5 - 0.5 / ENLARGED)], np.float32)
    placed = some.to_frame(np.tile(ends, (len(some), 1, 1)))
    again = Regions.from_points(placed[:, 0], placed[:, 1])
    np.testing.assert_allclose(again.centers, some.centers, atol=1e-3)
    np.testing.assert_allclose(again.sides, some.sides, rtol=1e-3, atol=1e-2)
    # Float32 points of a small region tell the angle less exactly.
    assert (np.abs(turned(again.angles - some.angles)) * some.sides < 0.01).all()


@given(regions(), st.lists(st.tuples(st.floats(-1, 2), st.floats(-1, 2)), min_size=1, max_size=5))
def test_points_come_back_from_the_frame(some, shares):
    inside = np.tile(np.array(shares, np.float32), (len(some), 1, 1))
    placed = some.to_frame(inside).astype(float)
    matrices = some.matrices(1)
    back = np.einsum(
        "nij,nkj->nki", np.linalg.inv(matrices[:, :, :2]), placed - matrices[:, None, :, 2]
    )
    np.testing.assert_allclose(
        back * some.sides[:, None, None], inside * some.sides[:, None, None], atol=1e-2
    )


@given(st.lists(st.tuples(points, points), min_size=1, max_size=4), st.integers(1, 3))
def test_a_turned_picture_has_turned_regions(pairs, quarters):
    """As ``np.rot90`` turns a picture 1000 px wide and 700 px high."""
    width, height = 1000.0, 700.0
    middle, top = np.array(pairs, np.float64).transpose(1, 0, 2)
    plain = Regions.from_points(middle, top)
    for _ in range(quarters):
        middle, top = (np.stack((p[:, 1], width - p[:, 0]), -1) for p in (middle, top))
        width, height = height, width
    found = Regions.from_points(middle, top)
    np.testing.assert_allclose(found.centers, middle)
    np.testing.assert_allclose(found.sides, plain.sides, rtol=1e-9, atol=1e-9)
    long = plain.sides > 1e-6
    expected = plain.angles - quarters * math.pi / 2
    np.testing.assert_allclose(turned(found.angles - expected)[long], 0, atol=1e-6)


def test_upright_is_no_turn_and_clockwise_is_positive():
    hips = np.zeros((3, 2))
    some = Regions.from_points(hips, np.array([(0, -10), (10, 0), (0, 10)], float))
    np.testing.assert_allclose(np.abs(some.angles), np.radians([0, 90, 180]))
    assert some.angles[1] > 0
    np.testing.assert_allclose(some.sides, 2 * ENLARGED * 10)


@given(regions(3, 3), regions(3, 3), st.floats(1.01, 3), st.floats(0.01, 3))
def test_differing_in_scale_and_turn_is_mutual(one, other, scale, turn):
    def apart(first, second):
        return differ(first, second, math.inf, scale, turn)

    ratio = np.abs(np.log(other.sides / one.sides))
    by = np.abs(turned(other.angles - one.angles))
    clear = (np.abs(ratio - math.log(scale)) > 1e-9) & (np.abs(by - turn) > 1e-9)
    assert (apart(one, other) == apart(other, one))[clear].all()
    assert not apart(one, one).any()


def test_differing_in_place_is_measured_by_the_first_ones_side():
    small = Regions(np.zeros((1, 2)), np.array([100.0]), np.zeros(1))
    large = Regions(np.array([(30.0, 40)]), np.array([500.0]), np.zeros(1))
    assert differ(small, large, 0.4, 10, 1).all()
    assert not differ(large, small, 0.4, 10, 1).any()
    turned_round = Regions(small.centers, small.sides, np.array([2 * math.pi - 0.1]))
    assert not differ(small, turned_round, 0.1, 1.1, 0.2).any()


def test_a_crop_shows_its_part_of_the_frame_and_goes_on_beyond_the_edge():
    frame = np.zeros((100, 120, 3), np.uint8)
    frame[20:40, 60:100] = (255, 0, 0)
    frame[:, :5] = (0, 0, 200)
    middle = np.array([(80.0, 30.0), (80.0, 30.0), (-200.0, 50.0)])
    some = Regions(middle, np.array([40.0, 40.0, 50.0]), np.array([0, math.pi / 2, 0.3]))
    crops = np.empty((3, 64, 64, 3), np.uint8)

    some.cut([frame], [0, 0, 0], crops)

    # A person who lies in the frame with the head at the right stands in the crop.
    seen = crops[0].any(-1)[:, 32].nonzero()[0]
    np.testing.assert_allclose((seen[0], seen[-1]), (16, 47), atol=1)
    assert crops[0].any(-1)[32].all()
    assert crops[1].any(-1)[1:, 32].all()
    assert 30 <= crops[1].any(-1)[32].sum() <= 34
    assert (crops[2] == (0, 0, 200)).all()


# ------------------------------------------------------------------------- heatmaps


def refined_by_loops(places, heat):
    """As ``RefineLandmarksFromHeatmapCalculator``: one point after the other."""
    answer = places.astype(np.float32).copy()
    count, height, width, kinds = heat.shape
    for n in range(count):
        for k in range(kinds):
            x, y = (int(v) for v in places[n, k] * np.array((width, height), np.float32))
            if not (0 <= x < width and 0 <= y < height):
                continue
            total = across = down = warmest = 0.0
            for row in range(max(0, y - 3), min(height, y + 4)):
                for column in range(max(0, x - 3), min(width, x + 4)):
                    warmth = 1 / (1 + math.exp(-float(heat[n, row, column, k])))
                    total += warmth
                    across += warmth * column
                    down += warmth * row
                    warmest = max(warmest, warmth)
            if warmest >= 0.5 and total > 0:
                answer[n, k] = across / total / width, down / total / height
    return answer


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(8, 8), (64, 64), (5, 11)]),
    st.floats(-8, 4),
    st.floats(0.2, 8),
)
def test_refinement_is_the_mean_of_what_is_warm_around_a_place(seed, size, level, spread):
    generator = np.random.default_rng(seed)
    heat = generator.normal(level, spread, (2, *size, 6)).astype(np.float32)
    # Some lie outside, and some on the edges.
    places = generator.uniform(-0.3, 1.3, (2, 6, 2)).astype(np.float32)
    places[0, :4] = [(0, 0), (1, 1), (0.999, 0.0), (-0.001, 0.5)]
    np.testing.assert_allclose(refined(places, heat), refined_by_loops(places, heat), atol=2e-6)


def test_cold_maps_and_places_outside_change_nothing():
    places = np.array([[(0.5, 0.5), (1.2, 0.5), (0.5, -0.2)]], np.float32)
    cold = np.full((1, 64, 64, 3), -0.1, np.float32)
    hot = np.full((1, 64, 64, 3), 5.0, np.float32)
    np.testing.assert_array_equal(refined(places, cold), places)
    np.testing.assert_array_equal(refined(places, hot)[0, 1:], places[0, 1:])


# ------------------------------------------------------------------------- the person detector


def test_anchors_lie_in_the_middles_of_three_grids():
    all_of_them = anchors()
    assert all_of_them.shape == (2254, 2)
    assert ((all_of_them > 0) & (all_of_them < 1)).all()
    np.testing.assert_allclose(all_of_them[:3], [(4 / 224, 4 / 224)] * 2 + [(12 / 224, 4 / 224)])
    np.testing.assert_allclose(all_of_them[-6:], [(208 / 224, 208 / 224)] * 6)
    _, counts = np.unique(all_of_them, axis=0, return_counts=True)
    assert sorted(set(counts.tolist())) == [2, 6]
    assert (counts == 6).sum() == 49


class Answer:
    """A network in which chosen anchors see somebody."""

    def __init__(self, raw, scores):
        self.raw, self.scores = raw, scores
        self.squares = []

    def __call__(self, squares):
        self.squares.append(squares.copy())
        count = len(squares)
        return [np.tile(self.raw, (count, 1, 1)), np.tile(self.scores, (count, 1, 1))]


def detector_that(monkeypatch, seen, min_score=0.5):
    """``seen``: anchor -> (score before the sigmoid, 12 values in px of the square)."""
    raw, scores = np.zeros((2254, 12), np.float32), np.full((2254, 1), -1000, np.float32)
    for anchor, (score, values) in seen.items():
        raw[anchor], scores[anchor] = values, score
    answer = Answer(raw, scores)
    monkeypatch.setattr(person_detector, "Engine", lambda *_, **__: answer)
    return PersonDetector(Path("none"), min_score), answer


def test_boxes_and_points_are_offsets_from_anchors_in_px_of_the_square(monkeypatch):
    values = (2, -3, 20, 30, 5, 40, 5, -60, 0, 0, 0, 0)
    detector, answer = detector_that(monkeypatch, {900: (2.0, values)})
    x, y = anchors()[900] * 224
    frame = np.full((112, 224, 3), 80, np.uint8)

    plain, part = detector.find(frame, [(0, 0, 224, 112), (100, 10, 156, 66)])

    # Bars of 56 px above and below.
    np.testing.assert_allclose(plain.regions.centers, [(x + 5, y + 40 - 56)])
    np.testing.assert_allclose(plain.regions.sides, 2 * 1.25 * 100)
    np.testing.assert_allclose(plain.regions.angles, 0)
    np.testing.assert_allclose(plain.scores, 1 / (1 + math.exp(-2)))
    np.testing.assert_allclose(part.regions.centers, [(100 + (x + 5) / 4, 10 + (y + 40) / 4)])
    np.testing.assert_allclose(part.regions.sides, 2 * 1.25 * 100 / 4)
    wide, square = answer.squares[0]
    assert not wide[:55].any()
    assert not wide[170:].any()
    assert (wide[58:166] == 80).all()
    assert (square[:-4, :-4] == 80).all()  # beyond the last pixel it fades to the bars


def test_who_scores_too_little_is_nobody_and_no_tiles_are_no_work(monkeypatch):
    detector, answer = detector_that(monkeypatch, {3: (-0.1, np.ones(12))})
    (found,) = detector.find(np.zeros((50, 50, 3), np.uint8), [(0, 0, 50, 50)])
    assert (len(found.regions), found.scores.shape) == (0, (0,))
    answer.squares.clear()
    assert detector.find(np.zeros((50, 50, 3), np.uint8), []) == []
    assert answer.squares == []


def merged_by_loops(boxes, scores, places):
    left = sorted(range(len(scores)), key=lambda index: -scores[index])
    merged, best = [], []
    while left:
        first = left[0]
        members = [first]
        for other in left[1:]:
            if overlaps(boxes[[first]], boxes[[other]])[0][0, 0] > 0.3:
                members.append(other)
        weight = sum(scores[m] for m in members)
        merged.append(sum(scores[m] * places[m] for m in members) / weight)
        best.append(scores[first])
        left = [index for index in left if index not in members]
    return np.array(merged).reshape(-1, *places.shape[1:]), np.array(best)


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.booleans())
def test_suppression_takes_weighted_means(seed, count, empty):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 1, (count, 2))
    boxes = np.hstack((corners, corners + generator.uniform(0, 0.6, (count, 2))))
    if empty:
        boxes[: count // 2, 2:] = boxes[: count // 2, :2]
    scores = generator.uniform(0.5, 1, count)
    places = generator.normal(size=(count, 6, 2))
    found, wanted = (
        merge(boxes, scores, places) for merge in (person_detector._merged, merged_by_loops)
    )
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other)


# ------------------------------------------------------------------------- against MediaPipe


@pytest.fixture(scope="module")
def golden(shared):
    """COCO pictures and square parts of them, and what MediaPipe's graph 0.10.21 says of each.

    ``region`` is centre x, y, side (px) and angle from its person detector; ``lite``, ``full`` and
    ``heavy`` (33, 3) are x, y (px) and visibility of each network in that region.
    """
    known = dict(np.load(GOLDEN))
    pictures = []
    for name, left in zip(known["picture"], known["left"], strict=True):
        image = cv2.imread(str(shared / "video" / name))
        assert image is not None, name
        side = min(image.shape[:2])
        part = image if left < 0 else image[:side, left : left + side]
        pictures.append(np.ascontiguousarray(part[..., ::-1]))
    return pictures, known


def test_regions_are_those_of_mediapipe(golden):
    pictures, known = golden
    detector = PersonDetector(network_file(PERSON_DETECTOR), 0.5)
    for picture, (x, y, side, angle) in zip(pictures, known["region"], strict=True):
        height, width = picture.shape[:2]
        (found,) = detector.find(picture, [(0, 0, width, height)])
        np.testing.assert_allclose(found.regions.centers[0], (x, y), atol=0.01)
        np.testing.assert_allclose(found.regions.sides[0], side, atol=0.01)
        assert abs(turned(found.regions.angles[0] - angle)) * side < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_landmarks_are_those_of_mediapipe(golden, size):
    pictures, known = golden
    if not is_present(LANDMARKS[size]):
        pytest.skip(f"needs gridpose models download blazepose-{size}")
    x, y, sides, angles = known["region"].T
    network = LandmarkNetwork(network_file(LANDMARKS[size]))

    seen = network.see(pictures, range(len(pictures)), Regions(np.stack((x, y), -1), sides, angles))

    wanted = known[size]
    apart = np.linalg.norm(seen.points[:, :KEYPOINTS] - wanted[..., :2], axis=-1)
    apart *= 256 / sides[:, None]
    # Where two people stand close, a place on the edge of a heatmap's cell may fall to either side.
    assert np.median(apart) < 0.3
    assert np.percentile(apart, 99) < 3.2
    sure = seen.visibility[:, :KEYPOINTS] > 0
    visibility = np.where(sure, wanted[..., 2], 0)
    np.testing.assert_allclose(seen.visibility[:, :KEYPOINTS], visibility, atol=0.02)
    # Where MediaPipe sees something that is not in the picture, we do not.
    sizes = np.array([picture.shape[1::-1] for picture in pictures])[:, None]
    there = ((seen.points >= 0) & (seen.points < sizes)).all(-1)[:, :KEYPOINTS]
    assert there[sure].all()
    assert (seen.score > 0.5).all()


def test_crops_of_several_frames_are_seen_as_each_by_itself(golden):
    pictures, known = golden
    x, y, sides, angles = known["region"][:5].T
    where = Regions(np.stack((x, y), -1), sides, angles)
    network = LandmarkNetwork(network_file(LANDMARKS["full"]))
    together = network.see(pictures, range(5), where)
    for index in range(5):
        alone = network.see([pictures[index]], [0], where[np.array([index])])
        np.testing.assert_allclose(alone.points[0], together.points[index], atol=0.05)
        np.testing.assert_allclose(alone.score[0], together.score[index], atol=1e-3)
    assert network.see(pictures, [], where[np.zeros(5, bool)]).points.shape == (0, 35, 2)
