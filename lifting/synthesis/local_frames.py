"""Bones in the frames of the body parts that carry them.

*Local* directions (N, 17, 3), see :data:`ROWS`, are unit vectors in the frame of the body part that
carries the bone, x right, y front, z up. Limbs of the left side are mirrored, so that x points
outwards on both sides, and both share their limits. Shins, forearms and the head are seen in the
frame that goes along with their parent bone when it swings, without twist, away from its rest
direction. A world rotation (N, 3, 3), rows right, front, up of the pelvis, completes them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gridpose.core import NUM_JOINTS

ROWS = (
    "spine", "thorax", "across", "right_hip", "left_hip", "right_thigh", "left_thigh",
    "right_shin", "left_shin", "right_shoulder", "left_shoulder", "right_upper_arm",
    "left_upper_arm", "right_forearm", "left_forearm", "nose", "head",
)  # fmt: skip
"""Rows of local directions. ``across`` is the right axis of the upper trunk."""


def rows(*names: str) -> list[int]:
    """Places of names in :data:`ROWS`."""
    return [ROWS.index(name) for name in names]


_JOINT_ROWS = rows(
    "right_hip", "right_thigh", "right_shin", "left_hip", "left_thigh", "left_shin", "spine",
    "thorax", "nose", "head", "left_shoulder", "left_upper_arm", "left_forearm", "right_shoulder",
    "right_upper_arm", "right_forearm",
)  # fmt: skip
"""The row of each joint from 1 to 16."""
LEFT = [index for index, name in enumerate(ROWS) if name.startswith("left")]
_CARRIED = slice(9, 17)  # rows in the frame of the upper trunk; the others are in the pelvis's
TRUNK = rows("spine", "thorax", "across", "right_shoulder", "left_shoulder")

SWINGING = rows("right_thigh", "left_thigh", "right_upper_arm", "left_upper_arm", "nose")
SWUNG = rows("right_shin", "left_shin", "right_forearm", "left_forearm", "head")
# Rest directions: their opposites, where the swing is undefined, are out of human reach.
_REST = ((0.2, 0.5, -0.85),) * 2 + ((0.55, 0.5, -0.67),) * 2 + ((0.0, 0.2, 1.0),)


def _axes(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """``first``, and ``second`` made perpendicular to it, both of length 1.

    Where the two are parallel, the coordinate axis furthest from ``first`` replaces ``second``.
    """
    first = normalize(first, dim=-1)
    flat = second - (second * first).sum(-1, keepdim=True) * first
    axis = torch.zeros_like(first).scatter_(-1, first.abs().argmin(-1, keepdim=True), 1.0)
    spare = axis - (axis * first).sum(-1, keepdim=True) * first
    return first, normalize(
        torch.where(flat.norm(dim=-1, keepdim=True) < 1e-3, spare, flat), dim=-1
    )


def _swing(vectors: Tensor, rest: Tensor, bones: Tensor, back: bool = False) -> Tensor:
    """Turn ``vectors`` by the smallest rotation that takes ``rest`` to ``bones``, or back again.

    It is done as two half-turns, about ``rest`` and about the middle of both: exact, and a rotation
    even where both are opposite.
    """
    middle = normalize(rest + bones, dim=-1)
    for axis in (middle, rest) if back else (rest, middle):
        vectors = 2 * axis * (axis * vectors).sum(-1, keepdim=True) - vectors
    return vectors


class LocalFrames:
    """Turns world directions into local ones and back.

    Args:
        like: a tensor whose type and device those of the poses are.
    """

    def __init__(self, like: Tensor) -> None:
        device = like.device
        self._rest = normalize(like.new_tensor(_REST), dim=-1)
        self._sides = like.new_ones(len(ROWS), 3)
        self._sides[LEFT, 0] = -1
        self._joint_rows = torch.tensor(_JOINT_ROWS, device=device)
        self._swinging = torch.tensor(SWINGING, device=device)
        self._swung = torch.tensor(SWUNG, device=device)

    def to_local(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Local directions (N, 17, 3) and pelvis axes (N, 3, 3) of world ones (N, 17, 3)."""
        right, up = _axes(directions[:, 1] - directions[:, 4], directions[:, 7])
        world = torch.stack((right, torch.linalg.cross(up, right), up), dim=1)
        local = directions.new_zeros(len(directions), len(ROWS), 3)
        local[:, _JOINT_ROWS] = directions[:, 1:] @ world.transpose(1, 2)
        local[:, 2] = local[:, 9] - local[:, 10]
        trunk = self._trunk_axes(local)
        local[:, 2] = trunk[:, 0]
        local[:, _CARRIED] = local[:, _CARRIED] @ trunk.transpose(1, 2)
        local *= self._sides
        local[:, SWUNG] = _swing(local[:, SWUNG], self._rest, local[:, SWINGING], back=True)
        return local, world

    @staticmethod
    def _trunk_axes(local: Tensor) -> Tensor:
        """Rows right, front, up (N, 3, 3) of the upper trunk in the axes of the pelvis."""
        up, right = _axes(local[:, 1], local[:, 2])
        return torch.stack((right, torch.linalg.cross(up, right), up), dim=1)

    def to_world(self, local: Tensor, world: Tensor) -> Tensor:
        """World directions (N, 17, 3): the inverse of :meth:`to_local`."""
        local = local.clone()
        bones = local[:, self._swinging]
        local[:, self._swung] = _swing(local[:, self._swung], self._rest, bones)
        local *= self._sides
        local[:, _CARRIED] = local[:, _CARRIED] @ self._trunk_axes(local)
        directions = local.new_zeros(len(local), NUM_JOINTS, 3)
        directions[:, 1:] = local[:, self._joint_rows] @ world
        return directions
