"""The published D-GridConv network word for word: what answers and speed are compared with.

Each layer's input is padded and unfolded twice, once for each branch, scaled by the attention map
and multiplied by that branch's weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig

PADDING = {"c": "circular", "z": "constant", "r": "replicate"}


def state_of(network: LiftingNetwork) -> dict[str, Tensor]:
    """A copy of a network's weights and statistics, by published name; weights take gradients."""
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    for name, _ in network.named_parameters():
        state[name].requires_grad_()
    return state


def literal_network(
    grid: Tensor, state: Mapping[str, Tensor], config: NetworkConfig, *, training: bool = False
) -> Tensor:
    """(B, 2, H, W) -> (B, 3, H, W). ``training`` updates the statistics in ``state``."""

    def normalised(x: Tensor, name: str) -> Tensor:
        return functional.batch_norm(
            x,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state[f"{name}.weight"],
            state[f"{name}.bias"],
            training,
        )

    def attention(x: Tensor, name: str) -> Tensor:
        """(B, C, H, W) -> (B, 1, 9, H * W)."""
        hidden = functional.conv2d(functional.adaptive_avg_pool2d(x, 1), state[f"{name}.fc.weight"])
        hidden = torch.relu(normalised(hidden, f"{name}.bn"))
        weight, bias = state[f"{name}.position_fc.weight"], state[f"{name}.position_fc.bias"]
        logits = functional.conv2d(hidden, weight, bias).reshape(len(x), 1, 9, -1)
        return torch.sigmoid(logits / config.temperature)

    def layer(x: Tensor, prefix: str, number: int) -> Tensor:
        batch, channels, height, width = x.shape
        scale = attention(x, f"{prefix}atten_conv{number}")
        branches = []
        for branch, mode in enumerate(config.padding_mode, 1):
            weight = state[f"{prefix}w{number}.branch{branch}_weight"].flatten(1)
            bias = state.get(f"{prefix}w{number}.branch{branch}_bias")
            taps = functional.unfold(functional.pad(x, (1, 1, 1, 1), mode=PADDING[mode]), 3)
            scaled = (taps.reshape(batch, channels, 9, -1) * scale).flatten(1, 2)
            branches.append(functional.linear(scaled.transpose(1, 2), weight, bias))
        out = (branches[0] + branches[1]).transpose(1, 2)
        return functional.fold(out, (height, width), 1)

    def activated(x: Tensor, prefix: str, number: int) -> Tensor:
        norm = normalised(layer(x, prefix, number), f"{prefix}batch_norm{number}")
        return functional.dropout2d(torch.relu(norm), config.dropout, training)

    x = activated(grid, "", 1)
    for block in range(config.blocks):
        prefix = f"linear_stages.{block}."
        x = x + activated(activated(x, prefix, 1), prefix, 2)
    return layer(x, "", 2)
