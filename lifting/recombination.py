"""New poses from the limbs of captured ones, within measured joint limits and free of collisions.

The idea is EvoSkeleton's (Li et al., CVPR 2020): limbs change their owner, and joint angles vary.
Limits depend on the pose of the parent bone as in Akhter and Black (CVPR 2015), but are measured
from the poses at hand.

Poses are kept as *local* directions (N, 17, 3), see :data:`_ROWS`: unit vectors in the frame of the
body part that carries the bone, x right, y front, z up. Limbs of the left side are mirrored, so
that x points outwards on both sides, and both share their limits. Shins, forearms and the head are
seen in the frame that goes along with their parent bone when it swings, without twist, away from
its rest direction. A world rotation (N, 3, 3), rows right, front, up of the pelvis, completes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gridpose.core import MIRRORED, NUM_JOINTS, PARENTS

_ROWS = (
    "spine", "thorax", "across", "right_hip", "left_hip", "right_thigh", "left_thigh",
    "right_shin", "left_shin", "right_shoulder", "left_shoulder", "right_upper_arm",
    "left_upper_arm", "right_forearm", "left_forearm", "nose", "head",
)  # fmt: skip
"""Rows of local directions. ``across`` is the right axis of the upper trunk."""
_ORIENTATION = len(_ROWS)  # the column after the rows, where a pose's source is concerned


def _rows(*names: str) -> list[int]:
    return [_ROWS.index(name) for name in names]


_JOINT_ROWS = _rows(
    "right_hip", "right_thigh", "right_shin", "left_hip", "left_thigh", "left_shin", "spine",
    "thorax", "nose", "head", "left_shoulder", "left_upper_arm", "left_forearm", "right_shoulder",
    "right_upper_arm", "right_forearm",
)  # fmt: skip
"""The row of each joint from 1 to 16."""
_LEFT = [index for index, name in enumerate(_ROWS) if name.startswith("left")]
_CARRIED = slice(9, 17)  # rows in the frame of the upper trunk; the others are in the pelvis's
_ARMS = slice(11, 15)
_TRUNK = _rows("spine", "thorax", "across", "right_shoulder", "left_shoulder")

_SWINGING = _rows("right_thigh", "left_thigh", "right_upper_arm", "left_upper_arm", "nose")
_SWUNG = _rows("right_shin", "left_shin", "right_forearm", "left_forearm", "head")
# Rest directions: their opposites, where the swing is undefined, are out of human reach.
_REST = ((0.2, 0.5, -0.85),) * 2 + ((0.55, 0.5, -0.67),) * 2 + ((0.0, 0.2, 1.0),)

# Limits: each row, the row it depends on (itself: on nothing), and the kind of table.
_LIMITED = [*_SWINGING, *_rows("thorax"), *_SWUNG, *_rows("across")]
_GIVEN = [*_SWINGING, *_rows("thorax"), *_SWINGING, *_rows("thorax")]
_KINDS = (0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7)

GRID = 24
"""Cells along a side of the octahedral map of directions: about 8.5 degrees each."""
_CELLS = GRID * GRID

# What can be exchanged: name, rows, which donor it takes. Later ones go before earlier ones.
_BOTH_ARMS = ("right_upper_arm", "left_upper_arm", "right_forearm", "left_forearm")
_BOTH_LEGS = ("right_thigh", "left_thigh", "right_shin", "left_shin")
_EXCHANGES: tuple[tuple[str, tuple[int, ...], int], ...] = (
    ("right_arm", tuple(_rows("right_upper_arm", "right_forearm")), 0),
    ("left_arm", tuple(_rows("left_upper_arm", "left_forearm")), 1),
    ("arms", tuple(_rows(*_BOTH_ARMS)), 0),
    ("right_forearm", tuple(_rows("right_forearm")), 2),
    ("left_forearm", tuple(_rows("left_forearm")), 3),
    ("right_leg", tuple(_rows("right_thigh", "right_shin")), 1),
    ("left_leg", tuple(_rows("left_thigh", "left_shin")), 2),
    ("legs", tuple(_rows(*_BOTH_LEGS)), 2),
    ("right_shin", tuple(_rows("right_shin")), 3),
    ("left_shin", tuple(_rows("left_shin")), 0),
    ("shins", tuple(_rows("right_shin", "left_shin")), 3),
    ("head", tuple(_rows("nose", "head")), 3),
    ("trunk", tuple(_TRUNK), 1),
    ("orientation", (_ORIENTATION,), 3),
    ("kneeling", (*_rows(*_BOTH_LEGS), _ORIENTATION), 0),
)
_ARM_EXCHANGES = 5  # the first ones
_ARMS_EXCHANGE, _KNEELING_EXCHANGE = 3, len(_EXCHANGES)  # counted from 1; 0 is none


@dataclass(frozen=True)
class RecombinationOptions:
    """Probabilities of exchanges, and the noise of joint angles (standard deviations, degrees)."""

    arm: float = 0.15
    """Each arm for itself."""
    arms: float = 0.3
    """Both arms of one donor."""
    forearm: float = 0.12
    leg: float = 0.08
    legs: float = 0.1
    shin: float = 0.05
    shins: float = 0.05
    head: float = 0.3
    trunk: float = 0.2
    orientation: float = 0.1
    """The donor's rotation of the pelvis in the world."""
    kneeling: float = 0.03
    """Legs, and rotation of the pelvis, of a leg that kneels: on one shin or on both."""
    trunk_noise: float = 3.0
    head_noise: float = 4.0
    arm_noise: float = 4.0
    forearm_noise: float = 6.0
    leg_noise: float = 3.0
    shin_noise: float = 4.0

    def probabilities(self) -> list[float]:
        """One for each of the exchanges."""
        return [
            self.arm, self.arm, self.arms, self.forearm, self.forearm, self.leg, self.leg,
            self.legs, self.shin, self.shin, self.shins, self.head, self.trunk, self.orientation,
            self.kneeling,
        ]  # fmt: skip

    def noise(self) -> list[float]:
        """One for each of the rows ``_LIMITED``."""
        leg, arm, head, trunk = self.leg_noise, self.arm_noise, self.head_noise, self.trunk_noise
        shin, forearm = self.shin_noise, self.forearm_noise
        return [leg, leg, arm, arm, head, trunk, shin, shin, forearm, forearm, head, trunk]


