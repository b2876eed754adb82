"""All that lifting computes, from where joints are seen to poses, as modules of tensors alone.

They take what a camera of focal length 1 sees, so that neither frames' sizes nor lenses matter
here, and can be traced and converted: see ``openvino.convert_model``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gridpose.lifting.body import to_mean_size
from gridpose.lifting.network import LiftingNetwork
from gridpose.lifting.normalise import view_of_person
from gridpose.lifting.steady_view import frame_view, steady_view
from gridpose.lifting.temporal import LiftFrames, TemporalNetwork


def lift_steady(network: LiftingNetwork, size: Tensor, half: bool = False) -> LiftFrames:
    """A lifter of single frames for keypoints in steady cameras.

    Args:
        network: which takes ``person`` keypoints.
        size: (B, T) of :class:`gridpose.lifting.steady_view.SteadyView`.
        half: whether products are bfloat16.
    """

    def lift(keypoints: Tensor) -> Tensor:
        shown, to_steady = frame_view(keypoints, size)
        with torch.autocast(keypoints.device.type, torch.bfloat16, enabled=half):
            poses = network.lift(shown).float()
        poses = (poses - poses[:, :1]) @ to_steady.transpose(1, 2)
        return poses.view(*keypoints.shape[:-1], 3)

    return lift


class LiftPoses(nn.Module):
    """A lifter of single frames that takes ``person`` keypoints."""

    def __init__(self, network: LiftingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, flat: Tensor) -> Tensor:
        """Joints (N, 17, 2) on an image of focal length 1 -> poses (N, 17, 3).

        Metres, hip at the origin, camera axes, the mean person's size.
        """
        normalised = view_of_person(functional.pad(flat, (0, 1), value=1.0))
        poses = normalised.rotate_back(self.network.lift(normalised.keypoints))
        return to_mean_size(poses - poses[:, :1])


class LiftWindows(nn.Module):
    """A lifter that sees time."""

    def __init__(self, frames: LiftingNetwork, network: TemporalNetwork) -> None:
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
        lift = lift_steady(self.frames, view.size)
        poses: Tensor = self.network(view.keypoints, confidence, valid, view.travel, lift)[1]
        with torch.autocast(device, enabled=False):
            return poses @ view.to_camera.transpose(-1, -2)
