import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import standing_pose

from gridpose.core import JOINT_NAMES
from gridpose.pipeline.motion.world import (
    CAMERA_TO_WORLD,
    CLEARANCE,
    camera_to_world,
    flight_limit,
    place,
    support,
)

FPS = 30.0
SIZE = (1280, 720)
FOCAL = 1100.0


def filmed(hip_heights, depth=5.0, camera_height=1.4):
    """Camera poses and keypoints of a standing person whose hip is at these heights (m)."""
    poses = np.repeat(standing_pose()[None], len(hip_heights), axis=0)
    root = np.stack(
        (
            np.zeros(len(hip_heights)),
            camera_height - np.asarray(hip_heights),
            np.broadcast_to(depth, len(hip_heights)),
        ),
        -1,
    )
    seen = poses + root[:, None]
    keypoints = seen[..., :2] / seen[..., 2:] * FOCAL + np.array(SIZE) / 2
    return poses, keypoints.astype(np.float32)


def placed(hip_heights, **kwargs):
    poses, keypoints = filmed(hip_heights, **kwargs)
    return place(camera_to_world(poses), poses, keypoints, SIZE[1], FPS)


STANDING = 0.88 + 0.08


def test_camera_to_world_is_a_proper_rotation():
    assert np.linalg.det(CAMERA_TO_WORLD) == pytest.approx(1.0)
    np.testing.assert_allclose(CAMERA_TO_WORLD @ CAMERA_TO_WORLD.T, np.eye(3))


def test_a_left_handed_person_stays_left_handed():
    # Left arm stretched out; seen from behind the person's own left must stay their left.
    pose = standing_pose()
    left_wrist, right_wrist = JOINT_NAMES.index("left_wrist"), JOINT_NAMES.index("right_wrist")
    pose[left_wrist] += (0.5, -0.4, 0.0)
    pose[JOINT_NAMES.index("nose")] += (0.0, 0.0, -0.1)  # facing the camera
    world = camera_to_world(pose)

    up = world[JOINT_NAMES.index("thorax")] - world[0]
    front = world[JOINT_NAMES.index("nose")] - world[JOINT_NAMES.index("thorax")]
    own_left = np.cross(up, front)
    assert (world[left_wrist] - world[0]) @ own_left > 0
    assert (world[right_wrist] - world[0]) @ own_left < 0
    # The same with a mirroring map (mmpose's) fails, so the test can tell.
    mirrored = pose @ np.array(((-1.0, 0, 0), (0, 0, 1), (0, -1, 0))).T
    up, front = mirrored[8] - mirrored[0], mirrored[9] - mirrored[8]
    assert (mirrored[left_wrist] - mirrored[0]) @ np.cross(up, front) < 0


def test_person_before_an_upright_camera_is_upright():
    world = camera_to_world(standing_pose())
    trunk = world[JOINT_NAMES.index("head")] - world[0]
    assert trunk[2] > 0.65
    assert np.abs(trunk[:2]).max() < 1e-6


def test_somebody_standing_has_both_feet_on_the_floor():
    world = placed(np.full(60, STANDING))
    ankles = world[:, [3, 6], 2]
    np.testing.assert_allclose(ankles, CLEARANCE[3], atol=0.01)


def test_a_jump_keeps_its_height():
    seconds = np.arange(90) / FPS
    flight = np.clip((seconds - 1.2) / 0.5, 0, 1)  # half a second in the air
    rise = 4 * 0.30 * flight * (1 - flight)
    world = placed(STANDING + rise)
    lowest = world[..., 2].min(1)
    assert lowest[:30] == pytest.approx(CLEARANCE[3], abs=0.03)
    assert lowest[-30:] == pytest.approx(CLEARANCE[3], abs=0.03)
    assert lowest.max() - CLEARANCE[3] == pytest.approx(0.30, abs=0.08)


def test_a_squat_does_not_lift_the_feet():
    frames = 60
    bend = 0.4 * np.sin(np.linspace(0, np.pi, frames)) ** 2
    poses, _ = filmed(np.full(frames, STANDING))
    poses[:, [3, 6], 1] -= bend[:, None].astype(np.float32)  # ankles come up to the hip
    poses[:, [2, 5], 1] -= bend[:, None].astype(np.float32) / 2
    root = np.array((0.0, 1.4 - STANDING, 5.0)) + np.stack((0 * bend, bend, 0 * bend), -1)
    seen = poses + root[:, None]
    keypoints = (seen[..., :2] / seen[..., 2:] * FOCAL + np.array(SIZE) / 2).astype(np.float32)
    world = place(camera_to_world(poses), poses, keypoints, SIZE[1], FPS)
    assert world[:, [3, 6], 2].min(1) == pytest.approx(CLEARANCE[3], abs=0.04)


def test_walking_towards_the_camera_stays_on_the_floor():
    world = placed(np.full(120, STANDING), depth=np.linspace(8, 3, 120))
    assert world[:, [3, 6], 2].min(1) == pytest.approx(CLEARANCE[3], abs=0.05)


def test_someone_who_stays_up_stands_on_something():
    # Up a step of 0.5 m and on: no floating for the rest of the clip.
    heights = STANDING + 0.5 * (np.arange(120) > 60)
    world = placed(heights)
    assert world[70:, [3, 6], 2].min(1) == pytest.approx(CLEARANCE[3], abs=0.05)
    assert world[:50, [3, 6], 2].min(1) == pytest.approx(CLEARANCE[3], abs=0.05)


def test_one_frame_too_high_is_no_jump():
    heights = np.full(60, STANDING)
    heights[30:32] += 0.6
    assert placed(heights)[:, [3, 6], 2].min(1) == pytest.approx(CLEARANCE[3], abs=0.03)


def test_flight_limit_is_the_ballistic_height():
    grounded = np.ones(60, bool)
    grounded[15:30] = False
    limit = flight_limit(grounded, FPS)
    assert limit[22] == pytest.approx(9.81 / 2 * (9 / FPS) ** 2, rel=0.01)
    assert limit[grounded].max() < 0.01


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=80), st.integers(2, 40))
def test_support_is_never_above_the_body(heights, window):
    values = np.array(heights)
    carried = support(values, window)
    assert carried.shape == values.shape
    assert np.isfinite(carried).all()
    assert (carried <= values).all()


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_clips_of_a_few_frames_work(frames):
    world = placed(np.full(frames, STANDING))
    assert world[:, [3, 6], 2] == pytest.approx(CLEARANCE[3], abs=0.01)
