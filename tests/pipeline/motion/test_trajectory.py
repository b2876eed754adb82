import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import MOCAP, standing_pose
from scipy.spatial.transform import Rotation

from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.places import Places
from gridpose.pipeline.motion.timeline import Timeline
from gridpose.pipeline.motion.tracking import Observation
from gridpose.pipeline.motion.trajectory import hip_path, hip_positions

SIZE = (1280, 720)
FOV = 60.0
FPS = 30.0
POSES = (MOCAP - MOCAP[:, :1])[..., (0, 2, 1)] * (1, -1, 1)  # camera axes
metres = st.floats(-3, 3)


def project(points, fov=FOV):
    focal = SIZE[0] / 2 / math.tan(math.radians(fov) / 2)
    return (points[..., :2] / points[..., 2:] * focal + np.array(SIZE) / 2).astype(np.float32)


@given(metres, metres, st.floats(2, 60), st.integers(0, 59), st.floats(20, 120))
@settings(max_examples=60, deadline=None)
def test_exact_projections_give_exact_places(x, y, depth, index, fov):
    place = np.array((x, y, depth + 1))
    pose = POSES[index : index + 1]
    found = hip_positions(pose, project(pose + place, fov), SIZE, fov)
    np.testing.assert_allclose(found[0], place, rtol=2e-4, atol=2e-4)


def test_larger_people_are_farther_away():
    pose = POSES[:1]
    seen = project(pose + (1, 0, 5))
    np.testing.assert_allclose(
        hip_positions(1.1 * pose, seen, SIZE, FOV), ((1.1, 0, 5.5),), atol=1e-3
    )


def test_useless_keypoints_give_a_place_all_the_same():
    found = hip_positions(POSES[:1], np.full((1, 17, 2), 300, np.float32), SIZE, FOV)
    assert np.isfinite(found).all()
    assert found[0, 2] > 0


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.sampled_from((5.0, 30.0, 240.0)))
@settings(max_examples=40, deadline=None)
def test_straight_paths_stay_as_they_are(gaps, fps):
    frames = np.cumsum([1 + gap for gap in gaps])
    path = np.array((1.0, 0.2, 5)) + 0.5 * np.outer(frames / fps, (1, 0, 0))
    poses = np.repeat(POSES[:1], len(frames), axis=0).astype(np.float32)
    found = hip_path(poses, project(poses + path[:, None]), frames.tolist(), SIZE, FOV, fps)
    np.testing.assert_allclose(found, path, atol=2e-3)


def test_a_moment_of_nonsense_moves_nobody_sideways():
    poses = np.repeat(POSES[:1], 60, axis=0).astype(np.float32)
    keypoints = project(poses + (1.0, 0, 5))
    keypoints[30:32] = keypoints[30:32, ::-1]
    found = hip_path(poses, keypoints, list(range(60)), SIZE, FOV, FPS)
    assert np.abs(found - (1.0, 0, 5)).max() < 0.3


def walk(frames, noise=0.0, tilt=0.0):
    """Somebody who walks 1.2 m/s to the right and 0.5 m/s away: observations, poses, true path."""
    random = np.random.default_rng(0)
    seconds = np.arange(frames) / FPS
    path = np.stack((1.2 * seconds - 2, 0 * seconds, 6 + 0.5 * seconds), -1)
    turn = Rotation.from_euler("x", tilt, degrees=True).as_matrix()
    pose = (standing_pose() @ turn.T).astype(np.float32)
    centre = np.array((0, 0, 6.0))
    seen = pose + ((path - centre) @ turn.T + centre)[:, None]
    keypoints = project(seen)
    keypoints += random.normal(0, noise, keypoints.shape).astype(np.float32)
    observations = [
        Observation(np.concatenate((k.min(0), k.max(0))), k, np.ones(17, np.float32))
        for k in keypoints
    ]
    return observations, pose, path


def run(observations, pose, **options):
    timeline = Timeline(FPS, SIZE, **options)
    people = []
    for observation in observations:
        timeline.add({4: Lifted(observation, pose, pose)})
        people += timeline.finished()
    people += timeline.finished(at_end=True)
    return np.stack([person.pose_world for (person,) in people])


