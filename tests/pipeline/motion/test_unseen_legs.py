import numpy as np
import pytest
from poses import standing_pose

from gridpose.core import JOINT_NAMES
from gridpose.pipeline.motion.unseen_legs import feet_seen, with_still_legs
from gridpose.pipeline.motion.world import camera_to_world

FPS = 30.0
LEG = [JOINT_NAMES.index(name) for name in ("right_knee", "right_ankle")]
OTHERS = [joint for joint in range(17) if joint not in LEG]


def swinging(frames=120):
    poses = np.repeat(camera_to_world(standing_pose())[None], frames, 0).astype(np.float32)
    poses[:, LEG, 1] += 0.3 * np.sin(np.arange(frames) / 4)[:, None]
    return poses, np.ones((frames, 17), np.float32)


def test_a_leg_that_is_never_seen_hangs_still():
    poses, confidence = swinging()
    confidence[:, LEG] = 0
    stilled = with_still_legs(poses, confidence, FPS)
    assert np.abs(np.diff(stilled[:, LEG], axis=0)).max() < 1e-6
    np.testing.assert_array_equal(stilled[:, OTHERS], poses[:, OTHERS])
    assert stilled[0, LEG[1], 2] < stilled[0, LEG[0], 2] < stilled[0, 1, 2]


@pytest.mark.parametrize("unseen", [slice(0, 0), slice(50, 60), slice(40, None)])
def test_where_it_is_seen_and_for_a_moment_it_is_as_lifted(unseen):
    poses, confidence = swinging()
    confidence[unseen, LEG] = 0
    stilled = with_still_legs(poses, confidence, FPS)
    seen = np.ones(len(poses), bool)
    seen[40:] = unseen.stop is not None
    np.testing.assert_array_equal(stilled[seen], poses[seen])
    # It comes to hang without a jump.
    assert np.abs(np.diff(stilled, axis=0)).max() < 1.5 * np.abs(np.diff(poses, axis=0)).max()


def test_who_is_rated_by_nobody_is_seen():
    poses, confidence = swinging()
    np.testing.assert_array_equal(with_still_legs(poses, 0 * confidence, FPS), poses)
    assert feet_seen(0 * confidence).all()
    confidence[:, [JOINT_NAMES.index(f"{side}_ankle") for side in ("left", "right")]] = 0
    assert not feet_seen(confidence).any()
