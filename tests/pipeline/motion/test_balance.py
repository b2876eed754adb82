import numpy as np
import pytest
from poses import standing_pose
from scipy.spatial.transform import Rotation

from gridpose.pipeline.motion.balance import balanced
from gridpose.pipeline.motion.world import camera_to_world

FPS = 30.0


def leaning(degrees, frames=90):
    """Somebody stiff who leans towards the camera: world axes."""
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    return np.repeat((camera_to_world(standing_pose()) @ turn.T)[None], frames, 0)


def lean(poses):
    axis = poses[:, 8] - poses[:, (3, 6)].mean(1)
    return np.degrees(np.arccos(axis[:, 2] / np.linalg.norm(axis, axis=1)))


@pytest.mark.parametrize("degrees", [12, -12, 7])
def test_who_leans_more_than_balance_allows_is_set_upright(degrees):
    poses = leaning(degrees)
    assert lean(poses)[0] == pytest.approx(abs(degrees), abs=0.1)
    assert lean(balanced(poses, FPS)).max() < 6


@pytest.mark.parametrize("degrees", [40, 90, 180])
def test_who_lies_or_falls_is_left_alone(degrees):
    np.testing.assert_allclose(balanced(leaning(degrees), FPS), leaning(degrees), atol=1e-4)


def test_sway_is_kept_and_comes_without_a_jerk():
    poses = leaning(10, 120)
    poses[60:] = leaning(80, 60)
    found = balanced(poses, FPS)
    before = np.abs(np.diff(found[:55, 8], axis=0)).max()
    assert before < 0.01
    bones = np.linalg.norm(found[:, 8] - found[:, 0], axis=1)
    np.testing.assert_allclose(bones, bones[0], atol=1e-4)
