"""Keypoint normalisation: the pixels of any frame to what a lifting network was trained on.

Convention: pixels have x right, y down, origin in the top left corner; camera axes are x right,
y down, z away from the camera. Every scheme answers normalised keypoints and, for each pose, the
rotation that takes the network's answer back to camera axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gridpose.core import UsageError

Scheme = Literal["published", "frame", "person"]
"""``published``: ``(p - 500) / 500``, for Human3.6M's 1000 px frames. ``frame``: centre of the
frame at 0, half its longer side is 1. ``person``: a virtual camera turned to the person, see
:func:`normalise_person`."""

DEFAULT_FOV_DEGREES = 55.0
"""Horizontal field of view assumed where nothing is known of the lens."""


@dataclass(frozen=True)
class Normalised:
    """``keypoints`` (N, 17, 2) for the network; ``to_camera`` (N, 3, 3), or None for identity."""

    keypoints: Tensor
    to_camera: Tensor | None = None

    def rotate_back(self, poses: Tensor) -> Tensor:
        """The network's ``(N, 17, 3)`` answer in camera axes."""
        return poses if self.to_camera is None else poses @ self.to_camera.transpose(1, 2)


def normalise(
    keypoints_px: Tensor,
    image_size: Tensor,
    scheme: Scheme,
    fov_degrees: float = DEFAULT_FOV_DEGREES,
) -> Normalised:
    """Normalise ``(N, 17, 2)`` pixels seen in frames of ``image_size`` ``(N, 2)`` width, height.

    Raises:
        UsageError: unknown scheme.
    """
    if scheme == "published":
        return Normalised((keypoints_px - 500) / 500)
    size = image_size.to(keypoints_px)[:, None]
    if scheme == "frame":
        return Normalised((keypoints_px - size / 2) / (size.amax(-1, keepdim=True) / 2))
    if scheme == "person":
        return normalise_person(keypoints_px, image_size, fov_degrees)
    raise UsageError(f"unknown normalisation {scheme!r}; known are {', '.join(get_args(Scheme))}")


def focal_from_fov(image_size: Tensor, fov_degrees: float) -> Tensor:
    """Focal length in pixels ``(N,)`` of frames ``(N, 2)`` with that horizontal field of view."""
    return 0.5 * image_size[:, 0] / math.tan(math.radians(fov_degrees) / 2)


def view_rotation(bearing: Tensor) -> Tensor:
    """Rotation of a camera turned (yaw, then pitch, no roll) to look along ``bearing`` (N, 3).

    ``(N, 3, 3)``, proper; its rows are the turned camera's axes in the axes of the first one, so
    ``rotation @ p`` is a point in the turned camera.
    """
    forward = torch.nn.functional.normalize(bearing, dim=-1)
    x, _, z = forward.unbind(-1)
    right = torch.stack((z, torch.zeros_like(z), -x), -1)  # down x forward
    right = torch.nn.functional.normalize(right, dim=-1)
    return torch.stack((right, torch.linalg.cross(forward, right), forward), dim=1)


def normalise_person(keypoints_px: Tensor, image_size: Tensor, fov_degrees: float) -> Normalised:
    """Turn a virtual camera to the trunk, then divide by the RMS size of the person.

    A person at the edge of a frame is seen from another side than one in its middle. Turning the
    camera to the trunk (midpoint of hip and thorax) removes that; only the lens must be assumed.
    The size is the root mean square distance of the joints from their centroid, in which one
    outstretched arm or one misplaced joint counts for little.
    """
    return view_of_person(rays_of(keypoints_px, image_size, fov_degrees))


def rays_of(keypoints_px: Tensor, image_size: Tensor, fov_degrees: float) -> Tensor:
    """Directions ``(N, 17, 3)`` in camera axes, z 1, in which pixels ``(N, 17, 2)`` are seen."""
    size = image_size.to(keypoints_px)
    focal = focal_from_fov(size, fov_degrees)[:, None, None]
    return torch.nn.functional.pad((keypoints_px - size[:, None] / 2) / focal, (0, 1), value=1.0)


def view_of_person(rays: Tensor) -> Normalised:
    """What a camera turned to the trunk sees of rays ``(N, 17, 3)``, in RMS sizes of the person."""
    rotation = view_rotation((rays[:, 0] + rays[:, 8]) / 2)
    flat = onto_image(rays @ rotation.transpose(1, 2))
    return Normalised(flat / rms_size(flat)[:, None, None], rotation.transpose(1, 2))


def onto_image(points: Tensor) -> Tensor:
    """Projection ``(..., 2)`` of points ``(..., 3)`` in camera axes; focal length 1."""
    # A wildly wrong joint may lie beside or behind a turned camera; keep its image finite.
    return points[..., :2] / points[..., 2:].clamp(min=0.05)


def rms_size(flat: Tensor) -> Tensor:
    """Root mean square distance ``(...)`` of joints ``(..., 17, 2)`` from their centroid."""
    spread = flat - flat.mean(dim=-2, keepdim=True)
    return spread.square().sum(-1).mean(-1).sqrt().clamp(min=1e-6)
