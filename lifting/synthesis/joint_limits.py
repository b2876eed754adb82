"""Joint limits measured from poses, depending on the pose of the parent bone.

The dependence is Akhter and Black's (CVPR 2015); the tables are measured from the poses at hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gridpose.lifting.synthesis.local_frames import SWINGING, SWUNG, rows

# Each row that is limited, the row it depends on (itself: on nothing), and the kind of table.
LIMITED = [*SWINGING, *rows("thorax"), *SWUNG, *rows("across")]
GIVEN = [*SWINGING, *rows("thorax"), *SWINGING, *rows("thorax")]
_KINDS = (0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7)

_GRID = 24
"""Cells along a side of the octahedral map of directions: about 8.5 degrees each."""
_CELLS = _GRID * _GRID


def cells(directions: Tensor) -> Tensor:
    """Cell of each unit vector (..., 3) in the octahedral map of the sphere, (...) int64."""
    flat = directions[..., :2] / directions.abs().sum(-1, keepdim=True).clamp_min(1e-9)
    folded = (1 - flat.flip(-1).abs()).copysign(flat)
    flat = torch.where(directions[..., 2:] < 0, folded, flat)
    cell = ((flat + 1) * (_GRID / 2)).long().clamp_(0, _GRID - 1)
    return cell[..., 0] * _GRID + cell[..., 1]


def _cell_centres() -> Tensor:
    """Unit vectors (cells, 3) to the middles of the cells of :func:`cells`."""
    middle = (torch.arange(_GRID) + 0.5) * (2 / _GRID) - 1
    x, y = torch.meshgrid(middle, middle, indexing="ij")
    z = 1 - x.abs() - y.abs()
    below = z < 0
    folded_x, folded_y = (1 - y.abs()).copysign(x), (1 - x.abs()).copysign(y)
    unfolded = (torch.where(below, folded_x, x), torch.where(below, folded_y, y), z)
    return normalize(torch.stack(unfolded, -1).reshape(-1, 3), dim=-1)


class JointLimits:
    """Which directions the bones of poses take, given those of their parents.

    Args:
        local: (N, 17, 3) local directions of the poses, see :mod:`.local_frames`.
        widen: angle in degrees by which limits are wider than the data.
        reach: directions of a parent bone within this angle (degrees) share their child's limits.
    """

    def __init__(self, local: Tensor, widen: float, reach: float) -> None:
        device = local.device
        self.cells = cells(local).to(torch.int16)
        """(N, 17) where the bones of each pose point."""
        self._kinds = torch.tensor(_KINDS, device=device) * _CELLS
        self._swinging = torch.tensor(SWINGING, device=device)
        self._swung = torch.tensor(SWUNG, device=device)
        self._allowed = self._measure(math.cos(math.radians(widen)), math.cos(math.radians(reach)))

    def _measure(self, widen: float, reach: float) -> Tensor:
        """Which cell of a bone goes with which cell of its parent: (kinds * cells * cells,) bool.

        Both angles are given by their cosines.
        """
        centres = _cell_centres()
        likeness = centres @ centres.T
        wider, similar = (likeness > widen).float(), (likeness > reach).float()
        found = self.cells.long().cpu()
        tables = torch.zeros(max(_KINDS) + 1, _CELLS, _CELLS)
        for kind, given, row in zip(_KINDS, GIVEN, LIMITED, strict=True):
            pair = found[:, given] * _CELLS + found[:, row]
            tables[kind].view(-1)[pair] = 1
        return (similar @ tables @ wider > 0).view(-1).to(self.cells.device)

    def within(self, local: Tensor) -> Tensor:
        """Whether bones of local directions (N, 17, 3) are within: (N, 12) bool for ``LIMITED``."""
        found = cells(local)
        return self._together(found[:, GIVEN], found[:, LIMITED])

    def limbs_within(self, bones: Tensor) -> Tensor:
        """The same for the (N, 12, 3) bones of ``LIMITED``; a limb is within as a whole."""
        found = cells(bones)
        half = len(LIMITED) // 2  # bones that others depend on, then those others
        together = self._together(torch.cat((found[:, :half], found[:, :half]), 1), found)
        return together.view(-1, 2, half).all(1).repeat(1, 2)

    def fits(self, limb: Tensor, parent_pose: Tensor, child_pose: Tensor) -> Tensor:
        """Whether shins and the like of some poses can follow on thighs and the like of others.

        Args:
            limb: (M,) places in ``SWINGING`` and ``SWUNG``.
            parent_pose: (M,) indices of the poses that the limits were measured from.
            child_pose: (M,) likewise.

        Returns:
            (M,) bool.
        """
        given = self.cells[parent_pose, self._swinging[limb]].long()
        found = self.cells[child_pose, self._swung[limb]]
        kinds = self._kinds[len(SWINGING) + 1 :]
        return self._allowed[(kinds[limb] + given) * _CELLS + found]

    def _together(self, given: Tensor, found: Tensor) -> Tensor:
        return self._allowed[(self._kinds + given) * _CELLS + found]
