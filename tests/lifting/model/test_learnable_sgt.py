import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import BONES, UsageError
from gridpose.lifting.model.learnable_sgt import (
    PRIORS,
    RANDOM_PRIOR,
    LearnableSGT,
    assign,
    prior_cells,
    prior_matrix,
)
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network

torch.set_num_threads(1)

NAMED = [name for name in PRIORS if name != RANDOM_PRIOR]
SHAPES = [(5, 5), (4, 7), (6, 6), (3, 6), (1, 17), (17, 1), (8, 3)]


@given(
    cells=st.integers(17, 40),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([1, 2, 3, 1000]),
)
@settings(max_examples=100, deadline=None)
def test_every_joint_keeps_a_cell(cells: int, seed: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (cells, 17), generator=generator).float()
    joints = assign(scores, keep_joints=True)
    assert sorted(set(joints.tolist())) == list(range(17))
    # Only cells that had to were taken from the joint they score highest.
    free = assign(scores, keep_joints=False)
    lost = 17 - len(set(free.tolist()))
    assert int((joints != free).sum()) == lost


def test_a_lost_joint_takes_the_cell_that_gives_up_least() -> None:
    scores = torch.eye(17).repeat(2, 1)[:20]
    scores[16] = 0  # the only cell of joint 16 now scores it no higher than others
    scores[16, 3] = 1
    scores[18, 16] = 0.9  # cell 18 scores joint 1, but joint 16 nearly as high
    joints = assign(scores, keep_joints=True)
    assert joints[18] == 16
    assert (joints == 16).sum() == 1


def test_a_gpu_gives_the_same_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [torch.randn(25, 17, generator=torch.Generator().manual_seed(n)) for n in range(20)]
    wanted = [assign(score, keep_joints=True) for score in scores]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for score, joints in zip(scores, wanted, strict=True):
        assert torch.equal(assign(score, keep_joints=True), joints)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prior", PRIORS)
def test_priors_of_any_shape(prior: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    sgt = LearnableSGT(shape, prior, keep_joints=True)
    assert sgt.sgt_trans_mat.shape == (1, shape[0] * shape[1], 17)
    torch.testing.assert_close(sgt.sgt_trans_mat.sum(-1), torch.ones(1, shape[0] * shape[1]))
    assert len(sgt.joint_of_cell().unique()) == 17


@pytest.mark.parametrize("shape", [(6, 6), (10, 10), (5, 9)])
@pytest.mark.parametrize("prior", ["standard", "learnt_type1"])
def test_larger_grids_keep_the_order_of_the_prior(prior: str, shape: tuple[int, int]) -> None:
    small, large = prior_cells(prior, (5, 5)), prior_cells(prior, shape)
    for joint in range(17):
        here, there = (
            (np.argwhere(cells == joint).mean(0) + 0.5) / cells.shape for cells in (small, large)
        )
        np.testing.assert_allclose(here, there, atol=0.16)


def test_a_random_prior_depends_on_the_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return prior_matrix(RANDOM_PRIOR, (5, 5))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"prior": "best"}, "standard, learnt_type1"), ({"grid_shape": (4, 4)}, "at least 17 cells")],
)
def test_impossible_grids_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NetworkConfig("dgridconv_autogrids", **values)  # type: ignore[arg-type]


def trained(prior: str, steps: int, *, keep_joints: bool = True) -> LiftingNetwork:
    torch.manual_seed(0)
    network = build_network(
        NetworkConfig(
            "dgridconv_autogrids", hidden=16, blocks=1, prior=prior, keep_joints=keep_joints
        )
    ).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    poses = torch.randn(64, 17, 3)
    for _ in range(steps):
        loss = (network(poses[..., :2]) - poses).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in network.parameters())
        assert norm < 1e3
        optimizer.step()
    return network


