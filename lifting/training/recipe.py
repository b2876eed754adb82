"""What trainings on synthetic poses share: loss, optimiser, learning rate."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gridpose.lifting.network import LiftingNetwork
from gridpose.lifting.normalise import normalise
from gridpose.lifting.synthesis import SyntheticBatch

SMALLEST_MATRIX = 16
"""Weights of fewer rows or columns are learnt by AdamW, not by Muon."""
_NO_MIXTURES = ("position_fc", "sgt_layer")
"""Attention of each tap and cell, scores of each joint and cell: their rows are not mixed."""


def lift_error(
    network: LiftingNetwork, drawn: SyntheticBatch, precision: torch.dtype | None
) -> Tensor:
    """Mean distance in metres of lifted from true joints; ``precision`` of the products."""
    normalised = normalise(drawn.keypoints_px, drawn.image_size, "person")
    assert normalised.to_camera is not None
    wanted = drawn.poses @ normalised.to_camera
    device = drawn.poses.device.type
    with torch.autocast(device, dtype=precision, enabled=precision is not None):
        lifted = network.lift(normalised.keypoints)
    error: Tensor = (lifted - wanted).norm(dim=-1).mean()
    return error


class _ByJoints(nn.Module):
    """A network called with joints, whatever its kind."""

    def __init__(self, network: LiftingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, keypoints: Tensor) -> Tensor:
        return self.network.lift(keypoints)


def refresh_batch_norm(network: LiftingNetwork, drawn: Iterable[SyntheticBatch]) -> None:
    """Measure the means and variances of BatchNorm anew on these batches; eval mode afterwards.

    Averaged weights see other activations than those whose running means were averaged with them.
    """
    normalised = (normalise(batch.keypoints_px, batch.image_size, "person") for batch in drawn)
    torch.optim.swa_utils.update_bn((each.keypoints for each in normalised), _ByJoints(network))
    network.eval()


def learning_rate(progress: float, peak: float, warm_up: float, decay: float) -> float:
    """Linear warm-up, constant, linear to zero; all in shares of the training."""
    return peak * max(0.0, min(1.0, progress / warm_up, (1 - progress) / decay))


class MuonAdamW:
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for all else.

    A convolution's weights count as one matrix, a row for each output channel. After equally many
    steps of training the default lifter Muon was 3 mm ahead of AdamW alone.
    """

    def __init__(self, network: nn.Module, weight_decay: float = 1e-4) -> None:
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        others = []
        for name, weight in network.named_parameters():
            # The matrix shares the weight's memory.
            matrix = weight.detach().flatten(1) if weight.ndim > 1 else weight.detach()[:, None]
            mixes = not any(part in name for part in _NO_MIXTURES)
            if mixes and min(matrix.shape) >= SMALLEST_MATRIX:
                self._matrices.append((weight, nn.Parameter(matrix)))
            else:
                others.append(weight)
        matrices = [matrix for _, matrix in self._matrices]
        self._optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self._optimizers.append(
                torch.optim.Muon(
                    matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            )
        self._optimizers.append(torch.optim.AdamW(others, weight_decay=weight_decay))

    def step(self, rate: float) -> None:
        """Change the weights by their gradients, at this learning rate."""
        for weight, matrix in self._matrices:
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def state_dict(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: Iterable[dict[str, object]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def keep_freed_memory() -> None:
    """Keep glibc from handing large buffers back to the kernel: page faults were half the time."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_max = -1, -4
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
