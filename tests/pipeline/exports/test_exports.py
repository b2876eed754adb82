"""Every format is read back by a program that is not ours, and must agree within 0.5 mm."""

import csv
import json
import warnings

import bvhio
import c3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from poses import FPS, MOCAP, tracks_of

from gridpose.core import JOINT_NAMES, InputError, MissingError, UsageError
from gridpose.pipeline import export_poses, read_pose_file
from gridpose.pipeline.exports.rig import NODES, rig_of, to_y_up
from gridpose.pipeline.motion.bone_lengths import bone_lengths, with_constant_lengths

HALF_A_MILLIMETRE = 5e-4


@pytest.fixture
def one():
    return tracks_of(MOCAP)


@pytest.fixture
def two():
    return tracks_of(MOCAP, MOCAP[::-1] + np.array((2, 0, 0)), gaps=(0, 1, 20, 21, 22, 59))


def written(tracks, file, **options):
    assert export_poses(tracks, file, **options).files == [file]
    return file


def bvh_joints(file):
    """(T, 17, 3) m, y up, by bvhio's own forward kinematics."""
    root = bvhio.readAsHierarchy(str(file))
    nodes = {joint.Name: joint for joint, _, _ in root.layout()}
    frames = bvhio.readAsBvh(str(file)).FrameCount
    joints = np.empty((frames, 17, 3))
    for frame in range(frames):
        root.loadPose(frame)
        for index, name in enumerate(JOINT_NAMES):
            joints[frame, index] = np.array(nodes[name].PositionWorld) / 100
    return joints


def test_bvh_is_what_bvhio_reads(one, tmp_path):
    file = written(one, tmp_path / "dance.bvh")
    np.testing.assert_allclose(
        bvh_joints(file), to_y_up(with_constant_lengths(MOCAP)), atol=HALF_A_MILLIMETRE
    )
    assert bvhio.readAsBvh(str(file)).FrameTime == pytest.approx(1 / FPS, rel=1e-6)


def test_bvh_rests_in_a_t_pose_that_faces_z(one, tmp_path):
    root = bvhio.readAsHierarchy(str(written(one, tmp_path / "dance.bvh")))
    root.loadRestPose(recursive=True)
    rest = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in root.layout()}
    lengths = 100 * bone_lengths(MOCAP)
    for name, parent, direction in (
        ("left_wrist", "left_shoulder", (1, 0, 0)),
        ("right_wrist", "right_shoulder", (-1, 0, 0)),
        ("head", "hip", (0, 1, 0)),
        ("left_ankle", "left_hip", (0, -1, 0)),
    ):
        span = rest[name] - rest[parent]
        np.testing.assert_allclose(span / np.linalg.norm(span), direction, atol=1e-6)
    thigh = np.linalg.norm(rest["left_knee"] - rest["left_hip"])
    assert thigh == pytest.approx(lengths[JOINT_NAMES.index("left_knee")], abs=1e-3)


def test_bvh_is_a_file_for_each_person_and_bridges_gaps(two, tmp_path):
    exported = export_poses(two, tmp_path / "dance.bvh")
    assert exported.files == [tmp_path / "dance_p3.bvh", tmp_path / "dance_p4.bvh"]
    assert "track 4: 3 frames without them were interpolated" in exported.notes
    assert len(bvh_joints(exported.files[0])) == 60
    second = bvh_joints(exported.files[1])
    expected = to_y_up(two.poses_world[1])
    lengths = bone_lengths(two.poses_world[1][two.present[1]])
    found = np.linalg.norm(second[:, 2] - second[:, 1], axis=-1)
    np.testing.assert_allclose(found, found[0], atol=HALF_A_MILLIMETRE)
    seen = np.isfinite(expected[:, 0, 0])
    np.testing.assert_allclose(second[seen, 0], expected[seen, 0], atol=HALF_A_MILLIMETRE)
    assert found[0] == pytest.approx(lengths[2], abs=1e-5)


def test_bvh_of_who_comes_later_lasts_as_long_as_the_video(two, tmp_path):
    """Or, trimmed, only while they are there; a note tells either."""
    whole = export_poses(two, tmp_path / "dance.bvh", track_ids=[4])
    assert [note for note in whole.notes if "held still in 3 frames" in note]
    trimmed = export_poses(two, tmp_path / "short.bvh", track_ids=[4], trim=True)
    assert trimmed.notes[0] == "track 4: the file begins at second 0.067 of the video"
    long, short = bvh_joints(tmp_path / "dance.bvh"), bvh_joints(tmp_path / "short.bvh")
    assert (len(long), len(short)) == (60, 57)
    np.testing.assert_allclose(long[2:59], short, atol=HALF_A_MILLIMETRE)
    np.testing.assert_array_equal(long[:2], long[[2, 2]])
    np.testing.assert_array_equal(long[59], long[58])


