from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gridpose.core import JOINT_NAMES, MIRRORED, PARENTS, InputError
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.synthesis.bone_directions import TiltOptions, assemble
from gridpose.lifting.synthesis.detector_errors import DetectorErrors
from gridpose.lifting.synthesis.motion_capture import PoseBank, density
from gridpose.lifting.synthesis.poses import Synthesiser, SynthesisOptions, SyntheticBatch
from gridpose.lifting.synthesis.recombination import RecombinationOptions

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

MOCAP = Path(__file__).parents[2] / "data" / "mocap_small.npz"
COUNT = 400
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
ARMS = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("elbow", "wrist")]
LENGTHS = torch.tensor(BONE_LENGTHS)

EXACT = SynthesisOptions(errors=DetectorErrors(clean=1.0, derived=0.0))
AS_CAPTURED = RecombinationOptions(**{field.name: 0.0 for field in fields(RecombinationOptions)})
UPRIGHT = replace(
    EXACT,
    recombination=AS_CAPTURED,
    tilt=TiltOptions(lying=0.0, tumbling=0.0, tilt_sigma=0.0),
    roll_sigma=0.0,
    elevation=(-10.0, 10.0),
)


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
    lying = draw(replace(UPRIGHT, tilt=TiltOptions(lying=1.0, tumbling=0.0)), bank_=standing_bank())
    down = lying.poses[:, JOINT["head"], 1]
    assert down.abs().median() < 0.3  # as high as the hips, not half a metre above
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


def test_drawing_favours_neither_long_clips_nor_often_repeated_actions(tmp_path: Path) -> None:
    # Random poses are all equally rare. A has 16 times as many as B, done wrongly or not.
    lengths = [25] * 17
    actions = ["a"] * 8 + ["a, performed wrongly on purpose"] * 8 + ["b"]
    file = write_mocap(tmp_path / "repeats.npz", actions, lengths)
    shares = clip_shares(file, lengths)
    by_kind, by_rarity = 1 / (1 + 16**0.3), 1 / 17
    assert shares[16] == pytest.approx((by_kind + by_rarity) / 2, abs=0.01)
    assert shares[:16] == pytest.approx([(1 - shares[16]) / 16] * 16, abs=0.01)


def test_a_rare_pose_is_drawn_more_often_than_a_common_one(tmp_path: Path) -> None:
    standing = standing_directions()
    sitting = standing.clone()
    for side in ("left", "right"):
        sitting[:, JOINT[f"{side}_knee"]] = torch.tensor((0.0, 1.0, 0.0))
    lengths = LENGTHS.expand(1, 17)
    common, rare = (assemble(each, lengths).numpy() for each in (standing, sitting))
    positions = np.concatenate((np.repeat(common, 90, 0), np.repeat(rare, 10, 0)))
    file = write_mocap(tmp_path / "rare.npz", ["a"], [100], positions=positions)
    drawn = PoseBank.from_files([file], torch.device("cpu")).draw(
        20_000, torch.Generator().manual_seed(0)
    )
    rarity = 10 * 0.1**-0.75 / (10 * 0.1**-0.75 + 90 * 0.9**-0.75)
    assert (drawn >= 90).float().mean().item() == pytest.approx((0.1 + rarity) / 2, abs=0.01)


def test_poses_are_alike_whichever_way_they_face() -> None:
    directions = standing_directions(12)
    directions[:, JOINT["left_knee"]] = torch.tensor((0.0, 0.6, -0.8))
    angles = torch.linspace(0, 330, 12).deg2rad()
    turns = torch.from_numpy(Rotation.from_rotvec(angles[:, None] * torch.eye(3)[2]).as_matrix())
    facing = directions @ turns.to(directions).transpose(1, 2)
    torch.testing.assert_close(density(facing), torch.ones(12), rtol=0, atol=1e-4)


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
    # Half are drawn stretched, and of the others all who have a stretched donor among six.
    assert raised.float().mean().item() > 0.97


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
