"""One clock in all formats, whatever the video's frame rate."""

import csv
import json
import warnings
from dataclasses import replace

import bvhio
import c3d
import numpy as np
import pytest
from gltf_reader import Glb
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import tracks_of, walk
from scipy.spatial.transform import Rotation

from gridpose.core import InputError, UsageError
from gridpose.pipeline import export_poses
from gridpose.pipeline.exports.clock import Clock
from gridpose.pipeline.exports.rig import to_y_up

WALK = walk(4.1)[0][:119]
FRAMES = np.array([*range(60), *range(60, 120, 2)])
"""Of 4 s at 30 fps: all of the first two seconds, half of the others, as of
``ffmpeg -vf "select='lt(t,2)+not(mod(n,2))'" -fps_mode vfr``."""
DURATION = 119 / 30


def at_30(*people, frames, gaps=()):
    tracks = tracks_of(*people, gaps=gaps)
    return replace(tracks, fps=30.0, frame_time=7 + np.asarray(frames) / 30)


@pytest.fixture
def varying():
    return at_30(WALK[FRAMES], frames=FRAMES)


def read_trc(file):
    """Header, times (N,), and points (N, M, 3) m."""
    lines = file.read_text().split("\n")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    rows = [line.split("\t")[:-1] for line in lines[6:-1]]
    values = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows])
    return header, values[:, 1], values[:, 2:].reshape(len(rows), -1, 3) / 1000


def read_c3d(file):
    """Rate, and points (N, M, 3) m, NaN where invalid."""
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = c3d.Reader(stream)
        points = np.stack([frame.copy() for _, frame, _ in reader.read_frames()])
        rate = reader.point_rate
    return rate, np.where(points[..., 3:4] >= 0, points[..., :3] / 1000, np.nan)


def test_all_formats_last_as_long_as_the_video(varying, tmp_path):
    for suffix in ("trc", "c3d", "bvh", "glb", "csv", "json"):
        export_poses(varying, tmp_path / f"a.{suffix}")
    header, times, points = read_trc(tmp_path / "a.trc")
    assert float(header["DataRate"]) == 30
    assert int(header["NumFrames"]) == len(points) == 119
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=2e-6)
    assert times[-1] - times[0] + 1 / 30 == pytest.approx(DURATION, abs=1e-5)
    rate, c3d_points = read_c3d(tmp_path / "a.c3d")
    assert len(c3d_points) / rate == pytest.approx(DURATION)
    bvh = bvhio.readAsBvh(str(tmp_path / "a.bvh"))
    assert bvh.FrameCount * bvh.FrameTime == pytest.approx(DURATION, abs=1e-5)
    _, _, times, _ = next(Glb(tmp_path / "a.glb").channels())
    assert times[-1] + 1 / 30 == pytest.approx(DURATION, abs=1e-5)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert float(rows[-1]["time_s"]) - float(rows[0]["time_s"]) + 1 / 30 == pytest.approx(
        DURATION, abs=1e-5
    )
    times = json.loads((tmp_path / "a.json").read_text())["frame_time"]
    assert (len(times), times[-1] - times[0] + 1 / 30) == (90, pytest.approx(DURATION))


def test_between_frames_people_are_where_they_were(varying, tmp_path):
    for suffix in ("trc", "c3d", "bvh"):
        export_poses(varying, tmp_path / f"a.{suffix}")
    _, _, points = read_trc(tmp_path / "a.trc")
    np.testing.assert_allclose(points[FRAMES], to_y_up(WALK)[FRAMES], atol=5e-4)
    # A frame between two is right within a centimetre, where the swinging foot turns round.
    np.testing.assert_allclose(points, to_y_up(WALK), atol=0.01)
    _, points = read_c3d(tmp_path / "a.c3d")
    np.testing.assert_allclose(points, WALK, atol=0.01)
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    nodes = {joint.Name: joint for joint, _, _ in root.layout()}
    for frame in (0, 59, 61, 90, 91, 117, 118):
        root.loadPose(frame)
        ankle = np.array(nodes["left_ankle"].PositionWorld) / 100
        np.testing.assert_allclose(ankle, to_y_up(WALK)[frame, 6], atol=0.01)


def test_rotations_go_the_shortest_way_at_constant_speed():
    times, wanted = np.array((0.0, 0.1, 0.4)), np.array((0.0, 0.05, 0.1, 0.15, 0.25, 0.4))
    turns = Rotation.from_rotvec(np.radians([[0, a, 0] for a in (0, 20, 110)])).as_quat()
    turned = Rotation.from_quat(Clock(10, wanted, times).rotations(turns))
    np.testing.assert_allclose(
        np.degrees(turned.as_rotvec()), [[0, a, 0] for a in (0, 10, 20, 35, 65, 110)], atol=1e-9
    )


