"""What a lifter is, in numbers, and which joints lie where on its grid."""

from __future__ import annotations

from typing import Any

import torch

from gridpose.core import NUM_JOINTS
from gridpose.lifting.model.network import LiftingNetwork
from gridpose.lifting.model.sgt import GRID_SHAPE, sgt_matrices

Cells = list[list[tuple[int, ...]]]
"""Rows of cells; a cell is the joints (Human3.6M-17) whose mean it holds."""


def describe_network(network: LiftingNetwork) -> dict[str, Any]:
    """What a network is, as JSON has it."""
    config = network.config
    return {
        "lifting_model": config.kind,
        "hidden": config.hidden,
        "blocks": config.blocks,
        "grid_shape": list(config.grid_shape),
        "padding_mode": list(config.padding_mode),
        "temperature": config.temperature,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def grid_cells(network: LiftingNetwork) -> Cells:
    """Joints of each cell; no rows where the paper lays out no joints on such a grid."""
    height, width = network.config.grid_shape
    if network.sgt_layer is not None:
        with torch.inference_mode():
            to_grid, _ = network.sgt_layer()
    elif (height, width) == GRID_SHAPE:
        to_grid, _ = sgt_matrices(torch.device("cpu"), torch.float32)
    else:
        return []
    joints = [tuple(row.nonzero().flatten().tolist()) for row in to_grid]
    return [joints[row * width : (row + 1) * width] for row in range(height)]


def joints_without_cell(cells: Cells) -> list[int]:
    """Joints that lie nowhere on a grid; none of a grid without rows."""
    held = {joint for row in cells for cell in row for joint in cell}
    return [joint for joint in range(NUM_JOINTS) if cells and joint not in held]
