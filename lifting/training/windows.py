"""Windows of a data set's sequences, as a network that sees time learns from them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gridpose.core import MIRRORED
from gridpose.lifting.data.dataset import PoseDataset
from gridpose.lifting.data.device_batches import row_order
from gridpose.lifting.evaluation import FRAME_SIZE
from gridpose.lifting.model.steady_view import steady_view
from gridpose.lifting.model.temporal import WINDOW_FRAMES
from gridpose.lifting.sequences import CHUNK, WINDOW_FPS
from gridpose.lifting.synthesis.sequence_errors import SequenceErrorModel, SequenceErrors
from gridpose.lifting.training.temporal_loss import seen_in


class SequenceWindows:
    """Windows of 81 frames at 30 fps, each around another part of a data set.

    A window begins anywhere around its part. Half of them are mirrored; of some a part of the body
    is hidden, or some frames. The 2D has its detector's errors already.

    Args:
        dataset: sequences of 1000 px frames.
        fps: their frame rate.
        fov_degrees: horizontal field of view that the network is told.
        device: where everything lives; 0.34 GB for a million frames.
    """

    def __init__(
        self, dataset: PoseDataset, fps: float, fov_degrees: float, device: torch.device
    ) -> None:
        self.device = device
        self._step = fps / WINDOW_FPS
        self._focal = FRAME_SIZE / 2 / math.tan(math.radians(fov_degrees) / 2)
        self._keypoints = torch.tensor(dataset.keypoints_px, dtype=torch.float32, device=device)
        self._poses = torch.tensor(dataset.poses, dtype=torch.float32, device=device)
        parts = [
            (begin, sequence.start, sequence.stop - 1)
            for sequence in dataset.sequences
            for begin in np.arange(sequence.start, sequence.stop, CHUNK * self._step)
        ]
        self._begin, self._first, self._last = torch.tensor(
            parts, dtype=torch.float64, device=device
        ).unbind(1)
        self._generator = torch.Generator(device)
        self._errors = SequenceErrorModel(SequenceErrors(), self._generator)
        self._mirrored = torch.tensor(MIRRORED, device=device)

    def __len__(self) -> int:
        return len(self._begin)

    def order(self, generator: torch.Generator | None) -> Tensor:
        """Numbers of all parts, shuffled if there is a generator."""
        return row_order(len(self), self.device, generator)

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Windows around the parts ``index``: what ``temporal_error`` takes, by name."""
        # So that an epoch draws the same whether or not the training was interrupted before.
        self._generator.manual_seed(int(torch.randint(2**62, ())))
        count = len(index)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=self._generator, device=self.device)

        first, last = self._first[index][:, None], self._last[index][:, None]
        frames = torch.arange(WINDOW_FRAMES, device=self.device)
        offset = (WINDOW_FRAMES * uniform(count, 1)).floor()
        at = self._begin[index][:, None] + (frames - offset) * self._step
        within = (at >= first) & (at <= last)
        at = torch.minimum(torch.maximum(at, first), last)
        before = at.long()
        after = torch.minimum(before + 1, last.long())
        share = (at - before).float()[..., None, None]
        keypoints = torch.lerp(self._keypoints[before], self._keypoints[after], share)
        poses = torch.lerp(self._poses[before], self._poses[after], share)

        flipped = uniform(count, 1, 1, 1) < 0.5
        other = keypoints[:, :, self._mirrored]
        other = torch.stack((FRAME_SIZE - other[..., 0], other[..., 1]), -1)
        keypoints = torch.where(flipped, other, keypoints)
        other = poses[:, :, self._mirrored] * poses.new_tensor((-1, 1, 1))
        poses = torch.where(flipped, other, poses)

        size = torch.full((count, 2), float(FRAME_SIZE), device=self.device)
        seen = self._errors.hide(keypoints, size)
        valid = seen.valid & within[..., None]
        view = steady_view((seen.keypoints - FRAME_SIZE / 2) / self._focal, valid)
        return {
            **seen_in(view, seen.confidence * valid, valid),
            "poses": poses @ view.to_camera,
            "within": within,
        }
