"""A simple body around a rig: rounded tubes that turn with its bones and bend at its joints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gridpose.core import DoubleArray
from gridpose.pipeline.exports.rig import NODES, Rig
from gridpose.pipeline.exports.tubes import Mesh, Rings, joined, tube

_NODE: Final = {node.name: index for index, node in enumerate(NODES)}
_STATIONS: Final = np.array((0.0, 0.1, 0.2, 0.5, 0.8, 0.9))
"""Where along a bone there is a ring of vertices, as shares of its length."""
_BLEND: Final = 0.2
"""The share of a bone before and after a joint in which it bends."""
_USUAL_BONES: Final = 4.3
"""m, the sum of the bones of somebody whom the radii below fit."""


@dataclass(frozen=True)
class _Limb:
    """A chain of bones: those that begin at ``nodes``, the last one ending at ``end``.

    ``radii`` m at each node and at the end, across and to the front.
    """

    nodes: tuple[str, ...]
    end: str
    radii: tuple[tuple[float, float], ...]


def _round(*radii: float) -> tuple[tuple[float, float], ...]:
    return tuple((radius, radius) for radius in radii)


_MIDDLE: Final = (
    _Limb(("hip_to_spine", "spine"), "thorax", ((0.14, 0.10), (0.13, 0.095), (0.12, 0.085))),
    _Limb(("thorax_to_nose",), "nose", _round(0.055, 0.05)),
)
_SIDED: Final = (
    _Limb(("SIDE_hip", "SIDE_knee"), "SIDE_ankle", _round(0.085, 0.055, 0.038)),
    _Limb(("thorax_to_SIDE_shoulder",), "SIDE_shoulder", _round(0.06, 0.058)),
    _Limb(("SIDE_shoulder", "SIDE_elbow", "SIDE_wrist"), "", _round(0.055, 0.04, 0.03, 0.028)),
)
_HEAD_HEIGHT, _HEAD_RADII = 0.23, (0.075, 0.095)
_FOOT, _FOOT_RADII = ((0.0, -0.045, -0.03), (0.0, -0.055, 0.16)), ((0.04, 0.035), (0.038, 0.025))
"""From the ankle, of heel and toes."""


def body_of(rig: Rig) -> dict[str, Mesh]:
    """The meshes of ``middle``, ``left`` and ``right`` of a body with the rig's bones."""
    at = rig.rest_places()
    size = max(1e-3, float(np.linalg.norm(rig.offsets, axis=-1).sum()) / _USUAL_BONES)
    meshes = {
        "middle": [_head(at, size), *(_of_bones(rig, at, limb, "", size) for limb in _MIDDLE)]
    }
    for side in ("left", "right"):
        meshes[side] = [_foot(at, side, size)]
        meshes[side] += [_of_bones(rig, at, limb, side, size) for limb in _SIDED]
    return {name: joined(parts) for name, parts in meshes.items()}


def _of_bones(rig: Rig, at: DoubleArray, limb: _Limb, side: str, size: float) -> Mesh:
    nodes = [name.replace("SIDE", side) for name in limb.nodes]
    last = nodes[-1]
    end = (
        at[_NODE[limb.end.replace("SIDE", side)]] if limb.end else at[_NODE[last]] + rig.tips[last]
    )
    line = np.array([*(at[_NODE[name]] for name in nodes), end])
    return tube(_bent(line, np.array(limb.radii) * size, nodes), line[-1] - line[0])


def _head(at: DoubleArray, size: float) -> Mesh:
    height = np.array((0.0, _HEAD_HEIGHT * size / 2, 0.0))
    radii = np.array(_HEAD_RADII) * size
    middle = Rings((at[_NODE["head"]] - height)[None], radii[None], np.zeros(1), _all_of("nose", 1))
    return tube(middle, height, float(height[1]))


def _foot(at: DoubleArray, side: str, size: float) -> Mesh:
    line = at[_NODE[f"{side}_ankle"]] + np.array(_FOOT) * size
    rings = Rings(line, np.array(_FOOT_RADII) * size, np.zeros(2), _all_of(f"{side}_ankle", 2))
    return tube(rings, line[1] - line[0])


def _all_of(node: str, rings: int) -> DoubleArray:
    return np.tile(np.eye(len(NODES))[_NODE[node]], (rings, 1))


def _bent(line: DoubleArray, radii: DoubleArray, nodes: list[str]) -> Rings:
    """Bones along a straight ``line`` (K + 1, 3) that pass from node to node at the joints."""
    joints = np.arange(len(line))
    along = np.append((joints[:-1, None] + _STATIONS).ravel(), joints[-1])
    after = np.clip((along[:, None] - joints + _BLEND) / (2 * _BLEND), 0, 1)
    after[:, 0], after[:, -1] = 1, 0
    weights = np.zeros((len(along), len(NODES)))
    weights[:, [_NODE[name] for name in nodes]] = after[:, :-1] - after[:, 1:]
    bulge = 1 + 0.08 * np.sin(np.pi * (along % 1))[:, None]
    centres = np.stack([np.interp(along, joints, column) for column in line.T], -1)
    widths = np.stack([np.interp(along, joints, column) for column in radii.T], -1)
    return Rings(centres, bulge * widths, np.zeros(len(along)), weights)
