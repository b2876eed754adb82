"""The networks on the device against published numbers and float64; recorded training steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu.common import ROOT, Job, tf32
from gridpose.devices import AUTOCAST
from gridpose.lifting.lifter import Lifter, load_lifter
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.training.graph import Recorder
from gridpose.lifting.weights.published import read_published

DATA = ROOT / "tests" / "data"
KINDS = ("gridconv", "dgridconv", "dgridconv_autogrids")


def _networks() -> dict[str, tuple[LiftingNetwork, Tensor, Tensor]]:
    """Name: network, input, published answer."""
    found = {}
    static = dict(np.load(DATA / "published_gridconv.npz"))
    network = build_network(NetworkConfig("gridconv", hidden=16))
    network.load_state_dict(read_published(DATA / "published_gridconv.pth.tar")[0].state)
    found["gridconv"] = (network, static["poses_2d"], static["poses_3d"])
    for kind, padding, name, keys in (
        ("dgridconv", ("c", "z"), "golden_dgridconv_cz", ("grid_in", "grid_out_T30")),
        ("dgridconv_autogrids", ("c", "r"), "golden_autogrids_cr", ("poses_2d", "poses_3d_T30")),
    ):
        golden = dict(np.load(DATA / f"{name}.npz"))
        config = NetworkConfig(kind, 16, padding_mode=padding, keep_joints=False)  # type: ignore[arg-type]
        network = build_network(config)
        network.load_state_dict(
            {k[6:]: torch.from_numpy(v) for k, v in golden.items() if k.startswith("state/")}
        )
        found[kind] = (network, golden[keys[0]], golden[keys[1]])
    return {
        name: (network.eval(), torch.from_numpy(x).float(), torch.from_numpy(y).float())
        for name, (network, x, y) in found.items()
    }


def _answer(network: LiftingNetwork, x: Tensor) -> Tensor:
    return network(x) if x.ndim == 4 else network.lift(x)


def _network_errors(
    job: Job, network: LiftingNetwork, x: Tensor, wanted: Tensor
) -> dict[str, float]:
    """Largest differences in metres, by way of computing."""
    device = job.device
    x, wanted = x.to(device), wanted.to(device)
    x, wanted = (t.repeat(8, *[1] * (t.ndim - 1))[:200] for t in (x, wanted))
    network = copy.deepcopy(network).to(device)

    def apart(answer: Tensor) -> float:
        return float((answer.float() - wanted).abs().max())

    errors = {"largest value": float(wanted.abs().max())}
    with torch.no_grad():
        errors["fp32"] = apart(_answer(network, x))
        rows = torch.cat([_answer(network, row) for row in x[:16].split(1)])
        errors["fp32 batch 1"] = float((rows - wanted[:16]).abs().max())
        with tf32(True):
            errors["tf32"] = apart(_answer(network, x))
        for name, dtype in AUTOCAST.items():
            with torch.autocast(device.type, dtype):
                errors[f"{name} autocast"] = apart(_answer(network, x))
        for name, dtype in {"fp32": torch.float32, **AUTOCAST}.items():
            network.fuse(dtype)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                errors[f"{name} fused"] = apart(_answer(network, x))
                rows = torch.cat([_answer(network, row) for row in x[:8].split(2)])
                errors[f"{name} fused, batch 2"] = float((rows.float() - wanted[:8]).abs().max())
    with torch.enable_grad():
        errors["fp32 with gradients"] = apart(_answer(network, x).detach())
    return errors


def _gradients(
    network: nn.Module, x: Tensor, target: Tensor, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    network.to(device, dtype).train()
    answer = network(x.to(device, dtype)).to(dtype)
    functional.mse_loss(answer, target.to(device, dtype)).backward()
    return {
        name: parameter.grad.double().cpu()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
        and not name.endswith(("_conv.bias", "branch1_bias", "branch2_bias"))  # truly 0
    }


def _exact_gradients(job: Job, kind: str) -> tuple[Any, ...]:
    """A network of usual width, a batch, and its gradients on the CPU in float64."""
    torch.manual_seed(2)  # no ReLU so near its kink that rounding decides, as with seed 1
    width = 32 if job.small else 256
    config = NetworkConfig(kind, width, dropout=0.0, padding_mode=("c", "r"))  # type: ignore[arg-type]
    network = build_network(config)
    joints = kind == "dgridconv_autogrids"
    x = torch.randn((24, 17, 2) if joints else (24, 2, 5, 5))
    target = torch.randn((24, 17, 3) if joints else (24, 3, 5, 5))
    exact = _gradients(copy.deepcopy(network), x, target, torch.device("cpu"), torch.float64)
    return network, x, target, exact


def _against_float64(job: Job, given: tuple[Any, ...]) -> dict[str, float]:
    """The worst relative error of a gradient, in all arithmetics."""
    network, x, target, exact = given
    errors = {}
    for name in ("fp32", "tf32", *AUTOCAST) if job.cuda else ("fp32",):
        dtype = AUTOCAST.get(name)
        with (
            tf32(name == "tf32"),
            torch.autocast(job.device.type, dtype, enabled=dtype is not None),
        ):
            found = _gradients(copy.deepcopy(network), x, target, job.device, torch.float32)
        errors[name] = max(
            float((found[key] - value).norm() / value.norm()) for key, value in exact.items()
        )
    return errors


def _exact_poses() -> tuple[Lifter, Any, Any]:
    """The shipped lifter, keypoints, and its answers in float64."""
    shipped = load_lifter()
    rng = np.random.default_rng(3)
    pose = np.load(DATA / "published_gridconv.npz")["poses_2d"]
    keypoints = np.float32(rng.choice(pose, 200) + rng.normal(0, 0.02, (200, 17, 2)))
    exact = shipped.checkpoint.build().double().eval()
    with torch.no_grad():
        return shipped, keypoints, exact.lift(torch.from_numpy(keypoints).double()).numpy()


def _lifter_errors(job: Job, given: tuple[Lifter, Any, Any]) -> dict[str, dict[str, float]]:
    """Its answers on the device, in mm."""
    shipped, keypoints, wanted = given
    errors = {}
    for precision in ("fp32", "tf32", "bf16", "fp16") if job.cuda else ("fp32",):
        kind: Any = "fp32" if precision == "tf32" else precision
        with tf32(precision == "tf32"):
            poses = Lifter(shipped.checkpoint, job.device, kind).lift_normalized(keypoints)
        distance = 1000 * np.linalg.norm(poses - wanted, axis=-1)
        errors[precision] = {"mean": float(distance.mean()), "max": float(distance.max())}
    return errors


def _recording(job: Job) -> dict[str, Any]:
    """Losses of a training with its steps recorded, and of one without."""
    if not job.cuda:
        return {"skipped": "no GPU"}
    losses, weights, drawn = [], [], []
    for recorder in (Recorder(), None):
        torch.manual_seed(0)
        network = build_network(NetworkConfig(hidden=64, dropout=0.0)).to(job.device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        own = []
        for _ in range(12):
            x = torch.randn(50, 2, 5, 5, device=job.device)
            y = torch.randn(50, 3, 5, 5, device=job.device)

            def passes(inputs: Tensor, targets: Tensor, network: Any = network) -> Tensor:
                loss = functional.mse_loss(network(inputs), targets)
                loss.backward()
                return loss.detach()

            loss = (
                passes(x, y)
                if recorder is None
                else recorder.run(0, passes, network.parameters(), x, y)
            )
            own.append(loss.clone())
            optimizer.step()
            optimizer.zero_grad()
        drawn.append(torch.rand(1, device=job.device).item())
        losses.append(torch.stack(own))
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    return {
        "loss_rel": float(((losses[0] - losses[1]) / losses[1]).abs().max()),
        "weights_rel": float((weights[0] - weights[1]).norm() / weights[1].norm()),
        "same_random_state_after": drawn[0] == drawn[1],
    }


def prepare(job: Job) -> dict[str, Any]:
    return {
        "networks": _networks(),
        "poses": _exact_poses(),
        "gradients": {kind: _exact_gradients(job, kind) for kind in KINDS},
    }


def run(job: Job, given: dict[str, Any]) -> None:
    for name, (network, x, wanted) in given["networks"].items():
        with job.guarded(f"answers {name}"):
            job.put(f"answers {name}", _network_errors(job, network, x, wanted))
    with job.guarded("recorded training"):
        job.put("recorded training", _recording(job))
    with job.guarded("shipped lifter, mm"):
        job.put("shipped lifter, mm", _lifter_errors(job, given["poses"]))
    for kind in KINDS:
        with job.guarded(f"gradients {kind}"):
            job.put(f"gradients {kind}", _against_float64(job, given["gradients"][kind]))