@pytest.mark.parametrize("prior", ["standard", "learnt_type3", RANDOM_PRIOR])
def test_the_grid_learns_and_loses_no_joint(prior: str) -> None:
    before, after = (trained(prior, steps).sgt_layer for steps in (0, 60))
    assert before is not None
    assert after is not None
    assert (after.sgt_trans_mat - before.sgt_trans_mat).abs().mean() > 0.05
    assert not torch.equal(after.joint_of_cell(), before.joint_of_cell())
    assert len(after.joint_of_cell().unique()) == 17


def test_a_joint_without_a_cell_makes_no_huge_gradients() -> None:
    """The published rule divides by 1e-8 there."""
    network = trained("learnt_type3", 5, keep_joints=False)
    network.eval()
    assert not network(torch.randn(3, 17, 2))[:, 0].any()


def test_hard_in_eval_and_straight_through_in_training() -> None:
    torch.manual_seed(0)
    sgt = LearnableSGT((5, 5), RANDOM_PRIOR, keep_joints=True)
    to_grid, to_joints = sgt.train()()
    assert to_grid.requires_grad
    soft_to_grid, soft_to_joints = to_grid.detach(), to_joints.detach()
    to_grid, to_joints = sgt.eval()()
    assert not to_grid.requires_grad
    assert set(to_grid.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(to_joints.sum(1), torch.ones(17))
    # What training computes with are the same numbers.
    torch.testing.assert_close(soft_to_grid, to_grid)
    torch.testing.assert_close(soft_to_joints, to_joints)


def test_each_joint_comes_back_from_its_cells() -> None:
    sgt = LearnableSGT((5, 5), "learnt_type2", keep_joints=True).eval()
    to_grid, to_joints = sgt()
    poses = torch.randn(4, 17, 3)
    torch.testing.assert_close(to_joints @ (to_grid @ poses), poses)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("standard", "7 7 7 7 7  0 8 8 8 0  4 11 9 14 1  5 12 9 15 2  6 13 10 16 3"),
        ("learnt_type1", "7 4 7 1 0  0 8 8 8 0  4 11 9 14 1  5 12 9 15 2  6 13 10 16 3"),
        ("learnt_type2", "0 15 7 1 0  1 14 8 7 0  4 0 9 13 1  2 6 11 10 2  5 12 14 16 3"),
        ("learnt_type3", "9 7 7 10 7  13 8 10 15 16  9 12 7 14 1  4 5 7 3 11  7 6 9 2 14"),
    ],
)
def test_priors_are_those_of_the_specification(name: str, cells: str) -> None:
    wanted = np.array(cells.split(), int).reshape(5, 5)
    np.testing.assert_array_equal(prior_cells(name, (5, 5)), wanted)
    sgt = LearnableSGT((5, 5), name, keep_joints=False)
    np.testing.assert_array_equal(sgt.joint_of_cell(), wanted)


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 20),
    prior=st.sampled_from([name for name in NAMED if name != "learnt_type3"]),
)
def test_every_prior_holds_every_joint_on_every_grid(height: int, width: int, prior: str) -> None:
    if height * width < 17:
        with pytest.raises(UsageError, match="at least 17 cells"):
            prior_matrix(prior, (height, width))
        return
    assert len(np.unique(prior_cells(prior, (height, width)))) == 17


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (3, 6), (6, 3), (2, 9), (1, 17), (17, 1)])
def test_neighbours_in_the_body_stay_close_on_other_grids(shape: tuple[int, int]) -> None:
    def distance(cells: np.ndarray) -> float:
        """Mean over the bones of the cells from one end to the nearest of the other."""
        places = [np.argwhere(cells == joint) for joint in range(17)]
        steps = [np.abs(places[a][:, None] - places[b]).max(-1).min() for a, b in BONES]
        return float(np.mean(steps))

    cells = prior_cells("standard", shape)
    random = np.random.default_rng(0)
    shuffled = [distance(random.permuted(cells.ravel()).reshape(shape)) for _ in range(30)]
    assert distance(cells) < 0.85 * np.mean(shuffled)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (6, 6), (9, 9)])
