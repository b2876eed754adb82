"""The learnable semantic grid transform: which joint each cell of the grid reads is trained.

Kang et al., "3D Human Pose Lifting with Grid Convolution", AAAI 2023. A matrix S (1, H*W, 17)
scores joints for cells; each cell reads the joint it scores highest, and a joint is read back as
the mean of its cells. The assignment is hard, its gradient goes straight through to S.

The published code never trains S and lets a joint that wins no cell vanish. Here every joint keeps
at least one cell (``keep_joints``): a joint that lost takes the cell that gives up least, among
cells whose joint has another.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gridpose.core import NUM_JOINTS, UsageError
from gridpose.lifting.model.layers import Fusable

# Which joint each cell of a 5x5 grid reads at first, row by row.
_PRIORS: Final = {
    "standard": "7 7 7 7 7  0 8 8 8 0  4 11 9 14 1  5 12 9 15 2  6 13 10 16 3",
    "learnt_type1": "7 4 7 1 0  0 8 8 8 0  4 11 9 14 1  5 12 9 15 2  6 13 10 16 3",
    "learnt_type2": "0 15 7 1 0  1 14 8 7 0  4 0 9 13 1  2 6 11 10 2  5 12 14 16 3",
    "learnt_type3": "9 7 7 10 7  13 8 10 15 16  9 12 7 14 1  4 5 7 3 11  7 6 9 2 14",
}
RANDOM_PRIOR: Final = "random_prob"
PRIORS: Final = (*_PRIORS, RANDOM_PRIOR)
_PRIOR_SHAPE: Final = (5, 5)


def check_prior(name: str, shape: tuple[int, int]) -> None:
    """Raises: UsageError: no such prior, or fewer cells than joints."""
    if name not in PRIORS:
        raise UsageError(f"unknown grid prior {name!r}; known are {', '.join(PRIORS)}")
    if shape[0] * shape[1] < NUM_JOINTS:
        raise UsageError(
            f"a grid of {shape[0]}x{shape[1]} cells cannot hold {NUM_JOINTS} joints; "
            f"a learnable grid needs at least {NUM_JOINTS} cells"
        )


def prior_cells(name: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Joint of each cell, ``(H, W)``, of a named prior that is not random.

    Other shapes than 5x5 sample the 5x5 prior at the nearest cell; a joint that falls between the
    samples then takes, from the joints that have several, the cell closest to its place.
    """
    height, width = shape
    base = np.array(_PRIORS[name].split(), np.int64).reshape(_PRIOR_SHAPE)
    if shape == _PRIOR_SHAPE:
        return base
    rows = (np.arange(height) + 0.5) / height
    columns = (np.arange(width) + 0.5) / width
    cells: NDArray[np.int64] = base[np.ix_((rows * 5).astype(int), (columns * 5).astype(int))]
    for joint in np.setdiff1d(base, cells):
        place = (np.argwhere(base == joint).mean(0) + 0.5) / 5
        distance = np.hypot(rows[:, None] - place[0], columns[None] - place[1])
        distance[np.bincount(cells.ravel(), minlength=NUM_JOINTS)[cells] < 2] = np.inf
        cells[np.unravel_index(distance.argmin(), cells.shape)] = joint
    return cells


def prior_matrix(name: str, shape: tuple[int, int]) -> Tensor:
    """The matrix S ``(1, H*W, 17)`` that a prior starts from.

    ``random_prob`` is the softmax of uniform noise from torch's global generator.

    Raises:
        UsageError: no such prior, or fewer cells than joints.
    """
    check_prior(name, shape)
    height, width = shape
    if name == RANDOM_PRIOR:
        return torch.softmax(torch.rand(1, height * width, NUM_JOINTS), dim=-1)
    cells = torch.as_tensor(prior_cells(name, shape)).flatten()
    return functional.one_hot(cells, NUM_JOINTS).to(torch.get_default_dtype())[None]


def assign(scores: Tensor, *, keep_joints: bool) -> Tensor:
    """The joint ``(cells,)`` that each cell reads, from scores ``(cells, 17)``.

    With ``keep_joints`` every joint has at least one cell. Each round gives one lost joint the
    cell that loses least by it, so 17 rounds always suffice; there are at least as many cells as
    joints.
    """
    best, joint_of_cell = scores.max(dim=-1)
    if not keep_joints:
        return joint_of_cell
    for _ in range(NUM_JOINTS):
        cells_of_joint = functional.one_hot(joint_of_cell, NUM_JOINTS).sum(0)
        fewest, lost = cells_of_joint.min(dim=0)
        # On a GPU, asking would stall it longer than the rounds take.
        if scores.device.type == "cpu" and not torch.compiler.is_compiling() and fewest > 0:
            break
        # Not scores[:, lost], which reads the index back to the host.
        price = best - scores.index_select(1, lost.reshape(1))[:, 0]
        price = price.nan_to_num()  # scores that are infinite, or too far apart
        price = price.masked_fill(cells_of_joint[joint_of_cell] < 2, torch.inf)
        taken = (torch.arange(len(scores), device=scores.device) == price.argmin()) & (fewest == 0)
        joint_of_cell = torch.where(taken, lost, joint_of_cell)
    return joint_of_cell


class LearnableSGT(Fusable):
    """The trained assignment of joints to cells; the parameter is named as in published files."""

    def __init__(self, shape: tuple[int, int], prior: str, *, keep_joints: bool) -> None:
        super().__init__()
        self.shape, self.keep_joints = shape, keep_joints
        self.sgt_trans_mat = nn.Parameter(prior_matrix(prior, shape))

    def joint_of_cell(self) -> Tensor:
        """The joint that each cell reads, ``(H, W)`` integers."""
        scores = self.sgt_trans_mat.detach()[0]
        return assign(scores, keep_joints=self.keep_joints).reshape(self.shape)

    def fuse(self) -> None:
        """Keep both transforms for inference; see :class:`Fusable`."""
        with torch.inference_mode(False), torch.no_grad():
            self.fused = self()

    def forward(self) -> tuple[Tensor, Tensor]:
        """``(to_grid (cells, 17), to_joints (17, cells))``; S gets gradients in training mode."""
        if self.fused is not None and not torch.is_grad_enabled():
            transforms: tuple[Tensor, Tensor] = self.fused
            return transforms
        scores = self.sgt_trans_mat[0]
        chosen = assign(scores.detach(), keep_joints=self.keep_joints)
        to_grid = functional.one_hot(chosen, NUM_JOINTS).to(scores.dtype)
        lost = (to_grid.sum(0) == 0).to(scores.dtype)
        if self.training:
            to_grid = to_grid + (scores - scores.detach())  # adds exactly 0
        # A lost joint has no cell to read: it answers 0, and divides by 1 so that it stays sane.
        to_joints = to_grid.t() / (to_grid.sum(0) + lost)[:, None]
        return to_grid, to_joints
