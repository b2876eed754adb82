"""Which way is up, from how people stand: for cameras that are not level."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from gridpose.core import JOINT_NAMES, BoolArray, DoubleArray, FloatArray, unit_vectors
from gridpose.pipeline.motion.choices import GravityMode

LEVEL: Final[DoubleArray] = np.array((0.0, -1.0, 0.0))
"""Up in the axes of a level camera (x right, y down, z away)."""

LEVEL_SHARES: Final[dict[GravityMode, float]] = {"level": 0.05, "auto": 0.5, "estimate": 0.05}
"""How many of all cameras are taken to be level, before anybody is seen."""

MOST_FLEXED_DEGREES: Final = 35.0
MOST_BENT_DEGREES: Final = 25.0
LEAST_POSES: Final = 10
_MEMORY_POSES = 3000
_MOST_PEOPLE = 30
_BENT_WEIGHT = 0.1
"""Of a pose that does not stand straight, by that of one that does."""

# Degrees. Errors of mean axes are those of the default lifter on simulated cameras.
_LEVEL_CAMERAS: Final = (0.0, 2.5, 1.5)
"""Mean and deviation of pitch, deviation of roll."""
_OTHER_CAMERAS: Final = (-8.0, 14.0, 3.0)
_LEAN_DEGREES: Final = (3.3, 2.2)
"""How far somebody's mean axis is from upright: in depth, which is lifted, and across."""
_SWAY_DEGREES = 5.0
"""How far it may be besides when it is of :data:`LEAST_POSES` only."""
_SPREAD_SHARE = 0.3
"""How far the mean may be off, as a share of how far the axes are from it."""
_MOST_SPREAD_DEGREES = 35.0
"""Who gets up or somersaults tells nothing."""
_EXCEPTIONS = 0.005
"""Density of people who lean or lie, by that of those who are upright."""
_PITCHES: Final = np.arange(-60.0, 60.5)[:, None]
_ROLLS: Final = np.arange(-40.0, 40.5)
_TURN_DEGREES_PER_SECOND = 3.0

_HIPS, _KNEES, _ANKLES = (
    [JOINT_NAMES.index(f"{side}_{joint}") for side in ("right", "left")]
    for joint in ("hip", "knee", "ankle")
)
_THORAX: Final = JOINT_NAMES.index("thorax")


def body_axes(poses: FloatArray) -> DoubleArray:
    """Unit vectors (N, 3) from between the ankles to the thorax of poses (N, 17, 3)."""
    return unit_vectors(poses[:, _THORAX] - poses[:, _ANKLES].mean(1))


def stands(poses: FloatArray) -> BoolArray:
    """(N,) whether poses (N, 17, 3) have straight legs in line with the trunk.

    However the body is turned: somebody who lies stretched out counts too.
    """
    knees = poses[:, _KNEES]
    flexed = _angle(knees - poses[:, _HIPS], poses[:, _ANKLES] - knees).max(1)
    bent = _angle(poses[:, 0] - poses[:, _ANKLES].mean(1), poses[:, _THORAX] - poses[:, 0])
    return np.asarray((flexed < MOST_FLEXED_DEGREES) & (bent < MOST_BENT_DEGREES))


class Gravity:
    """Collects poses and estimates the direction against gravity.

    The posterior mean over pitch and roll. Before anybody is seen half of all cameras are level and
    the others look down or up by any angle but are hardly rolled. Each person whose body is
    straight for some frames adds one observation, the mean of their axes: what a lifter gets wrong
    of somebody's lean it gets wrong in all frames, so that more frames of one person do not make
    it surer than :data:`_LEAN_DEGREES`, but more people do. Some are exceptions, who lean or lie.

    Args:
        level_share: how many of all cameras are level, before anybody is seen.
    """

    def __init__(self, level_share: float = 0.5) -> None:
        self._people: OrderedDict[int, _Axes] = OrderedDict()
        self._prior = _prior(level_share)
        self.up = LEVEL
        """(3,) unit vector in camera axes, as of the last :meth:`follow`."""
        self._began = False

    def add(self, track_id: int, pose: FloatArray) -> None:
        """Take in a person's camera-axes pose (17, 3)."""
        axes = self._people.setdefault(track_id, _Axes())
        self._people.move_to_end(track_id)
        axes.add(body_axes(pose[None])[0], 1.0 if stands(pose[None])[0] else _BENT_WEIGHT)
        if len(self._people) > _MOST_PEOPLE:
            self._people.popitem(last=False)

    def estimate(self) -> DoubleArray:
        """(3,) unit vector in camera axes; level while there is too little to tell."""
        known = [
            axes
            for axes in self._people.values()
            if axes.count >= LEAST_POSES and axes.spread < _MOST_SPREAD_DEGREES
        ]
        if not known:
            return LEVEL
        density = self._prior.copy()
        for axes in known:
            pitch, roll = _angles(axes.mean)
            own = _SWAY_DEGREES**2 * LEAST_POSES / axes.count + (_SPREAD_SHARE * axes.spread) ** 2
            distance = (_PITCHES - pitch) ** 2 / (_LEAN_DEGREES[0] ** 2 + own)
            distance = distance + (_ROLLS - roll) ** 2 / (_LEAN_DEGREES[1] ** 2 + own)
            density += np.log(np.exp(-distance / 2) + _EXCEPTIONS)
        share = np.exp(density - density.max())
        share /= share.sum()
        return _upwards(float((share * _PITCHES).sum()), float((share * _ROLLS).sum()))

    @property
    def tilt_degrees(self) -> float:
        """How far the estimate is from level."""
        return float(_angle(self.estimate(), LEVEL))

    def follow(self, seconds: float) -> None:
        """Bring :attr:`up` to the estimate: at once at first, later in a slow turn."""
        wanted = self.estimate()
        angle = float(_angle(self.up, wanted))
        most = _TURN_DEGREES_PER_SECOND * seconds if self._began else angle
        self._began = True
        self.up = _towards(self.up, wanted, min(1.0, most / max(angle, 1e-9)))


