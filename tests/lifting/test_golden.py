"""The networks against numbers made by running the published code unchanged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.model.layers import PaddingModes
from gridpose.lifting.model.learnable_sgt import prior_cells
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.weights.published import read_published

torch.set_num_threads(1)

DATA = Path(__file__).parents[1] / "data"
AUTOGRIDS = dict(np.load(DATA / "golden_autogrids_cr.npz"))
DGRIDCONV = dict(np.load(DATA / "golden_dgridconv_cz.npz"))
GRID = "sgt_layer.sgt_trans_mat"
PADDING = {"autogrids_cr_soft": ("c", "r")}
NAMES = ["gridconv", "dgridconv_cz", "autogrids_cz", "autogrids_cz_type3", "autogrids_cr_soft"]


def autogrids(temperature: float = 1.0, dropout: float = 0.25) -> LiftingNetwork:
    config = NetworkConfig(
        "dgridconv_autogrids",
        hidden=16,
        padding_mode=("c", "r"),
        temperature=temperature,
        dropout=dropout,
        keep_joints=False,
    )
    network = build_network(config)
    state = {k[6:]: torch.from_numpy(v) for k, v in AUTOGRIDS.items() if k.startswith("state/")}
    network.load_state_dict(state)
    return network


def dgridconv(temperature: float = 1.0) -> LiftingNetwork:
    network = build_network(NetworkConfig(hidden=16, temperature=temperature))
    state = {k[6:]: torch.from_numpy(v) for k, v in DGRIDCONV.items() if k.startswith("state/")}
    network.load_state_dict(state)
    return network


def in_batches(network: LiftingNetwork, poses: Tensor, size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([network.lift(batch) for batch in torch.split(poses, size)])


@pytest.mark.parametrize("size", [1, 2, 3, 32])
@pytest.mark.parametrize(("temperature", "suffix"), [(1.0, ""), (30.0, "_T30")])
def test_learnable_grid_answers_as_the_published_code(
    temperature: float, suffix: str, size: int
) -> None:
    network = autogrids(temperature).eval()
    poses = torch.from_numpy(AUTOGRIDS["poses_2d"])
    wanted = AUTOGRIDS[f"poses_3d{suffix}"]
    np.testing.assert_allclose(in_batches(network, poses, size), wanted, rtol=0, atol=1e-4)
    # With gradients the layers take another way.
    with torch.enable_grad():
        np.testing.assert_allclose(network(poses).detach(), wanted, rtol=0, atol=1e-4)
    assert network.sgt_layer is not None
    cells = network.sgt_layer.joint_of_cell().flatten()
    np.testing.assert_array_equal(cells, AUTOGRIDS["sgt_argmax"])


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_static_network_answers_as_the_published_code(size: int) -> None:
    lifter = load_lifter(DATA / "published_gridconv.pth.tar")
    golden = np.load(DATA / "published_gridconv.npz")
    poses = torch.from_numpy(golden["poses_2d"]).float()
    answer = in_batches(lifter.network, poses, size)
    np.testing.assert_allclose(answer, golden["poses_3d"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 32])
@pytest.mark.parametrize("name", NAMES)
def test_every_published_network(shared: Path, name: str, size: int) -> None:
    golden = np.load(shared / f"golden/{name}.npz")
    poses = torch.from_numpy(golden["poses_2d"]).float()
    for suffix, temperature in (("", 1.0), ("_T30", 30.0)):
        if f"poses_3d{suffix}" not in golden:
            continue
        lifter = load_lifter(
            shared / f"golden/{name}.pth.tar",
            padding_mode=PADDING.get(name, ("c", "z")),
            temperature=temperature,
        )
        answer = in_batches(lifter.network, poses, size)
        np.testing.assert_allclose(answer, golden[f"poses_3d{suffix}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 32])
def test_a_grid_that_is_not_square(shared: Path, size: int) -> None:
    golden = np.load(shared / "golden/dgridconv_cz_4x7.npz")
    file = shared / "golden/dgridconv_cz_4x7.pth.tar"
    for suffix, temperature in (("", 1.0), ("_T30", 30.0)):
        network = read_published(
            file, padding_mode=("c", "z"), temperature=temperature, grid_shape=(4, 7)
        )[0].build()
        grids = torch.split(torch.from_numpy(golden["grid_in"]), size)
        with torch.no_grad():
            answer = torch.cat([network(grid) for grid in grids])
        np.testing.assert_allclose(answer, golden[f"grid_out{suffix}"], rtol=0, atol=1e-4)


def test_a_published_grid_may_lack_a_joint_which_is_then_zero(shared: Path) -> None:
    lifter = load_lifter(shared / "golden/autogrids_cz_type3.pth.tar", padding_mode=("c", "z"))
    poses = lifter.lift_normalized(np.load(shared / "golden/autogrids_cz_type3.npz")["poses_2d"])
    assert not poses[:, 0].any()
    assert poses[:, 1:].any(axis=(0, 2)).all()


def before_a_batch_norm(name: str) -> bool:
    """Biases whose true gradient is 0: what is computed is rounding."""
    return name.endswith(("_conv.bias", "branch1_bias", "branch2_bias"))


@pytest.mark.parametrize("kind", ["gridconv", "autogrids"])
def test_one_step_of_training(kind: str) -> None:
    golden = np.load(DATA / f"golden_train_{kind}.npz")
    if kind == "gridconv":
        checkpoint, _ = read_published(DATA / "published_gridconv.pth.tar")
        network = build_network(NetworkConfig("gridconv", hidden=16, dropout=0.0))
        network.load_state_dict(checkpoint.state)
    else:
        network = autogrids(dropout=0.0)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    out = network(torch.from_numpy(golden["input"]))
    loss = F.mse_loss(out, torch.from_numpy(golden["target"]))
    loss.backward()
    optimizer.step()

    np.testing.assert_allclose(out.detach(), golden["output"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(loss.item(), golden["loss"], rtol=1e-5)
    after = network.state_dict()
    gradients = {name: value.grad for name, value in network.named_parameters()}
    compared = {"grad": 0, "norm": 0, "after": 0}
    for key in golden:
        what, _, name = key.partition("/")
        if what not in compared or before_a_batch_norm(name):
            continue
        compared[what] += 1
        if what == "after":
            if name == GRID:  # Adam makes the same step of any gradient
                continue
            np.testing.assert_allclose(after[name], golden[key], rtol=1e-5, atol=2e-5)
            continue
        gradient = gradients[name]
        assert gradient is not None
        if name == GRID:
            # The published code divides by 1e-8 for a joint without a cell; ours stays sane.
            held = np.unique(AUTOGRIDS["sgt_argmax"])
            lost = np.setdiff1d(np.arange(17), held)
            assert len(lost) == 3
            if what == "grad":
                wanted = golden[key][..., held]
                scale = np.abs(wanted).max()
                np.testing.assert_allclose(gradient[..., held], wanted, atol=1e-3 * scale)
                assert np.abs(golden[key][..., lost]).max() > 1e6
                assert gradient[..., lost].abs().max() < 10 * scale
        elif what == "norm":
            np.testing.assert_allclose(gradient.norm(), golden[key], rtol=1e-3)
        else:
            scale = np.abs(golden[key]).max()
            np.testing.assert_allclose(gradient, golden[key], rtol=0, atol=1e-3 * scale)
    assert min(compared.values()) >= 10
    assert (f"grad/{GRID}" in golden) == (kind == "autogrids")


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("gridconv", 4_746_752), ("dgridconv", 4_790_406), ("dgridconv_autogrids", 4_790_831)],
)
def test_names_shapes_and_number_of_parameters(kind: str, parameters: int) -> None:
    network = build_network(NetworkConfig(kind, hidden=256, blocks=2))  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    wanted = (DATA / f"state_dict_keys_{kind}.txt").read_text().splitlines()
    state = network.state_dict()
    found = [f"{name} {tuple(value.shape)} {value.dtype}" for name, value in state.items()]
    assert sorted(found) == sorted(line for line in wanted if line)


def test_the_standard_prior_is_the_published_one() -> None:
    wanted = [[7] * 5, [0, 8, 8, 8, 0], [4, 11, 9, 14, 1], [5, 12, 9, 15, 2], [6, 13, 10, 16, 3]]
    assert prior_cells("standard", (5, 5)).tolist() == wanted


# 97 poses make a chunk of 64 and a rest; one and two go another way than three.
@pytest.mark.parametrize("size", [1, 2, 3, 97])
@pytest.mark.parametrize(("temperature", "suffix"), [(1.0, ""), (30.0, "_T30")])
def test_dynamic_network_answers_as_the_published_code(
    temperature: float, suffix: str, size: int
) -> None:
    network = dgridconv(temperature).eval()
    grids = torch.from_numpy(DGRIDCONV["grid_in"]).repeat(4, 1, 1, 1)[:97]
    wanted = torch.from_numpy(DGRIDCONV[f"grid_out{suffix}"]).repeat(4, 1, 1, 1)[:97]
    with torch.no_grad():
        answer = torch.cat([network(batch) for batch in grids.split(size)])
    torch.testing.assert_close(answer, wanted, rtol=0, atol=1e-4)
    with torch.enable_grad():
        torch.testing.assert_close(network(grids).detach(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["gridconv", "autogrids"])
def test_chunks_answer_as_the_published_code(kind: str) -> None:
    if kind == "gridconv":
        golden = dict(np.load(DATA / "published_gridconv.npz"))
        network = load_lifter(DATA / "published_gridconv.pth.tar").network
    else:
        golden, network = AUTOGRIDS, autogrids().eval()
    poses = torch.from_numpy(golden["poses_2d"]).float().repeat(4, 1, 1)[:97]
    wanted = np.tile(golden["poses_3d"], (4, 1, 1))[:97]
    np.testing.assert_allclose(in_batches(network, poses, 97), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("step", "file", "padding"),
    [
        ("gridconv", "gridconv", ("c", "z")),
        ("dgridconv_cz", "dgridconv_cz", ("c", "z")),
        ("autogrids_cr_soft_istraining", "autogrids_cr_soft", ("c", "r")),
    ],
)
def test_a_step_of_training_in_full(
    shared: Path, step: str, file: str, padding: PaddingModes
) -> None:
    """Every gradient, every parameter after Adam, every running statistic."""
    golden = dict(np.load(shared / f"golden/train_{step}.npz"))
    checkpoint, _ = read_published(
        shared / f"golden/{file}.pth.tar", padding_mode=padding, temperature=1.0
    )
    network = build_network(replace(checkpoint.network, dropout=0.0)).train()
    network.load_state_dict(checkpoint.state)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    out = network(torch.from_numpy(golden["input"]))
    loss = F.mse_loss(out, torch.from_numpy(golden["target"]))
    loss.backward()
    optimizer.step()

    np.testing.assert_allclose(out.detach(), golden["output"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(loss.item(), golden["loss"], rtol=1e-5)
    gradients = {name: value.grad for name, value in network.named_parameters()}
    state = network.state_dict()
    given = {key[5:] for key in golden if key.startswith("grad/")}
    assert given == {name for name, value in gradients.items() if value is not None}
    for name in given - {GRID}:
        if before_a_batch_norm(name):
            continue
        wanted = golden[f"grad/{name}"]
        error = np.linalg.norm(gradients[name] - wanted) / np.linalg.norm(wanted)
        assert error < 1e-3, name
        # Adam's first step is the gradient's sign: where that is rounding, so is the step.
        sure = np.abs(wanted) > 1e-4 * np.abs(wanted).max()
        after = state[name].numpy()
        np.testing.assert_allclose(after[sure], golden[f"after/{name}"][sure], rtol=0, atol=2e-5)
    for name in state.keys() - gradients.keys():
        if name.endswith("_mean") or name.endswith("_var") or name.endswith("_tracked"):
            np.testing.assert_allclose(state[name], golden[f"after/{name}"], rtol=1e-5, atol=1e-5)
