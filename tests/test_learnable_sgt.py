import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import UsageError
from gridpose.lifting.learnable_sgt import (
    PRIORS,
    RANDOM_PRIOR,
    LearnableSGT,
    assign,
    prior_cells,
    prior_matrix,
)
from gridpose.lifting.network import LiftingNetwork, NetworkConfig, build_network

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
