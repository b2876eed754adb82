"""Names of bones by which other programs know whose movement goes to which limb."""

from __future__ import annotations

from typing import Final

from gridpose.pipeline.exports import Skeleton
from gridpose.pipeline.exports.rig import NODES

_MIDDLE: Final = {
    "hip": ("Hips", "pelvis"),
    "hip_to_spine": ("Spine", "spine_01"),
    "spine": ("Spine1", "spine_02"),
    "thorax": ("Spine2", "spine_03"),
    "thorax_to_nose": ("Neck", "neck_01"),
    "nose": ("Head", "head"),
    "head": ("HeadTop_End", "head_end"),
}
_SIDED: Final = {
    "thorax_to_SIDE_shoulder": ("Shoulder", "clavicle"),
    "SIDE_shoulder": ("Arm", "upperarm"),
    "SIDE_elbow": ("ForeArm", "lowerarm"),
    "SIDE_wrist": ("Hand", "hand"),
    "hip_to_SIDE_hip": ("Pelvis", "pelvis"),
    "SIDE_hip": ("UpLeg", "thigh"),
    "SIDE_knee": ("Leg", "calf"),
    "SIDE_ankle": ("Foot", "foot"),
}
"""Node -> its names at Mixamo and Unreal, which have no bone from the pelvis to the side."""


def bone_names(skeleton: Skeleton) -> list[str]:
    """The names of :data:`gridpose.pipeline.exports.rig.NODES`, in their order."""
    mixamo = {node: f"mixamorig:{name}" for node, (name, _) in _MIDDLE.items()}
    unreal = {node: name for node, (_, name) in _MIDDLE.items()}
    for side in ("left", "right"):
        for node, (theirs, others) in _SIDED.items():
            mixamo[node.replace("SIDE", side)] = f"mixamorig:{side.title()}{theirs}"
            unreal[node.replace("SIDE", side)] = f"{others}_{side[0]}"
    names = {"gridpose": {}, "mixamo": mixamo, "unreal": unreal}[skeleton]
    return [names.get(node.name, node.name) for node in NODES]
