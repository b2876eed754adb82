import csv
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import MOCAP, standing_pose, tracks_of
from scipy.spatial.transform import Rotation

from gridpose.core import JOINT_NAMES, MIRRORED, InputError, Repair, UsageError
from gridpose.pipeline import export_poses, write_angles
from gridpose.pipeline.exports.angles import ANGLES, joint_angles, repaired_angles
from gridpose.pipeline.motion.world import camera_to_world

NAMES = [angle.name for angle in ANGLES]
STANDING = camera_to_world(standing_pose())  # faces the camera, which is at negative y


def angles_of(pose):
    return dict(zip(NAMES, joint_angles(pose), strict=True))


def joints(*names):
    return [JOINT_NAMES.index(name) for name in names]


def turned(pose, about, moved, axis, degrees):
    """``pose`` with the ``moved`` joints turned about a joint."""
    pose = pose.copy()
    centre = pose[JOINT_NAMES.index(about)]
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(axis, float))
    pose[joints(*moved)] = turn.apply(pose[joints(*moved)] - centre) + centre
    return pose


def test_somebody_upright_has_no_angles():
    for name, value in angles_of(STANDING).items():
        assert value == pytest.approx(0, abs=10 if "shoulder" in name else 0.5), name


# The person faces -y, so what turns about +x by positive angles goes backwards at the bottom.
@pytest.mark.parametrize(
    ("name", "about", "moved", "axis", "sign"),
    [
        ("left_knee_flexion", "left_knee", ["left_ankle"], (1, 0, 0), 1),
        ("right_knee_flexion", "right_knee", ["right_ankle"], (1, 0, 0), 1),
        ("left_hip_flexion", "left_hip", ["left_knee", "left_ankle"], (-1, 0, 0), 1),
        ("right_hip_flexion", "right_hip", ["right_knee", "right_ankle"], (1, 0, 0), -1),
        ("left_elbow_flexion", "left_elbow", ["left_wrist"], (-1, 0, 0), 1),
        ("right_elbow_flexion", "right_elbow", ["right_wrist"], (-1, 0, 0), 1),
    ],
)
@pytest.mark.parametrize("degrees", [20, 75])
def test_one_joint_at_a_time(name, about, moved, axis, sign, degrees):
    found = angles_of(turned(STANDING, about, moved, axis, degrees))
    before = angles_of(STANDING)
    assert found[name] - before[name] == pytest.approx(sign * degrees, abs=0.01)
    for other in NAMES:
        # A bent elbow is no raised shoulder.
        if other != name:
            assert found[other] == pytest.approx(before[other], abs=1e-4)


@pytest.mark.parametrize("axis", [(-1, 0, 0), (0, -1, 0)])  # forwards, and to the left
def test_an_arm_is_raised(axis):
    straight = STANDING.copy()
    for offset, name in enumerate(("left_elbow", "left_wrist"), 1):
        shoulder = straight[JOINT_NAMES.index("left_shoulder")]
        straight[JOINT_NAMES.index(name)] = shoulder - (0, 0, 0.27 * offset)
    for degrees in (0, 45, 90, 170):
        pose = turned(straight, "left_shoulder", ["left_elbow", "left_wrist"], axis, degrees)
        assert angles_of(pose)["left_shoulder_elevation"] == pytest.approx(degrees, abs=0.1)
        assert angles_of(pose)["left_elbow_flexion"] == pytest.approx(0, abs=0.1)


def test_the_trunk_leans():
    upper = [name for name in JOINT_NAMES if not name.endswith(("hip", "knee", "ankle"))]
    bowed = angles_of(turned(STANDING, "hip", upper, (1, 0, 0), 40))
    assert bowed["trunk_forward_lean"] == pytest.approx(40, abs=0.1)
    assert bowed["trunk_left_lean"] == pytest.approx(0, abs=0.1)
    assert bowed["left_hip_flexion"] == pytest.approx(40, abs=0.5)
    # Their left is at the right of the picture, +x.
    aside = angles_of(turned(STANDING, "hip", upper, (0, 1, 0), 25))
    assert aside["trunk_left_lean"] == pytest.approx(25, abs=0.1)
    assert aside["trunk_forward_lean"] == pytest.approx(0, abs=0.1)


@given(st.integers(0, 59), st.floats(-math.pi, math.pi), st.floats(-50, 50), st.floats(0.5, 2))
@settings(max_examples=60, deadline=None)
def test_where_one_stands_and_how_tall_one_is_do_not_matter(index, heading, away, size):
    turn = Rotation.from_rotvec((0, 0, heading))
    moved = turn.apply(size * MOCAP[index]) + (away, -away, 0)
    np.testing.assert_allclose(joint_angles(moved), joint_angles(MOCAP[index]), atol=1e-3)


