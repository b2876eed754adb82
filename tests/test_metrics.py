from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gridpose.lifting import mpjpe, pa_mpjpe
from gridpose.lifting.metrics import procrustes_align

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "golden_metrics.npz"))

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)


def pose_pair(seed: int, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 17, 3)), rng.normal(size=(count, 17, 3))


def similarity(seed: int, poses: np.ndarray) -> np.ndarray:
    """Each pose turned, scaled and moved in its own way."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(len(poses), random_state=rng).as_matrix()
    scale = np.exp(rng.uniform(-2, 2, (len(poses), 1, 1)))
    return scale * poses @ rotation.transpose(0, 2, 1) + rng.normal(size=(len(poses), 1, 3))


def sample(index: int) -> int:
    """Row of a sample of the published set in the part of it that is kept here."""
    (row,) = np.flatnonzero(GOLDEN["index"] == index)
    return int(row)


def test_mpjpe_of_the_published_code() -> None:
    actual = 1000 * mpjpe(GOLDEN["predicted"], GOLDEN["target"])
    np.testing.assert_allclose(actual, GOLDEN["mpjpe_mm"], rtol=0, atol=1e-3)


def test_pa_mpjpe_of_the_published_code() -> None:
    actual = 1000 * pa_mpjpe(GOLDEN["predicted"], GOLDEN["target"])
    np.testing.assert_allclose(actual, GOLDEN["pa_mpjpe_mm"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("index", "what"), [(10, "depth mirror"), (11, "side mirror"), (15, "point reflection")]
)
def test_reflected_samples_keep_an_error(index: int, what: str) -> None:
    row = slice(sample(index), sample(index) + 1)
    error = pa_mpjpe(GOLDEN["predicted"][row], GOLDEN["target"][row])
    assert error[0] > 0.05, what


def test_mpjpe_counts_the_hip_and_does_not_centre() -> None:
    target = np.zeros((1, 17, 3))
    moved = target + np.array((3.0, 0.0, 4.0))
    only_hip = target.copy()
    only_hip[0, 0] = (0.0, 17.0, 0.0)
    np.testing.assert_allclose(mpjpe(moved, target), [5.0])
    np.testing.assert_allclose(mpjpe(only_hip, target), [1.0])


@quick
@given(seeds, seeds)
def test_a_similarity_transform_leaves_no_pa_error(seed: int, transform: int) -> None:
    target, _ = pose_pair(seed)
    assert pa_mpjpe(similarity(transform, target), target).max() < 1e-9


@quick
@given(seeds, seeds)
def test_pa_error_ignores_how_the_prediction_is_placed(seed: int, transform: int) -> None:
    predicted, target = pose_pair(seed)
    np.testing.assert_allclose(
        pa_mpjpe(similarity(transform, predicted), target), pa_mpjpe(predicted, target), rtol=1e-9
    )


@quick
@given(seeds)
def test_alignment_is_that_of_an_independent_solver(seed: int) -> None:
    predicted, target = pose_pair(seed, count=1)
    a = predicted[0] - predicted[0].mean(0)
    b = target[0] - target[0].mean(0)
    turned = Rotation.align_vectors(b, a)[0].apply(a)
    scale = (turned * b).sum() / (a**2).sum()
    expected = scale * turned + target[0].mean(0)
    np.testing.assert_allclose(procrustes_align(predicted, target)[0], expected, atol=1e-6)


@quick
@given(seeds, st.integers(0, 2))
def test_a_mirrored_pose_stays_wrong(seed: int, axis: int) -> None:
    target, _ = pose_pair(seed)
    mirrored = target.copy()
    mirrored[..., axis] *= -1
    assert pa_mpjpe(mirrored, target).min() > 0.05


@quick
@given(seeds)
def test_poses_do_not_influence_each_other(seed: int) -> None:
    predicted, target = pose_pair(seed)
    for measure in (mpjpe, pa_mpjpe):
        alone = [measure(p[None], t[None])[0] for p, t in zip(predicted, target, strict=True)]
        np.testing.assert_allclose(measure(predicted, target), alone, rtol=1e-12)


@pytest.mark.parametrize("place", [0.0, 0.3])
def test_a_collapsed_prediction_is_moved_to_the_mean_of_the_target(place: float) -> None:
    _, target = pose_pair(0)
    collapsed = np.full((3, 17, 3), place)
    expected = np.linalg.norm(target - target.mean(1, keepdims=True), axis=-1).mean(1)
    np.testing.assert_allclose(pa_mpjpe(collapsed, target), expected, rtol=1e-9)


def test_a_collapsed_target_gives_a_finite_error() -> None:
    predicted, _ = pose_pair(0)
    np.testing.assert_allclose(pa_mpjpe(predicted, np.full((3, 17, 3), 0.3)), 0, atol=1e-9)


@pytest.mark.parametrize("flatten", ["prediction", "both"])
def test_planar_poses_give_a_finite_error_below_the_plain_one(flatten: str) -> None:
    predicted, target = pose_pair(0)
    predicted[..., 2] = 0
    if flatten == "both":
        target[..., 2] = 0
    centred = target - target.mean(1, keepdims=True)
    aligned = procrustes_align(predicted, target) - target.mean(1, keepdims=True)
    assert np.isfinite(aligned).all()
    # The best similarity transform is at least as good as shrinking to a point.
    assert (((aligned - centred) ** 2).sum((1, 2)) <= (centred**2).sum((1, 2))).all()


def test_no_poses_give_no_errors() -> None:
    nothing = np.empty((0, 17, 3))
    assert mpjpe(nothing, nothing).shape == pa_mpjpe(nothing, nothing).shape == (0,)


@pytest.mark.parametrize("measure", [mpjpe, pa_mpjpe, procrustes_align])
@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 17, 3), (1, 17, 3)), ((17, 3), (17, 3)), ((2, 17, 2), (2, 17, 2)), ((2, 51), (2, 51))],
)
def test_other_shapes_are_refused(measure, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, J, 3\)"):
        measure(np.zeros(first), np.zeros(second))
