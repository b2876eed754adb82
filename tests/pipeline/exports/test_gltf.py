"""glTF: an armature that moves as the poses do, and a body on its bones."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from gltf_reader import Glb
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from poses import FPS, MOCAP, tracks_of

from gridpose.core import BONES, JOINT_NAMES
from gridpose.pipeline import export_poses
from gridpose.pipeline.exports.bone_names import bone_names
from gridpose.pipeline.exports.gltf import Animated, glb_bytes
from gridpose.pipeline.exports.rig import NODES, rig_of, to_y_up
from gridpose.pipeline.motion.bone_lengths import with_constant_lengths

A_MILLIMETRE = 1e-3
FRAMES = (0, 7, 20, 40, 59)
FORMATS_PAGE = Path(__file__).parents[3] / "docs" / "formats.md"
CHAINS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
]


@pytest.fixture
def two():
    people = (MOCAP, MOCAP[::-1] + np.array((2, 0, 0)))
    return tracks_of(*map(with_constant_lengths, people), gaps=(0, 1, 20, 21, 22, 59))


@pytest.fixture
def glb(two, tmp_path):
    export_poses(two, tmp_path / "dance.glb")
    return Glb(tmp_path / "dance.glb")


def test_joints_are_where_the_poses_are(two, glb):
    for row, track in enumerate((3, 4)):
        names = glb.names(row)
        joints = [names.index(f"p{track}:{name}") for name in JOINT_NAMES]
        for frame in (7, 40, 58):
            found = glb.joints(row, frame / FPS)[joints, :3, 3]
            expected = to_y_up(two.poses_world[row, frame])
            np.testing.assert_allclose(found, expected, atol=A_MILLIMETRE)


def test_the_body_lies_around_the_bones(two, glb):
    """A limb's vertices are symmetric about its bone, and none is far from all bones."""
    _, joints, weights = glb.vertices(0)
    names = [name.removeprefix("p3:") for name in glb.names(0)]
    for frame in FRAMES:
        pose = to_y_up(two.poses_world[0, frame])
        vertices = glb.skinned(0, frame / FPS)
        for start, end in CHAINS:
            own = (joints == names.index(start)) & (weights > 0.999)
            middle = vertices[own.any(1)].mean(0)
            a, b = (pose[JOINT_NAMES.index(name)] for name in (start, end))
            along = np.clip((middle - a) @ (b - a) / ((b - a) @ (b - a)), 0.1, 0.9)
            np.testing.assert_allclose(middle, a + along * (b - a), atol=A_MILLIMETRE)
        a, b = (pose[[bone[end] for bone in BONES]] for end in (0, 1))
        span = vertices[:, None] - a
        along = np.clip((span * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)
        away = np.linalg.norm(span - along[..., None] * (b - a), axis=-1).min(1)
        assert away.max() < 0.22  # toes
        assert np.median(away) < 0.1


def test_it_is_bound_in_a_t_pose_on_the_floor_that_faces_z(glb):
    for skin in range(2):
        rest = glb.joints(skin)
        np.testing.assert_allclose(
            rest @ glb.unbinding(skin), np.tile(np.eye(4), (len(NODES), 1, 1)), atol=1e-6
        )
        at = dict(zip(glb.names(skin), rest[:, :3, 3], strict=True))
        positions, _, _ = glb.vertices(skin)
        assert positions[:, 1].min() == pytest.approx(0, abs=1e-6)
        who = f"p{3 + skin}:"
        arm = at[who + "left_wrist"] - at[who + "left_shoulder"]
        np.testing.assert_allclose(arm / np.linalg.norm(arm), (1, 0, 0), atol=1e-6)
        head = at[who + "head"]
        np.testing.assert_allclose(head[[0, 2]], 0, atol=1e-6)
        assert head[1] > 1.4
        toes = positions[positions[:, 1] < 0.05]
        assert toes[:, 2].max() > 0.1 > -toes[:, 2].min()


def test_weights_are_shares(glb):
    _, joints, weights = glb.vertices(0)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert (weights >= 0).all()
    assert joints.max() < len(glb.names(0))
    rigid = (weights.max(1) > 0.999).mean()
    assert 0.5 < rigid < 0.95  # the others bend at joints


def test_trimesh_reads_closed_bodies_from_outside(two, tmp_path):
    export_poses(two, tmp_path / "dance.glb")
    scene = trimesh.load(tmp_path / "dance.glb", file_type="glb")
    assert len(scene.geometry) == 6  # middle, left and right of each
    for mesh in scene.geometry.values():
        np.testing.assert_allclose(np.linalg.norm(mesh.vertex_normals, axis=1), 1, atol=1e-5)
        assert (
            np.einsum("ij,ij->i", mesh.face_normals, mesh.vertex_normals[mesh.faces[:, 0]]) > 0
        ).mean() > 0.99
        mesh.merge_vertices(merge_norm=True, merge_tex=True)
        for part in mesh.split(only_watertight=True):
            assert part.volume > 0
        assert len(mesh.split(only_watertight=True)) >= 3
    low, high = scene.bounds
    assert high[1] - low[1] == pytest.approx(1.65, abs=0.2)


def test_everybody_lasts_as_long_as_the_video(two, glb):
    for node, path, times, values in glb.channels():
        assert (np.diff(times) > 0).all()
        assert times[[0, -1]] == pytest.approx((0, 59 / FPS), abs=1e-6)
        if path == "translation" and glb.nodes[node]["name"] == "p4:hip":
            np.testing.assert_array_equal(values[0], values[2])  # held till they come


def test_frames_keep_their_times(tmp_path):
    tracks = tracks_of(MOCAP)
    late = np.where(np.arange(60) < 30, 0, np.arange(60) - 30) / FPS
    tracks.frame_time[:] += late + 5
    export_poses(tracks, tmp_path / "a.glb")
    _, _, times, _ = next(Glb(tmp_path / "a.glb").channels())
    np.testing.assert_allclose(times, tracks.frame_time - tracks.frame_time[0], atol=1e-6)


@pytest.mark.parametrize("skeleton", ["mixamo", "unreal"])
def test_bones_have_names_that_others_know(two, tmp_path, skeleton):
    files = export_poses(two, tmp_path / "a.glb", skeleton=skeleton, separate=True).files
    assert files == [tmp_path / "a_p3.glb", tmp_path / "a_p4.glb"]
    glb = Glb(files[0])
    names = glb.names(0)
    assert len(set(names)) == len(NODES)
    prefix = "mixamorig:" if skeleton == "mixamo" else ""
    parents = {
        glb.nodes[child]["name"]: glb.nodes[parent]["name"] for child, parent in glb.parents.items()
    }

    def ancestors(name):
        while name in parents:
            yield (name := parents[name])

    hips, head, hand, foot, arm = {
        "mixamo": ("Hips", "Head", "LeftHand", "RightFoot", "LeftArm"),
        "unreal": ("pelvis", "head", "hand_l", "foot_r", "upperarm_l"),
    }[skeleton]
    for name in (head, hand, foot, arm):
        assert prefix + hips in ancestors(prefix + name)
    assert prefix + arm in ancestors(prefix + hand)
    joints = glb.joints(0, 40 / FPS)
    expected = to_y_up(two.poses_world[0, 40])
    for name, joint in ((hips, "hip"), (hand, "left_wrist"), (foot, "right_ankle")):
        found = joints[names.index(prefix + name), :3, 3]
        np.testing.assert_allclose(found, expected[JOINT_NAMES.index(joint)], atol=A_MILLIMETRE)
    bvh = export_poses(two, tmp_path / "a.bvh", skeleton=skeleton, track_ids=[3]).files[0]
    assert f"JOINT {prefix}{hand}\n" in bvh.read_text()
    page = FORMATS_PAGE.read_text(encoding="utf-8")
    for name in names:
        assert f"`{name.removeprefix(prefix)}`" in page


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float64, (3, 17, 3), elements=st.floats(-2, 2)))
def test_any_pose_has_a_body(tmp_path_factory, poses):
    rig = rig_of(poses)
    file = tmp_path_factory.mktemp("glb") / "a.glb"
    person = Animated("p1", bone_names("gridpose"), rig, np.arange(3) / 25)
    file.write_bytes(glb_bytes([person], 0.0))
    glb = Glb(file)
    joints = [glb.names(0).index(name) for name in JOINT_NAMES]
    for frame in range(3):
        assert np.isfinite(glb.skinned(0, frame / 25)).all()
        found = glb.joints(0, frame / 25)[joints, :3, 3]
        np.testing.assert_allclose(
            found, to_y_up(with_constant_lengths(poses))[frame], atol=A_MILLIMETRE
        )
