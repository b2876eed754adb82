"""Data sets to test with: in the published format, as VideoPose3D has them, and motion capture."""

import cv2
import numpy as np
import torch

from gridpose.core import JOINT_NAMES, NUM_JOINTS, PARENTS
from gridpose.detectors import COCO_17
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.data.h36m_cameras import LENSES, MOUNTS

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
BONES_MM = 250.0  # 16 of them: a person's 4 m


def body(frames, seed=0):
    """Hip-relative joints (frames, 17, 3) in mm whose bones add up to 4 m."""
    generator = np.random.default_rng(seed)
    joints = np.zeros((frames, 17, 3))
    for joint in range(1, 17):
        way = generator.normal(size=(frames, 3))
        way *= BONES_MM / np.linalg.norm(way, axis=-1, keepdims=True)
        joints[:, joint] = joints[:, PARENTS[joint]] + way
    return joints


def tables(keys, frames=3):
    data2d, data3d = {}, {}
    for number, key in enumerate(keys):
        joints = body(frames, number)
        data2d[key] = 500 + joints[..., :2].reshape(frames, 34) * 0.2
        data3d[key] = {
            "pelvis": np.tile((0.0, 0.0, 5000.0), (frames, 1)),
            "joint_3d": joints.reshape(frames, 51),
            "camera": [1145.0, 1145.0, 512.0, 512.0],
        }
    return data2d, data3d


def save(folder, split, data2d, data3d, **how):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, data in (("2d", data2d), ("3d", data3d)):
        torch.save(data, folder / f"{split}_custom_{kind}_unnorm.pth.tar", **how)


# A person who stands with bent knees, facing +y: directions from the parent joint, z up.
STANDING = np.zeros((NUM_JOINTS, 3))
for _joints, _way in (
    ((1,), (1, 0, 0)), ((4,), (-1, 0, 0)), ((2, 5), (0, 0.4, -1)), ((3, 6), (0, -0.4, -1)),
    ((7, 8, 10), (0, 0, 1)), ((9,), (0, 0.5, 1)), ((11,), (-1, 0, 0)), ((14,), (1, 0, 0)),
    ((12, 15), (0, 0, -1)), ((13, 16), (0, 1, 0)),
):  # fmt: skip
    STANDING[list(_joints)] = np.array(_way) / np.linalg.norm(_way)


def walk(frames, seed=0):
    """World positions (frames, 17, 3) in metres of somebody who turns and sways in the room."""
    generator = np.random.default_rng(seed)
    ways = STANDING + generator.normal(0, 0.25, (frames, NUM_JOINTS, 3))
    ways /= np.maximum(np.linalg.norm(ways, axis=-1, keepdims=True), 1e-9)
    yaw = generator.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    joints = np.zeros((frames, NUM_JOINTS, 3))
    joints[:, 0] = np.array((0.2, 0.3, 0.9)) + generator.uniform(-0.5, 0.5, (frames, 3)) * (1, 1, 0)
    for joint in range(1, NUM_JOINTS):
        joints[:, joint] = joints[:, PARENTS[joint]] + BONE_LENGTHS[joint] * ways[:, joint] @ turn.T
    return joints.astype(np.float32)


def seen_by_opencv(world, subject, index):
    """World positions (N, 17, 3) metres to camera millimetres and pixels, by OpenCV alone.

    The quaternion's matrix is written out; the published ones have length 1 to six digits only.
    Human3.6M's tangential term is once what OpenCV's is twice: one of the two is taken away again.
    """
    w, x, y, z = MOUNTS[subject][index].orientation
    to_world = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    position = np.array(MOUNTS[subject][index].position)
    rotation, _ = cv2.Rodrigues(to_world.T)
    shift = -to_world.T @ position
    lens = LENSES[index]
    (fx, fy), (cx, cy) = lens.focal, lens.centre
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    (k1, k2, k3), (first, second) = lens.radial, lens.tangential
    points = world.reshape(-1, 3).astype(np.float64) * 1000
    distortion = np.array([k1, k2, second, first, k3])
    pixels, _ = cv2.projectPoints(points, rotation, shift, matrix, distortion)
    camera = points @ to_world + shift
    plane = camera[:, :2] / camera[:, 2:]
    surplus = plane * (plane @ np.array([first, second]))[:, None] * (fx, fy)
    pixels = pixels[:, 0] - surplus
    return camera.reshape(world.shape), pixels.reshape(*world.shape[:-1], 2)


def save_npz(file, **objects):
    np.savez_compressed(file, **objects)
    return file


METADATA = {
    "layout_name": "h36m", "num_joints": 17,
    "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
}  # fmt: skip


def true_2d(positions):
    return {
        subject: {
            action: [seen_by_opencv(w, subject, i)[1].astype(np.float32) for i in range(4)]
            for action, w in actions.items()
        }
        for subject, actions in positions.items()
    }


CLIPS = {  # name: (action, frames)
    "cmu/train/walking_1": ("walking", 12),
    "cmu/train/walking_2": ("walking", 11),
    "cmu/13_29": ("exercises (jumping jacks, squats)", 10),
    "cmu/13_30": ("exercises (jumping jacks, squats)", 9),
    "uiprmd/m01_s01_e01": ("sit to stand", 8),
    "uiprmd/m07_s01_e03_inc": ("sit to stand", 7),
}


def mocap(file, clips=CLIPS, **changes):
    """A file in the form of the motion capture at hand; bodies of another size than wanted."""
    arrays = {
        "positions": np.concatenate(
            [walk(frames, seed) * 1.1 for seed, (_, frames) in enumerate(clips.values())]
        ),
        "clip": np.repeat(np.arange(len(clips)), [n for _, n in clips.values()]).astype(np.int32),
        "clip_names": np.array(list(clips)),
        "action": np.array([action for action, _ in clips.values()]),
    }
    arrays.update(changes)
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
    return file


def in_coco_order(pixels):
    """(N, 17, 2) of Human3.6M's joints as a detector of COCO's keypoints sees the same people."""
    place = {name: index for index, name in enumerate(JOINT_NAMES)}
    nose, head, thorax = (pixels[:, place[name]] for name in ("nose", "head", "thorax"))
    across = pixels[:, place["left_shoulder"]] - pixels[:, place["right_shoulder"]]
    face = {"nose": nose + 0.4 * (head - nose)}
    for side, sign in (("left", 1), ("right", -1)):
        face[f"{side}_eye"] = thorax + 0.8 * (head - thorax) + 0.1 * sign * across
        face[f"{side}_ear"] = thorax + 0.75 * (head - thorax) + 0.2 * sign * across
    return np.stack(
        [face[n] if n in face else pixels[:, place[n]] for n in COCO_17.keypoints], axis=1
    )
