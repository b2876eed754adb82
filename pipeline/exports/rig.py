"""Joint rotations of a skeleton with constant bone lengths, as animation formats want them.

Axes of this module: y up, z towards the camera, x to the right as the camera looks, metres: those
of glTF and of most BVH files. Who faces the camera faces +z, their left hand on the +x side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from gridpose.core import (
    BONES,
    JOINT_NAMES,
    NUM_JOINTS,
    AnyArray,
    DoubleArray,
    FloatArray,
    unit_vectors,
)
from gridpose.pipeline.motion.bone_lengths import bone_lengths, with_constant_lengths

_UP, _DOWN, _LEFT, _RIGHT = (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)


def _rest_direction(joint: str) -> tuple[float, float, float]:
    if joint.endswith(("_knee", "_ankle")):
        return _DOWN
    return {"left": _LEFT, "right": _RIGHT}.get(joint.split("_")[0], _UP)


_REST: Final[DoubleArray] = np.array([_rest_direction(name) for name in JOINT_NAMES])
"""(17, 3) direction of the bone that ends in each joint, in the rest pose: a T-pose facing +z."""

_TIPS: Final = {
    "right_ankle": (0.0, 0.0, 0.15),
    "left_ankle": (0.0, 0.0, 0.15),
    "head": (0.0, 0.08, 0.0),
    "left_wrist": (0.08, 0.0, 0.0),
    "right_wrist": (-0.08, 0.0, 0.0),
}
"""What is drawn behind the last joints of the skeleton, m in the rest pose. Not measured."""

_CHILDREN: Final = tuple(
    tuple(child for parent, child in BONES if parent == joint) for joint in range(NUM_JOINTS)
)
_HIP, _THORAX, _SPINE = 0, 8, 7


@dataclass(frozen=True)
class Node:
    """A joint of the rig.

    Where several bones meet, each has a node of its own at the place of their common joint, so that
    all of them can be aimed.
    """

    name: str
    parent: int
    """Index of the parent node, which comes earlier; -1 for the root."""
    joint: int
    """The Human3.6M-17 joint where it lies."""
    aims_at: int | None
    """The joint that its rotation aims at; None where it is an orientation of the body."""


def _nodes() -> tuple[Node, ...]:
    nodes: list[Node] = []

    def add(joint: int, parent: int) -> None:
        children = _CHILDREN[joint]
        here = len(nodes)
        nodes.append(
            Node(JOINT_NAMES[joint], parent, joint, children[0] if len(children) == 1 else None)
        )
        for child in children:
            owner = here
            if len(children) > 1:
                owner = len(nodes)
                name = f"{JOINT_NAMES[joint]}_to_{JOINT_NAMES[child]}"
                nodes.append(Node(name, here, joint, child))
            add(child, owner)

    add(_HIP, -1)
    return tuple(nodes)


NODES: Final = _nodes()


@dataclass(frozen=True)
class Rig:
    """A person's movement as rotations. The nodes are :data:`NODES`.

    ``offsets`` (N, 3) m from the parent node in its axes; ``tips`` name -> (3,) m; ``rotations``
    (T, N, 4) quaternions x, y, z, w in the parent's axes; ``root`` (T, 3) m.
    """

    offsets: DoubleArray
    tips: dict[str, DoubleArray]
    rotations: DoubleArray
    root: DoubleArray

    def rest_places(self) -> DoubleArray:
        """Places (N, 3) of nodes in the rest pose, the root's at the origin, m."""
        places = np.zeros_like(self.offsets)
        for index, node in enumerate(NODES):
            if node.parent >= 0:
                places[index] = places[node.parent] + self.offsets[index]
        return places

    def joints(self) -> DoubleArray:
        """Joints (T, 17, 3) by forward kinematics, m, y up."""
        frames = len(self.root)
        turned: list[Rotation] = []
        places: list[DoubleArray] = []
        joints = np.zeros((frames, NUM_JOINTS, 3))
        for index, node in enumerate(NODES):
            own = Rotation.from_quat(self.rotations[:, index])
            if node.parent < 0:
                turned.append(own)
                places.append(self.root)
            else:
                parent = turned[node.parent]
                turned.append(parent * own)
                places.append(places[node.parent] + parent.apply(self.offsets[index]))
            joints[:, node.joint] = places[-1]
        return joints


