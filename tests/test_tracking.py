import numpy as np
import pytest
from fakes import standing_at

from gridpose.pipeline.tracking import Observation, Tracker, has_left, iou, without_duplicates

BODY = np.random.default_rng(3).uniform((-40, -100), (40, 100), (17, 2)).astype(np.float32)


def person(x, y=300.0, scale=1.0, confidence=0.9):
    keypoints = (BODY * scale + (x, y)).astype(np.float32)
    bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
    return Observation(bbox, keypoints, np.full(17, confidence, np.float32))


def run(frames, fps=30.0, **options):
    """Track ids of each frame, in the order of its observations."""
    tracker = Tracker(**options)
    ids = []
    for number, people in enumerate(frames):
        found = tracker.update(people, number / fps)
        back = {id(observation): track for track, observation in found.items()}
        ids.append([back.get(id(one)) for one in people])
    return ids


def test_two_people_keep_their_numbers_whatever_the_order():
    frames = []
    for step in range(40):
        pair = [person(200 + 3 * step), person(800 - 2 * step)]
        frames.append(pair[:: 1 if step % 2 else -1])
    ids = run(frames)
    assert {tuple(sorted(row)) for row in ids} == {(1, 2)}
    assert all(row == (ids[1] if n % 2 else ids[1][::-1]) for n, row in enumerate(ids))


def test_identities_are_kept_when_people_pass_each_other():
    frames = [[person(200 + 10 * step), person(800 - 10 * step, 320)] for step in range(60)]
    ids = run(frames)
    assert ids[0] == ids[-1]
    # Where they cover each other one of the two may count as seen twice.
    assert {one for row in ids for one in row} - {None} == {1, 2}
    assert sum(None in row for row in ids) <= 6


def test_a_short_gap_is_bridged():
    frames = [[person(200 + 6 * step)] if not 20 <= step < 35 else [] for step in range(60)]
    assert {row[0] for row in run(frames) if row} == {1}


def test_after_a_long_gap_it_is_somebody_new():
    frames = [[person(200)] if not 10 <= step < 60 else [] for step in range(80)]
    assert {row[0] for row in run(frames) if row} == {1, 2}


def test_somebody_far_away_is_somebody_else():
    ids = run([[person(200)], [person(200)], [person(900)]])
    assert ids == [[1], [1], [2]]


def test_nobody_at_first_and_nobody_at_all():
    assert run([[], [], [person(100)]]) == [[], [], [1]]
    assert run([[], []]) == [[], []]


def test_of_two_observations_of_one_person_the_surer_one_is_kept():
    unsure, sure = person(300, confidence=0.5), person(303, confidence=0.9)
    assert without_duplicates([unsure, sure]) == [sure]
    apart = [person(300), person(360)]
    assert len(without_duplicates(apart)) == 2


@pytest.mark.parametrize(
    ("other", "expected"),
    [((0, 0, 10, 10), 1.0), ((20, 0, 30, 10), 0.0), ((5, 0, 15, 10), 1 / 3), ((5, 5, 5, 5), 0.0)],
)
def test_iou(other, expected):
    box = np.array((0, 0, 10, 10), np.float32)
    assert iou(box, np.array(other, np.float32)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "y", "size", "left"),
    [
        (160, 120, 80, False),
        (300, 120, 80, False),
        (345, 120, 80, True),
        (-25, 120, 80, True),
        (160, 250, 250, False),  # from the waist up
        (160, 400, 250, True),
        (160, -60, 80, True),
    ],
)
def test_who_has_left_the_picture(x, y, size, left):
    assert has_left(standing_at(x, y, size), (320, 240)) == left