@pytest.mark.parametrize("tilt", [0.0, 25.0])
def test_a_walk_walks(tilt):
    """From the camera's tilted view too, it goes along the floor, as far as it should."""
    observations, pose, path = walk(150, noise=2.0, tilt=tilt)
    world = run(
        observations,
        pose,
        places=Places(FPS, SIZE, FOV, True),
        gravity="level" if tilt == 0 else "estimate",
    )
    np.testing.assert_allclose(world[0, 0, :2], (0, 0), atol=1e-6)
    expected = (path - path[0])[:, (0, 2)]
    assert np.abs(world[:, 0, :2] - expected).max() < 0.35  # 4 % of the distance
    whole = np.linalg.norm(np.diff(world[::15, 0, :2], axis=0), axis=-1).sum()
    assert whole == pytest.approx(
        np.linalg.norm(np.diff(path[::15], axis=0), axis=-1).sum(), rel=0.06
    )
    assert np.abs(world[..., 2].min(1) - 0.08).max() < 0.05
    # As upright as they were.
    axis = world[:, 8] - world[:, (3, 6)].mean(1)
    lean = np.degrees(np.arccos(axis[:, 2] / np.linalg.norm(axis, axis=-1)))
    assert lean[45:].max() < (1 if tilt == 0 else 9)


def test_without_it_hips_stay_above_the_origin():
    observations, pose, _ = walk(60)
    assert np.abs(run(observations, pose)[:, 0, :2]).max() == 0


def test_people_keep_their_places_to_each_other():
    observations, pose, _ = walk(60)
    timeline = Timeline(FPS, SIZE, places=Places(FPS, SIZE, FOV, True))
    other = project(np.repeat(pose[None] + (2, 0, 8), 60, axis=0))
    people = []
    for frame, observation in enumerate(observations):
        second = Observation(observation.bbox, other[frame], observation.confidence)
        timeline.add({1: Lifted(observation, pose, pose), 2: Lifted(second, pose, pose)})
        people += timeline.finished()
    people += timeline.finished(at_end=True)
    first, second = (person.pose_world[0, :2] for person in people[0])
    # The first one began at x = -2, 6 m away.
    np.testing.assert_allclose(second - first, (4, 2), atol=0.02)


@pytest.mark.parametrize(
    ("still", "wanted", "shown"),
    [(True, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_people_are_put_where_they_are_if_the_camera_stands_still(still, wanted, shown):
    observations, pose, _ = walk(100)
    places = Places(FPS, SIZE, FOV, wanted)
    timeline = Timeline(FPS, SIZE, places=places)
    people = []
    for frame, observation in enumerate(observations):
        places.saw_camera(still if frame < 60 else not still)  # later it does not matter any more
        timeline.add({4: Lifted(observation, pose, pose)})
        people += timeline.finished()
    people += timeline.finished(at_end=True)
    moved = max(abs(person.pose_world[0, 0]) for (person,) in people)
    assert (moved > 2) == shown


def test_somebody_on_a_roof_is_drawn_on_it():
    """One on the ground, and one 3 m above it."""
    pose = standing_pose()
    ground, roof = (
        np.repeat((pose + place)[None], 90, 0) for place in ((-1, 0.5, 8), (1, -2.5, 9))
    )
    places = Places(FPS, SIZE, FOV, True)
    timeline = Timeline(FPS, SIZE, places=places)
    people = []
    for low, high in zip(project(ground), project(roof), strict=True):
        seen = [
            Observation(np.concatenate((k.min(0), k.max(0))), k, np.ones(17, np.float32))
            for k in (low, high)
        ]
        timeline.add({row: Lifted(each, pose, pose) for row, each in enumerate(seen)})
        people += timeline.finished()
    people += timeline.finished(at_end=True)
    heights = np.array([[person.pose_world[:, 2].min() for person in each] for each in people])
    np.testing.assert_allclose(heights[:, 0], 0.08, atol=0.02)
    np.testing.assert_allclose(heights[:, 1], 3.08, atol=0.1)
