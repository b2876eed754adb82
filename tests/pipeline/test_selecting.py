"""Choosing people by where they are at some moment."""

import numpy as np
import pytest
from fakes import FakeDetector, standing_at
from media import decode

from gridpose.core import InputError, UsageError
from gridpose.pipeline import VideoOptions, read_pose_file, run_video
from gridpose.pipeline.selecting import parse_selection


def three(frame):
    """One goes right, one left past them, one stands small in a corner."""
    return [
        standing_at(60 + 2 * frame, 120, 80),
        standing_at(250 - 2 * frame, 120, 80),
        standing_at(300, 40, 10),
    ]


@pytest.fixture(scope="module")
def video(tmp_path_factory, make_video):
    return make_video(
        tmp_path_factory.mktemp("video") / "in.mp4", frames=40, size=(320, 240), source="color"
    )


def run(video, output, lifter, *select, **options):
    options = VideoOptions(detector=FakeDetector(three), lifter=lifter, select=select, **options)
    return run_video(video, output, options)


def middles(tracks):
    """Mean column of each track's hips at the first and the last frame."""
    return np.round(tracks.keypoints_2d[:, [0, -1], 0, 0]).tolist()


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (["60,120@0"], [[60, 138]]),
        (["245,110"], [[250, 172]]),
        (["136,120@1.52", "250,120@0"], [[60, 138], [250, 172]]),
        (["300,40@0.5"], [[300, 300]]),
    ],
)
def test_only_who_is_selected(video, tmp_path, lifter, select, expected):
    poses = tmp_path / "out.npz"
    result = run(video, None, lifter, *select, save_poses=(poses,))
    tracks = read_pose_file(poses)
    np.testing.assert_allclose(middles(tracks), expected, atol=3)
    assert result.track_ids == tracks.track_id.tolist() == result.poses.track_id.tolist()
    assert tracks.present.all()
    assert tracks.meta["options"]["select"] == select


def test_the_others_are_not_drawn(video, tmp_path, lifter):
    output = tmp_path / "out.mp4"
    progress = []
    result = run_video(
        video,
        output,
        VideoOptions(detector=FakeDetector(three), lifter=lifter, select=("60,120",)),
        on_progress=progress.append,
    )
    assert result.frames == 40
    frames = decode(output, (1680, 720))
    left, right = frames[0][:, : 960 // 2].max(), frames[0][:, 960 // 2 : 900].max()
    assert left > 200 > right
    assert [each.done for each in progress] == [*range(1, 41), *range(1, 41)]


def test_nobody_there(video, lifter):
    with pytest.raises(InputError, match=r"nobody is at 160,20 at second 0; people are at 60,1"):
        run(video, None, lifter, "160,20")


@pytest.mark.parametrize("text", ["", "5", "a,b", "1,2@", "1,2@-3", "-1,2"])
def test_what_is_no_place(text):
    with pytest.raises(UsageError, match="must be x,y@t"):
        parse_selection(text)


def nearer_and_smaller(frame):
    """One comes nearer, one goes away from 60 px to 30, one is small."""
    return [
        standing_at(60, 120, 20 + 2 * frame),
        standing_at(160, 120, 60 - 0.75 * frame),
        standing_at(260, 120, 20),
    ]


def test_small_people_can_be_left_out_and_who_was_large_enough_stays_a_while(video, lifter):
    detector = FakeDetector(nearer_and_smaller)
    options = VideoOptions(detector=detector, lifter=lifter, persons="everyone", min_height=50)
    tracks = run_video(video, None, options).poses
    heights = (tracks.bbox[..., 3] - tracks.bbox[..., 1]).round()
    assert len(tracks.track_id) == 2
    first, second = (heights[row][tracks.present[row]] for row in range(2))
    by_column = sorted([first, second], key=lambda each: each[0] < each[-1])
    goes, comes = by_column
    assert comes[0] >= 50
    assert 35 <= goes.min() < 50
    assert goes[0] > goes[-1]
