"""Optimisers, the learning rate of each step, and BatchNorm's statistics anew."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from gridpose.core import MissingError
from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.synthesis.motion_capture import PoseBank
from gridpose.lifting.synthesis.poses import Synthesiser, SynthesisOptions
from gridpose.lifting.training.batches import DrawnPoses
from gridpose.lifting.training.hooks import measure_batch_norm
from gridpose.lifting.training.model import TrainingModel, joint_error
from gridpose.lifting.training.optimizers import MuonAdamW, build_optimizer, learning_rate
from gridpose.lifting.training.options import TrainOptions

torch.set_num_threads(1)

MOCAP = Path(__file__).parents[2] / "data" / "mocap_small.npz"
error_of = partial(joint_error, loss="sqrtl2")


@pytest.fixture(scope="module")
def draw() -> DrawnPoses:
    bank = PoseBank.from_files([MOCAP], torch.device("cpu"))
    return DrawnPoses(Synthesiser(bank, SynthesisOptions(), 0))


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkConfig(hidden=16, blocks=1, dropout=0.0, temperature=1.0))


def take_steps(network: nn.Module, optimizer: MuonAdamW, count: int) -> None:
    torch.manual_seed(1)
    for _ in range(count):
        inputs = torch.randn(8, 17, 2)
        network.zero_grad(set_to_none=True)
        (network.lift(inputs) - inputs.new_ones(8, 17, 3)).square().mean().backward()
        optimizer.step()


def test_training_lowers_the_error(draw: DrawnPoses) -> None:
    network = small_network()
    optimizer, errors = MuonAdamW(network, 5e-3), []
    for _ in range(40):
        error = error_of(network, **draw(64))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-5:]) < 0.7 * sum(errors[:5])


def test_half_precision_products_change_the_error_little(draw: DrawnPoses) -> None:
    network, batch = small_network(), draw(64)
    exact = error_of(network, **batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = error_of(network, **batch)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("kind", ["gridconv", "dgridconv", "dgridconv_autogrids"])
def test_every_weight_learns(kind: str) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(kind, hidden=32, blocks=1, dropout=0.0, temperature=1.0))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    take_steps(network, MuonAdamW(network, 1e-2), 3)
    for name, weight in network.named_parameters():
        assert not torch.equal(weight, before[name]), name


def test_a_step_of_a_matrix_is_orthogonal() -> None:
    layer = nn.Linear(32, 32)
    before = layer.weight.detach().clone()
    layer(torch.randn(64, 32)).square().sum().backward()
    MuonAdamW(layer, 1e-2, weight_decay=0.0).step()
    change = torch.linalg.svdvals(layer.weight.detach() - before)
    gradient = torch.linalg.svdvals(layer.weight.grad)
    # Nearly all directions change alike, however different their gradients are.
    assert change.quantile(0.9) < 2 * change.quantile(0.1)
    assert gradient.quantile(0.9) > 5 * gradient.quantile(0.1)
    assert change.square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2 * 32**0.5, rel=0.3)


def test_going_on_from_a_state_is_going_on() -> None:
    network = small_network()
    optimizer = MuonAdamW(network, 1e-2)
    take_steps(network, optimizer, 2)
    twin = small_network()
    twin.load_state_dict(network.state_dict())
    resumed = MuonAdamW(twin, 1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # else both would share it
    take_steps(network, optimizer, 2)
    take_steps(twin, resumed, 2)
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_gradient_of_a_matrix_is_forgotten_with_the_weights() -> None:
    network = small_network()
    optimizer = MuonAdamW(network, 1e-2)
    take_steps(network, optimizer, 1)
    optimizer.zero_grad()
    before = [weight.detach().clone() for weight in network.parameters()]
    optimizer.step()
    assert all(map(torch.equal, network.parameters(), before))


def test_an_older_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    options = TrainOptions(None, Path(), optimizer="muon")
    with pytest.raises(MissingError, match=r"`optimizer` muon needs torch 2\.9.*'torch>=2\.9'"):
        build_optimizer(options, small_network())


def test_the_rate_rises_stays_and_falls() -> None:
    options = TrainOptions(None, Path(), lr_schedule="trapezoid", warm_up=0.1, cool_down=0.5)
    rates = [learning_rate(options, 2.0, 0, progress / 100) for progress in range(101)]
    assert rates[0] == rates[100] == 0
    assert rates[5] == pytest.approx(1.0)
    assert set(rates[10:51]) == {2.0}
    assert rates[75] == pytest.approx(1.0)


def test_frozen_epochs_have_a_slope_of_their_own() -> None:
    options = TrainOptions(
        None, Path(), lr_schedule="trapezoid", warm_up=0, cool_down=0.5, epochs=10, frozen_epochs=2
    )
    rates = [learning_rate(options, 1.0, step // 10, step / 100) for step in range(101)]
    assert rates[0] == rates[40] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[79] == pytest.approx(0.025)
    assert rates[80] == pytest.approx(0.2)
    assert rates[90] == pytest.approx(0.1)
    assert rates[100] == 0


def test_batch_norm_follows_the_poses_it_is_shown(draw: DrawnPoses) -> None:
    network = small_network()
    network.batch_norm1.running_mean.fill_(100.0)
    batches = [draw(256) for _ in range(4)]
    model = TrainingModel(network, error_of)
    measure_batch_norm(model, batches)
    in_training = model(**batches[0])["loss"]
    in_use = model.eval()(**batches[0])["loss"]
    assert in_use.item() == pytest.approx(in_training.item(), rel=0.02)
    model.frozen = True
    torch.testing.assert_close(model.train()(**batches[0])["loss"], in_use)
    assert network.training
    assert network.batch_norm1.momentum == 0.1
