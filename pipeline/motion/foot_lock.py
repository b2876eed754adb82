"""Feet that stay where they stand: bodies are moved, and legs bent, so that none slides.

The body as a whole follows the standing feet as smoothly as it can (least squares); what is left
legs make up for, with bones of the same lengths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from gridpose.core import JOINT_NAMES, BoolArray, DoubleArray, PoseTracks, unit_vectors
from gridpose.pipeline.motion.bone_lengths import bone_lengths, with_constant_lengths
from gridpose.pipeline.motion.contacts import FEET, foot_contacts
from gridpose.pipeline.motion.smoothing import present_runs

_SMOOTH: Final = 1e-4
"""s⁴: how much accelerations of the move count against feet that slide."""
_BEGINNING: Final = 1e-6
"""Somewhere a body must begin that goes where its feet carry it."""
_ROUNDS: Final = 12
_SLIDES: Final = 0.002
"""m a foot may miss its place by."""
_FIRMER: Final = 4.0
_STAY: Final = 1e-3
"""Of staying where people are seen."""
_BLEND_SECONDS: Final = 0.2
"""In which legs go over from being held to moving freely."""
_REACH: Final = 0.999
"""Legs are not stretched further than this share of their length."""
_LEGS: Final = tuple(
    tuple(JOINT_NAMES.index(f"{side}_{joint}") for joint in ("hip", "knee", "ankle"))
    for side in ("right", "left")
)


def with_locked_feet(tracks: PoseTracks) -> PoseTracks:
    """World poses in which feet in contact (:attr:`PoseTracks.contacts`) stay where they are.

    Bones get constant lengths. Those whose hips stay above the origin move along as their feet
    carry them. Contacts are looked for where a file of before there were any has none.
    """
    world, travels = tracks.poses_world.copy(), tracks.has_places
    contacts = tracks.contacts.copy()
    for person, there in enumerate(tracks.present):
        if not there.any():
            continue
        lengths = bone_lengths(world[person, there])
        if not contacts[person].any():
            contacts[person] = foot_contacts(world[person], tracks.fps, travels)
        for start, stop in present_runs(there):
            part = slice(start, stop)
            poses = with_constant_lengths(world[person, part], lengths)
            world[person, part] = locked(poses, contacts[person, part], tracks.fps, travels)
    return replace(tracks, poses_world=world, contacts=contacts)


def locked(poses: DoubleArray, contacts: BoolArray, fps: float, travels: bool) -> DoubleArray:
    """Poses (T, 17, 3) m, z up, moved so that feet in contact (T, 2) do not slide.

    Args:
        poses: of one person in consecutive frames, finite.
        contacts: of the right and the left foot.
        fps: frames per second.
        travels: whether poses say where the person is; else the feet alone say how they move.
    """
    stands = [(foot, *run) for foot in range(2) for run in present_runs(contacts[:, foot])]
    if not stands or len(poses) < 3:
        return poses
    feet = poses[:, FEET]
    weights = np.ones(feet.shape[:2])
    for _ in range(_ROUNDS):
        moves, places = _followed(feet, weights, stands, fps, _STAY if travels else 0.0)
        result = poses + moves[:, None]
        wanted = result[:, FEET] + _held(result[:, FEET], stands, places, fps)
        for foot, leg in enumerate(_LEGS):
            result[:, leg[1:]] = _bent(result[:, leg], wanted[:, foot])
        # Where legs are too short the body must come along.
        missing = np.linalg.norm(wanted - result[:, FEET], axis=-1)
        if missing.max() < _SLIDES:
            break
        weights *= 1 + np.minimum(missing / _SLIDES, _FIRMER)
    return result


def _followed(
    feet: DoubleArray,
    weights: DoubleArray,
    stands: list[tuple[int, int, int]],
    fps: float,
    stay: float,
) -> tuple[DoubleArray, DoubleArray]:
    """How far to move the body in each frame, (T, 3), and where each stand is, (S, 3).

    Least squares: feet slide as little, by their weights (T, 2), as the move may accelerate.
    """
    frames, unknowns = len(feet), len(feet) + len(stands)
    foot, frame, stand = (
        np.concatenate(part)
        for part in zip(
            *(
                (np.full(stop - start, foot), np.arange(start, stop), np.full(stop - start, index))
                for index, (foot, start, stop) in enumerate(stands)
            ),
            strict=True,
        )
    )
    weight = np.sqrt(weights[frame, foot])
    rows = np.arange(len(frame))
    slides = sparse.csr_array(
        (
            np.concatenate((weight, -weight)),
            (np.tile(rows, 2), np.concatenate((frame, frames + stand))),
        ),
        shape=(len(rows), unknowns),
    )
    bends = fps**2 * sparse.diags_array(
        (1.0, -2.0, 1.0), offsets=(0, 1, 2), shape=(frames - 2, unknowns)
    )
    near = np.zeros(unknowns)
    near[:frames] = stay
    near[0] += _BEGINNING
    normal = slides.T @ slides + _SMOOTH * (bends.T @ bends) + sparse.diags_array(near)
    seen = slides.T @ (-weight[:, None] * feet[frame, foot])
    solved = np.asarray(spsolve(normal.tocsc(), seen))
    return solved[:frames], solved[frames:]


def _held(
    feet: DoubleArray, stands: list[tuple[int, int, int]], places: DoubleArray, fps: float
) -> DoubleArray:
    """(T, 2, 3) m from where feet are to where they are held; fades away around stands."""
    held = np.zeros_like(feet)
    fade = max(1, round(_BLEND_SECONDS * fps))
    ramp = np.arange(fade, 0, -1) / (fade + 1)
    ramp = ramp**2 * (3 - 2 * ramp)
    standing = np.zeros(feet.shape[:2], np.bool_)
    for (foot, start, stop), place in zip(stands, places, strict=True):
        held[start:stop, foot] = place - feet[start:stop, foot]
        standing[start:stop, foot] = True
    for foot, start, stop in stands:
        for frames, last in (
            (np.arange(start - 1, start - 1 - fade, -1), start),
            (np.arange(stop, stop + fade), stop - 1),
        ):
            free = (frames >= 0) & (frames < len(feet))
            free[free] = ~standing[frames[free], foot]
            held[frames[free], foot] += ramp[free, None] * held[last, foot]
    return held


def _bent(leg: DoubleArray, ankle: DoubleArray) -> DoubleArray:
    """Knee and ankle (T, 2, 3) of legs (T, 3, 3) whose ankles go to (T, 3), or as far as they can.

    Two bones of their lengths, in the plane in which the knee was (law of cosines).
    """
    hip, knee, old = leg[:, 0], leg[:, 1], leg[:, 2]
    thigh = np.linalg.norm(knee - hip, axis=-1, keepdims=True)
    shin = np.linalg.norm(old - knee, axis=-1, keepdims=True)
    reach = ankle - hip
    whole = np.linalg.norm(reach, axis=-1, keepdims=True)
    direction = unit_vectors(reach)
    longest, shortest = _REACH * (thigh + shin), np.abs(thigh - shin) + 1e-6
    whole = np.clip(
        whole, shortest, np.maximum(longest, np.linalg.norm(old - hip, axis=-1, keepdims=True))
    )
    aside = knee - hip - ((knee - hip) * direction).sum(-1, keepdims=True) * direction
    along = (thigh**2 - shin**2 + whole**2) / (2 * whole)
    height = np.sqrt(np.maximum(thigh**2 - along**2, 0))
    bent = hip + along * direction + height * unit_vectors(aside)
    return np.stack((bent, hip + whole * direction), 1)
