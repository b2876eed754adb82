import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import MOCAP, standing_pose
from scipy.spatial.transform import Rotation

from gridpose.pipeline.motion.gravity import LEAST_POSES, LEVEL, Gravity, stands, upright
from gridpose.pipeline.motion.world import camera_to_world


def tilted(poses, pitch, roll=0.0):
    """Camera-axes poses as a camera sees them that looks down by ``-pitch`` degrees; and up."""
    turn = Rotation.from_euler("xz", (pitch, roll), degrees=True)
    return (poses @ turn.as_matrix().T).astype(np.float32), turn.apply(LEVEL)


def people(count=60):
    """Somebody upright who sways by a few degrees."""
    random = np.random.default_rng(3)
    sway = Rotation.from_euler("xz", random.normal(0, 4, (count, 2)), degrees=True)
    return np.stack([standing_pose() @ turn.as_matrix().T for turn in sway])


def seated():
    """Thighs forward, shanks down."""
    pose = standing_pose()
    for side in ((1, 2, 3), (4, 5, 6)):
        pose[side[1]] = pose[side[0]] + (0, 0, -0.44)
        pose[side[2]] = pose[side[1]] + (0, 0.44, 0)
    return pose


def degrees(first, second):
    return np.degrees(np.arccos(np.clip(first @ second, -1, 1)))


def test_who_stands():
    assert stands(people()).all()
    assert not stands(np.stack([seated()] * 3)).any()
    lying, _ = tilted(people(5), 90)
    assert stands(lying).all()  # nothing but the many who stand upright tells
    # Real poses: about a third are on straight legs.
    assert 10 <= stands(MOCAP).sum() <= 30


@given(st.floats(-50, 50), st.floats(-30, 30))
@settings(max_examples=30, deadline=None)
def test_a_camera_that_is_not_level(pitch, roll):
    poses, up = tilted(people(), pitch, roll)
    gravity = Gravity()
    gravity.add(poses)
    # A few poses' worth of belief in a level camera stays.
    assert degrees(gravity.estimate(), up) < 2 + 0.16 * degrees(up, LEVEL)
    gravity.add(np.concatenate([poses] * 20))
    assert degrees(gravity.estimate(), up) < 2.5


def test_those_who_bend_or_lie_do_not_count():
    poses, up = tilted(people(300), -25)
    others, _ = tilted(people(60), 65)
    gravity = Gravity()
    gravity.add(np.concatenate((poses, others, np.stack([seated()] * 500))))
    assert degrees(gravity.estimate(), up) < 4


def test_too_little_to_tell_is_level():
    poses, _ = tilted(people(LEAST_POSES - 1), -30)
    gravity = Gravity()
    gravity.add(poses)
    np.testing.assert_array_equal(gravity.estimate(), LEVEL)
    assert gravity.tilt_degrees == 0


@given(st.floats(-80, 80), st.floats(-80, 80))
@settings(max_examples=50, deadline=None)
def test_upright_takes_up_to_z(pitch, roll):
    _, up = tilted(people(1), pitch, roll)
    turn = upright(up)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)  # nobody is mirrored
    np.testing.assert_allclose(camera_to_world(turn @ up), (0, 0, 1), atol=1e-9)


def test_the_world_turns_slowly_once_it_is_seen():
    gravity = Gravity()
    first, up = tilted(people(), -20)
    gravity.add(np.concatenate([first] * 3))
    gravity.follow(0.4)
    assert degrees(gravity.up, up) < 3.5
    before = gravity.up
    later, _ = tilted(people(), 30)
    gravity.add(np.concatenate([later] * 40))
    gravity.follow(0.4)
    assert 0.5 < degrees(gravity.up, before) < 1.3