@given(st.integers(0, 59))
@settings(max_examples=60, deadline=None)
def test_mirrored_people_have_mirrored_angles(index):
    plain = angles_of(MOCAP[index])
    mirrored = angles_of((MOCAP[index] * (-1, 1, 1))[list(MIRRORED)])
    for name, value in plain.items():
        other = name.replace("left", "*").replace("right", "left").replace("*", "right")
        if name == "trunk_left_lean":
            assert mirrored[name] == pytest.approx(-value, abs=1e-3)
        elif name == "trunk_forward_lean":
            assert mirrored[name] == pytest.approx(value, abs=1e-3)
        else:
            assert mirrored[other] == pytest.approx(value, abs=1e-3)


def test_absent_joints_have_no_angles():
    pose = STANDING.copy()
    pose[JOINT_NAMES.index("left_ankle")] = np.nan
    found = angles_of(pose)
    assert [name for name, value in found.items() if np.isnan(value)] == ["left_knee_flexion"]


def test_the_table(tmp_path):
    tracks = tracks_of(MOCAP, MOCAP[::-1], gaps=(0, 5))
    tracks.repaired[0, 7, JOINT_NAMES.index("left_ankle")] = Repair.FILLED
    tracks.repaired[0, 8, JOINT_NAMES.index("left_ankle")] = Repair.EXCHANGED
    file = tmp_path / "angles.csv"
    assert write_angles(tracks, file).files == [file]
    rows = list(csv.DictReader(file.open()))
    assert len(rows) == 60 + 58
    row = next(row for row in rows if (row["frame"], row["track_id"]) == ("7", "3"))
    expected = angles_of(MOCAP[7].astype(np.float32))
    for name in NAMES:
        assert float(row[f"{name}_deg"]) == pytest.approx(expected[name], abs=0.006)
    assert row["interpolated"] == "left_knee_flexion"
    assert [r["frame"] for r in rows if r["interpolated"]] == ["7"]
    assert [r["frame"] for r in rows if r["exchanged"] == "left_knee_flexion"] == ["8"]
    assert repaired_angles(tracks.repaired, Repair.FILLED).sum() == 1


@pytest.mark.filterwarnings("error")
def test_figures(tmp_path, invoke):
    tracks = tracks_of(MOCAP, MOCAP[::-1], gaps=(0, 5))
    poses = tmp_path / "poses.npz"
    export_poses(tracks, poses)
    result = invoke("angles", poses, "-o", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    pictures = [cv2.imread(str(tmp_path / f"a_p{track}.png")) for track in (3, 4)]
    for picture in pictures:
        inked = (picture.min(-1) < 200).mean((1,)) if picture.ndim == 3 else None
        assert picture.shape[0] > picture.shape[1]
        # Something is drawn in each of the five panels.
        assert all((part > 0).any() for part in np.array_split(inked, 5))
    assert (pictures[0] != pictures[1]).any()
    one = invoke("angles", poses, "-o", tmp_path / "one.svg", "--track", "4")
    assert one.exit_code == 0
    assert "knee flexion" in (tmp_path / "one.svg").read_text()


def test_refusals(tmp_path):
    tracks = tracks_of(MOCAP)
    with pytest.raises(UsageError, match=r"must end in one of \.csv"):
        write_angles(tracks, tmp_path / "angles.xlsx")
    with pytest.raises(UsageError, match="no track 9"):
        write_angles(tracks, tmp_path / "a.csv", track_ids=[9])
    write_angles(tracks, tmp_path / "a.csv")
    with pytest.raises(UsageError, match="exists already"):
        write_angles(tracks, tmp_path / "a.csv")
    with pytest.raises(InputError, match="nobody"):
        write_angles(tracks_of(MOCAP, gaps=range(60)), tmp_path / "b.csv")


def test_angles_of_unseen_joints_are_blank(tmp_path):
    tracks = tracks_of(MOCAP, MOCAP)
    tracks.confidence[:] = 1
    tracks.confidence[0, :, joints("left_ankle", "right_ankle")] = 0
    tracks.confidence[1] = 0  # who is rated by nobody is seen
    write_angles(tracks, tmp_path / "angles.csv")
    for row in csv.DictReader((tmp_path / "angles.csv").open()):
        blank = {name for name in NAMES if row[f"{name}_deg"] == ""}
        knees = {"left_knee_flexion", "right_knee_flexion"}
        assert blank == (knees if row["track_id"] == "3" else set())