def test_c3d_is_what_c3d_reads(two, tmp_path):
    file = written(two, tmp_path / "dance.c3d")
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = c3d.Reader(stream)
        labels = [label.strip() for label in reader.point_labels]
        rate, units = reader.point_rate, reader.get_string("POINT:UNITS").strip()
        points = np.stack([frame.copy() for _, frame, _ in reader.read_frames()])
    assert rate == pytest.approx(FPS, rel=1e-6)
    assert units == "mm"
    assert labels[:2] == ["p3_hip", "p3_right_hip"]
    assert labels[17] == "p4_hip"
    expected = two.poses_world.transpose(1, 0, 2, 3).reshape(60, 34, 3)
    seen = np.isfinite(expected[..., 0])
    np.testing.assert_allclose(points[..., :3][seen] / 1000, expected[seen], atol=HALF_A_MILLIMETRE)
    assert (points[..., 3][seen] >= 0).all()
    assert (points[..., 3][~seen] < 0).all()  # how the format says "invalid"


def test_trc_follows_the_format(two, tmp_path):
    file = written(two, tmp_path / "dance.trc")
    lines = file.read_text().splitlines()
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    assert lines[0].split("\t") == ["PathFileType", "4", "(X/Y/Z)", "dance.trc"]
    assert float(header["DataRate"]) == pytest.approx(FPS, rel=1e-5)
    assert (header["NumFrames"], header["NumMarkers"], header["Units"]) == ("60", "34", "mm")
    names = lines[3].split("\t")[2::3]
    assert [name for name in names if name][17] == "p4_hip"
    rows = [line.split("\t") for line in lines[6:]]
    assert [row[0] for row in rows] == [str(k) for k in range(1, 61)]
    np.testing.assert_allclose([float(row[1]) for row in rows], two.frame_time, atol=1e-6)
    values = np.array([[float(cell) if cell else np.nan for cell in row[2:-1]] for row in rows])
    expected = to_y_up(two.poses_world).transpose(1, 0, 2, 3).reshape(60, -1)
    np.testing.assert_allclose(values / 1000, expected, atol=HALF_A_MILLIMETRE)


ABSENCES = [(), (0, 1), (20, 21), (58, 59), (0, 30, 59), range(1, 60)]


@pytest.mark.parametrize("gaps", ABSENCES)
@pytest.mark.parametrize("people", [1, 3])
def test_trc_has_all_cells_of_whoever_is_absent(tmp_path, gaps, people):
    tracks = tracks_of(*[MOCAP] * people, gaps=gaps)
    lines = written(tracks, tmp_path / "a.trc").read_text().split("\n")
    table = [*lines[3:5], *lines[6:-1]]
    assert len(table) == 62
    # OpenSim drops what is empty after the last tab.
    assert {line.count("\t") for line in table} == {2 + 3 * 17 * people}
    assert all(line.endswith("\t") for line in table)


@pytest.mark.parametrize("gaps", ABSENCES)
@pytest.mark.parametrize("people", [1, 3])
def test_trc_is_what_opensim_reads(tmp_path, gaps, people):
    opensim = pytest.importorskip("opensim")
    tracks = tracks_of(*[MOCAP] * people, gaps=gaps)
    table = opensim.TimeSeriesTableVec3(str(written(tracks, tmp_path / "a.trc")))
    assert (table.getNumRows(), table.getNumColumns()) == (60, 17 * people)
    np.testing.assert_allclose(table.getIndependentColumn(), tracks.frame_time, atol=1e-6)
    expected = to_y_up(tracks.poses_world).transpose(1, 0, 2, 3).reshape(60, -1, 3)
    for frame in (0, 1, 20, 59):
        row = table.getRowAtIndex(frame)
        found = [row[column].to_numpy() for column in range(17 * people)]
        np.testing.assert_allclose(np.divide(found, 1000), expected[frame], atol=HALF_A_MILLIMETRE)


def test_csv_has_a_row_for_each_joint_that_is_there(two, tmp_path):
    with written(two, tmp_path / "dance.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 17 * two.present.sum()
    row = next(
        r for r in rows if (r["frame"], r["track_id"], r["joint"]) == ("30", "4", "left_wrist")
    )
    joint = JOINT_NAMES.index("left_wrist")
    assert float(row["time_s"]) == pytest.approx(30 / FPS, abs=1e-6)
    assert float(row["u_px"]) == pytest.approx(two.keypoints_2d[1, 30, joint, 0], rel=1e-5)
    for axis, name in enumerate("xyz"):
        world = two.poses_world[1, 30, joint, axis]
        assert float(row[f"world_{name}_m"]) == pytest.approx(world, abs=HALF_A_MILLIMETRE)
        assert float(row[f"camera_{name}_m"]) == pytest.approx(
            two.poses_3d[1, 30, joint, axis], abs=HALF_A_MILLIMETRE
        )


def test_json_carries_the_pose_file(two, tmp_path):
    content = json.loads(written(two, tmp_path / "dance.json").read_text(encoding="utf-8"))
    assert content["meta"] == two.meta
    assert content["track_id"] == [3, 4]
    for name in ("bbox", "keypoints_2d", "confidence", "poses_3d", "poses_world"):
        values = getattr(two, name)
        for person in range(2):
            for frame in (0, 2, 21, 58, 59):
                found = content[name][person][frame]
                if two.present[person, frame]:
                    np.testing.assert_allclose(found, values[person, frame], rtol=1e-6)
                else:
                    assert found is None


def test_npz_is_a_pose_file_again(two, tmp_path):
    again = read_pose_file(written(two, tmp_path / "less.npz", track_ids=[4]))
    assert again.track_id.tolist() == [4]
    np.testing.assert_array_equal(again.poses_world, two.poses_world[1:])
    assert again.meta == two.meta


def test_one_person_of_several_gets_the_name_that_was_asked_for(two, tmp_path):
    file = written(two, tmp_path / "dance.bvh", track_ids=[3])
    np.testing.assert_allclose(
        bvh_joints(file)[:, 0], to_y_up(two.poses_world[0, :, 0]), atol=HALF_A_MILLIMETRE
    )


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.float64, (3, 17, 3), elements=st.floats(-2, 2)))
def test_the_rig_reaches_any_pose(poses):
    """Bones of any direction, exactly opposite ones and those without length among them."""
    rig = rig_of(poses)
    assert np.isfinite(rig.rotations).all()
    np.testing.assert_allclose(np.linalg.norm(rig.rotations, axis=-1), 1, atol=1e-9)
    # Directions of bones that are hundredths of a millimetre long are lost, and do not matter.
    np.testing.assert_allclose(rig.joints(), to_y_up(with_constant_lengths(poses)), atol=5e-5)