@dataclass(frozen=True)
class TiltOptions:
    """How whole bodies are turned away from the upright: shares of poses, and degrees."""

    lying: float = 0.05
    """Share laid down on back, front or side."""
    lying_sigma: float = 15.0
    tumbling: float = 0.03
    """Share turned anyhow, upside down too."""
    tilt_sigma: float = 4.0
    """Of all others."""


@dataclass(frozen=True)
class Recombined:
    """``directions`` (N, 17, 3) unit vectors from the parents, world axes, row 0 is zero.

    ``wanted`` and ``kept`` (N, 18) bool say of each local row, and of the orientation, whether an
    exchange was drawn and whether the result has it; ``kept`` may fall short for limits and
    collisions.
    """

    directions: Tensor
    wanted: Tensor
    kept: Tensor


def _ancestors() -> Tensor:
    """(17, 17), 1 where the column's bone lies between the hip and the row's joint."""
    chain = torch.zeros(NUM_JOINTS, NUM_JOINTS)
    for joint in range(1, NUM_JOINTS):
        chain[joint] = chain[PARENTS[joint]]
        chain[joint, joint] = 1
    return chain


_CHAIN = _ancestors()


def assemble(directions: Tensor, lengths: Tensor) -> Tensor:
    """Joints ``(N, 17, 3)``, hip at the origin, from bone directions and lengths ``(N, 17)``."""
    return _CHAIN.to(directions) @ (directions * lengths[..., None])


def mirror(directions: Tensor) -> Tensor:
    """The pose seen in a mirror: sides change places, and x its sign."""
    return directions[:, MIRRORED] * directions.new_tensor((-1.0, 1.0, 1.0))


