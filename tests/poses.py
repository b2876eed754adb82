"""Poses to test with."""

from pathlib import Path

import numpy as np

from gridpose.core import JOINT_NAMES, PoseTracks

FPS = 30000 / 1001
MOCAP = np.load(Path(__file__).parent / "data" / "mocap_small.npz")["positions"]


def tracks_of(*people, gaps=()):
    """Tracks 3, 4, ... of world poses (T, 17, 3); in ``gaps`` the last person is absent."""
    world = np.stack(people).astype(np.float32)
    count, frames = world.shape[:2]
    present = np.ones((count, frames), bool)
    present[-1, list(gaps)] = False
    random = np.random.default_rng(0)

    def some(*shape):
        values = random.uniform(0, 1, (count, frames, *shape)).astype(np.float32)
        values[~present] = np.nan
        return values

    world[~present] = np.nan
    return PoseTracks(
        fps=FPS,
        frame_time=np.arange(frames) / FPS,
        shot=np.ones(frames, np.int32),
        image_size=(1280, 720),
        track_id=np.arange(3, 3 + count),
        present=present,
        bbox=some(4),
        keypoints_2d=some(17, 2),
        confidence=some(17),
        poses_3d=some(17, 3),
        poses_world=world,
        repaired=np.zeros((count, frames, 17), np.uint8),
        contacts=np.zeros((count, frames, 2), bool),
        meta={"source": "dance 日本.mp4"},
    )


def standing_pose():
    """A person upright before an upright camera: camera axes, metres, hip at the origin."""
    pose = np.zeros((17, 3), np.float32)
    heights = {
        "hip": 0.0,
        "right_hip": 0.0,
        "right_knee": -0.44,
        "right_ankle": -0.88,
        "left_hip": 0.0,
        "left_knee": -0.44,
        "left_ankle": -0.88,
        "spine": 0.23,
        "thorax": 0.48,
        "nose": 0.58,
        "head": 0.68,
        "left_shoulder": 0.46,
        "left_elbow": 0.2,
        "left_wrist": -0.05,
        "right_shoulder": 0.46,
        "right_elbow": 0.2,
        "right_wrist": -0.05,
    }
    for index, name in enumerate(JOINT_NAMES):
        # Facing the camera, the person's left is at the right of the image.
        side = 0.15 if name.startswith("left") else -0.15 if name.startswith("right") else 0.0
        pose[index] = (side, -heights[name], 0.0)
    return pose