def test_who_is_absent_stays_absent(tmp_path):
    """Gaps at the start, in the middle and at the end, all over 2 s, where frames are rarer."""
    gaps = np.flatnonzero((FRAMES < 10) | ((FRAMES >= 70) & (FRAMES < 80)) | (FRAMES > 110))
    tracks = at_30(WALK[FRAMES], WALK[FRAMES] + 1, frames=FRAMES, gaps=gaps)
    export_poses(tracks, tmp_path / "a.trc")
    _, _, points = read_trc(tmp_path / "a.trc")
    export_poses(tracks, tmp_path / "a.c3d")
    absent = np.flatnonzero(np.isnan(points[:, 17:]).all((1, 2)))
    # 69 and 79 lie between a frame with them and one without.
    assert absent.tolist() == [*range(10), *range(69, 80), *range(111, 119)]
    assert np.isfinite(points[:, :17]).all()
    _, again = read_c3d(tmp_path / "a.c3d")
    np.testing.assert_array_equal(np.isnan(again[:, 17:]).all((1, 2)), np.isnan(points[:, 17, 0]))


@pytest.mark.parametrize("fps", [12.5, 24, 60, 29.97])
def test_a_rate_can_be_chosen(varying, tmp_path, fps, invoke):
    export_poses(varying, tmp_path / "a.npz")
    options = [arg for suffix in ("trc", "c3d", "bvh") for arg in ("-o", tmp_path / f"a.{suffix}")]
    result = invoke("export", tmp_path / "a.npz", *options, "--fps", fps)
    assert (result.exit_code, result.stderr) == (0, "")
    header, times, points = read_trc(tmp_path / "a.trc")
    assert float(header["DataRate"]) == fps
    np.testing.assert_allclose(times, 7 + np.arange(len(points)) / fps, atol=1e-6)
    assert times[-1] - times[0] == pytest.approx(118 / 30, abs=0.51 / fps)
    rate, again = read_c3d(tmp_path / "a.c3d")
    assert (rate, len(again)) == (pytest.approx(fps), len(points))
    bvh = bvhio.readAsBvh(str(tmp_path / "a.bvh"))
    assert (bvh.FrameCount, 1 / bvh.FrameTime) == (len(points), pytest.approx(fps, rel=1e-6))


def test_notes_tell(varying, tmp_path):
    (note,) = export_poses(varying, tmp_path / "a.trc").notes
    assert "rate varies" in note
    assert "30 poses per second" in note
    (note,) = export_poses(varying, tmp_path / "a.glb", fps=25).notes
    assert note == "a.glb has the frames' own times; `fps` does not change them"


def test_rounded_times_are_a_constant_rate(tmp_path):
    """WebM knows milliseconds."""
    tracks = at_30(WALK, frames=range(119))
    tracks = replace(tracks, frame_time=np.round(tracks.frame_time, 3))
    assert export_poses(tracks, tmp_path / "a.trc").notes == []
    _, times, points = read_trc(tmp_path / "a.trc")
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=2e-6)
    np.testing.assert_allclose(points, to_y_up(WALK), atol=1e-4)


def test_frames_at_one_time_are_one(tmp_path):
    tracks = at_30(WALK[:5], frames=(0, 1, 1, 2, 3))
    export_poses(tracks, tmp_path / "a.trc")
    _, _, points = read_trc(tmp_path / "a.trc")
    np.testing.assert_allclose(points, to_y_up(WALK)[[0, 1, 3, 4]], atol=1e-4)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 1e6])
def test_no_rate(varying, tmp_path, fps):
    with pytest.raises(UsageError, match="a rate is above 0"):
        export_poses(varying, tmp_path / "a.bvh", fps=fps)
    with pytest.raises(InputError, match="a rate is above 0"):
        export_poses(replace(varying, fps=fps), tmp_path / "a.bvh")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", [np.nan, -1.0, 1e9])
def test_broken_times(varying, tmp_path, broken):
    varying.frame_time[-1] = broken
    with pytest.raises(InputError, match=r"do not ascend|too far apart"):
        export_poses(varying, tmp_path / "a.c3d")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 118), min_size=1, max_size=40, unique=True), st.data())
def test_any_frames_of_anybody(tmp_path_factory, frames, data):
    """Whoever is there and whatever the frames: one duration, nobody out of nothing."""
    folder = tmp_path_factory.mktemp("clock")
    frames = np.sort(frames)
    there = data.draw(st.lists(st.booleans(), min_size=len(frames), max_size=len(frames)))
    tracks = at_30(WALK[frames], WALK[frames], frames=frames, gaps=np.flatnonzero(~np.array(there)))
    export_poses(tracks, folder / "a.trc")
    header, times, points = read_trc(folder / "a.trc")
    assert int(header["NumFrames"]) == len(points) == frames[-1] - frames[0] + 1
    every = np.arange(frames[0], frames[-1] + 1)
    np.testing.assert_allclose(times, 7 + every / 30, atol=1e-6)
    seen = np.isfinite(points[:, -1, 0]) if any(there) else np.zeros(len(points), bool)
    np.testing.assert_array_equal(seen[frames - frames[0]], there)
    known = np.isin(every, frames)
    np.testing.assert_allclose(points[known, :17], to_y_up(WALK)[frames], atol=1e-4)