def tilt(directions: Tensor, options: TiltOptions, generator: torch.Generator) -> Tensor:
    """Turn whole bodies ``(N, 17, 3)`` about a horizontal axis through the hip.

    The camera's own yaw makes the turn a full rotation. Tumbling bodies have their up axis evenly
    over the sphere.
    """
    count, device = len(directions), directions.device
    draws = torch.rand(count, 4, generator=generator, device=device)
    normal = torch.randn(count, 2, generator=generator, device=device)
    kind, heading, cosine = draws[:, 0], 2 * math.pi * draws[:, 1], 2 * draws[:, 2] - 1
    angle = torch.deg2rad(normal[:, 0] * options.tilt_sigma)
    lying = math.pi / 2 + torch.deg2rad(normal[:, 1] * options.lying_sigma)
    angle = torch.where(kind < options.lying + options.tumbling, torch.acos(cosine), angle)
    angle = torch.where(kind < options.lying, lying, angle)[:, None, None]
    axis = torch.stack((heading.cos(), heading.sin(), torch.zeros_like(heading)), -1)[:, None]
    cross = torch.linalg.cross(axis.expand_as(directions), directions)
    along = axis * (axis * directions).sum(-1, keepdim=True)
    turned: Tensor = along + (directions - along) * angle.cos() + cross * angle.sin()
    return turned


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


def _turn(vectors: Tensor, turns: Tensor) -> Tensor:
    """Rotate by small rotation vectors in radians (Cayley's map: exactly a rotation)."""
    half = turns / 2
    cross = torch.linalg.cross(half, vectors)
    scale = 2 / (1 + (half * half).sum(-1, keepdim=True))
    turned: Tensor = vectors + scale * (cross + torch.linalg.cross(half, cross))
    return turned


def _cells(directions: Tensor) -> Tensor:
    """Cell of each unit vector (..., 3) in the octahedral map of the sphere, (...) int64."""
    flat = directions[..., :2] / directions.abs().sum(-1, keepdim=True).clamp_min(1e-9)
    folded = (1 - flat.flip(-1).abs()).copysign(flat)
    flat = torch.where(directions[..., 2:] < 0, folded, flat)
    cell = ((flat + 1) * (GRID / 2)).long().clamp_(0, GRID - 1)
    return cell[..., 0] * GRID + cell[..., 1]


def _cell_centres() -> Tensor:
    """Unit vectors (cells, 3) to the middles of the cells of :func:`_cells`."""
    middle = (torch.arange(GRID) + 0.5) * (2 / GRID) - 1
    x, y = torch.meshgrid(middle, middle, indexing="ij")
    z = 1 - x.abs() - y.abs()
    below = z < 0
    folded_x, folded_y = (1 - y.abs()).copysign(x), (1 - x.abs()).copysign(y)
    unfolded = (torch.where(below, folded_x, x), torch.where(below, folded_y, y), z)
    return normalize(torch.stack(unfolded, -1).reshape(-1, 3), dim=-1)


# Collisions. Points are tested against segments between two joints; distances in metres.
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
    rows = torch.zeros(len(points), len(_SEGMENTS), len(_ROWS), dtype=torch.bool)
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
            deciding = set(_limb_rows(own_side, part)) | set(_limb_rows(side, kind_part))
            if {part, kind_part} != {"leg"}:
                deciding |= set(_TRUNK)
            rows[index, column, list(deciding)] = True
            arms = {own_side} if part == "arm" else set()
            arms |= {side} if kind_part == "arm" else set()
            blame[index, column] = torch.tensor(("right" in arms, "left" in arms, not arms))
    joints = torch.cat((torch.stack(points), ends))
    return _Pairs(
        weights=(joints @ _CHAIN).T.contiguous().to(like),
        ends=(len(points), len(points) + len(_SEGMENTS)),
        radii=radii.to(like),
        rows=rows.reshape(-1, len(_ROWS)).to(like.device),
        least=(radii * radii.abs()).to(like),
        blame=blame.reshape(-1, 3).to(like),
    )


def _limb_rows(side: str, part: str) -> list[int]:
    if part == "arm":
        return _rows(f"{side}_upper_arm", f"{side}_forearm")
    if part == "leg":
        return _rows(f"{side}_thigh", f"{side}_shin")
    return _rows("nose", "head") if part == "head" else []