def test_limbs_run_down_the_grid_whatever_its_shape(shape: tuple[int, int]) -> None:
    cells = prior_cells("standard", shape)
    row = [np.argwhere(cells == joint)[:, 0].mean() for joint in range(17)]
    for upper, middle, lower in ((4, 5, 6), (1, 2, 3), (11, 12, 13), (14, 15, 16)):
        assert row[upper] <= row[middle] <= row[lower]
        assert row[upper] < row[lower]


@given(
    seed=st.integers(0, 1000),
    cells=st.integers(17, 30),
    extreme=st.sampled_from([3e38, 1e30, torch.inf, torch.nan]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    one_for_all=st.booleans(),
)
@settings(deadline=None)
def test_no_scores_cost_a_joint_its_cell(
    seed: int, cells: int, extreme: float, share: float, one_for_all: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(cells, 17, generator=generator).clamp(-1, 1)
    places = torch.rand(cells, 17, generator=generator) < share
    scores = torch.where(places, scores.sign() * extreme, scores)
    if one_for_all:
        scores[:, seed % 17] = torch.inf
    assert len(assign(scores, keep_joints=True).unique()) == 17


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("keep_joints", [True, False])
def test_training_sees_exactly_the_grid_of_eval(scale: float, keep_joints: bool) -> None:
    torch.manual_seed(0)
    sgt = LearnableSGT((5, 5), RANDOM_PRIOR, keep_joints=keep_joints)
    with torch.no_grad():
        sgt.sgt_trans_mat.mul_(scale)
    training = [matrix.detach() for matrix in sgt.train()()]
    for ours, wanted in zip(training, sgt.eval()(), strict=True):
        assert torch.equal(ours, wanted)


def test_the_published_division_explodes_where_a_joint_is_lost_and_ours_does_not() -> None:
    torch.manual_seed(0)
    sgt = LearnableSGT((5, 5), "learnt_type3", keep_joints=False).train()
    poses, target = torch.randn(8, 17, 3), torch.randn(8, 17, 3)

    def gradient(to_grid: torch.Tensor, to_joints: torch.Tensor) -> torch.Tensor:
        loss = (to_joints @ (to_grid @ poses) - target).square().mean()
        return torch.autograd.grad(loss, sgt.sgt_trans_mat, retain_graph=True)[0]

    to_grid, to_joints = sgt()
    published = to_grid.t() / (to_grid.sum(0) + 1e-8)[:, None]
    assert gradient(to_grid, published).norm() > 1e5
    assert gradient(to_grid, to_joints).norm() < 10
    # Joints that have cells learn the same.
    held = torch.arange(1, 17)
    torch.testing.assert_close(
        gradient(to_grid, to_joints)[..., held], gradient(to_grid, published)[..., held]
    )


def test_a_kept_joint_makes_every_gradient_sane_and_reaches_all_cells() -> None:
    torch.manual_seed(0)
    sgt = LearnableSGT((5, 5), "learnt_type3", keep_joints=True).train()
    to_grid, to_joints = sgt()
    poses = torch.randn(8, 17, 3)
    (to_joints @ (to_grid @ poses) - torch.randn(8, 17, 3)).square().mean().backward()
    assert sgt.sgt_trans_mat.grad is not None
    assert sgt.sgt_trans_mat.grad.norm() < 10
    assert (sgt.sgt_trans_mat.grad.abs().sum(2) > 0).all()
    assert (sgt.sgt_trans_mat.grad.abs().sum(1) > 0).all()


def test_soft_values_do_not_matter_in_eval() -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig("dgridconv_autogrids", hidden=16, blocks=0)).eval()
    poses = torch.randn(3, 17, 2)
    with torch.no_grad():
        before = network(poses)
        assert network.sgt_layer is not None
        network.sgt_layer.sgt_trans_mat.mul_(0.3).add_(0.1)  # the largest of a row stays so
        assert torch.equal(network(poses), before)
    network(poses).sum().backward()
    assert network.sgt_layer.sgt_trans_mat.grad is None


@pytest.mark.parametrize("prior", PRIORS)
def test_a_grid_has_the_precision_and_device_that_torch_is_set_to(prior: str) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert prior_matrix(prior, (5, 5)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert prior_matrix(prior, (5, 5)).is_meta
