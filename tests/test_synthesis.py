from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gridpose.core import JOINT_NAMES, MIRRORED, PARENTS, InputError
from gridpose.lifting.synthesis import (
    BONE_LENGTHS,
    PoseBank,
    Synthesiser,
    SynthesisOptions,
    SyntheticBatch,
    assemble,
    swap_arms,
)

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

MOCAP = Path(__file__).parent / "data" / "mocap_small.npz"
COUNT = 400
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
ARMS = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("elbow", "wrist")]
LENGTHS = torch.tensor(BONE_LENGTHS)

EXACT = SynthesisOptions(clean=1.0, derived=0.0)
UPRIGHT = replace(EXACT, lying=0.0, roll_sigma=0.0, elevation=(-10.0, 10.0), arm_swap=0.0)


def bank() -> PoseBank:
    return PoseBank.from_files([MOCAP], torch.device("cpu"))


def standing_directions(count: int = 1) -> Tensor:
    """Upright, arms hanging, facing +y with z up: the right side is at +x."""
    directions = torch.zeros(count, 17, 3)
    for name, direction in {
        "right_hip": (1, 0, 0),
        "left_hip": (-1, 0, 0),
        "right_shoulder": (1, 0, 0),
        "left_shoulder": (-1, 0, 0),
        **{
            f"{side}_{part}": (0, 0, -1)
            for side in ("left", "right")
            for part in ("knee", "ankle", "elbow", "wrist")
        },
        **dict.fromkeys(("spine", "thorax", "nose", "head"), (0, 0, 1)),
    }.items():
        directions[:, JOINT[name]] = torch.tensor(direction, dtype=torch.float32)
    return directions


def standing_bank() -> PoseBank:
    return PoseBank(standing_directions(), torch.ones(1), torch.zeros(1, dtype=torch.bool))


def draw(options: SynthesisOptions, seed: int = 0, bank_: PoseBank | None = None) -> SyntheticBatch:
    return Synthesiser(bank() if bank_ is None else bank_, options, seed).batch(COUNT)


def bone_lengths(poses: Tensor) -> Tensor:
    return (poses - poses[:, [max(parent, 0) for parent in PARENTS]]).norm(dim=-1)


def extent(keypoints: Tensor) -> Tensor:
    return (keypoints.amax(1) - keypoints.amin(1)).amax(-1)


def write_mocap(file: Path, actions: list[str], clip_lengths: list[int], **arrays: object) -> Path:
    clip = np.repeat(np.arange(len(actions)), clip_lengths)
    positions = np.random.default_rng(0).normal(size=(len(clip), 17, 3)).astype(np.float32)
    stored = {"positions": positions, "clip": clip, "action": np.array(actions), **arrays}
    np.savez(file, **{name: value for name, value in stored.items() if value is not None})
    return file


def clip_shares(file: Path, clip_lengths: list[int]) -> np.ndarray:
    pose_bank = PoseBank.from_files([file], torch.device("cpu"))
    drawn = pose_bank.draw(40_000, torch.Generator().manual_seed(0))
    clip = np.repeat(np.arange(len(clip_lengths)), clip_lengths)
    return np.bincount(clip[drawn.numpy()], minlength=len(clip_lengths)) / 40_000