@dataclass(frozen=True)
class _Draft:
    """What is to become of n poses."""

    exchange: Tensor
    """(n, 18) uint8, the exchange (from 1; 0 is none) that each row is under."""
    shift: Tensor
    """(n, 2) by how many donors further the right and left arm come from."""
    sources: Tensor
    """(n, 1 + K + 2) the pose itself, K donors, a pose kneeling with the right and with the left
    leg."""
    lengths: Tensor
    must: Tensor
    """(n,) bool, the arms have to be exchanged."""
    noise: Tensor | None
    """(n, 12, 3) small rotations of the rows ``_LIMITED``, as vectors in radians."""

    def take(self, index: Tensor) -> _Draft:
        noise = None if self.noise is None else self.noise[index]
        return _Draft(
            self.exchange[index], self.shift[index], self.sources[index], self.lengths[index],
            self.must[index], noise,
        )  # fmt: skip

    @staticmethod
    def join(drafts: Sequence[_Draft]) -> _Draft:
        first = drafts[0]
        noise = [draft.noise for draft in drafts if draft.noise is not None]
        return _Draft(
            torch.cat([draft.exchange for draft in drafts]),
            torch.cat([draft.shift for draft in drafts]),
            first.sources.repeat(len(drafts), 1),
            first.lengths.repeat(len(drafts), 1),
            first.must.repeat(len(drafts)),
            torch.cat(noise) if noise else None,
        )

    def relent(self, hit: Tensor, attempt: int) -> _Draft:
        """Ask less: other arms, then nothing but arms, at last nothing unless it has to be.

        Args:
            hit: (n, 3) what collided at first, as from :meth:`Recombiner._collisions`.
            attempt: from 1; what to give up.
        """
        exchange = self.exchange.clone()
        arms = self.exchange[:, _ARMS].view(-1, 2, 2)  # upper arms and forearms, right and left
        changed = (arms > 0).any(1)
        moved = changed if attempt >= 3 else hit[:, :2] & changed
        both = (arms[:, 0] == _ARMS_EXCHANGE).all(1, keepdim=True)
        moved = torch.where(both, moved.any(1, keepdim=True), moved)
        rest = hit[:, 2] | (hit[:, :2] & ~changed).any(1)
        if attempt >= 2:
            rest = torch.ones_like(rest)
        exchange[:, : _ARMS.start].masked_fill_(rest[:, None], 0)
        exchange[:, _ARMS.stop : _ORIENTATION].masked_fill_(rest[:, None], 0)
        if attempt >= 3:
            exchange[:, _ARMS] = self.must[:, None] * _ARMS_EXCHANGE
        noise = self.noise
        if noise is not None and attempt >= 2:
            noise = torch.zeros_like(noise)
        tries = self.sources.shape[1] - 3
        # After a round of all donors, arms of different ones come together.
        apart = max(0, attempt - 3) // tries
        shift = moved * torch.tensor((attempt, attempt + apart), device=moved.device)
        return replace(self, exchange=exchange, shift=shift, noise=noise)


