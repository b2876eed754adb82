"""A simple body around a rig: rounded tubes that turn with its bones and bend at its joints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import DoubleArray, unit_vectors
from gridpose.pipeline.exports.rig import NODES, Rig

_NODE: Final = {node.name: index for index, node in enumerate(NODES)}
_CORNERS: Final = 12
_STATIONS: Final = np.array((0.0, 0.1, 0.2, 0.5, 0.8, 0.9))
"""Where along a bone there is a ring of vertices, as shares of its length."""
_BLEND: Final = 0.2
"""The share of a bone before and after a joint in which it bends."""
_SLOPES: Final = np.radians((22.5, 45.0, 67.5, 90.0))
"""Rings of a round end."""
_USUAL_BONES: Final = 4.3
"""m, the sum of the bones of somebody whom the radii below fit."""


@dataclass(frozen=True)
class _Tube:
    """A chain of bones: those that begin at ``nodes``, the last one ending at ``end``.

    ``radii`` m at each node and at the end, across and to the front.
    """

    nodes: tuple[str, ...]
    end: str
    radii: tuple[tuple[float, float], ...]


def _round(*radii: float) -> tuple[tuple[float, float], ...]:
    return tuple((radius, radius) for radius in radii)


_MIDDLE: Final = (
    _Tube(("hip_to_spine", "spine"), "thorax", ((0.14, 0.10), (0.13, 0.095), (0.12, 0.085))),
    _Tube(("thorax_to_nose",), "nose", _round(0.055, 0.05)),
)
_SIDED: Final = (
    _Tube(("SIDE_hip", "SIDE_knee"), "SIDE_ankle", _round(0.085, 0.055, 0.038)),
    _Tube(("thorax_to_SIDE_shoulder",), "SIDE_shoulder", _round(0.06, 0.058)),
    _Tube(("SIDE_shoulder", "SIDE_elbow", "SIDE_wrist"), "", _round(0.055, 0.04, 0.03, 0.028)),
)
_HEAD_HEIGHT, _HEAD_RADII = 0.23, (0.075, 0.095)
_FOOT, _FOOT_RADII = ((0.0, -0.045, -0.03), (0.0, -0.055, 0.16)), ((0.04, 0.035), (0.038, 0.025))
"""From the ankle, of heel and toes."""


@dataclass(frozen=True)
class Mesh:
    """Triangles that nodes of a rig carry, in the rest pose with the root at the origin.

    ``positions`` and ``normals`` (V, 3) m, y up; ``nodes`` (V, 4) numbers of nodes and ``weights``
    (V, 4) their shares, which add up to 1; ``triangles`` (F, 3) numbers of vertices.
    """

    positions: DoubleArray
    normals: DoubleArray
    nodes: NDArray[np.uint16]
    weights: DoubleArray
    triangles: NDArray[np.uint16]


def body_of(rig: Rig) -> dict[str, Mesh]:
    """The meshes of ``middle``, ``left`` and ``right`` of a body with the rig's bones."""
    at = rest_places(rig)
    size = max(1e-3, float(np.linalg.norm(rig.offsets, axis=-1).sum()) / _USUAL_BONES)
    meshes = {
        "middle": [_head(at, size), *(_of_bones(rig, at, tube, "", size) for tube in _MIDDLE)]
    }
    for side in ("left", "right"):
        meshes[side] = [_foot(at, side, size)]
        meshes[side] += [_of_bones(rig, at, tube, side, size) for tube in _SIDED]
    return {name: _joined(parts) for name, parts in meshes.items()}


def rest_places(rig: Rig) -> DoubleArray:
    """Places (N, 3) of nodes in the rest pose, the root's at the origin, m."""
    places = np.zeros_like(rig.offsets)
    for index, node in enumerate(NODES):
        if node.parent >= 0:
            places[index] = places[node.parent] + rig.offsets[index]
    return places


def _of_bones(rig: Rig, at: DoubleArray, tube: _Tube, side: str, size: float) -> Mesh:
    nodes = [name.replace("SIDE", side) for name in tube.nodes]
    last = nodes[-1]
    end = (
        at[_NODE[tube.end.replace("SIDE", side)]] if tube.end else at[_NODE[last]] + rig.tips[last]
    )
    line = np.array([*(at[_NODE[name]] for name in nodes), end])
    return _tube(_bent(line, np.array(tube.radii) * size, nodes), line[-1] - line[0])


