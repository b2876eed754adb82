"""Every second frame of motion capture left out, and what exports make of the others."""

import bvhio
import numpy as np
import pytest
from poses import tracks_of

from gridpose.core import JOINT_NAMES
from gridpose.pipeline import export_poses
from gridpose.pipeline.exports.rig import to_y_up
from gridpose.pipeline.motion.bone_lengths import with_constant_lengths

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(shared):
    """(T, 17, 3) m each, at most 150 frames at about 30 per second."""
    data = np.load(shared / "mocap" / "temporal_test.npz")
    every = [data["positions"][data["clip"] == clip] for clip in range(len(data["fps"]))]
    return [with_constant_lengths(clip[: min(len(clip), 151) // 2 * 2 - 1]) for clip in every]


def thinned(clip):
    """Every second frame of what was filmed at 30 frames per second."""
    return tracks_of(clip).select(frames=slice(0, None, 2))


def test_markers_between_frames(clips, tmp_path):
    """2.9 mm from where they were."""
    errors = []
    for clip in clips:
        export_poses(thinned(clip), tmp_path / "a.trc", overwrite=True)
        rows = (tmp_path / "a.trc").read_text().split("\n")[6:-1]
        cells = np.array([row.split("\t")[2:-1] for row in rows], float)
        found = cells.reshape(-1, 17, 3) / 1000
        errors.append(np.linalg.norm(found - to_y_up(clip), axis=-1)[1::2].ravel())
    assert 1000 * np.concatenate(errors).mean() < 3.2


def test_rotations_between_frames(clips, tmp_path):
    """6.3 mm at wrists and ankles: rotations go at constant speed from frame to frame."""
    errors = []
    for clip in clips[::4]:
        export_poses(thinned(clip), tmp_path / "a.bvh", overwrite=True)
        root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
        ends = [j for j, _, _ in root.layout() if j.Name in ("left_wrist", "right_ankle")]
        for frame in range(1, len(clip), 2):
            root.loadPose(frame)
            for joint in ends:
                found = np.array(joint.PositionWorld) / 100
                there = to_y_up(clip[frame, JOINT_NAMES.index(joint.Name)])
                errors.append(np.linalg.norm(found - there))
    assert 1000 * np.mean(errors) < 7
