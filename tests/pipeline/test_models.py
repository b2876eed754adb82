"""Models: what is loaded when, once, and for whom."""

import numpy as np
import pytest

from gridpose.pipeline import (
    BatchOptions,
    Models,
    VideoOptions,
    read_pose_file,
    run_batch,
    run_video,
)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "auto", "fp32"),
        ("cpu", "bf16", "fp32"),  # which is for the detector
        ("cpu", "fp32", "fp32"),
        ("cuda", "auto", "fp32"),
        ("cuda", "bf16", "bf16"),
        ("cuda", "fp16", "fp16"),
    ],
)
def test_the_precision_of_the_lifter(monkeypatch, frame_lifter, device, precision, expected):

    asked = []

    class Device:
        type = device

    monkeypatch.setattr("gridpose.devices.resolve_device", lambda name: Device)
    monkeypatch.setattr(
        "gridpose.lifting.load_lifter",
        lambda name, **options: asked.append(options) or frame_lifter,
    )
    options = VideoOptions(lifter="default-frame", device=device, precision=precision)
    with Models(options) as models:
        assert models.lifter is models.lifter is frame_lifter
    assert asked == [{"device": device, "precision": expected}]


def test_what_was_given_stays_open_and_what_was_loaded_is_loaded_once(fake_detector, lifter):
    with Models(VideoOptions(detector=fake_detector, lifter=lifter)) as models:
        assert (models.detector, models.lifter) == (fake_detector, lifter)
        assert not models.lifter_needs_torch
        assert not models.lifter_is_to_convert
    assert not fake_detector.closed
    with Models(VideoOptions(lifter=lifter)) as models:
        assert models.detector is models.detector is fake_detector
        assert not fake_detector.closed
    assert fake_detector.closed


def test_one_video_and_a_batch_give_the_same_poses(sample_video, tmp_path):
    """Two times the same video, so that the batch's models have seen it before."""
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).symlink_to(sample_video)
    options = VideoOptions(detector="blazepose-full", end=0.5, device="cpu")
    result = run_video(sample_video, None, options)
    batch = BatchOptions(video=options, render=False, workers=1)
    assert run_batch(tmp_path / "in", tmp_path / "out", batch).states == {"done": 2}
    for name in ("a.npz", "b.npz"):
        poses = read_pose_file(tmp_path / "out" / name)
        assert poses.present.sum() >= 15
        np.testing.assert_array_equal(poses.keypoints_2d, result.poses.keypoints_2d)
        np.testing.assert_array_equal(poses.poses_3d, result.poses.poses_3d)
        np.testing.assert_array_equal(poses.poses_world, result.poses.poses_world)
        assert poses.meta["options"] == result.meta["options"]
