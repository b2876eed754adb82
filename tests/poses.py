"""Poses to test with."""

from pathlib import Path

import numpy as np

from gridpose.core import JOINT_NAMES, PoseTracks

FPS = 30000 / 1001
SPEED, STEP_SECONDS, THIGH, SHIN = 1.2, 0.5, 0.44, 0.44
HIPS, KNEES, ANKLES = (
    [JOINT_NAMES.index(f"{side}_{joint}") for side in ("right", "left")]
    for joint in ("hip", "knee", "ankle")
)
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


def walk(seconds=4.0, travels=True):
    """Somebody walks along x: poses (T, 17, 3) m, z up, and contacts (T, 2)."""
    pose = standing_pose()[:, (2, 0, 1)] * (1, -1, -1)  # faces +x; their left is at +y
    time = np.arange(round(seconds * FPS)) / FPS
    poses = np.tile(pose.astype(np.float64), (len(time), 1, 1))
    poses[..., 0] += SPEED * time[:, None]
    poses[..., 2] += 0.88
    contacts = np.zeros((len(time), 2), bool)
    for foot in range(2):
        phase = (time / STEP_SECONDS + foot) / 2 % 1  # the first half stands
        contacts[:, foot] = phase < 0.5
        step = np.floor((time / STEP_SECONDS + foot) / 2) * 2 - foot
        swing = np.clip(2 * phase - 1, 0, 1)
        ease = swing - np.sin(2 * np.pi * swing) / (2 * np.pi)
        at = SPEED * STEP_SECONDS * (step + 0.5 + 2 * ease)
        height = 0.08 + 0.12 * np.sin(np.pi * swing) ** 2
        ankle = np.stack((at, np.full_like(at, pose[ANKLES[foot], 1]), height), -1)
        hip = poses[:, HIPS[foot]]
        reach = np.linalg.norm(ankle - hip, axis=-1, keepdims=True)
        assert reach.max() < THIGH + SHIN
        along = (THIGH**2 - SHIN**2 + reach**2) / (2 * reach)
        down = (ankle - hip) / reach
        forwards = np.cross((0.0, 1, 0), down) * (-1, -1, -1)
        poses[:, KNEES[foot]] = hip + along * down + np.sqrt(THIGH**2 - along**2) * forwards
        poses[:, ANKLES[foot]] = ankle
    if not travels:
        poses[..., :2] -= poses[:, :1, :2]
    return poses, contacts
