import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import standing_pose

from gridpose.core import JOINT_NAMES
from gridpose.lifting.sequences import with_guesses
from gridpose.lifting.unseen import guess_unseen

LEGS = [1, 2, 3, 4, 5, 6]
TRUNK = [0, 7]


def seen_but(joints, frames=1):
    seen = np.ones((frames, 17), bool)
    seen[:, joints] = False
    return seen


def standing(frames=1):
    """(T, 17, 2) m, y down."""
    return np.repeat(standing_pose()[None, :, :2], frames, 0).astype(np.float32)


@pytest.mark.parametrize("cut", [[2, 3, 5, 6], LEGS, LEGS + TRUNK])
def test_legs_are_below_the_body_whatever_they_were_before(cut):
    points = standing()
    points[:, cut] = np.nan
    found, guessed = guess_unseen(points, seen_but(cut))
    assert sorted(np.flatnonzero(guessed)) == sorted(cut)
    assert np.isfinite(found).all()
    thorax, knees = JOINT_NAMES.index("thorax"), [2, 5]
    assert (found[0, knees, 1] > found[0, thorax, 1] + 0.4).all()
    height = np.ptp(standing()[0, :, 1])
    assert np.linalg.norm(found - standing(), axis=-1).max() < 0.3 * height


def test_what_one_frame_shows_and_who_is_hardly_seen_is_left_alone():
    points, seen = standing(10), seen_but(LEGS, 10)
    seen[3] = True
    assert not guess_unseen(points, seen)[1].any()
    found, guessed = guess_unseen(points, seen_but(range(2, 17), 10))
    assert not guessed.any()
    np.testing.assert_array_equal(found, points)


@settings(max_examples=20, deadline=None)
@given(st.floats(-900, 900), st.floats(0.2, 500))
def test_guesses_move_and_grow_with_the_person(shift, scale):
    points, seen = standing(3), seen_but(LEGS + TRUNK, 3)
    found = guess_unseen(points, seen)[0]
    other = guess_unseen(scale * points + np.float32(shift), seen)[0]
    np.testing.assert_allclose((other - shift) / scale, found, atol=2e-3 + 1e-3 * 900 / scale)


def test_lifters_that_see_time_get_guesses_of_trunks_but_not_of_limbs_alone():
    points = standing(4)
    shown, confidence = with_guesses(points, seen_but([2, 3, 5, 6, 13], 4).astype(np.float32))
    assert (confidence[:, [2, 3, 5, 6, 13]] == 0).all()
    np.testing.assert_array_equal(shown, points)
    points[:, LEGS + TRUNK] = 0
    shown, confidence = with_guesses(points, seen_but(LEGS + TRUNK, 4).astype(np.float32))
    assert (confidence[:, LEGS + TRUNK] > 0).all()
    assert (confidence[:, LEGS + TRUNK] < 0.5).all()
    assert np.abs(shown - standing(4)).max() < 0.5