def _head(at: DoubleArray, size: float) -> Mesh:
    height = np.array((0.0, _HEAD_HEIGHT * size / 2, 0.0))
    radii = np.array(_HEAD_RADII) * size
    middle = _Rings(
        (at[_NODE["head"]] - height)[None], radii[None], np.zeros(1), _all_of("nose", 1)
    )
    return _tube(middle, height, float(height[1]))


def _foot(at: DoubleArray, side: str, size: float) -> Mesh:
    line = at[_NODE[f"{side}_ankle"]] + np.array(_FOOT) * size
    rings = _Rings(line, np.array(_FOOT_RADII) * size, np.zeros(2), _all_of(f"{side}_ankle", 2))
    return _tube(rings, line[1] - line[0])


def _all_of(node: str, rings: int) -> DoubleArray:
    return np.tile(np.eye(len(NODES))[_NODE[node]], (rings, 1))


@dataclass(frozen=True)
class _Rings:
    """Rings of vertices of a tube, each at a right angle to its axis.

    ``centres`` (S, 3); ``radii`` (S, 2) along the two other axes in the order x, y, z; ``slopes``
    (S,) radians of the normals towards the end; ``weights`` (S, N) of the nodes.
    """

    centres: DoubleArray
    radii: DoubleArray
    slopes: DoubleArray
    weights: DoubleArray

    def __add__(self, other: _Rings) -> _Rings:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return _Rings(*(np.concatenate(pair) for pair in pairs))


def _bent(line: DoubleArray, radii: DoubleArray, nodes: list[str]) -> _Rings:
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
    return _Rings(centres, bulge * widths, np.zeros(len(along)), weights)


def _tube(rings: _Rings, span: DoubleArray, height: float | None = None) -> Mesh:
    """The surface around rings, with round ends.

    Args:
        rings: from the tube's beginning to its end.
        span: (3,) along the tube; its longest component is the axis.
        height: m of a round end, else the smaller radius there.
    """
    axis = int(np.abs(span).argmax())
    sign = -1.0 if span[axis] < 0 else 1.0
    ahead = sign * np.eye(3)[axis]

    def end(which: int, slopes: DoubleArray) -> _Rings:
        tall = float(rings.radii[which].min()) if height is None else height
        return _Rings(
            rings.centres[which] + tall * np.sin(slopes)[:, None] * ahead,
            rings.radii[which] * np.cos(slopes)[:, None],
            slopes,
            rings.weights[[which] * len(slopes)],
        )

    rings = end(0, -_SLOPES[::-1]) + rings + end(-1, _SLOPES)
    turns = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    across = np.delete(np.eye(3), axis, axis=0)  # in the order x, y, z
    circle = np.stack((np.cos(turns), np.sin(turns)), -1)
    positions = rings.centres[:, None] + (circle * rings.radii[:, None]) @ across
    widest = rings.radii[len(_SLOPES)]
    flat = unit_vectors(circle / widest) @ across
    normals = (
        np.cos(rings.slopes)[:, None, None] * flat + np.sin(rings.slopes)[:, None, None] * ahead
    )
    strongest = np.argsort(-rings.weights, axis=1)[:, :4]
    weights = np.take_along_axis(rings.weights, strongest, axis=1)
    return Mesh(
        positions.reshape(-1, 3),
        normals.reshape(-1, 3),
        np.where(weights > 0, strongest, 0).repeat(_CORNERS, 0).astype(np.uint16),
        weights.repeat(_CORNERS, 0),
        _faces(len(turns), len(rings.centres), sign * (-1 if axis == 1 else 1) > 0),
    )


def _faces(corners: int, rings: int, ascending: bool) -> NDArray[np.uint16]:
    """Triangles (F, 3) between consecutive rings, counterclockwise as seen from outside.

    The first and the last ring are points.
    """
    here = np.arange(corners)
    after = np.roll(here, -1)
    first = (corners * np.arange(rings - 1))[:, None, None]
    near = first[1:] + np.stack((here, after, after + corners), -1)
    far = first[:-1] + np.stack((here, after + corners, here + corners), -1)
    faces = np.concatenate((near, far)).reshape(-1, 3)
    return np.asarray(faces if ascending else faces[:, ::-1], np.uint16)


def _joined(meshes: list[Mesh]) -> Mesh:
    before = np.cumsum([0, *(len(mesh.positions) for mesh in meshes[:-1])])
    triangles = [mesh.triangles + first for mesh, first in zip(meshes, before, strict=True)]
    return Mesh(
        np.concatenate([mesh.positions for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.nodes for mesh in meshes]),
        np.concatenate([mesh.weights for mesh in meshes]),
        np.concatenate(triangles).astype(np.uint16),
    )
