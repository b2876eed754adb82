"""All that lifting computes, from where joints are seen to poses, as modules of tensors alone.

They take what a camera of focal length 1 sees, so that neither frames' sizes nor lenses matter
here, and can be traced and converted: see ``openvino.convert_model``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gridpose.core import FloatArray
from gridpose.lifting.model.network import LiftingNetwork
from gridpose.lifting.model.steady_view import steady_view
from gridpose.lifting.model.temporal import LiftFrames, TemporalNetwork
from gridpose.lifting.normalise import (
    DEFAULT_FOV_DEGREES,
    Normalised,
    Scheme,
    onto_image,
    view_of_person,
)


class FrameLifter(nn.Module):
    """A lifter of single frames, as a network that sees time asks it.

    Args:
        network: the lifter.
        scheme: in which it wants keypoints.
        fov_degrees: of the longer side of the frames that ``published`` and ``frame`` refer to.
    """

    def __init__(
        self,
        network: LiftingNetwork,
        scheme: Scheme = "person",
        fov_degrees: float = DEFAULT_FOV_DEGREES,
    ) -> None:
        super().__init__()
        self.network, self.scheme = network, scheme
        self._reach = math.tan(math.radians(fov_degrees) / 2)

    def in_steady_cameras(self, size: Tensor, to_camera: Tensor, half: bool = False) -> LiftFrames:
        """The lifter for keypoints in steady cameras.

        Args:
            size, to_camera: of :class:`gridpose.lifting.model.steady_view.SteadyView`.
            half: whether products are bfloat16.
        """

        def lift(keypoints: Tensor) -> Tensor:
            flat = keypoints * size[..., None, None]
            rays = functional.pad(flat, (0, 1), value=1.0)
            if self.scheme == "person":
                shown = view_of_person(rays.flatten(0, 1))
            else:
                in_frame = onto_image(rays @ to_camera.transpose(-1, -2)) / self._reach
                shown = Normalised(
                    in_frame.flatten(0, 1), to_camera.transpose(-1, -2).flatten(0, 1)
                )
            with torch.autocast(keypoints.device.type, torch.bfloat16, enabled=half):
                poses = self.network.lift(shown.keypoints).float()
            poses = shown.rotate_back(poses - poses[:, :1])
            return poses.view(*keypoints.shape[:-1], 3)

        return lift


class LiftWindows(nn.Module):
    """A lifter that sees time."""

    def __init__(self, frames: FrameLifter, network: TemporalNetwork) -> None:
        super().__init__()
        self.frames, self.network = frames, network

    def forward(self, flat: Tensor, confidence: Tensor) -> Tensor:
        """B windows of T frames -> poses (B, T, 17, 3), metres, hip at the origin, camera axes.

        Args:
            flat: (B, T, 17, 2) joints on an image of focal length 1, finite in any case.
            confidence: (B, T, 17) in [0, 1], 0 where unseen.
        """
        valid = confidence > 0
        device = flat.device.type
        # In half precision directions would be off by millimetres on the way in and out.
        with torch.autocast(device, enabled=False):
            view = steady_view(flat, valid)
        lift = self.frames.in_steady_cameras(view.size, view.to_camera)
        poses: Tensor = self.network(view.keypoints, confidence, valid, view.travel, lift)[1]
        with torch.autocast(device, enabled=False):
            return poses @ view.to_camera.transpose(-1, -2)

    @torch.no_grad()
    def lift_arrays(self, flat: FloatArray, confidence: FloatArray) -> FloatArray:
        """The same for arrays, wherever the weights are."""
        device = self.network.correct.weight.device
        given = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (flat, confidence))
        poses: FloatArray = self(*given).float().cpu().numpy()
        return poses
