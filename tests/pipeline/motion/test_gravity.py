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
    turn = Rotation.from_euler("xz", (-pitch, roll), degrees=True)
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


def gravity_of(*people, level_share=0.5):
    """What is known after (N, 17, 3) poses of each person."""
    gravity = Gravity(level_share)
    for track_id, poses in enumerate(people):
        for pose in poses:
            gravity.add(track_id, pose)
    return gravity


def degrees(first, second):
    return np.degrees(np.arccos(np.clip(first @ second, -1, 1)))


def test_who_stands():
    assert stands(people()).all()
    assert not stands(np.stack([seated()] * 3)).any()
    lying, _ = tilted(people(5), 90)
    assert stands(lying).all()  # nothing but the many who stand upright tells
    # Real poses: about a third are on straight legs.
    assert 10 <= stands(MOCAP).sum() <= 30


@given(st.floats(-30, 15), st.floats(-4, 4))
@settings(max_examples=30, deadline=None)
def test_a_camera_that_is_not_level(pitch, roll):
    poses, up = tilted(people(), pitch, roll)
    # Belief in a level camera makes small tilts smaller, and leaves large ones.
    one, three = gravity_of(poses).estimate(), gravity_of(poses, poses, poses).estimate()
    assert degrees(one, up) < min(8, 2 + degrees(up, LEVEL))
    assert degrees(three, up) < min(5, 2 + degrees(up, LEVEL))
    if abs(pitch) > 15:
        assert degrees(three, up) < 2.5
    assert degrees(gravity_of(poses, poses, level_share=0.05).estimate(), up) < 4


def test_one_who_leans_a_little_does_not_tilt_the_camera():
    leaning, _ = tilted(people(300), -6)
    assert degrees(gravity_of(leaning).estimate(), LEVEL) < 4


def test_one_who_lies_does_not_outvote_those_who_stand():
    poses, up = tilted(people(60), -25)
    lying, _ = tilted(people(300), 65)
    gravity = gravity_of(poses, poses, lying, np.stack([seated()] * 100))
    assert degrees(gravity.estimate(), up) < 4


def test_too_little_to_tell_is_level():
    poses, _ = tilted(people(LEAST_POSES - 1), -30)
    gravity = gravity_of(poses)
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
    first, up = tilted(people(), -20)
    gravity = gravity_of(first, first)
    gravity.follow(0.4)
    assert degrees(gravity.up, up) < 3.5
    before = gravity.up
    later, _ = tilted(people(), 5)
    for person in range(2, 9):
        for pose in later:
            gravity.add(person, pose)
    gravity.follow(0.4)
    assert 0.5 < degrees(gravity.up, before) < 1.3
