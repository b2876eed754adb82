import numpy as np
import pytest
from fakes import standing_at
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.detectors.following import Following, box_of, needs_second_look
from gridpose.detectors.hrnet.crops import regions_of

FRAME_SECONDS = 1 / 30


def box_around(keypoints):
    return box_of(keypoints, np.ones(17, np.float32))


def look(following, times, everybody, score=0.9):
    """What a network answers that sees, in each expected box, the person it is nearest to.

    ``everybody(time)`` lists (17, 2) keypoints.
    """
    boxes = following.expected(times)
    keypoints = np.zeros((*boxes.shape[:2], 17, 2), np.float32)
    scores = np.full((*boxes.shape[:2], 17), 0.02, np.float32)
    for person, index in np.ndindex(boxes.shape[:2]):
        crop = regions_of(boxes[person, index][None], (192, 256), 1.25)
        low, high = crop.centers - crop.sizes / 2, crop.centers + crop.sizes / 2
        people = everybody(times[index])
        for one in people:
            inside = ((one >= low) & (one <= high)).all(-1).mean()
            if inside > 0.7:
                keypoints[person, index], scores[person, index] = one, score
    return following.seen(times, keypoints, scores)


@pytest.mark.parametrize("speed", [0, 300, 900])
def test_boxes_follow_somebody_who_moves(speed):
    """900 px/s: a sprinter (9 m/s) who is 180 px tall."""
    following = Following(interval_seconds=1e9)

    def everybody(time):
        return [standing_at(200 + speed * time, 300, 100)]

    following.found(box_around(everybody(0)[0])[None], 0.0)
    worst = 0.0
    start = 0
    while start < 60:
        ahead = 5 if following.settled else 1
        times = [(start + index) * FRAME_SECONDS for index in range(ahead)]
        start += ahead
        real = look(following, times, everybody)
        assert real.all(), start
        expected = following.expected([times[-1] + FRAME_SECONDS])[0, 0]
        truth = box_around(everybody(times[-1] + FRAME_SECONDS)[0])
        worst = max(worst, np.abs((expected[:2] + expected[2:] - truth[:2] - truth[2:]) / 2).max())
    assert worst < 35  # a fifth of the person's height


def test_a_search_is_due_at_first_on_the_interval_and_after_a_loss():
    following = Following(interval_seconds=0.5)
    person = standing_at(200, 300, 100)

    assert following.search_due(0.0)
    following.found(box_around(person)[None], 0.0)
    assert not following.search_due(0.4)
    assert following.search_due(0.5)
    following.found(np.zeros((0, 4), np.float32), 0.5)
    assert len(following) == 1  # a search that finds nobody takes nobody away
    look(following, [0.51], lambda _: [person], score=0.0)
    assert following.search_due(0.52)


def test_who_is_missed_is_looked_for_a_moment_longer():
    following = Following(interval_seconds=0.5)
    person = standing_at(200, 300, 100)
    following.found(box_around(person)[None], 0.0)
    look(following, [0.0], lambda _: [person])

    real = look(following, [0.1], lambda _: [person], score=0.0)
    assert not real.any()
    assert len(following) == 1
    assert following.search_due(0.13)
    assert not following.settled
    following.found(np.zeros((0, 4), np.float32), 0.13)
    look(following, [0.13], lambda _: [person], score=0.0)
    assert not following.search_due(0.16)  # one search for one loss
    assert look(following, [0.2], lambda _: [person]).all()

    look(following, [0.3, 0.4, 0.55], lambda _: [person], score=0.0)
    assert len(following) == 0


def test_one_leap_of_the_keypoints_does_not_throw_the_box_away():
    following = Following()
    person = standing_at(200, 300, 100)
    following.found(box_around(person)[None], 0.0)
    look(following, [0.0], lambda _: [person])

    look(following, [FRAME_SECONDS], lambda _: [person + (0, 40)])

    now, later = following.expected([FRAME_SECONDS, 2 * FRAME_SECONDS])[0]
    assert 0 < (later - now)[1] < 30


def test_who_is_known_is_not_added_again():
    following = Following()
    person = standing_at(200, 300, 100)
    following.found(box_around(person)[None], 0.0)

    following.found((box_around(person) + 10)[None], 0.5)
    following.found((box_around(person) + (300, 0, 300, 0))[None], 1.0)

    assert len(following) == 2