def to_y_up(points: AnyArray) -> DoubleArray:
    """World axes of gridpose (z up, y away from the camera) to y up, z towards the camera."""
    return np.stack((points[..., 0], points[..., 2], -points[..., 1]), -1, dtype=np.float64)


def rig_of(poses_world: FloatArray, lengths: DoubleArray | None = None) -> Rig:
    """Rotations of one person's consecutive poses.

    Every bone is aimed by the smallest turn from where its parent would carry it; hip and thorax
    face where the lines through hips and shoulders say, so that the limbs' twist follows the trunk.
    Positions do not tell how a limb is twisted about itself.

    Args:
        poses_world: (T, 17, 3) finite, m, z up.
        lengths: (17,) m of the bone that ends in each joint; else the medians.
    """
    lengths = bone_lengths(poses_world) if lengths is None else lengths
    joints = to_y_up(with_constant_lengths(poses_world, lengths))
    frames = len(joints)
    local = np.zeros((frames, len(NODES), 4))
    offsets = np.zeros((len(NODES), 3))
    world: list[Rotation] = []
    for index, node in enumerate(NODES):
        carried = Rotation.identity(frames) if node.parent < 0 else world[node.parent]
        if node.parent >= 0 and NODES[node.parent].joint != node.joint:
            offsets[index] = lengths[node.joint] * _REST[node.joint]
        if node.joint == _HIP and node.aims_at is None:
            turned = _facing(joints, (1, 4), (_HIP, _SPINE), carried)
        elif node.joint == _THORAX and node.aims_at is None:
            turned = _facing(joints, (14, 11), (_SPINE, _THORAX), carried)
        elif node.aims_at is None:
            turned = carried
        else:
            aim = unit_vectors(joints[:, node.aims_at] - joints[:, node.joint])
            start = carried.apply(_REST[node.aims_at])
            turned = _smallest_turn(start, aim) * carried
        world.append(turned)
        own = turned if node.parent < 0 else carried.inv() * turned
        local[:, index] = _continuous(own.as_quat())
    tips = {name: np.array(tip) for name, tip in _TIPS.items()}
    return Rig(offsets, tips, local, joints[:, _HIP])


def _facing(
    joints: DoubleArray, across: tuple[int, int], upwards: tuple[int, int], carried: Rotation
) -> Rotation:
    """Orientation whose x runs from right to left and whose y runs as nearly up the trunk."""
    x = unit_vectors(joints[:, across[1]] - joints[:, across[0]])
    up = joints[:, upwards[1]] - joints[:, upwards[0]]
    flat = up - (up * x).sum(-1, keepdims=True) * x
    clear = np.linalg.norm(flat, axis=-1) > 1e-3 * np.linalg.norm(up, axis=-1)
    clear &= np.linalg.norm(x, axis=-1) > 0.5
    y = unit_vectors(flat)
    axes = np.stack((x, y, np.cross(x, y)), -1)
    return Rotation.from_matrix(np.where(clear[:, None, None], axes, carried.as_matrix()))


def _smallest_turn(start: DoubleArray, aim: DoubleArray) -> Rotation:
    """The rotation by the smallest angle from unit vectors (T, 3) to others."""
    cosine = (start * aim).sum(-1)
    quaternion = np.concatenate((np.cross(start, aim), 1 + cosine[:, None]), -1)
    # Half a turn may go about any axis at a right angle.
    helper = np.eye(3)[np.abs(start).argmin(-1)]
    half = np.concatenate((np.cross(start, helper), np.zeros((len(start), 1))), -1)
    quaternion = np.where((cosine < -1 + 1e-9)[:, None], half, quaternion)
    return Rotation.from_quat(quaternion)


def _continuous(quaternions: DoubleArray) -> DoubleArray:
    """The same rotations (T, 4) without changes of sign from one frame to the next."""
    flips = np.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0, -1.0, 1.0)
    return np.asarray(quaternions * np.concatenate(([1.0], np.cumprod(flips)))[:, None])