@dataclass
class _Axes:
    """Axes of one body: their weighted sum (3,), and the weights'; old ones fade."""

    sum: DoubleArray = field(default_factory=lambda: np.zeros(3))
    count: float = 0.0

    def add(self, axis: DoubleArray, weight: float) -> None:
        self.sum = self.sum * (1 - 1 / _MEMORY_POSES) + weight * axis
        self.count = self.count * (1 - 1 / _MEMORY_POSES) + weight

    @property
    def mean(self) -> DoubleArray:
        return unit_vectors(self.sum)

    @property
    def spread(self) -> float:
        """Root mean square angle from the mean, degrees."""
        length = min(1.0, float(np.linalg.norm(self.sum)) / self.count)
        return math.degrees(math.sqrt(2 * (1 - length)))


def _prior(level_share: float) -> DoubleArray:
    """Logarithm of the density of cameras over pitch and roll, but for a constant."""
    density = np.zeros(np.broadcast_shapes(_PITCHES.shape, _ROLLS.shape))
    for share, (pitch, pitch_sigma, roll_sigma) in (
        (level_share, _LEVEL_CAMERAS),
        (1 - level_share, _OTHER_CAMERAS),
    ):
        distance = ((_PITCHES - pitch) / pitch_sigma) ** 2 + (_ROLLS / roll_sigma) ** 2
        density += share / (pitch_sigma * roll_sigma) * np.exp(-distance / 2)
    return np.asarray(np.log(np.maximum(density, 1e-300)))


def _angles(up: DoubleArray) -> tuple[float, float]:
    """Pitch (negative looks down) and roll in degrees of a camera that has ``up`` there."""
    pitch = math.degrees(math.atan2(up[2], -up[1]))
    return pitch, math.degrees(math.asin(min(1.0, max(-1.0, up[0]))))


def _upwards(pitch: float, roll: float) -> DoubleArray:
    """Up in the axes of a camera of this pitch and roll, degrees."""
    turned, rolled = math.radians(pitch), math.radians(roll)
    across = math.cos(rolled)
    return np.array((math.sin(rolled), -across * math.cos(turned), across * math.sin(turned)))


def upright(up: DoubleArray) -> DoubleArray:
    """The smallest rotation (3, 3) that takes ``up`` to that of a level camera: ``R @ point``."""
    return np.asarray(_turn(up, LEVEL).as_matrix())


def _towards(start: DoubleArray, end: DoubleArray, fraction: float) -> DoubleArray:
    whole = _turn(start, end).as_rotvec()
    return np.asarray(Rotation.from_rotvec(fraction * whole).apply(start))


def _turn(start: DoubleArray, end: DoubleArray) -> Rotation:
    axis = np.cross(start, end)
    length = float(np.linalg.norm(axis))
    if length < 1e-12:  # upside down is as good as level: there is no telling where to turn
        return Rotation.identity()
    return Rotation.from_rotvec(axis / length * math.atan2(length, float(start @ end)))


def _angle(first: FloatArray | DoubleArray, second: FloatArray | DoubleArray) -> DoubleArray:
    """Degrees between vectors (..., 3)."""
    cosine = (unit_vectors(first) * unit_vectors(second)).sum(-1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
