from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gridpose.lifting import mpjpe, pa_mpjpe
from gridpose.lifting.metrics import (
    aligned_joint_errors,
    auc,
    axis_errors,
    joint_errors,
    mpjve,
    pck,
    procrustes_align,
    velocity_errors,
)
from gridpose.lifting.procrustes import CHUNK, nearest_rotations

GOLDEN = dict(np.load(Path(__file__).parents[1] / "data" / "golden_metrics.npz"))

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


MEASURES = [
    *(mpjpe, pa_mpjpe, procrustes_align),
    *(joint_errors, aligned_joint_errors, axis_errors, velocity_errors),
]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 17, 3), (1, 17, 3)), ((17, 3), (17, 3)), ((2, 17, 2), (2, 17, 2)), ((2, 51), (2, 51))],
)
def test_other_shapes_are_refused(measure, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, J, 3\)"):
        measure(np.zeros(first), np.zeros(second))


@pytest.mark.parametrize("measure", MEASURES)
def test_poses_without_joints_are_refused(measure) -> None:
    with pytest.raises(ValueError, match="without joints"):
        measure(np.zeros((2, 0, 3)), np.zeros((2, 0, 3)))


def textbook_alignment(pose: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Umeyama's formulas for one pose, with the library's decomposition."""
    a, b = pose - pose.mean(0), wanted - wanted.mean(0)
    u, singular, vt = np.linalg.svd(a.T @ b)
    sign = np.diag([1, 1, np.linalg.det(u @ vt)])
    scale = np.trace(np.diag(singular) @ sign) / (a**2).sum()
    return scale * a @ (u @ sign @ vt) + wanted.mean(0)


@quick
@given(seeds, st.tuples(*[st.floats(-6, 0)] * 3), st.floats(-20, 20), st.booleans())
def test_alignment_is_exact_in_every_shape_and_unit(
    seed: int, thinness: tuple[float, float, float], unit: float, mirrored: bool
) -> None:
    """Round, flat and thin bodies, in kilometres or nanometres."""
    predicted, target = pose_pair(seed)
    factors = 10 ** np.array(thinness) * [-1 if mirrored else 1, 1, 1]
    predicted, target = predicted * factors * 10**unit, target * factors
    expected = [textbook_alignment(p, t) for p, t in zip(predicted, target, strict=True)]
    size = np.abs(target).max()
    # A thin body's rotation round itself is as uncertain as the body is thin.
    conditioning = 10 ** (max(thinness) - sorted(thinness)[1])
    np.testing.assert_allclose(
        procrustes_align(predicted, target), expected, rtol=0, atol=1e-13 * size * conditioning
    )


@quick
@given(seeds, st.tuples(*[st.floats(-18, 0)] * 3))
def test_nearest_rotations_are_proper_and_gain_what_the_singular_values_say(
    seed: int, exponents: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(seed)
    left, right = (Rotation.random(8, random_state=rng).as_matrix() for _ in range(2))
    singular = 10 ** np.array(exponents) * np.where(rng.random((8, 3)) < 0.5, -1, 1)
    matrices = left * singular[:, None] @ right
    rotations, gains = nearest_rotations(matrices)
    identity = rotations @ rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(identity, np.tile(np.eye(3), (8, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)
    size = np.abs(singular).max()
    np.testing.assert_allclose(
        np.einsum("nij,nij->n", rotations, matrices), gains, rtol=0, atol=1e-13 * size
    )
    ordered = np.sort(np.abs(singular), axis=1)
    best = ordered[:, 1:].sum(1) + np.sign(np.prod(singular, axis=1)) * ordered[:, 0]
    np.testing.assert_allclose(gains, best, rtol=0, atol=1e-12 * size)


def test_rotations_of_what_has_no_direction() -> None:
    point = np.zeros((1, 3, 3))
    line = np.zeros((1, 3, 3))
    line[0, 1, 2] = -3.0
    for matrix, gain in ((point, 0.0), (line, 3.0)):
        rotations, gains = nearest_rotations(matrix)
        np.testing.assert_allclose(rotations[0] @ rotations[0].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotations[0]) == pytest.approx(1)
        assert gains[0] == pytest.approx(gain)


def test_equal_singular_values_and_whole_turns() -> None:
    turns = Rotation.from_euler("xyz", [[180, 0, 0], [0, 180, 0], [90, 0, 0], [0, 0, 0]], True)
    rotations, gains = nearest_rotations(2 * turns.as_matrix())
    np.testing.assert_allclose(rotations, turns.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(gains, 6)


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_errors_at_the_borders_of_chunks(count: int) -> None:
    rng = np.random.default_rng(count)
    target = rng.normal(size=(count, 17, 3)).astype(np.float32)
    predicted = (target + rng.normal(size=target.shape) / 10).astype(np.float32)
    for row in {0, count // 2, count - 1}:
        a, b = predicted[row].astype(float), target[row].astype(float)
        distance = np.linalg.norm(a - b, axis=1)
        aligned = np.linalg.norm(textbook_alignment(a, b) - b, axis=1)
        np.testing.assert_allclose(joint_errors(predicted, target)[row], distance, rtol=1e-12)
        np.testing.assert_allclose(aligned_joint_errors(predicted, target)[row], aligned, rtol=1e-9)
        np.testing.assert_allclose(axis_errors(predicted, target)[row], np.abs(a - b).mean(0))
    assert len(pa_mpjpe(predicted, target)) == len(mpjpe(predicted, target)) == count


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_spoils_its_own_pose_only(bad: float) -> None:
    predicted, target = pose_pair(0)
    expected = pa_mpjpe(predicted, target), mpjpe(predicted, target)
    predicted[1, 5, 2] = bad
    errors = pa_mpjpe(predicted, target), mpjpe(predicted, target)
    for found, wanted in zip(errors, expected, strict=True):
        assert not np.isfinite(found[1])
        np.testing.assert_allclose(found[[0, 2]], wanted[[0, 2]], rtol=1e-12)


def test_the_arguments_stay_as_they_are() -> None:
    predicted, target = pose_pair(0)
    before = predicted.copy(), target.copy()
    for measure in MEASURES:
        measure(predicted, target)
    np.testing.assert_array_equal((predicted, target), before)


def test_pck_asks_for_less_than_the_threshold() -> None:
    errors = [[0.0, 149.9, 150.0, 150.1], [10, 20, 30, np.nan]]
    np.testing.assert_array_equal(pck(errors, 150), [0.5, np.nan])


@quick
@given(seeds)
def test_auc_is_the_mean_of_the_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = np.concatenate((rng.uniform(0, 200, (3, 17)), rng.integers(0, 40, (3, 17)) * 5.0))
    curve = [pck(errors, threshold) for threshold in range(0, 151, 5)]
    np.testing.assert_allclose(auc(errors, 150), np.mean(curve, axis=0), atol=1e-12)


def test_auc_of_perfect_lost_and_unknown_poses() -> None:
    np.testing.assert_allclose(
        auc([[0.0] * 2, [np.inf, 150], [np.nan, 0]], 150), [30 / 31, 0, np.nan]
    )


def test_velocity_of_one_sequence() -> None:
    target = np.zeros((3, 17, 3))
    predicted = target + np.array([5.0, 5.0, 8.0])[:, None, None] * [0, 1, 0]
    np.testing.assert_allclose(velocity_errors(predicted, target), [0, 3])
    assert mpjve(predicted, target) == pytest.approx(1.5)
    assert mpjve(predicted[:1], target[:1]) is None


@quick
@given(seeds, st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_velocity_errors_are_those_of_each_sequence(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, sum(lengths), 17, 3))
    ends = np.cumsum(lengths)
    expected: list[float] = []
    for end, length in zip(ends, lengths, strict=True):
        moves = [np.diff(poses[end - length : end], axis=0) for poses in (predicted, target)]
        expected += np.linalg.norm(moves[0] - moves[1], axis=-1).mean(-1).tolist()
    np.testing.assert_allclose(velocity_errors(predicted, target, lengths), expected, rtol=1e-9)


@pytest.mark.parametrize("lengths", [[2], [2, 2], [4, -1], []])
def test_sequences_must_cover_the_poses(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="frames for 3 poses"):
        velocity_errors(np.zeros((3, 17, 3)), np.zeros((3, 17, 3)), lengths)