def test_people_keep_their_numbers_and_nobody_else_gets_them():
    following = Following()
    person, other = standing_at(200, 300, 100), standing_at(600, 300, 150)
    following.found(box_around(person)[None], 0.0)
    assert following.person_ids == [1]
    following.found(np.stack((box_around(person), box_around(other))), 0.1)
    assert following.person_ids == [2, 1]  # the larger one is first

    look(following, [0.1, 0.2, 0.5], lambda _: [other])
    assert following.person_ids == [2]
    following.found(box_around(person)[None], 0.6)
    assert following.person_ids == [2, 3]


def test_two_boxes_that_slid_onto_one_person_become_one():
    following = Following()
    one, other = standing_at(200, 300, 100), standing_at(280, 300, 100)
    following.found(np.stack((box_around(one), box_around(other))), 0.0)
    keypoints = np.stack((one, one))[:, None]
    scores = np.stack((np.full(17, 0.9), np.full(17, 0.6)))[:, None].astype(np.float32)

    real = following.seen([0.0], keypoints, scores)

    assert real.tolist() == [[True], [False]]
    assert len(following) == 1


def test_people_close_together_stay_two():
    following = Following()
    everybody = [standing_at(200, 300, 100), standing_at(235, 300, 100)]
    following.found(np.stack([box_around(person) for person in everybody]), 0.0)
    keypoints = np.stack(everybody)[:, None]

    real = following.seen([0.0], keypoints, np.full((2, 1, 17), 0.9, np.float32))

    assert real.all()
    assert len(following) == 2


def test_whom_a_search_found_is_shown_once_even_if_the_keypoints_are_uncertain():
    following = Following()
    person = standing_at(200, 300, 100)
    following.found(box_around(person)[None], 0.0)

    real = look(following, [0.0, 0.03], lambda _: [person], score=0.05)

    assert real.all()
    assert following.search_due(0.06)


def test_where_the_network_saw_nothing_nobody_is_shown():
    following = Following()
    following.found(box_around(standing_at(200, 300, 100))[None], 0.0)

    real = look(following, [0.0], lambda _: [standing_at(200, 300, 100)], score=0.0)

    assert not real.any()


def test_only_the_largest_are_followed():
    following = Following(max_persons=2)
    boxes = [box_around(standing_at(300 * i, 300, size)) for i, size in enumerate((50, 90, 70))]

    following.found(np.stack(boxes), 0.0)

    kept = following.expected([0.0])[:, 0]
    np.testing.assert_allclose(kept, np.stack((boxes[1], boxes[2])))


def test_a_box_grows_at_once_and_shrinks_slowly():
    following = Following()
    low, high = standing_at(200, 300, 100), standing_at(200, 300, 100)
    high[[13, 16], 1] -= 150  # hands up
    following.found(box_around(low)[None], 0.0)
    scores = np.full((1, 1, 17), 0.9, np.float32)

    following.seen([0.1], high[None, None], scores)
    raised = following.expected([0.1])[0, 0, 1]
    following.seen([0.2], low[None, None], scores)
    lowered = following.expected([0.2])[0, 0, 1]

    assert raised == pytest.approx(box_around(high)[1], abs=1)
    assert raised < lowered < box_around(low)[1] - 50


@settings(max_examples=50)
@given(
    keypoints=st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=4, max_size=17),
    sure=st.integers(0, 17),
)
def test_a_persons_box_holds_the_confident_keypoints(keypoints, sure):
    places = np.array(keypoints, np.float32)
    scores = np.where(np.arange(len(places)) < sure, 0.9, 0.1).astype(np.float32)

    box = box_of(places, scores)

    if sure < 4:
        assert box is None
    else:
        used = places[: max(sure, 4)]
        assert (box[:2] <= used.min(0)).all()
        assert (box[2:] >= used.max(0)).all()


@pytest.mark.parametrize(
    ("box", "again"),
    [
        ((0, 0, 100, 200), False),
        ((10, 10, 110, 210), False),
        ((60, 0, 160, 200), True),
        ((0, 0, 50, 100), True),
        ((-100, -200, 200, 400), True),
    ],
)
def test_a_second_look_where_somebody_stood_differently(box, again):
    used = np.array((0, 0, 100, 200), np.float32)

    assert needs_second_look(used, np.array(box, np.float32)) is again
