from dataclasses import replace

import numpy as np
import pytest
from fakes import standing_at

from gridpose.pipeline.motion.tracking import (
    Observation,
    Tracker,
    has_left,
    similarities,
    without_duplicates,
)

BODY = np.random.default_rng(3).uniform((-40, -100), (40, 100), (17, 2)).astype(np.float32)


def person(x, y=300.0, scale=1.0, confidence=0.9, person_id=None):
    keypoints = (BODY * scale + (x, y)).astype(np.float32)
    bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
    return Observation(bbox, keypoints, np.full(17, confidence, np.float32), person_id)


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


def doubled(lasts, parts):
    """Somebody whom a detector finds anew beside the old view, which it loses ``lasts`` frames on.

    ``parts`` px from the new one.
    """
    frames = []
    for step in range(60):
        old, new = person(300 + 4 * step, person_id=1), person(300 + parts + 4 * step, person_id=2)
        frames.append([*([old] if step < 20 + lasts else []), *([new] if step >= 20 else [])])
    return run(frames)


@pytest.mark.parametrize("lasts", [1, 3, 6])
def test_who_is_found_anew_and_lost_in_the_old_view_keeps_the_number(lasts):
    ids = doubled(lasts, parts=25)
    assert ids[:20] == [[1]] * 20
    assert ids[20 : 20 + lasts] == [[1, 2]] * lasts
    assert ids[20 + lasts :] == [[1]] * (40 - lasts)


@pytest.mark.parametrize(("lasts", "parts"), [(2, 60), (15, 25)])
def test_who_vanishes_beside_somebody_else_hands_nothing_on(lasts, parts):
    ids = doubled(lasts, parts)
    assert ids[-1] == [2]


def test_one_double_alone_succeeds():
    vanishing = [person(300, person_id=1)]
    doubles = [person(278, person_id=2), person(322, person_id=3)]
    ids = run([vanishing] * 5 + [vanishing + doubles] * 2 + [doubles] * 5)
    assert ids[6] == [1, 2, 3]
    assert sorted(ids[-1])[0] == 1
    assert len(set(ids[-1])) == 2


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


def test_whom_the_detector_follows_through_a_leap_is_the_same():
    leap = [person(200 + 700 * (step > 5), person_id=4) for step in range(10)]
    assert run([[one] for one in leap]) == [[1]] * 10
    assert run([[replace(one, person_id=None)] for one in leap]) == [[1]] * 6 + [[2]] * 4
    assert run([[leap[0]], [replace(leap[-1], person_id=5)]]) == [[1], [2]]


def test_whom_the_detector_loses_and_finds_again_is_the_same():
    frames = [
        [person(200 + 6 * step, person_id=1 if step < 20 else 2)] if not 20 <= step < 35 else []
        for step in range(60)
    ]
    assert {row[0] for row in run(frames) if row} == {1}


def test_a_detector_whose_box_slid_onto_somebody_else_is_not_believed():
    """Where two passed each other it lost one, and found them again as somebody new."""
    frames = []
    for step in range(60):
        first, second = person(200 + 10 * step), person(800 - 10 * step, 320)
        # Number 1 goes on with the other person.
        ids = (1, 2) if step < 30 else (3, 1)
        frames.append(
            [
                replace(one, person_id=number)
                for one, number in zip((first, second), ids, strict=True)
            ]
        )
    assert run(frames)[0] == run(frames)[-1]


def test_what_the_detector_sees_where_somebody_left_is_somebody_else():
    frames = [[person(300 - 20 * step, person_id=1)] for step in range(20)]
    frames += [[person(100, person_id=1, scale=0.3)]]
    ids = run(frames, image_size=(640, 480))
    assert ids[0] == [1]
    assert ids[19] == [None]
    assert ids[20] == [2]


def test_of_two_observations_of_one_person_the_surer_one_is_kept():
    unsure, sure = person(300, confidence=0.5), person(303, confidence=0.9)
    assert without_duplicates([unsure, sure]) == [sure]
    apart = [person(300), person(360)]
    assert len(without_duplicates(apart)) == 2


def test_similarity_falls_with_distance():
    (alike,) = similarities([person(300)], [person(x) for x in (300, 310, 330, 400, 900)])
    assert alike[0] == 1
    assert (np.diff(alike) < 0).all()
    assert alike[-1] < 1e-6
    assert similarities([], [person(300)]).shape == (0, 1)


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
