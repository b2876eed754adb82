#!/usr/bin/env python
"""Compare lifting networks after equal computing time, on motion capture seen by virtual cameras.

    python scripts/compare_networks.py --mocap DIR --out runs/networks --cpu-seconds 150

Each network is trained as the default lifter is (synthetic poses, optimiser, schedule, one thread)
until it has used so many seconds of the processor; a small network sees more poses in that time
than a large one. Errors are those on DIR/bench_test.npz of the averaged weights, plain and with
the flip test, and of the last weights. Runs are kept in OUT/runs.jsonl and not repeated; at the
end a Markdown table is printed.
"""

from __future__ import annotations

import json
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from gridpose.core import FloatArray, keep_freed_memory
from gridpose.lifting.benchmark import Benchmark, measure, read_benchmark
from gridpose.lifting.lifter import mirror
from gridpose.lifting.network import Kind, LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.normalise import DEFAULT_FOV_DEGREES, normalise
from gridpose.lifting.synthesis.motion_capture import PoseBank
from gridpose.lifting.synthesis.poses import Synthesiser, SynthesisOptions
from gridpose.lifting.training.drawn import DrawnPoses
from gridpose.lifting.training.hooks import measure_batch_norm
from gridpose.lifting.training.model import TrainingModel, joint_error
from gridpose.lifting.training.optimizers import MuonAdamW, learning_rate
from gridpose.lifting.training.options import TrainOptions

BATCH = 256
RATE = 5e-3
SCHEDULE = TrainOptions(None, Path(), lr_schedule="trapezoid", warm_up=0.1, cool_down=0.5)
TEMPERATURE_SHARE = 0.1


def _grid(kind: Kind, hidden: int, blocks: int) -> NetworkConfig:
    return NetworkConfig(kind, hidden=hidden, blocks=blocks, dropout=0.0)


NETWORKS = {
    "D-GridConv, 64 channels, 2 blocks": _grid("dgridconv", 64, 2),
    "D-GridConv, 128 channels, 2 blocks": _grid("dgridconv", 128, 2),
    "D-GridConv, 256 channels, 2 blocks": _grid("dgridconv", 256, 2),
    "D-GridConv, 128 channels, 1 block": _grid("dgridconv", 128, 1),
    "D-GridConv, 128 channels, 3 blocks": _grid("dgridconv", 128, 3),
    "GridConv, 128 channels, 2 blocks": _grid("gridconv", 128, 2),
    "D-GridConv on a learnable grid, 128 channels, 2 blocks": _grid("dgridconv_autogrids", 128, 2),
    "residual MLP, 1024 wide, 2 blocks": None,
}


class ResidualMLP(nn.Module):
    """SimpleBaseline (Martinez et al., ICCV 2017): two residual blocks of two linear layers."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = self._layer(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(self._layer(width, width), self._layer(width, width)) for _ in range(2)
        )
        self.last = nn.Linear(width, 51)

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Inputs ``(N, D)`` to poses ``(N, 17, 3)``; in float32 on the way in and out."""
        with torch.autocast("cpu", enabled=False):
            x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        with torch.autocast("cpu", enabled=False):
            poses: Tensor = self.last(x.float())
        return poses.reshape(-1, 17, 3)

    def lift(self, keypoints: Tensor) -> Tensor:
        poses: Tensor = self(keypoints.flatten(1))
        return poses


class Answers:
    """A network that is not in a checkpoint, for :func:`measure`."""

    def __init__(self, network: LiftingNetwork | ResidualMLP) -> None:
        self.network = network.eval()

    @torch.inference_mode()
    def lift(
        self,
        keypoints_px: FloatArray,
        image_size: FloatArray,
        fov_degrees: float | None = None,
        *,
        flip_test: bool = False,
    ) -> FloatArray:
        normalised = normalise(
            torch.from_numpy(keypoints_px).float(),
            torch.from_numpy(image_size).float(),
            "person",
            DEFAULT_FOV_DEGREES if fov_degrees is None else fov_degrees,
        )
        poses = self.network.lift(normalised.keypoints)
        if flip_test:
            poses = (poses + mirror(self.network.lift(mirror(normalised.keypoints)))) / 2
        poses = normalised.rotate_back(poses)
        return (poses - poses[:, :1]).numpy()


def figures(network: LiftingNetwork | ResidualMLP, bench: Benchmark, flip: bool = False) -> str:
    """MPJPE / PA-MPJPE, exact and noisy 2D, mm."""
    result = measure(Answers(network), bench, flip_test=flip)
    pairs = [kind.overall for kind in (result.exact, result.noisy)]
    return ", ".join(f"{pair.mpjpe:.1f} / {pair.pa_mpjpe:.1f}" for pair in pairs)


def train(name: str, bank: PoseBank, bench: Benchmark, cpu_seconds: float) -> dict[str, object]:
    torch.manual_seed(1)
    config = NETWORKS[name]
    network = ResidualMLP(34, 1024) if config is None else build_network(config)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99),
        use_buffers=True,
    )
    draw = DrawnPoses(Synthesiser(bank, SynthesisOptions(), 1))
    optimizer = MuonAdamW(network, RATE)
    steps, started = 0, time.process_time()
    while (progress := (time.process_time() - started) / cpu_seconds) < 1:
        if isinstance(network, LiftingNetwork):
            network.set_temperature(max(1.0, 30 - 29 * progress / TEMPERATURE_SHARE))
        drawn = draw(BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            loss = joint_error(network, **drawn, loss="sqrtl2")
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(SCHEDULE, RATE, 0, progress)
        optimizer.step()
        average.update_parameters(network)
        steps += 1
    averaged = average.module
    if isinstance(averaged, LiftingNetwork):
        averaged.set_temperature(1.0)
        model = TrainingModel(averaged, partial(joint_error, loss="sqrtl2"))
        measure_batch_norm(model, (draw(BATCH) for _ in count()))
    return {
        "network": name,
        "cpu_seconds": cpu_seconds,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "poses": steps * BATCH,
        "averaged": figures(averaged, bench),
        "flip test": figures(averaged, bench, flip=True),
        "last weights": figures(network, bench),
    }


def table(runs: list[dict[str, object]]) -> str:
    columns = ("network", "parameters", "poses", "averaged", "flip test", "last weights")
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for run in runs:
        cells = [f"{run[c]:,}" if isinstance(run[c], int) else str(run[c]) for c in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="where runs are kept")],
    cpu_seconds: Annotated[float, typer.Option(help="computing time of each training")] = 150,
    only: Annotated[list[str] | None, typer.Option(help=" | ".join(NETWORKS))] = None,
) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    log = out / "runs.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    runs = [run for run in map(json.loads, lines) if run["cpu_seconds"] == cpu_seconds]
    files = [mocap / "mocap_train.npz", mocap / "extra_train.npz"]
    bank = PoseBank.from_files(files, torch.device("cpu"))
    bench = read_benchmark(mocap / "bench_test.npz")
    for name in only or NETWORKS:
        if any(run["network"] == name for run in runs):
            continue
        runs.append(train(name, bank, bench, cpu_seconds))
        print(json.dumps(runs[-1]), flush=True)
        with log.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
    print(table(runs))


if __name__ == "__main__":
    typer.run(main)