class Recombiner:
    """Makes new poses from the limbs of a bank's poses.

    Poses are meant by their index in the bank; index ``B + i`` is the mirror image of pose ``i``.

    Args:
        directions: (B, 17, 3) unit vectors from each joint's parent, z up (row 0 is unused).
        foreign_arms: (B,) bool, poses whose arms are of no use: they get the arms of a donor, and
            give theirs to none.
        widen: angle in degrees by which joint limits are wider than the data.
        reach: directions of a parent bone within this angle (degrees) share their child's limits.
    """

    def __init__(
        self,
        directions: Tensor,
        foreign_arms: Tensor | None = None,
        widen: float = 9.0,
        reach: float = 18.0,
    ) -> None:
        if directions.ndim != 3 or directions.shape[1:] != (NUM_JOINTS, 3):
            raise ValueError(f"directions must be (B, 17, 3), got {tuple(directions.shape)}")
        self.device = directions.device
        if foreign_arms is None:
            foreign_arms = torch.zeros(len(directions), dtype=torch.bool, device=self.device)
        self._foreign = torch.cat((foreign_arms, foreign_arms))
        self._rest = normalize(directions.new_tensor(_REST), dim=-1)
        self._sides = directions.new_ones(len(_ROWS), 3)
        self._sides[_LEFT, 0] = -1
        both = torch.cat((directions, mirror(directions)))
        self._local, self._world = self._to_local(both)
        self._bank_cells = _cells(self._local).to(torch.int16)
        self._allowed = self._measure(math.cos(math.radians(widen)), math.cos(math.radians(reach)))
        self._kneeling = self._find_kneeling(both)

        self._pairs = _pairs(directions)
        self._tables()

    def __len__(self) -> int:
        return len(self._foreign) // 2

    def _tables(self) -> None:
        """Index tensors that every call needs, made once."""
        rows = torch.zeros(len(_EXCHANGES), _ORIENTATION + 1, dtype=torch.uint8)
        for index, (_, changed, _) in enumerate(_EXCHANGES):
            rows[index, list(changed)] = index + 1
        self._exchange_rows = rows.to(self.device)
        self._exchange_donor = torch.tensor((0, *(donor for *_, donor in _EXCHANGES))).to(
            self.device
        )
        self._kinds = torch.tensor(_KINDS, device=self.device) * _CELLS
        self._knee_slots = torch.ones(_ORIENTATION + 1, dtype=torch.int64)
        self._knee_slots[_LEFT] = 2
        self._knee_slots = self._knee_slots.to(self.device)
        self._swinging = torch.tensor(_SWINGING, device=self.device)
        self._limited = torch.tensor(_LIMITED, device=self.device)
        self._joint_rows = torch.tensor(_JOINT_ROWS, device=self.device)
        self._swung = torch.tensor(_SWUNG, device=self.device)
        self._row_index = torch.arange(len(_ROWS), device=self.device)

    # -- frames ---------------------------------------------------------------------------------

    def _to_local(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Local directions (N, 17, 3) and pelvis axes (N, 3, 3) of world directions."""
        right, up = _axes(directions[:, 1] - directions[:, 4], directions[:, 7])
        world = torch.stack((right, torch.linalg.cross(up, right), up), dim=1)
        local = directions.new_zeros(len(directions), len(_ROWS), 3)
        local[:, _JOINT_ROWS] = directions[:, 1:] @ world.transpose(1, 2)
        local[:, 2] = local[:, 9] - local[:, 10]
        trunk = self._trunk_axes(local)
        local[:, 2] = trunk[:, 0]
        local[:, _CARRIED] = local[:, _CARRIED] @ trunk.transpose(1, 2)
        local *= self._sides
        local[:, _SWUNG] = _swing(local[:, _SWUNG], self._rest, local[:, _SWINGING], back=True)
        return local, world

    @staticmethod
    def _trunk_axes(local: Tensor) -> Tensor:
        """Rows right, front, up (N, 3, 3) of the upper trunk in the axes of the pelvis."""
        up, right = _axes(local[:, 1], local[:, 2])
        return torch.stack((right, torch.linalg.cross(up, right), up), dim=1)

    def _to_world(self, local: Tensor, world: Tensor) -> Tensor:
        """The inverse of :meth:`_to_local`."""
        local = local.clone()
        bones = local[:, self._swinging]
        local[:, self._swung] = _swing(local[:, self._swung], self._rest, bones)
        local *= self._sides
        local[:, _CARRIED] = local[:, _CARRIED] @ self._trunk_axes(local)
        directions = local.new_zeros(len(local), NUM_JOINTS, 3)
        directions[:, 1:] = local[:, self._joint_rows] @ world
        return directions

    # -- limits ---------------------------------------------------------------------------------

    def _measure(self, widen: float, reach: float) -> Tensor:
        """Which cell of a bone goes with which cell of its parent: (kinds * cells * cells,) bool.

        Both angles are given by their cosines.
        """
        centres = _cell_centres()
        likeness = centres @ centres.T
        wider, similar = (likeness > widen).float(), (likeness > reach).float()
        cells = self._bank_cells.long().cpu()
        tables = torch.zeros(max(_KINDS) + 1, _CELLS, _CELLS)
        for kind, given, row in zip(_KINDS, _GIVEN, _LIMITED, strict=True):
            pair = cells[:, given] * _CELLS + cells[:, row]
            tables[kind].view(-1)[pair] = 1
        return (similar @ tables @ wider > 0).view(-1).to(self.device)

    def _limit_index(self, given: Tensor, cells: Tensor) -> Tensor:
        return (self._kinds + given) * _CELLS + cells

    def _within(self, local: Tensor) -> Tensor:
        """(N, 12) bool for the rows ``_LIMITED``."""
        found = _cells(local)
        return self._allowed[self._limit_index(found[:, _GIVEN], found[:, _LIMITED])]

    def within_limits(self, directions: Tensor) -> Tensor:
        """Whether all joints of each pose ``(N, 17, 3)`` are within the limits, ``(N,)`` bool."""
        return self._within(self._to_local(directions)[0]).all(1)

    def _find_kneeling(self, directions: Tensor) -> Tensor:
        """Indices of poses whose right leg kneels: thigh upright, shin level or nearly so."""
        kneeling = (
            (directions[:, 2, 2] < -math.cos(math.radians(30)))
            & (directions[:, 3, 2].abs() < math.sin(math.radians(25)))
            & (directions[:, 7, 2] > math.cos(math.radians(45)))
        )
        return kneeling.nonzero()[:, 0]

    # -- recombination --------------------------------------------------------------------------

    def recombine(
        self,
        poses: Tensor,
        donors: Tensor,
        lengths: Tensor,
        options: RecombinationOptions,
        generator: torch.Generator,
    ) -> Recombined:
        """Exchange limbs of poses with those of donors, and vary joint angles.

        A pose that collides gets the arms of further donors, then its own legs and trunk back, and
        at last its own arms, too. Poses with foreign arms go on until all donors are tried.

        Args:
            poses: (N,) indices in the bank.
            donors: (K, N) indices in the bank, drawn independently; K from 1, 4 or more are best.
            lengths: (N, 17) bone lengths in metres, as collisions depend on them.
            options: probabilities and noise.
            generator: of the bank's device; decides everything.
        """
        count, tries = len(poses), len(donors)
        draws = torch.rand(count, len(_EXCHANGES) + 2, generator=generator, device=self.device)
        events = (draws[:, :-2] < draws.new_tensor(options.probabilities())).to(torch.uint8)
        knees = poses[None].expand(2, -1)
        if len(self._kneeling):
            right = self._kneeling[(draws[:, -2] * len(self._kneeling)).long()]
            knees = torch.stack((right, (right + len(self)) % (2 * len(self))))
        else:
            events[:, _KNEELING_EXCHANGE - 1] = 0
        exchange = (events[:, :, None] * self._exchange_rows).amax(1)
        must = self._foreign[poses]
        own_arms = must[:, None] & (exchange[:, _ARMS] == 0)
        exchange[:, _ARMS].masked_fill_(own_arms, _ARMS_EXCHANGE)
        # Half of those who kneel do so on one knee: the other leg stays as it is.
        kneels, knee = exchange[:, 5] == _KNEELING_EXCHANGE, draws[:, -1]
        exchange[:, 6:9:2].masked_fill_((kneels & (knee < 0.25))[:, None], 0)
        exchange[:, 5:8:2].masked_fill_((kneels & (knee > 0.75))[:, None], 0)
        wanted = exchange > 0

        noise = None
        if any(options.noise()):
            noise = torch.randn(
                count, len(_LIMITED), 3, generator=generator, device=self.device,
                dtype=self._local.dtype,
            )  # fmt: skip
            noise *= torch.deg2rad(noise.new_tensor(options.noise()))[:, None]
            noise[:, -1] = noise[:, 5]  # the trunk turns as a whole
        draft = _Draft(
            exchange=exchange,
            shift=torch.zeros(count, 2, dtype=torch.int64, device=self.device),
            sources=torch.cat((poses[None], donors, knees)).T,
            lengths=lengths,
            must=must,
            noise=noise,
        )
        directions, hit = self._try(draft)
        kept = draft.exchange > 0
        bad = hit.any(1).nonzero()[:, 0]
        hit = hit[bad]
        # Alternatives are tried side by side: colliding poses are few, and with so small batches
        # time goes by the number of operations.
        for attempts in ((1, 3), (2, *range(4, 3 + 2 * tries))):
            if not len(bad):
                break
            alternatives = _Draft.join([draft.take(bad).relent(hit, each) for each in attempts])
            found, hits = self._try(alternatives)
            clear = ~hits.any(1).view(len(attempts), -1)
            first = clear.byte().argmax(0) * len(bad) + torch.arange(len(bad), device=self.device)
            directions[bad], kept[bad] = found[first], alternatives.exchange[first] > 0
            failed = ~clear.any(0)
            bad, hit = bad[failed], hit[failed]
        if len(bad):
            own = poses[bad]
            directions[bad] = self._to_world(self._local[own], self._world[own])
            kept[bad] = False
        return Recombined(directions, wanted, kept)

    def _try(self, draft: _Draft) -> tuple[Tensor, Tensor]:
        """Directions (n, 17, 3) of a draft, and what collides: see :meth:`_collisions`.

        Foreign arms of a donor count as colliding.
        """
        source = self._sources(draft.exchange, draft.sources, draft.shift)
        directions = self._build(source, draft.noise)
        hit = self._collisions(directions, draft.lengths, source, draft.noise)
        foreign = self._foreign[source[:, _ARMS]] & (draft.exchange[:, _ARMS] > 0)
        hit[:, :2] |= foreign[:, :2] | foreign[:, 2:]
        return directions, hit

    def _sources(self, exchange: Tensor, sources: Tensor, shift: Tensor) -> Tensor:
        """Which pose of the bank each row and the orientation come from, (n, 18) indices.

        Shins and forearms that cannot follow on their new parent bone go with it instead;
        ``exchange`` (n, 18) is changed in place then.
        """
        tries = sources.shape[1] - 3  # without the pose itself and the two kneeling ones
        slot = self._exchange_donor[exchange.int()]
        movable = (exchange[:, _ARMS] > 0) & (exchange[:, _ARMS] <= _ARM_EXCHANGES)
        slot[:, _ARMS] += movable * shift.repeat(1, 2)
        slot = slot % tries + 1
        slot.masked_fill_(exchange == 0, 0)
        slot = torch.where(exchange == _KNEELING_EXCHANGE, self._knee_slots + tries, slot)
        source = sources.gather(1, slot)

        from_parent = source[:, self._swinging]
        pose, limb = (source[:, self._swung] != from_parent).nonzero(as_tuple=True)
        parent, child = self._swinging[limb], self._swung[limb]
        given = self._bank_cells[from_parent[pose, limb], parent].long()
        cells = self._bank_cells[source[pose, child], child]
        kinds = self._kinds[len(_SWINGING) + 1 :]
        out = ~self._allowed[(kinds[limb] + given) * _CELLS + cells]
        pose, parent, child = pose[out], parent[out], child[out]
        source[pose, child] = source[pose, parent]
        exchange[pose, child] = exchange[pose, parent]
        return source

    def _build(self, source: Tensor, noise: Tensor | None) -> Tensor:
        """World directions (n, 17, 3) of the rows of ``source`` (n, 18), angles varied.

        The noise of a limb that would leave the limits is dropped.
        """
        flat = source[:, :_ORIENTATION] * len(_ROWS) + self._row_index
        local = self._local.view(-1, 3).index_select(0, flat.flatten()).view(*flat.shape, 3)
        if noise is not None:
            steady = local[:, self._limited]
            moved = _turn(steady, noise)
            cells = _cells(moved)
            index = self._limit_index(torch.cat((cells[:, :6], cells[:, :6]), 1), cells)
            within = self._allowed[index].view(-1, 2, 6).all(1).repeat(1, 2)
            local[:, self._limited] = torch.where(within[..., None], moved, steady)
        return self._to_world(local, self._world.index_select(0, source[:, _ORIENTATION]))

    def _collisions(
        self, directions: Tensor, lengths: Tensor, source: Tensor, noise: Tensor | None
    ) -> Tensor:
        """Whether the right arm, the left arm, or other parts collide, (n, 3) bool.

        What touches in a captured pose may go on touching where all of it comes from that pose.
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
            origin = source[pose, :_ORIENTATION]
            highest = origin.masked_fill(~decisive, -1).amax(1)
            lowest = origin.masked_fill(~decisive, 2 * len(self)).amin(1)
            real = highest == lowest
            if noise is not None:
                slack = distance.flatten(1)[pose, pair].clamp_min(0).sqrt()
                slack = slack - pairs.radii.flatten()[pair]
                real &= (slack > -_NOISE_DEPTH) | (noise[pose].abs().amax((1, 2)) == 0)
            hit.index_add_(0, pose, pairs.blame[pair] * ~real[:, None])
        return hit > 0