def test_a_t_pose_needs_no_rotation():
    rig = rig_of(MOCAP)
    still = type(rig)(rig.offsets, rig.tips, np.zeros((1, len(NODES), 4)), np.zeros((1, 3)))
    still.rotations[..., 3] = 1
    rest = still.joints()
    again = rig_of(np.stack((rest[..., 0], -rest[..., 2], rest[..., 1]), -1))
    np.testing.assert_allclose(np.abs(again.rotations[..., 3]), 1, atol=1e-9)


def test_limbs_twist_with_the_trunk():
    """Turning the whole body turns the root and nothing else."""
    quarter = np.array(((0, -1, 0), (1, 0, 0), (0, 0, 1.0)))
    straight, turned = rig_of(MOCAP), rig_of(MOCAP @ quarter.T)
    dots = np.abs((straight.rotations * turned.rotations).sum(-1))
    np.testing.assert_allclose(dots[:, 1:], 1, atol=1e-6)
    np.testing.assert_allclose(dots[:, 0], np.abs(dots[:, 0]), atol=0)
    assert (dots[:, 0] < 0.99).any()


@pytest.mark.parametrize("suffix", [".bvh", ".trc", ".c3d", ".glb"])
def test_nobody_to_write(one, tmp_path, suffix):
    nobody = tracks_of(MOCAP, gaps=range(60))
    with pytest.raises(InputError, match="nobody"):
        export_poses(nobody, tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npz", ".json", ".csv"])
def test_a_table_may_be_empty(tmp_path, suffix):
    written(tracks_of(MOCAP, gaps=range(60)), tmp_path / f"out{suffix}")


@pytest.mark.parametrize("suffix", [".npz", ".json", ".csv", ".bvh", ".trc", ".c3d", ".glb"])
def test_a_single_frame(tmp_path, suffix):
    written(tracks_of(MOCAP[:1]), tmp_path / f"out{suffix}")


def test_c3d_of_more_frames_than_it_counts(tmp_path):
    """Readers would find the first 65535 frames, or none."""
    tracks = tracks_of(np.resize(MOCAP, (65536, 17, 3)))
    with pytest.raises(InputError, match="65535 frames at most, and these are 65536"):
        export_poses(tracks, tmp_path / "long.c3d")
    assert list(tmp_path.iterdir()) == []


def test_refusals(one, two, tmp_path):
    with pytest.raises(UsageError, match=r"\.fbx: the name must end in .*\.bvh"):
        export_poses(one, tmp_path / "out.fbx")
    with pytest.raises(UsageError, match="no track 9; there are 3, 4"):
        export_poses(two, tmp_path / "out.csv", track_ids=[9])
    with pytest.raises(MissingError, match="no such folder"):
        export_poses(one, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "out_p4.bvh").write_text("mine")
    with pytest.raises(UsageError, match=r"out_p4\.bvh: exists already"):
        export_poses(two, tmp_path / "out.bvh")
    assert [file.name for file in tmp_path.iterdir()] == ["out_p4.bvh"]


def test_command_line(two, tmp_path, invoke):
    poses = written(two, tmp_path / "poses.npz")
    out = tmp_path / "out.bvh"
    result = invoke("export", poses, "-o", out, "-o", tmp_path / "o.csv", "--track", "4", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == [str(out), str(tmp_path / "o.csv")]
    assert "3 frames without them were interpolated" in result.stderr
    assert "held still in 3 frames" in result.stderr
    assert "with --trim" in result.stderr
    assert len(bvh_joints(out)) == 60
    result = invoke("export", poses, "-o", out)
    assert result.exit_code == 0  # two people: other files
    result = invoke("export", poses, "-o", tmp_path / "o.csv")
    assert result.exit_code == 2
    assert "exists already" in result.stderr
