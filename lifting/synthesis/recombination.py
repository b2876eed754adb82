"""New poses from the limbs of captured ones, within measured joint limits and free of collisions.

The idea is EvoSkeleton's (Li et al., CVPR 2020): limbs change their owner, and joint angles vary.
Limits depend on the pose of the parent bone as in Akhter and Black (CVPR 2015), but are measured
from the poses at hand.

Poses are kept as local directions, see :mod:`gridpose.lifting.synthesis.local_frames`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gridpose.core import NUM_JOINTS
from gridpose.lifting.synthesis.bone_directions import mirror
from gridpose.lifting.synthesis.collisions import Collisions
from gridpose.lifting.synthesis.joint_limits import LIMITED, JointLimits
from gridpose.lifting.synthesis.local_frames import (
    LEFT,
    ROWS,
    SWINGING,
    SWUNG,
    TRUNK,
    LocalFrames,
    rows,
)

_ORIENTATION = len(ROWS)  # the column after the rows, where a pose's source is concerned
_ARMS = slice(11, 15)

# What can be exchanged: name, rows, which donor it takes. Later ones go before earlier ones.
_BOTH_ARMS = ("right_upper_arm", "left_upper_arm", "right_forearm", "left_forearm")
_BOTH_LEGS = ("right_thigh", "left_thigh", "right_shin", "left_shin")
_EXCHANGES: tuple[tuple[str, tuple[int, ...], int], ...] = (
    ("right_arm", tuple(rows("right_upper_arm", "right_forearm")), 0),
    ("left_arm", tuple(rows("left_upper_arm", "left_forearm")), 1),
    ("arms", tuple(rows(*_BOTH_ARMS)), 0),
    ("right_forearm", tuple(rows("right_forearm")), 2),
    ("left_forearm", tuple(rows("left_forearm")), 3),
    ("right_leg", tuple(rows("right_thigh", "right_shin")), 1),
    ("left_leg", tuple(rows("left_thigh", "left_shin")), 2),
    ("legs", tuple(rows(*_BOTH_LEGS)), 2),
    ("right_shin", tuple(rows("right_shin")), 3),
    ("left_shin", tuple(rows("left_shin")), 0),
    ("shins", tuple(rows("right_shin", "left_shin")), 3),
    ("head", tuple(rows("nose", "head")), 3),
    ("trunk", tuple(TRUNK), 1),
    ("orientation", (_ORIENTATION,), 3),
    ("kneeling", (*rows(*_BOTH_LEGS), _ORIENTATION), 0),
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
        """One for each of the rows ``LIMITED``."""
        leg, arm, head, trunk = self.leg_noise, self.arm_noise, self.head_noise, self.trunk_noise
        shin, forearm = self.shin_noise, self.forearm_noise
        return [leg, leg, arm, arm, head, trunk, shin, shin, forearm, forearm, head, trunk]


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
    noise: Tensor
    """(n, 12, 3) small rotations of the rows ``LIMITED``, as vectors in radians."""

    def take(self, index: Tensor) -> _Draft:
        return _Draft(*(values[index] for values in vars(self).values()))

    @staticmethod
    def join(drafts: Sequence[_Draft]) -> _Draft:
        return _Draft(
            *map(torch.cat, zip(*(vars(draft).values() for draft in drafts), strict=True))
        )

    def relent(self, hit: Tensor, attempt: int) -> _Draft:
        """Ask less: other arms, then nothing but arms, at last nothing unless it has to be.

        Args:
            hit: (n, 3) what collided at first, as from :meth:`Collisions.find`.
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
        if attempt >= 2:
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
        both = torch.cat((directions, mirror(directions)))
        self._frames = LocalFrames(directions)
        self._local, self._world = self._frames.to_local(both)
        self._limits = JointLimits(self._local, widen, reach)
        self._collisions = Collisions(directions)
        self._kneeling = _find_kneeling(both)
        self._tables()

    def __len__(self) -> int:
        return len(self._foreign) // 2

    def _tables(self) -> None:
        """Index tensors that every call needs, made once."""
        exchanges = torch.zeros(len(_EXCHANGES), _ORIENTATION + 1, dtype=torch.uint8)
        for index, (_, changed, _) in enumerate(_EXCHANGES):
            exchanges[index, list(changed)] = index + 1
        self._exchange_rows = exchanges.to(self.device)
        self._exchange_donor = torch.tensor((0, *(donor for *_, donor in _EXCHANGES))).to(
            self.device
        )
        self._knee_slots = torch.ones(_ORIENTATION + 1, dtype=torch.int64)
        self._knee_slots[LEFT] = 2
        self._knee_slots = self._knee_slots.to(self.device)
        self._swinging = torch.tensor(SWINGING, device=self.device)
        self._limited = torch.tensor(LIMITED, device=self.device)
        self._swung = torch.tensor(SWUNG, device=self.device)
        self._row_index = torch.arange(len(ROWS), device=self.device)

    def within_limits(self, directions: Tensor) -> Tensor:
        """Whether all joints of each pose ``(N, 17, 3)`` are within the limits, ``(N,)`` bool."""
        return self._limits.within(self._frames.to_local(directions)[0]).all(1)

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

        noise = torch.randn(
            (count, len(LIMITED), 3),
            generator=generator,
            device=self.device,
            dtype=self._local.dtype,
        )
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
            directions[bad] = self._frames.to_world(self._local[own], self._world[own])
            kept[bad] = False
        return Recombined(directions, wanted, kept)

    def _try(self, draft: _Draft) -> tuple[Tensor, Tensor]:
        """Directions (n, 17, 3) of a draft, and what collides: see :meth:`Collisions.find`.

        Foreign arms of a donor count as colliding.
        """
        source = self._sources(draft.exchange, draft.sources, draft.shift)
        directions = self._build(source, draft.noise)
        hit = self._collisions.find(directions, draft.lengths, source, draft.noise)
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
        out = ~self._limits.fits(limb, from_parent[pose, limb], source[pose, child])
        pose, parent, child = pose[out], parent[out], child[out]
        source[pose, child] = source[pose, parent]
        exchange[pose, child] = exchange[pose, parent]
        return source

    def _build(self, source: Tensor, noise: Tensor) -> Tensor:
        """World directions (n, 17, 3) of the rows of ``source`` (n, 18), angles varied.

        The noise of a limb that would leave the limits is dropped.
        """
        flat = source[:, :_ORIENTATION] * len(ROWS) + self._row_index
        local = self._local.view(-1, 3).index_select(0, flat.flatten()).view(*flat.shape, 3)
        steady = local[:, self._limited]
        moved = rotate_a_little(steady, noise)
        within = self._limits.limbs_within(moved)
        local[:, self._limited] = torch.where(within[..., None], moved, steady)
        return self._frames.to_world(local, self._world.index_select(0, source[:, _ORIENTATION]))


def rotate_a_little(vectors: Tensor, turns: Tensor) -> Tensor:
    """Rotate by small rotation vectors in radians (Cayley's map: exactly a rotation)."""
    half = turns / 2
    cross = torch.linalg.cross(half, vectors)
    scale = 2 / (1 + (half * half).sum(-1, keepdim=True))
    turned: Tensor = vectors + scale * (cross + torch.linalg.cross(half, cross))
    return turned


def _find_kneeling(directions: Tensor) -> Tensor:
    """Indices of poses whose right leg kneels: thigh upright, shin level or nearly so."""
    kneeling = (
        (directions[:, 2, 2] < -math.cos(math.radians(30)))
        & (directions[:, 3, 2].abs() < math.sin(math.radians(25)))
        & (directions[:, 7, 2] > math.cos(math.radians(45)))
    )
    return kneeling.nonzero()[:, 0]
