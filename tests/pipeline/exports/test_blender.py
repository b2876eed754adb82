"""What Blender's own importer makes of glTF and BVH. Needs ``pip install bpy`` (400 MB)."""

from dataclasses import replace

import numpy as np
import pytest
from poses import MOCAP, tracks_of

from gridpose.core import JOINT_NAMES
from gridpose.pipeline import export_poses
from gridpose.pipeline.exports.rig import NODES
from gridpose.pipeline.motion.bone_lengths import with_constant_lengths

pytestmark = pytest.mark.slow
FRAMES = (0, 13, 40, 59)


@pytest.fixture
def tracks():
    people = map(with_constant_lengths, (MOCAP, MOCAP[::-1] + np.array((2, 0, 0))))
    return replace(tracks_of(*people), fps=30.0, frame_time=np.arange(60) / 30)


@pytest.fixture
def bpy():
    bpy = pytest.importorskip("bpy", reason="needs Blender: pip install bpy")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 30
    return bpy


def bones_at(bpy, armature, frame, prefix=""):
    """Joints (17, 3) m where the bones of an armature begin; Blender's axes are our world's."""
    bpy.context.scene.frame_set(frame)
    heads = {bone.name: armature.matrix_world @ bone.head for bone in armature.pose.bones}
    return np.array([heads[prefix + name] for name in JOINT_NAMES])


def test_gltf_is_armatures_and_bodies_that_they_move(bpy, tracks, tmp_path):
    export_poses(tracks, tmp_path / "two.glb")
    bpy.ops.import_scene.gltf(filepath=str(tmp_path / "two.glb"))
    for row, name in enumerate(("p3", "p4")):
        armature, body = bpy.data.objects[name], bpy.data.objects[f"{name}_body"]
        assert (armature.type, len(armature.data.bones)) == ("ARMATURE", len(NODES))
        assert [modifier.object for modifier in body.modifiers] == [armature]
        for frame in FRAMES:
            found = bones_at(bpy, armature, frame, f"{name}:")
            np.testing.assert_allclose(found, tracks.poses_world[row, frame], atol=1e-3)
            moved = body.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
            vertices = np.array([body.matrix_world @ vertex.co for vertex in moved.vertices])
            pose = tracks.poses_world[row, frame]
            nearest = np.linalg.norm(vertices[:, None] - pose, axis=-1)
            assert nearest.min(0).max() < 0.2  # every joint is within the body
            assert nearest.min(1).max() < 0.3  # no part of the body is elsewhere


def test_bvh_is_an_armature(bpy, tracks, tmp_path):
    export_poses(tracks, tmp_path / "one.bvh", track_ids=[3])
    bpy.ops.import_anim.bvh(filepath=str(tmp_path / "one.bvh"), global_scale=0.01)
    armature = bpy.data.objects["one"]
    assert tuple(armature.animation_data.action.frame_range) == (1, 60)
    for frame in FRAMES:
        found = bones_at(bpy, armature, frame + 1)
        np.testing.assert_allclose(found, tracks.poses_world[0, frame], atol=1e-3)
