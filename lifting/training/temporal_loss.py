"""The loss of a network that sees time."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gridpose.core import NUM_JOINTS, PARENTS
from gridpose.lifting.model.forward import FrameLifter
from gridpose.lifting.model.steady_view import SteadyView, steady_view
from gridpose.lifting.model.temporal import TemporalNetwork
from gridpose.lifting.normalise import rays_of
from gridpose.lifting.synthesis.windows import SyntheticWindows

VELOCITY, ACCELERATION, BONES, FLAT = 1.5, 1.0, 0.3, 0.4
"""Weights of the parts of the loss; that of positions is 1."""
UNSEEN = 0.35
"""How much joints count that are not seen."""
METRES_PER_SIZE = 0.45
"""Roughly what a person's RMS size in the image is, in metres."""


def seen_windows(windows: SyntheticWindows, fov_degrees: float) -> dict[str, Tensor]:
    """What the network sees of windows and should answer: arguments of :func:`temporal_error`."""
    batch, frames = windows.within.shape
    sizes = windows.image_size[:, None].expand(batch, frames, 2).flatten(0, 1)

    def flat(keypoints_px: Tensor) -> Tensor:
        rays = rays_of(keypoints_px.flatten(0, 1), sizes, fov_degrees)
        return rays.view(batch, frames, NUM_JOINTS, 3)

    view = steady_view(flat(windows.keypoints_px)[..., :2], windows.valid)
    return {
        **seen_in(view, windows.confidence, windows.valid),
        "poses": windows.poses @ view.to_camera,
        "within": windows.within,
        "exact": view.of(flat(windows.exact_px)),
    }


def seen_in(view: SteadyView, confidence: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """What the network sees, as arguments of :func:`temporal_error`."""
    return {
        "keypoints": view.keypoints,
        "confidence": confidence,
        "valid": valid,
        "travel": view.travel,
        "size": view.size,
        "to_camera": view.to_camera,
    }


def temporal_error(
    network: TemporalNetwork,
    frames: FrameLifter,
    keypoints: Tensor,
    confidence: Tensor,
    valid: Tensor,
    travel: Tensor,
    size: Tensor,
    to_camera: Tensor,
    poses: Tensor,
    within: Tensor,
    exact: Tensor | None = None,
) -> Tensor:
    """The loss.

    Args:
        network: to be trained.
        frames: the lifter of single frames.
        keypoints, confidence, valid, travel, size, to_camera: as :class:`SteadyView` has them.
        poses: (B, T, 17, 3) true poses in the steady cameras' axes.
        within: (B, T) bool, frames that count.
        exact: (B, T, 17, 2) keypoints without errors, where they are known.
    """
    half = torch.is_autocast_enabled(keypoints.device.type)
    lift = frames.in_steady_cameras(size, to_camera, half=half)
    better, answers = network(keypoints, confidence, valid, travel, lift, through=exact is None)
    weight = torch.where(valid, 1.0, UNSEEN) * within[..., None]
    error = answers - poses
    lengths = _bone_lengths(answers) - _bone_lengths(poses)
    loss = (
        _mean(error, weight)
        + VELOCITY * _mean(*_change(error, weight))
        + ACCELERATION * _mean(*_change(*_change(error, weight)))
        + BONES * (lengths.abs() * weight).sum() / weight.sum().clamp(min=1)
    )
    if exact is not None:
        flat = METRES_PER_SIZE * (better - exact)
        loss = loss + FLAT * (_mean(flat, weight) + VELOCITY * _mean(*_change(flat, weight)))
    return loss


@lru_cache(maxsize=8)
def _parents(device: torch.device) -> Tensor:
    return torch.tensor([max(parent, 0) for parent in PARENTS], device=device)


def _bone_lengths(poses: Tensor) -> Tensor:
    """(B, T, 17), 0 for the hip."""
    bones = poses - poses.index_select(2, _parents(poses.device))
    return (bones.square().sum(-1) + 1e-10).sqrt()


def _change(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of consecutive frames, and their weights: both frames must count."""
    return values[:, 1:] - values[:, :-1], torch.minimum(weight[:, 1:], weight[:, :-1])


def _mean(vectors: Tensor, weight: Tensor) -> Tensor:
    # A length of exactly 0 has no gradient.
    lengths = (vectors.square().sum(-1) + 1e-10).sqrt()
    return (lengths * weight).sum() / weight.sum().clamp(min=1)
