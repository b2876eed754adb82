"""Round tubes of triangles, and how much of each vertex the nodes of a rig carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import DoubleArray, unit_vectors

_CORNERS: Final = 12
_SLOPES: Final = np.radians((22.5, 45.0, 67.5, 90.0))
"""Rings of a round end."""


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


@dataclass(frozen=True)
class Rings:
    """Rings of vertices of a tube, each at a right angle to its axis.

    ``centres`` (S, 3); ``radii`` (S, 2) along the two other axes in the order x, y, z; ``slopes``
    (S,) radians of the normals towards the end; ``weights`` (S, N) of the nodes.
    """

    centres: DoubleArray
    radii: DoubleArray
    slopes: DoubleArray
    weights: DoubleArray

    def __add__(self, other: Rings) -> Rings:
        return Rings(
            np.concatenate((self.centres, other.centres)),
            np.concatenate((self.radii, other.radii)),
            np.concatenate((self.slopes, other.slopes)),
            np.concatenate((self.weights, other.weights)),
        )


def tube(rings: Rings, span: DoubleArray, height: float | None = None) -> Mesh:
    """The surface around rings, with round ends.

    Args:
        rings: from the tube's beginning to its end.
        span: (3,) along the tube; its longest component is the axis.
        height: m of a round end, else the smaller radius there.
    """
    axis = int(np.abs(span).argmax())
    sign = -1.0 if span[axis] < 0 else 1.0
    ahead = sign * np.eye(3)[axis]

    def end(which: int, slopes: DoubleArray) -> Rings:
        tall = float(rings.radii[which].min()) if height is None else height
        return Rings(
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


def joined(meshes: list[Mesh]) -> Mesh:
    """One mesh of several."""
    before = np.cumsum([0, *(len(mesh.positions) for mesh in meshes[:-1])])
    triangles = [mesh.triangles + first for mesh, first in zip(meshes, before, strict=True)]
    return Mesh(
        np.concatenate([mesh.positions for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.nodes for mesh in meshes]),
        np.concatenate([mesh.weights for mesh in meshes]),
        np.concatenate(triangles).astype(np.uint16),
    )
