"""Mending a person's 2D keypoints over time, before they are lifted.

Detectors exchange left and right for some frames, put a joint somewhere else for a moment, and miss
people now and then. What is mended is marked, joint by joint: see :class:`gridpose.core.Repair`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import median_filter

from gridpose.core import (
    MIRRORED,
    NUM_JOINTS,
    AnyArray,
    BoolArray,
    DoubleArray,
    FloatArray,
    Repair,
)

LEGS: Final = (1, 2, 3, 4, 5, 6)
ARMS: Final = (11, 12, 13, 14, 15, 16)
LONGEST_GAP_SECONDS: Final = 0.35

HAMPEL_SECONDS: Final = 0.25
"""Width of the window in which a joint's median is taken."""
HAMPEL_SIGMAS: Final = 4.0
_LEAST_OUTLIER = 0.04
"""Closer to the median than this share of the person's size nothing is an outlier."""
_MAD_TO_SIGMA = 1.4826

# Costs as shares of the person's size.
_EXCHANGE_COST = 0.02
"""Of exchanged limbs in one frame: the detector is right unless movement says otherwise."""
_TWIST_COST = 0.05
_LARGEST_STEP = 0.3
_PREDICTION_SECONDS = 0.12
"""Over longer gaps than this nothing is predicted."""


def person_size(keypoints: AnyArray) -> float:
    """Median diagonal, px, of the boxes around (T, 17, 2) keypoints; NaN frames are left out."""
    seen = keypoints[np.isfinite(keypoints).all((1, 2))]
    if not len(seen):
        return 1.0
    return max(1.0, float(np.median(np.linalg.norm(np.ptp(seen, axis=1), axis=-1))))


def side_exchanges(keypoints: AnyArray, fps: float, decided: BoolArray | None = None) -> BoolArray:
    """In which frames the detector exchanged left and right: ``(T, 2)`` for legs and arms.

    The sequence of exchanges under which the limbs accelerate least (Viterbi, 1967, over pairs of
    consecutive frames), at a cost for each exchange and for trunks twisted by more than a right
    angle. Acceleration, since limbs that cross in the picture keep their velocity.

    Args:
        keypoints: (T, 17, 2) px; NaN where the person is not seen.
        fps: frames per second.
        decided: (N, 2) what was found for the first N frames; it is kept.
    """
    exchanged = np.zeros((len(keypoints), 2), bool)
    seen = np.flatnonzero(np.isfinite(keypoints).all((1, 2)))
    if not len(seen):
        return exchanged
    points = keypoints[seen] / person_size(keypoints)
    # Variants of each frame: as it is, legs exchanged, arms exchanged, both.
    variants = np.stack([_exchanged(points, *variant) for variant in _VARIANTS], 1)
    own = _own_costs(variants)
    if decided is not None:
        known = seen < len(decided)
        wanted = decided[seen[known]] @ np.array((1, 2))
        own[known] += 1e6
        own[np.flatnonzero(known), wanted] -= 1e6
    steps = np.diff(seen)
    count = len(_VARIANTS)
    # cost[a, b]: of the best sequence that ends with variants a, b.
    cost = np.broadcast_to(own[0][:, None], (count, count)) * 1.0
    if len(seen) > 1:
        cost = own[0][:, None] + own[1][None, :] + _first_step(variants, steps, fps)
    back = np.zeros((len(seen), count, count), np.int64)
    for index in range(2, len(seen)):
        total = cost[:, :, None] + _accelerations(variants, steps, index, fps)
        back[index] = total.argmin(0)
        cost = total.min(0) + own[index][None, :]
    before, last = (int(value) for value in np.unravel_index(cost.argmin(), cost.shape))
    path = np.zeros(len(seen), np.int64)
    path[-1] = last
    if len(seen) > 1:
        path[-2] = before
        for index in range(len(seen) - 1, 1, -1):
            path[index - 2] = back[index, path[index - 1], path[index]]
    exchanged[seen] = np.array(_VARIANTS)[path]
    return exchanged


_VARIANTS: Final = ((False, False), (True, False), (False, True), (True, True))
_LIMBS = (*LEGS, *ARMS)


def _exchanged(points: AnyArray, legs: bool, arms: bool) -> AnyArray:
    result = points.copy()
    for wanted, joints in ((legs, LEGS), (arms, ARMS)):
        if wanted:
            result[:, joints] = points[:, [MIRRORED[joint] for joint in joints]]
    return result


def _own_costs(variants: AnyArray) -> DoubleArray:
    """(T, 4) what each variant of (T, 4, 17, 2) costs by itself."""
    hips = variants[:, :, 1] - variants[:, :, 4]
    shoulders = variants[:, :, 14] - variants[:, :, 11]
    # Only where both lines are seen from the front or the back: then it is the smaller of them.
    clear = np.minimum(np.linalg.norm(hips, axis=-1), np.linalg.norm(shoulders, axis=-1))
    twisted = (hips * shoulders).sum(-1) < 0
    exchanges = np.array(_VARIANTS).sum(1)
    return np.asarray(
        _EXCHANGE_COST * exchanges + _TWIST_COST * twisted * np.minimum(10 * clear, 1)
    )


