"""What a network that sees time is shown: a window of 2D poses in cameras that follow the person.

A lifter of single frames turns a virtual camera to the trunk in every frame, so that an error of
the hip moves all other joints. Here the camera follows the trunk's path and the person's size, both
made steady by a running median and mean: errors stay where they are, and poses of neighbouring
frames are in nearly the same axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gridpose.core import NUM_JOINTS
from gridpose.lifting.normalise import onto_image, rms_size, view_rotation

MEDIAN_FRAMES, MEAN_FRAMES = 9, 9
_FURTHEST, _LONGEST_TRAVEL = 6.0, 4.0
"""Nothing in a steady camera is further off, in sizes: where next to nothing is seen, sizes mean
little."""

_MANY = 1_000_000
"""More than the frames of any window."""
_SMALLEST = 1e-3
"""Of somebody standing, where a single joint tells nothing of the size; about a pixel."""

# Somebody who stands, seen from the front, y down: what stands in for joints never seen.
_STANDING = (
    (0.0, 0.0), (-0.13, 0.0), (-0.14, 0.44), (-0.14, 0.89), (0.13, 0.0), (0.14, 0.44),
    (0.14, 0.89), (0.0, -0.23), (0.0, -0.49), (0.0, -0.58), (0.0, -0.7), (0.15, -0.46),
    (0.22, -0.19), (0.24, 0.06), (-0.15, -0.46), (-0.22, -0.19), (-0.24, 0.06),
)  # fmt: skip


@dataclass(frozen=True)
class SteadyView:
    """B windows of T frames.

    Attributes:
        keypoints: (B, T, 17, 2) in the steady cameras, RMS size about 1; unseen joints filled in.
        travel: (B, T, 3) bearing (in sizes) and logarithm of the size, less their means.
        to_camera: (B, T, 3, 3) rotation from the steady to the real camera's axes.
        size: (B, T) of the person on the steady camera's image of focal length 1.
    """

    keypoints: Tensor
    travel: Tensor
    to_camera: Tensor
    size: Tensor

    def of(self, rays: Tensor) -> Tensor:
        """What the steady cameras see of rays (B, T, 17, 3) in the real camera's axes."""
        return _limited(onto_image(rays @ self.to_camera), self.size)


def _limited(flat: Tensor, size: Tensor) -> Tensor:
    return (flat / size[..., None, None]).clamp(-_FURTHEST, _FURTHEST)


def steady_view(flat: Tensor, valid: Tensor) -> SteadyView:
    """Look at windows of keypoints.

    Args:
        flat: (B, T, 17, 2) where a camera of focal length 1 sees the joints; finite also where
            they mean nothing.
        valid: (B, T, 17) bool, which joints are seen.
    """
    batch, frames = flat.shape[:2]
    rays = functional.pad(fill_unseen(flat, valid), (0, 1), value=1.0)
    trunk = (rays[:, :, 0] + rays[:, :, 8]) / 2
    rotation = view_rotation(steady(trunk).flatten(0, 1)).view(batch, frames, 3, 3)
    turned = onto_image(rays @ rotation.transpose(-1, -2))
    log_size = steady(rms_size(turned).log()[..., None])[..., 0]
    size = log_size.exp()
    seen = valid.any(-1, keepdim=True).to(rays)
    bearing = trunk[..., :2] / size.mean(1)[:, None, None]
    travel = torch.cat((steady(bearing), log_size[..., None]), -1)
    mean = (travel * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    travel = (travel - mean).clamp(-_LONGEST_TRAVEL, _LONGEST_TRAVEL)
    return SteadyView(_limited(turned, size), travel, rotation.transpose(-1, -2), size)


def steady(path: Tensor) -> Tensor:
    """Running median, then running mean along dimension 1 of ``(B, T, C)``."""
    values = path.transpose(1, 2)
    half = MEDIAN_FRAMES // 2
    padded = functional.pad(values, (half, half), mode="replicate")
    # Not Tensor.median, which OpenVINO lacks.
    values = padded.unfold(2, MEDIAN_FRAMES, 1).sort(-1).values[..., half]
    half = MEAN_FRAMES // 2
    padded = functional.pad(values, (half, half), mode="replicate")
    return padded.unfold(2, MEAN_FRAMES, 1).mean(-1).transpose(1, 2)


def fill_unseen(keypoints: Tensor, valid: Tensor) -> Tensor:
    """Interpolate unseen joints of ``(B, T, 17, 2)`` in time; the nearest frame's at the ends.

    Joints that no frame of the window shows get a place on somebody standing, fitted to the others.
    """
    frames = keypoints.shape[1]
    index = torch.arange(frames, device=keypoints.device)[:, None].expand(frames, NUM_JOINTS)
    last = _running_maximum(torch.where(valid, index, -1))
    backwards = torch.where(valid, index, frames).flip(1)
    following = -_running_maximum(-backwards).flip(1)
    has_last, has_following = last >= 0, following < frames
    before = keypoints.gather(1, last.clamp(min=0)[..., None].expand_as(keypoints))
    after = keypoints.gather(1, following.clamp(max=frames - 1)[..., None].expand_as(keypoints))
    share = (index - last).to(keypoints) / (following - last).clamp(min=1)
    share = torch.where(has_last, torch.where(has_following, share, 0.0), 1.0)[..., None]
    filled = torch.lerp(before, after, share)

    known = valid.any(1)[:, None, :, None].to(keypoints)
    count = known.sum(2, keepdim=True).clamp(min=1)
    standing = keypoints.new_tensor(_STANDING)
    centre = (filled * known).sum(2, keepdim=True) / count
    own_centre = (standing * known).sum(2, keepdim=True) / count
    spread = ((filled - centre).square() * known).sum((2, 3), keepdim=True)
    own_spread = ((standing - own_centre).square() * known).sum((2, 3), keepdim=True)
    scale = (spread.mean(1, keepdim=True) / own_spread.clamp(min=1e-4)).sqrt()
    scale = scale.clamp(min=_SMALLEST)
    stand_in = centre + scale * (standing - own_centre)
    return torch.where(known > 0, filled, stand_in)


def _running_maximum(values: Tensor) -> Tensor:
    """Along dimension 1 of whole numbers (B, T, C); not Tensor.cummax, which OpenVINO lacks."""
    frames, step = values.shape[1], 1
    while step < frames:
        before = functional.pad(values, (0, 0, step, 0), value=-_MANY)[:, :frames]
        values, step = torch.maximum(values, before), 2 * step
    return values
