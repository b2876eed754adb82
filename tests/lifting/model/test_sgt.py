from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gridpose.lifting import inverse_semantic_grid_transform, semantic_grid_transform
from gridpose.lifting.model.sgt import sgt_matrices

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

DATA = Path(__file__).parents[2] / "data"

# The layout as the paper's code has it, written down anew: joints of each cell.
LAYOUT = [
    [[7], [7], [7], [7], [7]],
    [[0], [8], [8], [8], [0]],
    [[1], [14], [8, 9], [11], [4]],
    [[2], [15], [9], [12], [5]],
    [[3], [16], [10], [13], [6]],
]
# Where each joint is read from on the way back.
READ_FROM = {
    0: [(1, 0), (1, 4)],
    1: [(2, 0)],
    2: [(3, 0)],
    3: [(4, 0)],
    4: [(2, 4)],
    5: [(3, 4)],
    6: [(4, 4)],
    7: [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)],
    8: [(1, 1), (1, 2), (1, 3)],
    9: [(3, 2)],
    10: [(4, 2)],
    11: [(2, 3)],
    12: [(3, 3)],
    13: [(4, 3)],
    14: [(2, 1)],
    15: [(3, 1)],
    16: [(4, 1)],
}

coordinates = st.floats(-1e3, 1e3, allow_subnormal=False)
poses_2d_or_3d = st.tuples(st.integers(0, 4), st.just(17), st.integers(1, 3)).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=coordinates)
)
grids = st.tuples(st.integers(0, 3), st.integers(1, 3), st.just(5), st.just(5)).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=coordinates)
)


def random_poses(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("column", range(5))
def test_every_cell_holds_its_joints(row: int, column: int) -> None:
    poses = random_poses(3, 17, 2)
    expected = np.mean([poses[:, joint] for joint in LAYOUT[row][column]], axis=0)
    actual = semantic_grid_transform(poses)[:, :, row, column]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("joint", range(17))
def test_every_joint_is_the_mean_of_the_cells_it_is_read_from(joint: int) -> None:
    grid = random_poses(3, 2, 5, 5)
    expected = np.mean([grid[:, :, row, column] for row, column in READ_FROM[joint]], axis=0)
    actual = inverse_semantic_grid_transform(grid)[:, joint]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


def test_numbers_of_the_published_code() -> None:
    golden = np.load(DATA / "golden_sgt.npz")
    grid = semantic_grid_transform(golden["poses"])
    np.testing.assert_allclose(grid, golden["grid"], rtol=0, atol=1e-12)
    back = inverse_semantic_grid_transform(golden["grid"])
    np.testing.assert_allclose(back, golden["roundtrip"], rtol=0, atol=1e-12)
    inverse = inverse_semantic_grid_transform(golden["random_grid"])
    np.testing.assert_allclose(inverse, golden["random_grid_inverse"], rtol=0, atol=1e-12)


@given(poses_2d_or_3d)
@settings(max_examples=40, deadline=None)
def test_a_pose_survives_the_way_to_the_grid_and_back(poses: np.ndarray) -> None:
    back = inverse_semantic_grid_transform(semantic_grid_transform(poses))
    np.testing.assert_allclose(back, poses, rtol=1e-12, atol=1e-9)


@given(grids)
@settings(max_examples=40, deadline=None)
def test_the_way_from_the_grid_and_back_is_a_projection(grid: np.ndarray) -> None:
    once = semantic_grid_transform(inverse_semantic_grid_transform(grid))
    twice = semantic_grid_transform(inverse_semantic_grid_transform(once))
    np.testing.assert_allclose(twice, once, rtol=1e-12, atol=1e-9)


@given(poses_2d_or_3d)
@settings(max_examples=40, deadline=None)
def test_numpy_and_torch_agree_on_the_grid(poses: np.ndarray) -> None:
    grid = semantic_grid_transform(torch.from_numpy(poses))
    np.testing.assert_allclose(grid, semantic_grid_transform(poses), rtol=1e-12, atol=1e-12)


@given(grids)
@settings(max_examples=40, deadline=None)
def test_numpy_and_torch_agree_on_the_way_back(grid: np.ndarray) -> None:
    back = inverse_semantic_grid_transform(torch.from_numpy(grid))
    expected = inverse_semantic_grid_transform(grid)
    np.testing.assert_allclose(back, expected, rtol=1e-12, atol=1e-12)


@given(poses_2d_or_3d, st.floats(-10, 10), st.floats(-100, 100))
@settings(max_examples=40, deadline=None)
def test_scaling_and_shifting_commute_with_the_transform(
    poses: np.ndarray, scale: float, shift: float
) -> None:
    expected = scale * semantic_grid_transform(poses) + shift
    actual = semantic_grid_transform(scale * poses + shift)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_keeps_the_dtype(dtype: type) -> None:
    grid = semantic_grid_transform(random_poses(2, 17, 3).astype(dtype))
    assert isinstance(grid, np.ndarray)
    assert grid.dtype == dtype
    assert inverse_semantic_grid_transform(grid).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_keeps_the_dtype(dtype: torch.dtype) -> None:
    grid = semantic_grid_transform(torch.from_numpy(random_poses(2, 17, 3)).to(dtype))
    assert grid.dtype == dtype
    assert inverse_semantic_grid_transform(grid).dtype == dtype


@pytest.mark.parametrize("shape", [(17, 3), (2, 16, 3), (2, 3, 17), (1, 2, 17, 3)])
@pytest.mark.parametrize("as_torch", [False, True])
def test_other_pose_shapes_are_refused(shape: tuple[int, ...], as_torch: bool) -> None:
    poses = np.zeros(shape)
    with pytest.raises(ValueError, match=r"\(N, 17, C\)"):
        semantic_grid_transform(torch.from_numpy(poses) if as_torch else poses)


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 3, 25), (2, 3, 5, 4), (2, 5, 5, 3)])
@pytest.mark.parametrize("as_torch", [False, True])
def test_other_grid_shapes_are_refused(shape: tuple[int, ...], as_torch: bool) -> None:
    grid = np.zeros(shape)
    with pytest.raises(ValueError, match=r"\(N, C, 5, 5\)"):
        inverse_semantic_grid_transform(torch.from_numpy(grid) if as_torch else grid)


def test_gradients_flow_both_ways_even_after_use_in_inference_mode() -> None:
    # The matrices are cached: they must not be born as inference tensors.
    sgt_matrices.cache_clear()
    with torch.inference_mode():
        inverse_semantic_grid_transform(semantic_grid_transform(torch.zeros(1, 17, 2)))
    poses = torch.zeros(1, 17, 2, requires_grad=True)
    inverse_semantic_grid_transform(semantic_grid_transform(poses)).sum().backward()
    # The way there and back is the identity, so is its gradient.
    torch.testing.assert_close(poses.grad, torch.ones(1, 17, 2))
