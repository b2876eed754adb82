"""What Blender's own importer makes of glTF and BVH. Needs ``pip install bpy`` (400 MB)."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from poses import MOCAP, tracks_of

from gridpose.core import JOINT_NAMES
from gridpose.pipeline import export_poses
from gridpose.pipeline.exports.rig import NODES
from gridpose.pipeline.motion.bone_lengths import with_constant_lengths

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("bpy") is None, reason="needs Blender: pip install bpy"
    ),
]
FRAMES = (0, 13, 40, 59)

# In a process of its own, which need not end as others do: beside OpenMP's threads Blender hangs.
SCRIPT = """
import json, os, sys
import bpy
file, result, frames = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.fps = 30
if file.endswith(".glb"):
    bpy.ops.import_scene.gltf(filepath=file)
else:
    bpy.ops.import_anim.bvh(filepath=file, global_scale=0.01)
found = {}
for thing in bpy.data.objects:
    if thing.type == "ARMATURE":
        found[thing.name] = {"frames": [], "range": [*thing.animation_data.action.frame_range]}
    elif thing.modifiers:
        found[thing.name] = {"frames": [], "moved by": [m.object.name for m in thing.modifiers]}
for frame in frames:
    scene.frame_set(frame)
    for name, about in found.items():
        thing = bpy.data.objects[name]
        if thing.type == "ARMATURE":
            heads = {b.name: [*(thing.matrix_world @ b.head)] for b in thing.pose.bones}
            about["frames"].append(heads)
        else:
            mesh = thing.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
            about["frames"].append([[*(thing.matrix_world @ v.co)] for v in mesh.vertices])
with open(result, "w") as stream:
    json.dump(found, stream)
os._exit(0)
"""


def in_blender(file, frames):
    """What Blender shows in those frames: bones' heads and meshes' vertices, m, z up."""
    result = file.with_suffix(".json")
    command = [sys.executable, "-c", SCRIPT, str(file), str(result), json.dumps(frames)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(result.read_text())


@pytest.fixture
def tracks():
    people = map(with_constant_lengths, (MOCAP, MOCAP[::-1] + np.array((2, 0, 0))))
    return replace(tracks_of(*people), fps=30.0, frame_time=np.arange(60) / 30)


def test_gltf_is_armatures_and_bodies_that_they_move(tracks, tmp_path):
    export_poses(tracks, tmp_path / "two.glb")
    found = in_blender(tmp_path / "two.glb", FRAMES)
    for row, name in enumerate(("p3", "p4")):
        armature, body = found[name], found[f"{name}_body"]
        assert body["moved by"] == [name]
        assert armature["range"] == pytest.approx((0, 59))
        for index, frame in enumerate(FRAMES):
            heads, pose = armature["frames"][index], tracks.poses_world[row, frame]
            assert len(heads) == len(NODES)
            joints = [heads[f"{name}:{joint}"] for joint in JOINT_NAMES]
            np.testing.assert_allclose(joints, pose, atol=1e-3)
            away = np.linalg.norm(np.array(body["frames"][index])[:, None] - pose, axis=-1)
            assert away.min(0).max() < 0.2  # every joint is within the body
            assert away.min(1).max() < 0.3  # no part of the body is elsewhere


def test_bvh_is_an_armature(tracks, tmp_path):
    export_poses(tracks, tmp_path / "one.bvh", track_ids=[3])
    found = in_blender(tmp_path / "one.bvh", [frame + 1 for frame in FRAMES])["one"]
    assert found["range"] == [1, 60]
    for frame, heads in zip(FRAMES, found["frames"], strict=True):
        joints = [heads[joint] for joint in JOINT_NAMES]
        np.testing.assert_allclose(joints, tracks.poses_world[0, frame], atol=1e-3)