def _first_step(variants: AnyArray, steps: AnyArray, fps: float) -> DoubleArray:
    """(4, 4) distance that the limbs move in the first step."""
    if steps[0] > _PREDICTION_SECONDS * fps + 1:
        return np.zeros((len(_VARIANTS), len(_VARIANTS)))
    moved = variants[1][None, :, _LIMBS] - variants[0][:, None, _LIMBS]
    return _robust(moved)


def _accelerations(variants: AnyArray, steps: AnyArray, index: int, fps: float) -> DoubleArray:
    """(4, 4, 4) how far the limbs are from where two frames before have them."""
    before, last = int(steps[index - 2]), int(steps[index - 1])
    longest = _PREDICTION_SECONDS * fps + 1
    shape = (len(_VARIANTS),) * 3
    if last > longest:
        return np.zeros(shape)
    first, second, third = (variants[index - k][:, _LIMBS] for k in (2, 1, 0))
    if before > longest:
        return np.broadcast_to(_robust(third[None] - second[:, None])[None], shape)
    predicted = second[None] + (last / before) * (second[None] - first[:, None])
    return _robust(third[None, None] - predicted[:, :, None])


def _robust(offsets: AnyArray) -> DoubleArray:
    """Sum over joints of the lengths of (..., J, 2), none counted above a limit."""
    lengths = np.linalg.norm(offsets, axis=-1)
    return np.asarray(np.minimum(lengths, _LARGEST_STEP).sum(-1))


def outliers(points: AnyArray, fps: float, size: float) -> BoolArray:
    """Joints ``(T, 17)`` that are for a moment where they are neither before nor after.

    Hampel's identifier (Hampel, JASA 69, 1974) on the distance from the running median.

    Args:
        points: (T, 17, 2) or (T, 17, 3); NaN where the person is not seen.
        fps: frames per second.
        size: of the person, in the unit of the points.
    """
    found = np.zeros(points.shape[:2], bool)
    seen = np.flatnonzero(np.isfinite(points).all((1, 2)))
    width = max(5, round(HAMPEL_SECONDS * fps) | 1)
    if len(seen) < width:
        return found
    centre = median_filter(points[seen], size=(width, 1, 1), mode="nearest")
    distance = np.linalg.norm(points[seen] - centre, axis=-1)
    spread = _MAD_TO_SIGMA * median_filter(distance, size=(width, 1), mode="nearest")
    found[seen] = distance > np.maximum(HAMPEL_SIGMAS * spread, _LEAST_OUTLIER * size)
    return found


def filled(points: AnyArray, fps: float) -> tuple[DoubleArray, BoolArray]:
    """Interpolate what is missing (NaN) for at most :data:`LONGEST_GAP_SECONDS`.

    Monotone cubics (Fritsch & Carlson 1980), which do not overshoot. Nothing is extrapolated.

    Returns:
        The points (T, 17, D), and which joints (T, 17) were filled.
    """
    result = np.array(points, np.float64)
    marks = np.zeros(result.shape[:2], bool)
    longest = max(1, round(LONGEST_GAP_SECONDS * fps))
    for joint in range(NUM_JOINTS):
        known = np.flatnonzero(np.isfinite(result[:, joint]).all(-1))
        if len(known) < 2:
            continue
        gap = np.diff(known)
        short = np.concatenate(
            [
                np.arange(start + 1, start + length)
                for start, length in zip(known[:-1], gap, strict=True)
                if 1 < length <= longest + 1
            ]
            or [np.array([], np.int64)]
        )
        if len(short):
            curve = PchipInterpolator(known, result[known, joint], axis=0)
            result[short, joint] = curve(short)
            marks[short, joint] = True
    return result, marks


def exchanged_back(values: AnyArray, exchanges: BoolArray) -> AnyArray:
    """What (T, 17, ...) is where sides are exchanged in the frames of (T, 2), legs and arms."""
    result = values.copy()
    for column, joints in enumerate((LEGS, ARMS)):
        rows = np.flatnonzero(exchanges[:, column])[:, None]
        result[rows, joints] = values[rows, [MIRRORED[joint] for joint in joints]]
    return result


def repaired(
    keypoints: FloatArray, fps: float, decided: BoolArray | None = None
) -> tuple[FloatArray, NDArray[np.uint8], BoolArray]:
    """Exchange sides back, drop outliers, fill gaps.

    Args:
        keypoints: (T, 17, 2) px; NaN where the person is not seen.
        fps: frames per second.
        decided: as in :func:`side_exchanges`.

    Returns:
        Keypoints; flags (T, 17) of :class:`Repair`; side exchanges (T, 2).
    """
    exchanges = side_exchanges(keypoints, fps, decided)
    points = exchanged_back(np.array(keypoints, np.float64), exchanges)
    flags = np.zeros(points.shape[:2], np.uint8)
    for column, joints in enumerate((LEGS, ARMS)):
        flags[:, joints] = exchanges[:, column, None] * int(Repair.EXCHANGED)
    points[outliers(points, fps, person_size(points))] = np.nan
    points, marks = filled(points, fps)
    # An outlier at the end, which nothing can be put in place of, is better than nothing.
    alone = np.isnan(points) & np.isfinite(keypoints)
    points[alone] = keypoints[alone]
    flags[marks] |= int(Repair.FILLED)
    return points.astype(np.float32), flags, exchanges
