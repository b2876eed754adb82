"""Limbs that go through each other or through the trunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gridpose.core import NUM_JOINTS
from gridpose.lifting.synthesis.bone_directions import CHAIN
from gridpose.lifting.synthesis.local_frames import ROWS, TRUNK, rows

# Points are tested against segments between two joints; distances in metres.
_FOREARM_POINTS = (0.0, 0.5, 1.0, 1.3)  # shares of the way from elbow to wrist, and the hand
_SHIN_POINTS = (0.0, 0.5, 1.0)
_SEGMENTS = (
    ("trunk", 0, 8), ("head", 9, 10),
    ("right_thigh", 1, 2), ("left_thigh", 4, 5), ("right_shin", 2, 3), ("left_shin", 5, 6),
    ("right_arm", 14, 15), ("left_arm", 11, 12), ("right_forearm", 15, 16),
    ("left_forearm", 12, 13),
)  # fmt: skip
_ARM_RADII = {
    "trunk": 0.11, "head": 0.10, "thigh": 0.08, "shin": 0.05, "arm": 0.05, "forearm": 0.05,
}  # fmt: skip
_LEG_RADII = {"trunk": 0.11, "thigh": 0.09, "shin": 0.07}
_NOISE_DEPTH = 0.03
"""Limbs that touch may be pressed this much further into each other by noise."""


@dataclass(frozen=True)
class _Pairs:
    """Points (P) and segments (S) that can collide, flattened to P * S pairs where useful."""

    weights: Tensor
    """(17, P + 2 S): points, starts, and ends minus starts, as sums of bones."""
    ends: tuple[int, int]
    """Columns where points and starts end: P, P + S."""
    radii: Tensor
    """(P, S) least distances, -1 where nothing is tested."""
    rows: Tensor
    """(P * S, 17) bool, the local rows that decide on a pair's distance."""
    least: Tensor
    """(P, S) squares of ``radii``, keeping the sign."""
    blame: Tensor
    """(P * S, 3) float: is the right arm, the left arm, no arm concerned."""


def _pairs(like: Tensor) -> _Pairs:
    points, sides, parts = [], [], []
    limbs = (
        ("right", "arm", 15, 16, _FOREARM_POINTS), ("left", "arm", 12, 13, _FOREARM_POINTS),
        ("right", "leg", 2, 3, _SHIN_POINTS), ("left", "leg", 5, 6, _SHIN_POINTS),
    )  # fmt: skip
    for side, part, start, end, places in limbs:
        for share in places:
            weights = torch.zeros(NUM_JOINTS)
            weights[start], weights[end] = 1 - share, share
            points.append(weights)
            sides.append(side)
            parts.append(part)
    ends = torch.zeros(2 * len(_SEGMENTS), NUM_JOINTS)
    radii = torch.full((len(points), len(_SEGMENTS)), -1.0)
    deciding = torch.zeros(len(points), len(_SEGMENTS), len(ROWS), dtype=torch.bool)
    blame = torch.zeros(len(points), len(_SEGMENTS), 3)
    for column, (name, start, end) in enumerate(_SEGMENTS):
        ends[column, start] = 1
        ends[len(_SEGMENTS) + column, end], ends[len(_SEGMENTS) + column, start] = 1, -1
        side, _, kind = name.rpartition("_")
        kind_part = "arm" if kind in ("arm", "forearm") else "leg" if side else kind
        for index, (own_side, part) in enumerate(zip(sides, parts, strict=True)):
            if (own_side, part) == (side, kind_part):
                continue  # a limb does not collide with itself
            radius = (_ARM_RADII if part == "arm" else _LEG_RADII).get(kind, -1.0)
            radii[index, column] = radius
            concerned = set(_limb_rows(own_side, part)) | set(_limb_rows(side, kind_part))
            if {part, kind_part} != {"leg"}:
                concerned |= set(TRUNK)
            deciding[index, column, list(concerned)] = True
            arms = {own_side} if part == "arm" else set()
            arms |= {side} if kind_part == "arm" else set()
            blame[index, column] = torch.tensor(("right" in arms, "left" in arms, not arms))
    joints = torch.cat((torch.stack(points), ends))
    return _Pairs(
        weights=(joints @ CHAIN).T.contiguous().to(like),
        ends=(len(points), len(points) + len(_SEGMENTS)),
        radii=radii.to(like),
        rows=deciding.reshape(-1, len(ROWS)).to(like.device),
        least=(radii * radii.abs()).to(like),
        blame=blame.reshape(-1, 3).to(like),
    )


def _limb_rows(side: str, part: str) -> list[int]:
    if part == "arm":
        return rows(f"{side}_upper_arm", f"{side}_forearm")
    if part == "leg":
        return rows(f"{side}_thigh", f"{side}_shin")
    return rows("nose", "head") if part == "head" else []


class Collisions:
    """Tests which limbs of poses collide.

    Args:
        like: a tensor whose type and device those of the poses are.
    """

    def __init__(self, like: Tensor) -> None:
        self._pairs = _pairs(like)

    def find(
        self, directions: Tensor, lengths: Tensor, source: Tensor, noise: Tensor | None
    ) -> Tensor:
        """Whether the right arm, the left arm, or other parts collide, (n, 3) bool.

        What touches in a captured pose may go on touching where all of it comes from that pose.

        Args:
            directions: (n, 17, 3) unit vectors from the parents.
            lengths: (n, 17) bone lengths in metres.
            source: (n, 17 or more) which captured pose each local row comes from.
            noise: (n, R, 3) rotations that limbs were varied by; None where they were not.
        """
        pairs = self._pairs
        bones = (directions * lengths[..., None]).transpose(1, 2)
        places = bones.reshape(-1, NUM_JOINTS) @ pairs.weights  # one large product
        points, starts, axes = places.view(-1, 3, places.shape[1]).tensor_split(pairs.ends, dim=-1)
        along = points.transpose(1, 2) @ axes - (starts * axes).sum(1)[:, None]
        square = (axes**2).sum(1)[:, None]
        share = (along / square).clamp(0, 1)
        offset = (points**2).sum(1)[..., None] + (starts**2).sum(1)[:, None]
        offset -= 2 * points.transpose(1, 2) @ starts
        distance = offset - share * (2 * along - share * square)  # squared
        depth = (pairs.least - distance).flatten(1)
        pose, pair = (depth > 0).nonzero(as_tuple=True)
        hit = directions.new_zeros(len(directions), 3)
        if len(pose):
            decisive = pairs.rows[pair]
            origin = source[pose, : len(ROWS)]
            highest = origin.masked_fill(~decisive, -1).amax(1)
            lowest = origin.masked_fill(~decisive, torch.iinfo(origin.dtype).max).amin(1)
            real = highest == lowest
            if noise is not None:
                slack = distance.flatten(1)[pose, pair].clamp_min(0).sqrt()
                slack = slack - pairs.radii.flatten()[pair]
                real &= (slack > -_NOISE_DEPTH) | (noise[pose].abs().amax((1, 2)) == 0)
            hit.index_add_(0, pose, pairs.blame[pair] * ~real[:, None])
        return hit > 0
