"""What is in a data set, and what looks wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from gridpose.core import JOINT_NAMES, NUM_JOINTS, FloatArray, MissingError
from gridpose.lifting.data.dataset import (
    PoseDataset,
    Split,
    default_exclude_drift,
    describe_left_out,
    load_dataset,
)
from gridpose.lifting.data.files import bone_lengths, dataset_files

_FRAME_PX: Final = 1002
"""Human3.6M's frames are 1000 px wide and 1000 or 1002 px high."""
_SIDES: Final = ((1, 4), (14, 11))
"""Hips and shoulders, right and left."""
_LEGS: Final = ((1, 2, 3), (4, 5, 6))
_SAMPLE: Final = 20_000


def _suspicions(dataset: PoseDataset) -> list[str]:
    """What looks wrong with poses and keypoints that are formally right."""
    step = slice(None, None, max(1, len(dataset) // _SAMPLE))
    pixels, poses = dataset.keypoints_px[step], dataset.poses[step]
    found = []

    outside = float(((pixels < 0) | (pixels > _FRAME_PX)).any(axis=-1).mean())
    if outside > 0.001:
        found.append(f"{outside:.1%} of the 2D joints lie outside a 1000 px frame")

    across2, across3 = (
        np.concatenate([array[:, right, 0] - array[:, left, 0] for right, left in _SIDES])
        for array in (pixels, poses)
    )
    plain = np.abs(across3) > 0.05
    if plain.any() and (across2[plain] * across3[plain] > 0).mean() < 0.4:
        found.append("left and right joints of the 2D are the other way round than in the 3D")

    height2, height3 = pixels[:, 10, 1] - pixels[:, 0, 1], poses[:, 10, 1] - poses[:, 0, 1]
    plain = np.abs(height3) > 0.2
    if plain.any() and (height2[plain] * height3[plain] > 0).mean() < 0.4:
        found.append("2D and 3D disagree about what is up; camera axes have y down")

    # A knee bends forwards. Forwards is where left turns to, about the upward trunk.
    trunk, to_left = poses[:, 8] - poses[:, 0], poses[:, 4] - poses[:, 1]
    front = np.cross(to_left, trunk)
    front /= np.maximum(np.linalg.norm(front, axis=-1, keepdims=True), 1e-6)
    bend = [
        ((poses[:, knee] - (poses[:, hip] + poses[:, ankle]) / 2) * front).sum(-1)
        for hip, knee, ankle in _LEGS
    ]
    if float(np.mean(bend)) < -0.01:
        found.append("knees bend backwards: left and right seem swapped, or an axis mirrored")

    lengths = bone_lengths(poses)
    for right, left in zip((1, 2, 3, 14, 15, 16), (4, 5, 6, 11, 12, 13), strict=True):
        if abs(lengths[right] - lengths[left]) > 0.15 * max(lengths[right], lengths[left]):
            found.append(
                f"the bones to {JOINT_NAMES[right]} and {JOINT_NAMES[left]} differ:"
                f" {lengths[right] * 1000:.0f} and {lengths[left] * 1000:.0f} mm"
            )
    return found


def _counts(dataset: PoseDataset, attribute: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for sequence in dataset.sequences:
        entry = counts.setdefault(getattr(sequence, attribute), {"sequences": 0, "frames": 0})
        entry["sequences"] += 1
        entry["frames"] += len(sequence)
    return dict(sorted(counts.items()))


def _range(array: FloatArray, scale: float) -> dict[str, list[float]]:
    """The least and the largest coordinate of ``(N, 17, C)`` along each axis."""
    flat = array.reshape(len(array), -1)  # rows as long as possible: several times faster
    low, high = (
        extreme.reshape(NUM_JOINTS, -1) * scale for extreme in (flat.min(axis=0), flat.max(axis=0))
    )
    return {"min": low.min(axis=0).tolist(), "max": high.max(axis=0).tolist()}


def _split_info(folder: Path, split: Split, cache: Path | None) -> dict[str, Any]:
    drift = default_exclude_drift(split, folder.resolve().name)
    dataset = load_dataset(folder, split, exclude_drift=drift, cache=cache)
    lengths = bone_lengths(dataset.poses) * 1000
    return {
        "sequences": len(dataset.sequences),
        "frames": len(dataset),
        "subjects": _counts(dataset, "subject"),
        "actions": _counts(dataset, "action_name"),
        "cameras": _counts(dataset, "camera"),
        "left_out": {
            "sequences": len(dataset.left_out),
            "frames": sum(len(sequence) for sequence in dataset.left_out),
            "reasons": describe_left_out(dataset),
        },
        "keypoints_px": _range(dataset.keypoints_px, 1),
        "poses_mm": _range(dataset.poses, 1000),
        "bone_lengths_mm": dict(zip(JOINT_NAMES[1:], lengths[1:].round(1).tolist(), strict=True)),
        "sha256": dataset.sha256,
        "warnings": [*dataset.notes, *_suspicions(dataset)],
    }


def examine(folder: Path, cache: Path | None = None) -> dict[str, Any]:
    """Describe the splits of the data set in ``folder``, as one JSON-able object.

    Counts are of what the protocol uses; what it leaves out is under ``left_out``. Pixels have x
    right and y down, millimetres are in camera axes.

    Raises:
        MissingError: there is no data set.
        InputError: it is not in the published format.
    """
    present = [
        split
        for split in get_args(Split)
        if any(file.is_file() for file in dataset_files(folder, split))
    ]
    if not present:
        raise MissingError(
            f"{folder}: has no train_custom_2d_unnorm.pth.tar and no test_custom_2d_unnorm.pth.tar;"
            " name the folder DATA_ROOT/<input>"
        )
    return {
        "folder": str(folder),
        "splits": {split: _split_info(folder, split, cache) for split in present},
    }
