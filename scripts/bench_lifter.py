#!/usr/bin/env python
"""Compare the lifting network with a plain, literal implementation of the published formulation.

    python scripts/bench_lifter.py

The literal network unfolds each layer's input twice, once for each padding, scales it by the
attention map and multiplies it by each branch's weights. Both networks hold the same weights, run
in turn in one process and must agree; printed are milliseconds and the ratio literal / ours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from gridpose.lifting.network import LiftingNetwork, NetworkConfig, build_network

PADDING = {"c": "circular", "z": "constant", "r": "replicate"}


class LiteralAttention(nn.Module):
    """(B, C, H, W) -> (B, 9, H, W)."""

    def __init__(self, channels: int, shape: tuple[int, int], temperature: float) -> None:
        super().__init__()
        hidden = max(channels // 16, 16)
        self.shape, self.temperature = shape, temperature
        self.fc = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.position_fc = nn.Conv2d(hidden, 9 * shape[0] * shape[1], 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.bn(self.fc(functional.adaptive_avg_pool2d(x, 1))))
        logits = self.position_fc(hidden).reshape(len(x), 9, *self.shape)
        return torch.sigmoid(logits / self.temperature)


class LiteralConv(nn.Module):
    """Two branches, each: pad, unfold, scale, multiply, fold."""

    def __init__(self, inputs: int, outputs: int, modes: tuple[str, str], bias: bool) -> None:
        super().__init__()
        self.modes = modes
        self.branch1_weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.branch2_weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.branch1_bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.branch2_bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def _branch(
        self, x: Tensor, mode: str, weight: Tensor, bias: Tensor | None, attention: Tensor
    ) -> Tensor:
        batch, channels, height, width = x.shape
        cells = height * width
        taps = functional.unfold(functional.pad(x, (1, 1, 1, 1), mode=PADDING[mode]), 3)
        scaled = taps.reshape(batch, channels, 9, cells) * attention.reshape(batch, 1, 9, cells)
        columns = scaled.reshape(batch, channels * 9, cells).transpose(1, 2)
        product = (columns @ weight.flatten(1).t()).transpose(1, 2)
        out = functional.fold(product, (height, width), 1)
        return out if bias is None else out + bias.reshape(1, -1, 1, 1)

    def forward(self, x: Tensor, attention: Tensor) -> Tensor:
        first = self._branch(x, self.modes[0], self.branch1_weight, self.branch1_bias, attention)
        second = self._branch(x, self.modes[1], self.branch2_weight, self.branch2_bias, attention)
        return first + second


class LiteralStage(nn.Module):
    """Residual block."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, modes, shape = config.hidden, config.padding_mode, config.grid_shape
        self.w1 = LiteralConv(width, width, modes, True)
        self.batch_norm1 = nn.BatchNorm2d(width)
        self.w2 = LiteralConv(width, width, modes, True)
        self.batch_norm2 = nn.BatchNorm2d(width)
        self.atten_conv1 = LiteralAttention(width, shape, config.temperature)
        self.atten_conv2 = LiteralAttention(width, shape, config.temperature)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(torch.relu(self.batch_norm1(self.w1(x, self.atten_conv1(x)))))
        y = self.dropout(torch.relu(self.batch_norm2(self.w2(y, self.atten_conv2(y)))))
        return x + y


class LiteralNetwork(nn.Module):
    """The published D-GridConv network, (B, 2, H, W) -> (B, 3, H, W)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, modes, shape = config.hidden, config.padding_mode, config.grid_shape
        self.w1 = LiteralConv(2, width, modes, True)
        self.batch_norm1 = nn.BatchNorm2d(width)
        self.atten_conv1 = LiteralAttention(2, shape, config.temperature)
        self.linear_stages = nn.ModuleList(LiteralStage(config) for _ in range(config.blocks))
        self.w2 = LiteralConv(width, 3, modes, False)
        self.atten_conv2 = LiteralAttention(width, shape, config.temperature)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(torch.relu(self.batch_norm1(self.w1(x, self.atten_conv1(x)))))
        for stage in self.linear_stages:
            y = stage(y)
        out: Tensor = self.w2(y, self.atten_conv2(y))
        return out


def inference(network: nn.Module, grid: Tensor) -> Callable[[], None]:
    network.eval()
    if isinstance(network, LiftingNetwork):
        network.fuse()

    def run() -> None:
        with torch.inference_mode():
            network(grid)

    return run


def training_step(network: nn.Module, grid: Tensor, target: Tensor) -> Callable[[], None]:
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        functional.mse_loss(network(grid), target).backward()
        optimizer.step()

    return run


def compare(
    name: str, literal: Callable[[], None], ours: Callable[[], None], seconds: float
) -> None:
    """Run both in turn until the time is up (at least three rounds) and print the medians."""
    on_gpu = torch.cuda.is_available()
    literal(), ours()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for function, spent in zip((literal, ours), times, strict=True):
            if on_gpu:
                torch.cuda.synchronize()
            started = time.perf_counter()
            function()
            if on_gpu:
                torch.cuda.synchronize()
            spent.append(1000 * (time.perf_counter() - started))
    first, second = (statistics.median(spent) for spent in times)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    print(
        f"{name:<22} literal {first:9.2f} ms   ours {second:9.2f} ms   ratio {first / second:5.2f}"
        f"   ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)",
        flush=True,
    )


def main(
    hidden: int = 256,
    padding: Annotated[str, typer.Option(help="two letters of c, z, r")] = "cz",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: torch's choice")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seconds: Annotated[float, typer.Option(help="time for each line")] = 10.0,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = NetworkConfig(hidden=hidden, padding_mode=tuple(padding))  # type: ignore[arg-type]
    ours: LiftingNetwork = build_network(config).to(device)
    literal = LiteralNetwork(config).to(device)
    literal.load_state_dict(ours.state_dict())

    print(
        f"{hidden} channels, padding {padding}, {torch.get_num_threads()} threads, {device} float32"
    )
    for batch in (1, 32, 1000):
        grid = torch.randn(batch, 2, 5, 5, device=device)
        with torch.inference_mode():
            gap = (literal.eval()(grid) - ours.eval()(grid)).abs().max().item()
        assert gap < 1e-4, f"the networks disagree by {gap}"
        compare(
            f"inference, batch {batch}", inference(literal, grid), inference(ours, grid), seconds
        )
    grid = torch.randn(200, 2, 5, 5, device=device)
    target = torch.randn(200, 3, 5, 5, device=device)
    compare(
        "training step, batch 200",
        training_step(literal, grid, target),
        training_step(ours, grid, target),
        2 * seconds,
    )


if __name__ == "__main__":
    typer.run(main)
