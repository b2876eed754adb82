"""Lifting whole sequences with a network that sees time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from torch import Tensor

from gridpose.core import NUM_JOINTS, AnyArray, FloatArray, InputError
from gridpose.lifting.network import LiftingNetwork
from gridpose.lifting.steady_view import SteadyView, frame_view, steady_view
from gridpose.lifting.temporal import WINDOW_FPS, WINDOW_FRAMES, LiftFrames, TemporalNetwork

HOP_FRAMES = 40
"""How far apart windows of a long sequence begin: every frame is inside of two of them."""
_SAME_RATE = 0.04
"""Frame rates that differ by less are taken for equal."""
_WINDOWS_AT_ONCE = 16


def lift_steady(network: LiftingNetwork, size: Tensor, half: bool = False) -> LiftFrames:
    """A lifter of single frames for keypoints in steady cameras.

    Args:
        network: which takes ``person`` keypoints.
        size: (B, T) of :class:`SteadyView`.
        half: whether products are bfloat16.
    """

    def lift(keypoints: Tensor) -> Tensor:
        shown, to_steady = frame_view(keypoints, size)
        with torch.autocast(keypoints.device.type, torch.bfloat16, enabled=half):
            poses = network.lift(shown).float()
        poses = (poses - poses[:, :1]) @ to_steady.transpose(1, 2)
        return poses.unflatten(0, keypoints.shape[:2])

    return lift


@torch.inference_mode()
def lift_windows(
    frames: LiftingNetwork,
    network: TemporalNetwork,
    view: SteadyView,
    confidence: Tensor,
    valid: Tensor,
) -> Tensor:
    """Poses (B, T, 17, 3) in the real camera's axes, metres, hip at the origin."""
    lift = lift_steady(frames, view.size)
    _, poses = network(view.keypoints, confidence, valid, view.travel, lift)
    return poses @ view.to_camera.transpose(-1, -2)


def lift_sequence(
    frames: LiftingNetwork,
    network: TemporalNetwork,
    keypoints_px: ArrayLike,
    image_size: ArrayLike,
    confidence: ArrayLike | None,
    fps: float,
    fov_degrees: float,
    device: torch.device,
) -> FloatArray:
    """Lift one person's keypoints over time; see :meth:`gridpose.lifting.Lifter.lift_sequence`."""
    keypoints = np.asarray(keypoints_px, np.float32)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_JOINTS, 2):
        raise InputError(f"keypoints must be (T, 17, 2), got {keypoints.shape}")
    count = len(keypoints)
    rated = np.ones((count, NUM_JOINTS), np.float32)
    if confidence is not None:
        rated = np.asarray(confidence, np.float32)
        if rated.shape != (count, NUM_JOINTS):
            raise InputError(f"confidence must be ({count}, 17), got {rated.shape}")
    size = np.asarray(image_size, np.float32)
    if size.shape != (2,) or not (size > 0).all():
        raise InputError(f"image_size must be (2,) positive width, height; got {size.shape}")
    if not count:
        return np.empty((0, NUM_JOINTS, 3), np.float32)
    if not fps > 0:
        raise InputError(f"the frame rate must be positive, not {fps}")
    valid = np.isfinite(keypoints).all(-1) & (rated > 0)
    keypoints = np.where(valid[..., None], keypoints, np.float32(0))
    rated = np.where(valid, np.clip(rated, 0, 1), np.float32(0))
    step = 1.0 if abs(fps / WINDOW_FPS - 1) < _SAME_RATE or count == 1 else fps / WINDOW_FPS
    times = np.arange(count) if step == 1.0 else np.arange(0, count - 1 + 1e-6, step)
    if step != 1.0:
        keypoints, rated, valid = _resampled(keypoints, rated, valid, times)
    poses = _lift_all(frames, network, keypoints, size, rated, valid, fov_degrees, device)
    if step != 1.0:
        poses = _at_frames(poses, times, count)
    poses[~np.isfinite(np.asarray(keypoints_px, np.float32)).all(-1).any(-1)] = np.nan
    return poses


def _resampled(
    keypoints: AnyArray, confidence: AnyArray, valid: AnyArray, times: AnyArray
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Keypoints, confidence and validity between frames: of the nearer one if one is not valid."""
    before = np.minimum(times.astype(int), len(keypoints) - 1)
    after = np.minimum(before + 1, len(keypoints) - 1)
    share = (times - before).astype(np.float32)[:, None]
    both = valid[before] & valid[after]
    share = np.where(both, share, (share >= 0.5).astype(np.float32))
    mixed = keypoints[before] * (1 - share[..., None]) + keypoints[after] * share[..., None]
    rated = confidence[before] * (1 - share) + confidence[after] * share
    return mixed, rated, np.where(share >= 0.5, valid[after], valid[before])


def _at_frames(poses: FloatArray, times: AnyArray, count: int) -> FloatArray:
    """Poses at whole frames, from those at ``times``."""
    if len(times) < 2:
        return np.repeat(poses, count, axis=0)[:count]
    curve = CubicSpline(times, poses, axis=0)
    inside = np.clip(np.arange(count), times[0], times[-1])
    return np.asarray(curve(inside), np.float32)


def _lift_all(
    frames: LiftingNetwork,
    network: TemporalNetwork,
    keypoints: AnyArray,
    image_size: AnyArray,
    confidence: AnyArray,
    valid: AnyArray,
    fov_degrees: float,
    device: torch.device,
) -> FloatArray:
    count = len(keypoints)
    length = min(count, WINDOW_FRAMES)
    starts = [*range(0, count - length, HOP_FRAMES), count - length]
    # Frames count for less towards a window's ends, beyond which it sees nothing.
    weight = np.minimum(np.arange(length) + 1, length - np.arange(length)).astype(np.float64)
    total = np.zeros((count, NUM_JOINTS, 3))
    weights = np.zeros((count, 1, 1))
    index = np.array(starts)[:, None] + np.arange(length)

    def put(values: AnyArray) -> Tensor:
        return torch.from_numpy(np.array(values)).to(device)

    for first in range(0, len(starts), _WINDOWS_AT_ONCE):
        rows = index[first : first + _WINDOWS_AT_ONCE]
        seen = put(valid[rows])
        sizes = put(np.broadcast_to(image_size, (len(rows), 2)))
        view = steady_view(put(keypoints[rows]), seen, sizes, fov_degrees)
        poses = lift_windows(frames, network, view, put(confidence[rows]), seen).cpu().numpy()
        for row, window in zip(rows, poses, strict=True):
            total[row] += window * weight[:, None, None]
            weights[row] += weight[:, None, None]
    return np.asarray(total / weights, np.float32)
