"""The optimiser, schedule and loss of trainings on synthetic poses."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from gridpose.lifting.network import NetworkConfig, build_network
from gridpose.lifting.synthesis.poses import PoseBank, Synthesiser, SynthesisOptions
from gridpose.lifting.training.recipe import (
    MuonAdamW,
    learning_rate,
    lift_error,
    refresh_batch_norm,
)

torch.set_num_threads(1)

MOCAP = Path(__file__).parent / "data" / "mocap_small.npz"


def synthesiser() -> Synthesiser:
    bank = PoseBank.from_files([MOCAP], torch.device("cpu"))
    return Synthesiser(bank, SynthesisOptions(), 0)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkConfig(hidden=16, blocks=1, dropout=0.0, temperature=1.0))


def take_steps(network: nn.Module, optimizer: MuonAdamW, count: int) -> None:
    torch.manual_seed(1)
    for _ in range(count):
        inputs = torch.randn(8, 17, 2)
        network.zero_grad(set_to_none=True)
        (network.lift(inputs) - inputs.new_ones(8, 17, 3)).square().mean().backward()
        optimizer.step(1e-2)


def test_training_lowers_the_error() -> None:
    network, drawn_by = small_network(), synthesiser()
    optimizer, errors = MuonAdamW(network), []
    for _ in range(40):
        error = lift_error(network, drawn_by.batch(64), None)
        network.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step(5e-3)
        errors.append(error.item())
    assert sum(errors[-5:]) < 0.7 * sum(errors[:5])


def test_half_precision_products_change_the_error_little() -> None:
    network, batch = small_network(), synthesiser().batch(64)
    exact = lift_error(network, batch, None)
    rough = lift_error(network, batch, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("kind", ["gridconv", "dgridconv", "dgridconv_autogrids"])
def test_every_weight_learns(kind: str) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(kind, hidden=32, blocks=1, dropout=0.0, temperature=1.0))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    take_steps(network, MuonAdamW(network), 3)
    for name, weight in network.named_parameters():
        assert not torch.equal(weight, before[name]), name


def test_a_step_of_a_matrix_is_orthogonal() -> None:
    layer = nn.Linear(32, 32)
    before = layer.weight.detach().clone()
    layer(torch.randn(64, 32)).square().sum().backward()
    MuonAdamW(layer, weight_decay=0.0).step(1e-2)
    change = torch.linalg.svdvals(layer.weight.detach() - before)
    gradient = torch.linalg.svdvals(layer.weight.grad)
    # Nearly all directions change alike, however different their gradients are.
    assert change.quantile(0.9) < 2 * change.quantile(0.1)
    assert gradient.quantile(0.9) > 5 * gradient.quantile(0.1)
    assert change.square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2 * 32**0.5, rel=0.3)


def test_going_on_from_a_state_is_going_on() -> None:
    network = small_network()
    optimizer = MuonAdamW(network)
    take_steps(network, optimizer, 2)
    twin = small_network()
    twin.load_state_dict(network.state_dict())
    resumed = MuonAdamW(twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # else both would share it
    take_steps(network, optimizer, 2)
    take_steps(twin, resumed, 2)
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(progress / 100, 2.0, 0.1, 0.5) for progress in range(101)]
    assert rates[0] == rates[100] == 0
    assert rates[5] == pytest.approx(1.0)
    assert set(rates[10:51]) == {2.0}
    assert rates[75] == pytest.approx(1.0)


def test_batch_norm_follows_the_poses_it_is_shown() -> None:
    network, drawn_by = small_network(), synthesiser()
    network.batch_norm1.running_mean.fill_(100.0)
    batches = [drawn_by.batch(256) for _ in range(4)]
    refresh_batch_norm(network, batches)
    assert not network.training
    in_use = lift_error(network, batches[0], None)
    in_training = lift_error(network.train(), batches[0], None)
    assert in_use.item() == pytest.approx(in_training.item(), rel=0.02)
