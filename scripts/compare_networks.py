#!/usr/bin/env python
"""Compare lifting networks at equal budget, on motion capture seen through virtual cameras.

    python scripts/compare_networks.py --mocap DIR --out runs/compare

Every network sees the same number of synthetic poses (handcrafted D-GridConv, static GridConv, a
residual MLP of as many parameters, and the learnable grid, trained and frozen at its standard or a
random prior) with the same optimiser and schedule; each seed is one run. Errors are those on
DIR/bench_test.npz. Runs are kept in OUT/runs.jsonl and not repeated; at the end a Markdown table
is printed.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from gridpose.lifting.metrics import mpjpe, pa_mpjpe
from gridpose.lifting.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.normalise import normalise
from gridpose.lifting.synthesis import PoseBank, Synthesiser, SynthesisOptions

NETWORKS = (
    "mlp",
    "gridconv",
    "dgridconv",
    "frozen grid",
    "learned grid",
    "frozen random grid",
    "learned random grid",
)
WARM_UP_STEPS = 200
DECAY_SHARE = 0.3
TEMPERATURE_SHARE = 0.1
"""Share of the steps over which the attention's temperature falls from 30 to 1."""


class ResidualMLP(nn.Module):
    """SimpleBaseline (Martinez et al., ICCV 2017): two residual blocks of two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = self._layer(34, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(self._layer(width, width), self._layer(width, width)) for _ in range(2)
        )
        self.last = nn.Linear(width, 51)

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())

    def lift(self, keypoints: Tensor) -> Tensor:
        x = self.first(keypoints.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        poses: Tensor = self.last(x)
        return poses.reshape(-1, 17, 3)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def make(name: str, hidden: int) -> LiftingNetwork | ResidualMLP:
    config = NetworkConfig("dgridconv", hidden=hidden, dropout=0.0)
    if name == "mlp":
        wanted = parameters(build_network(config))
        widths = range(16, 4096)
        count = [4 * width**2 + (34 + 51 + 4 + 5 * 2 + 1) * width for width in widths]
        return ResidualMLP(widths[int(np.abs(np.array(count) - wanted).argmin())])
    if name == "gridconv":
        return build_network(NetworkConfig("gridconv", hidden=hidden, dropout=0.0))
    if name == "dgridconv":
        return build_network(config)
    prior = "random_prob" if "random" in name else "standard"
    config = NetworkConfig("dgridconv_autogrids", hidden=hidden, dropout=0.0, prior=prior)
    network = build_network(config)
    assert network.sgt_layer is not None
    network.sgt_layer.sgt_trans_mat.requires_grad_(name.startswith("learned"))
    return network


@torch.no_grad()
def bench_errors(network: LiftingNetwork | ResidualMLP, bench: Path) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm for exact and noisy 2D, hip at the origin."""
    network.eval()
    errors = {}
    with np.load(bench) as data:
        for name in ("keypoints_px", "keypoints_noisy_px"):
            keypoints = torch.from_numpy(data[name]).float()
            sizes = torch.from_numpy(data["image_size"]).float().expand(len(keypoints), 2)
            normalised = normalise(keypoints, sizes, "person")
            poses = normalised.rotate_back(network.lift(normalised.keypoints)).numpy()
            poses = poses - poses[:, :1]
            kind = "noisy" if "noisy" in name else "exact"
            errors[kind] = 1000 * float(mpjpe(poses, data["poses_camera"]).mean())
            errors[f"{kind}_pa"] = 1000 * float(pa_mpjpe(poses, data["poses_camera"]).mean())
    network.train()
    return {name: round(value, 2) for name, value in errors.items()}


def train(
    name: str,
    seed: int,
    bank: PoseBank,
    bench: Path,
    *,
    hidden: int,
    steps: int,
    batch: int,
    grid_rate: float,
    grid_share: float,
) -> dict[str, object]:
    torch.manual_seed(seed)
    network = make(name, hidden).train()
    synthesiser = Synthesiser(bank, SynthesisOptions(), seed)
    grid = network.sgt_layer if isinstance(network, LiftingNetwork) else None
    before = None if grid is None else grid.sgt_trans_mat.detach().clone()
    cells = None if grid is None else grid.joint_of_cell()
    scores = [] if grid is None else [grid.sgt_trans_mat]
    rest = [p for p in network.parameters() if all(p is not s for s in scores)]
    optimizer = torch.optim.AdamW(
        [{"params": rest}, {"params": scores, "weight_decay": 0.0}], lr=2e-3, weight_decay=1e-4
    )
    started = time.perf_counter()
    for step in range(steps):
        rate = min((step + 1) / WARM_UP_STEPS, (steps - step) / (DECAY_SHARE * steps), 1.0)
        network_group, grid_group = optimizer.param_groups
        network_group["lr"] = 2e-3 * rate
        grid_group["lr"] = 2e-3 * rate * grid_rate * (step < grid_share * steps)
        if isinstance(network, LiftingNetwork):
            network.set_temperature(max(1.0, 30 - 29 * step / (TEMPERATURE_SHARE * steps)))
        drawn = synthesiser.batch(batch)
        normalised = normalise(drawn.keypoints_px, drawn.image_size, "person")
        assert normalised.to_camera is not None
        wanted = drawn.poses @ normalised.to_camera
        loss = (network.lift(normalised.keypoints) - wanted).norm(dim=-1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    result: dict[str, object] = {
        "network": name,
        "seed": seed,
        "parameters": parameters(network),
        "seconds": round(time.perf_counter() - started),
        "loss_mm": round(1000 * loss.item(), 1),
        **bench_errors(network, bench),
    }
    if grid is not None and before is not None and cells is not None:
        after = grid.joint_of_cell()
        result["moved"] = round(float((grid.sgt_trans_mat.detach() - before).abs().mean()), 4)
        result["cells_changed"] = int((after != cells).sum())
        result["joints_held"] = len(after.unique())
        result["cells"] = after.tolist()
    return result


def table(runs: list[dict[str, object]]) -> str:
    lines = [
        "| network | parameters | seeds | exact MPJPE | exact PA | noisy MPJPE | noisy PA |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in NETWORKS:
        own = [run for run in runs if run["network"] == name]
        if not own:
            continue
        cells = [name, f"{own[0]['parameters']:,}", str(len(own))]
        for key in ("exact", "exact_pa", "noisy", "noisy_pa"):
            values = [float(str(run[key])) for run in own]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="where runs are kept")],
    hidden: int = 64,
    steps: int = 2000,
    batch: int = 256,
    seeds: int = 3,
    grid_rate: Annotated[
        float, typer.Option(help="learning rate of the grid, times the rest's")
    ] = 1,
    grid_share: Annotated[float, typer.Option(help="share of the steps in which it learns")] = 1,
    only: Annotated[list[str] | None, typer.Option(help=", ".join(NETWORKS))] = None,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    log = out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    files = [mocap / "mocap_train.npz", mocap / "extra_train.npz"]
    bank = PoseBank.from_files(files, torch.device("cpu"))
    for seed in range(seeds):
        for name in only or NETWORKS:
            if any(run["network"] == name and run["seed"] == seed for run in runs):
                continue
            budget = {
                "hidden": hidden,
                "steps": steps,
                "batch": batch,
                "grid_rate": grid_rate,
                "grid_share": grid_share,
            }
            run = {**train(name, seed, bank, mocap / "bench_test.npz", **budget), **budget}
            runs.append(run)
            with log.open("a") as stream:
                stream.write(json.dumps(run) + "\n")
            print(json.dumps(run), flush=True)
    print(table(runs))


if __name__ == "__main__":
    typer.run(main)