def test_the_seed_decides_everything() -> None:
    first, same, other = (draw(SynthesisOptions(), seed) for seed in (3, 3, 4))
    for name in ("keypoints_px", "image_size", "poses"):
        assert torch.equal(getattr(first, name), getattr(same, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_batches_of_one_synthesiser_differ() -> None:
    synthesiser = Synthesiser(bank(), SynthesisOptions(), 0)
    assert not torch.equal(synthesiser.batch(8).poses, synthesiser.batch(8).poses)


def test_hips_are_at_the_origin() -> None:
    assert (draw(SynthesisOptions()).poses[:, 0] == 0).all()


def test_everybody_has_the_same_total_of_bones_and_equal_sides() -> None:
    lengths = bone_lengths(draw(SynthesisOptions(proportion_sigma=0.1)).poses)
    torch.testing.assert_close(
        lengths.sum(1), torch.full((COUNT,), sum(BONE_LENGTHS)), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(lengths, lengths[:, MIRRORED], rtol=0, atol=1e-5)
    assert lengths[:, JOINT["left_knee"]].std() > 0.02


def test_without_variation_bones_are_those_of_human36m() -> None:
    lengths = bone_lengths(draw(SynthesisOptions(proportion_sigma=0.0)).poses)
    torch.testing.assert_close(lengths, LENGTHS.expand(COUNT, 17), rtol=0, atol=1e-5)


def cameras(batch: SyntheticBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth of each hip, focal length, and how far (px) a pinhole camera is from the keypoints."""
    centred = (batch.keypoints_px - batch.image_size[:, None] / 2).double().numpy()
    found = []
    for flat, pose in zip(centred, batch.poses.double().numpy(), strict=True):
        # u (Z + tz) = f X + f tx, likewise v: linear in tz, f, f tx, f ty.
        zero, one = np.zeros(17), np.ones(17)
        unknowns = np.vstack(
            (
                np.stack((-flat[:, 0], pose[:, 0], one, zero), 1),
                np.stack((-flat[:, 1], pose[:, 1], zero, one), 1),
            )
        )
        known = np.concatenate((flat[:, 0] * pose[:, 2], flat[:, 1] * pose[:, 2]))
        solution = np.linalg.lstsq(unknowns, known, rcond=None)[0]
        depth, focal = solution[:2]
        error = (unknowns @ solution - known) / (np.tile(pose[:, 2], 2) + depth)
        found.append((depth, focal, np.abs(error).max()))
    depths, focals, errors = np.array(found).T
    return depths, focals, errors


def test_exact_keypoints_are_a_pinhole_picture_within_the_options() -> None:
    batch = draw(EXACT)
    depths, focals, errors = cameras(batch)
    assert errors.max() < 0.02
    fov = np.degrees(2 * np.arctan(batch.image_size[:, 0].numpy() / 2 / focals))
    for values, (low, high), slack in ((fov, EXACT.fov, 0.5), (depths, EXACT.distance, 0.1)):
        assert values.min() > low - slack
        assert values.max() < high + slack
        assert values.max() - values.min() > 0.8 * (high - low)


def test_nobody_reaches_behind_the_camera() -> None:
    batch = draw(replace(EXACT, distance=(0.2, 0.3)))
    depths, _, _ = cameras(batch)
    assert (depths + batch.poses[..., 2].amin(1).numpy()).min() > 0.89


def test_most_keypoints_lie_inside_the_frame() -> None:
    batch = draw(EXACT)
    inside = (batch.keypoints_px >= 0) & (batch.keypoints_px <= batch.image_size[:, None])
    assert inside.all(-1).float().mean() > 0.75


def test_people_stand_upright_before_an_upright_camera() -> None:
    batch = draw(UPRIGHT, bank_=standing_bank())
    rows = batch.keypoints_px[..., 1]
    ankles = torch.minimum(rows[:, JOINT["left_ankle"]], rows[:, JOINT["right_ankle"]])
    assert (rows[:, JOINT["head"]] < ankles).all()
    # y points down in camera axes.
    assert (batch.poses[:, JOINT["head"], 1] < -0.5).all()
    assert (batch.poses[:, JOINT["left_ankle"], 1] > 0.5).all()


def test_some_people_lie_when_asked_to() -> None:
    lying = draw(replace(UPRIGHT, lying=1.0), bank_=standing_bank())
    down = lying.poses[:, JOINT["head"], 1]
    assert 0.3 < (down > 0).float().mean() < 0.7


def test_left_is_left_for_people_who_face_the_camera() -> None:
    directions = standing_directions()
    directions[:, JOINT["nose"]] = torch.tensor((0.0, 0.6, 0.8))  # they face +y, nose ahead
    looking = PoseBank(directions, torch.ones(1), torch.zeros(1, dtype=torch.bool))
    batch = draw(replace(UPRIGHT, elevation=(0.0, 0.0)), bank_=looking)
    ahead = batch.poses[:, JOINT["nose"]] - batch.poses[:, JOINT["thorax"]]
    left, right = (batch.poses[:, JOINT[f"{side}_shoulder"], 0] for side in ("left", "right"))
    facing, leaving = ahead[:, 2] < -0.01, ahead[:, 2] > 0.01
    assert min(facing.sum(), leaving.sum()) > 50
    assert (left[facing] > right[facing]).all()
    assert (left[leaving] < right[leaving]).all()


def test_noise_has_the_size_asked_for() -> None:
    noisy_options = replace(
        EXACT, clean=0.0, noise=(0.01, 0.01), outlier=0.0, offset_sigma=0.0, derived=0.0
    )
    exact, noisy = draw(EXACT), draw(noisy_options)
    assert torch.equal(exact.poses, noisy.poses)  # the same seed draws the same people
    error = noisy.keypoints_px - exact.keypoints_px
    share = error / extent(exact.keypoints_px)[:, None, None]
    assert share.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(share.mean().item()) < 0.0005


def test_outliers_are_as_frequent_as_asked_for() -> None:
    options = replace(
        EXACT, clean=0.0, noise=(0.0, 0.0), offset_sigma=0.0, outlier=0.1, outlier_sigma=0.5
    )
    exact, noisy = draw(EXACT), draw(options)
    moved = (noisy.keypoints_px - exact.keypoints_px).abs().amax(-1) > 0.5
    assert moved.float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_derived_joints_are_what_a_coco_detector_would_give() -> None:
    keypoints = draw(replace(EXACT, derived=1.0)).keypoints_px
    hips = (keypoints[:, JOINT["left_hip"]] + keypoints[:, JOINT["right_hip"]]) / 2
    shoulders = (keypoints[:, JOINT["left_shoulder"]] + keypoints[:, JOINT["right_shoulder"]]) / 2
    torch.testing.assert_close(keypoints[:, JOINT["hip"]], hips)
    torch.testing.assert_close(keypoints[:, JOINT["thorax"]], shoulders)
    torch.testing.assert_close(keypoints[:, JOINT["spine"]], (hips + shoulders) / 2)


def distance_to_segment(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    along = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return float(np.linalg.norm(point - start - along * (end - start)))


def random_donors(count: int) -> Tensor:
    """Standing people with arms in any direction, also into their own trunk."""
    donors = standing_directions(count)
    generator = torch.Generator().manual_seed(0)
    arms = torch.randn(count, len(ARMS), 3, generator=generator)
    donors[:, ARMS] = torch.nn.functional.normalize(arms, dim=-1)
    return donors


def test_swapped_arms_keep_clear_of_trunk_and_thighs() -> None:
    directions, donors = standing_directions(COUNT), random_donors(COUNT)
    lengths = LENGTHS.expand(COUNT, 17)
    swapped = swap_arms(directions, donors, torch.ones(COUNT, dtype=torch.bool), lengths)
    changed = (swapped != directions).any(-1).any(-1)
    assert 0.1 < changed.float().mean() < 0.95
    for pose in assemble(swapped, lengths)[changed].numpy():
        for arm in ARMS:
            assert distance_to_segment(pose[arm], pose[JOINT["hip"]], pose[JOINT["thorax"]]) > 0.1
            for side in ("left", "right"):
                hip, knee = pose[JOINT[f"{side}_hip"]], pose[JOINT[f"{side}_knee"]]
                assert distance_to_segment(pose[arm], hip, knee) > 0.07


def test_rejected_swaps_would_have_collided() -> None:
    directions, donors = standing_directions(COUNT), random_donors(COUNT)
    lengths = LENGTHS.expand(COUNT, 17)
    swapped = swap_arms(directions, donors, torch.ones(COUNT, dtype=torch.bool), lengths)
    rejected = (swapped == directions).all(-1).all(-1)
    # Same trunk, so the donor itself is what the swap would have made.
    for pose in assemble(donors, lengths)[rejected].numpy():
        segments = [(JOINT["hip"], JOINT["thorax"], 0.11)] + [
            (JOINT[f"{side}_hip"], JOINT[f"{side}_knee"], 0.08) for side in ("left", "right")
        ]
        assert any(
            distance_to_segment(pose[arm], pose[start], pose[end]) < limit + 1e-5
            for arm in ARMS
            for start, end, limit in segments
        )


def test_only_chosen_poses_get_other_arms_and_nothing_else_changes() -> None:
    pose_bank = bank()
    directions, donors = pose_bank.directions, pose_bank.directions.roll(7, 0)
    chosen = torch.arange(len(directions)) % 2 == 0
    swapped = swap_arms(directions, donors, chosen, LENGTHS.expand(len(directions), 17))
    others = [joint for joint in range(17) if joint not in ARMS]
    assert torch.equal(swapped[~chosen], directions[~chosen])
    assert torch.equal(swapped[:, others], directions[:, others])
    assert (swapped[chosen] != directions[chosen]).any()
    torch.testing.assert_close(swapped[:, 1:].norm(dim=-1), torch.ones(len(directions), 16))


def test_arms_turn_with_the_trunk() -> None:
    directions, donors = standing_directions(50), random_donors(50)
    turn = torch.from_numpy(Rotation.random(50, random_state=0).as_matrix()).float()
    chosen, lengths = torch.ones(50, dtype=torch.bool), LENGTHS.expand(50, 17)
    plain = swap_arms(directions, donors, chosen, lengths)
    turned = swap_arms(directions, donors @ turn.transpose(1, 2), chosen, lengths)
    torch.testing.assert_close(turned, plain, rtol=0, atol=1e-5)


def test_assembled_bones_have_their_lengths_and_directions() -> None:
    directions = bank().directions
    joints = assemble(directions, LENGTHS.expand(len(directions), 17))
    bones = joints - joints[:, [max(parent, 0) for parent in PARENTS]]
    expected = directions * LENGTHS[:, None]
    torch.testing.assert_close(bones[:, 1:], expected[:, 1:], rtol=0, atol=1e-6)
    assert (joints[:, 0] == 0).all()


def test_drawing_favours_neither_long_clips_nor_often_repeated_actions(tmp_path: Path) -> None:
    # A is repeated 16 times, B once: 4 times the share, not 16.
    lengths = [25] * 17
    file = write_mocap(tmp_path / "repeats.npz", ["a"] * 16 + ["b"], lengths)
    shares = clip_shares(file, lengths)
    assert shares[16] == pytest.approx(1 / 5, abs=0.01)
    # Within an action a clip four times as long counts twice.
    lengths = [100, 25]
    file = write_mocap(tmp_path / "lengths.npz", ["a", "a"], lengths)
    assert clip_shares(file, lengths)[0] == pytest.approx(2 / 3, abs=0.01)


def test_every_pose_of_a_clip_is_drawn_alike(tmp_path: Path) -> None:
    file = write_mocap(tmp_path / "one.npz", ["a"], [10])
    drawn = PoseBank.from_files([file], torch.device("cpu")).draw(
        20_000, torch.Generator().manual_seed(0)
    )
    np.testing.assert_allclose(np.bincount(drawn.numpy()) / 20_000, 0.1, atol=0.01)


def test_files_are_joined(tmp_path: Path) -> None:
    files = [write_mocap(tmp_path / f"{name}.npz", [name], [5]) for name in "ab"]
    pose_bank = PoseBank.from_files(files, torch.device("cpu"))
    assert len(pose_bank) == 10
    torch.testing.assert_close(pose_bank.directions[:5], pose_bank.directions[5:])


def test_people_on_chairs_get_other_arms(tmp_path: Path) -> None:
    file = write_mocap(tmp_path / "chair.npz", ["sit to stand", "walk"], [3, 2])
    pose_bank = PoseBank.from_files([file], torch.device("cpu"))
    assert pose_bank.foreign_arms.tolist() == [True] * 3 + [False] * 2

    # Arms stretched to the sides replace hanging ones, though no swap is asked for.
    stretched = standing_directions()
    for side, x in (("left", -1.0), ("right", 1.0)):
        for name in ("elbow", "wrist"):
            stretched[:, JOINT[f"{side}_{name}"]] = torch.tensor((x, 0.0, 0.0))
    directions = torch.cat((standing_directions(), stretched))
    mixed = PoseBank(directions, torch.tensor((0.5, 0.5)), torch.tensor((True, False)))
    batch = draw(replace(UPRIGHT, proportion_sigma=0.0), bank_=mixed)
    raised = (batch.poses[:, JOINT["left_wrist"]] - batch.poses[:, JOINT["right_wrist"]]).norm(
        dim=-1
    ) > 1
    # Half are drawn stretched; half of the others get the stretched donor.
    assert raised.float().mean().item() == pytest.approx(0.75, abs=0.08)


@pytest.mark.parametrize("name", ["positions", "clip", "action"])
def test_a_file_without_an_array_is_refused_by_name(tmp_path: Path, name: str) -> None:
    file = write_mocap(tmp_path / "bad.npz", ["walk"], [3], **{name: None})
    with pytest.raises(InputError, match=name) as caught:
        PoseBank.from_files([file], torch.device("cpu"))
    assert "bad.npz" in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 16, 3), (3, 51), (3, 17, 2)])
def test_positions_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = write_mocap(tmp_path / "bad.npz", ["walk"], [3], positions=np.zeros(shape))
    with pytest.raises(InputError, match=r"\(N, 17, 3\)"):
        PoseBank.from_files([file], torch.device("cpu"))
