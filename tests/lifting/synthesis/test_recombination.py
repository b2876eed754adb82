from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridpose.core import JOINT_NAMES
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.synthesis.bone_directions import TiltOptions, assemble, mirror, tilt
from gridpose.lifting.synthesis.motion_capture import PoseBank
from gridpose.lifting.synthesis.recombination import RecombinationOptions, Recombined, Recombiner

torch.set_num_threads(1)

MOCAP = Path(__file__).parents[2] / "data" / "mocap_small.npz"
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
ARM_JOINTS = [JOINT[f"{s}_{part}"] for s in ("left", "right") for part in ("elbow", "wrist")]
LEG_JOINTS = [JOINT[f"{s}_{part}"] for s in ("left", "right") for part in ("knee", "ankle")]
CAPTURED = PoseBank.from_files([MOCAP], torch.device("cpu")).directions
RECOMBINER = Recombiner(CAPTURED)
EXACT = Recombiner(CAPTURED.double())  # nothing crosses the edge of a cell by rounding
SIZE = len(RECOMBINER)
BOTH = torch.cat((CAPTURED, mirror(CAPTURED)))

NEVER = RecombinationOptions(**dict.fromkeys(RecombinationOptions.__dataclass_fields__, 0.0))
ALWAYS = RecombinationOptions(
    **{name: 1.0 for name in RecombinationOptions.__dataclass_fields__ if "noise" not in name},
    **{name: 0.0 for name in RecombinationOptions.__dataclass_fields__ if "noise" in name},
)
NOISY = RecombinationOptions(
    **{name: 12.0 if "noise" in name else 0.4 for name in RecombinationOptions.__dataclass_fields__}
)

seeds = st.integers(0, 2**31)
options = st.builds(
    RecombinationOptions,
    **{
        name: st.floats(0, 15 if "noise" in name else 1)
        for name in RecombinationOptions.__dataclass_fields__
    },
)


def lengths(count: int) -> Tensor:
    return torch.tensor(BONE_LENGTHS).expand(count, 17)


def draw(seed: int, count: int, donors: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(2 * SIZE, (donors + 1, count), generator=generator)
    return index[0], index[1:]


def recombine(
    chosen: RecombinationOptions,
    seed: int = 0,
    count: int = 60,
    recombiner: Recombiner = RECOMBINER,
) -> Recombined:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if recombiner is EXACT else torch.float32
    bones = lengths(count).to(dtype)
    return recombiner.recombine(*draw(seed, count), bones, chosen, generator)


def standing() -> Tensor:
    """Upright (17, 3), facing +y, arms hanging a little away from the trunk."""
    directions = torch.zeros(17, 3)
    for name, direction in {
        "right_hip": (1, 0, 0), "left_hip": (-1, 0, 0),
        "right_shoulder": (1, 0, 0), "left_shoulder": (-1, 0, 0),
        "spine": (0, 0, 1), "thorax": (0, 0, 1), "nose": (0, 0.3, 1), "head": (0, 0, 1),
    }.items():  # fmt: skip
        directions[JOINT[name]] = torch.tensor(direction, dtype=torch.float32)
    for side, out in (("right", 0.3), ("left", -0.3)):
        for part in ("elbow", "wrist"):
            directions[JOINT[f"{side}_{part}"]] = torch.tensor((out, 0.1, -1))
        for part in ("knee", "ankle"):
            directions[JOINT[f"{side}_{part}"]] = torch.tensor((0.0, 0.05, -1))
    return torch.nn.functional.normalize(directions, dim=-1)


def with_bones(pose: Tensor, **bones: tuple[float, float, float]) -> Tensor:
    pose = pose.clone()
    for name, direction in bones.items():
        pose[JOINT[name]] = torch.tensor(direction)
    return torch.nn.functional.normalize(pose, dim=-1)


def sitting() -> Tensor:
    thighs = {f"{side}_knee": (0.0, 1.0, 0.0) for side in ("left", "right")}
    return with_bones(standing(), **thighs)


def with_arms(pose: Tensor, upper: tuple[float, ...], fore: tuple[float, ...]) -> Tensor:
    """Both arms alike; directions are given for the right one."""
    pose = pose.clone()
    for side, sign in (("right", 1.0), ("left", -1.0)):
        for part, (x, y, z) in (("elbow", upper), ("wrist", fore)):
            pose[JOINT[f"{side}_{part}"]] = torch.tensor((sign * x, y, z))
    return torch.nn.functional.normalize(pose, dim=-1)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, chosen=options)
def test_bones_keep_their_length_and_joints_their_limits(
    seed: int, chosen: RecombinationOptions
) -> None:
    directions = recombine(chosen, seed, recombiner=EXACT).directions
    torch.testing.assert_close(
        directions[:, 1:].norm(dim=-1), torch.ones(len(directions), 16).double(), rtol=0, atol=1e-6
    )
    assert EXACT.within_limits(directions).all()


def test_limits_are_those_of_the_data() -> None:
    assert RECOMBINER.within_limits(BOTH).all()
    knee_forward = with_bones(standing(), right_ankle=(0.0, 1.0, -0.3))
    head_back = with_bones(standing(), nose=(0.0, -1.0, -0.3))
    arm_through_back = with_arms(standing(), (-0.8, -0.6, 0.3), (0.0, -1.0, 0.0))
    wrong = torch.stack((knee_forward, head_back, arm_through_back))
    assert not RECOMBINER.within_limits(wrong).any()


def test_large_noise_would_leave_the_limits_if_it_could() -> None:
    """The check of limits is not idle: plain noise of this size does leave them."""
    turned = torch.nn.functional.normalize(
        CAPTURED + 0.4 * torch.randn(CAPTURED.shape, generator=torch.Generator().manual_seed(0)),
        dim=-1,
    )
    assert RECOMBINER.within_limits(turned).float().mean() < 0.5
    assert EXACT.within_limits(recombine(NOISY, recombiner=EXACT).directions).all()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_without_exchanges_and_noise_nothing_changes(seed: int) -> None:
    result = recombine(NEVER, seed)
    torch.testing.assert_close(
        result.directions[:, 1:], BOTH[draw(seed, 60)[0], 1:], rtol=0, atol=1e-5
    )
    assert not result.wanted.any()
    assert not result.kept.any()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
@pytest.mark.parametrize(
    "chosen",
    [
        replace(NEVER, arms=1.0, legs=1.0, head=1.0, trunk=1.0, orientation=1.0),
        replace(NEVER, arms=1.0, shins=1.0),
        replace(NEVER, trunk=1.0),
    ],
)
def test_mirrored_poses_and_donors_give_the_mirror_image(
    seed: int, chosen: RecombinationOptions
) -> None:
    poses, donors = draw(seed, 60)
    generator = torch.Generator()
    images = [
        RECOMBINER.recombine(
            (poses + turn) % (2 * SIZE),
            (donors + turn) % (2 * SIZE),
            lengths(60),
            chosen,
            generator.manual_seed(0),
        ).directions
        for turn in (0, SIZE)
    ]
    torch.testing.assert_close(mirror(images[0]), images[1], rtol=0, atol=1e-4)


def test_the_generator_decides_everything() -> None:
    first, same, other = (recombine(NOISY, seed).directions for seed in (5, 5, 6))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_results_depend_on_the_pose_alone_not_on_its_batch() -> None:
    """Retries are made for a part of the batch: they must come back to their own pose."""
    poses, donors = draw(3, 60)
    chosen = replace(NEVER, arms=1.0, legs=1.0)
    generator = torch.Generator().manual_seed(0)
    whole = RECOMBINER.recombine(poses, donors, lengths(60), chosen, generator).directions
    for index in range(0, 60, 7):
        alone = RECOMBINER.recombine(
            poses[index, None], donors[:, index, None], lengths(1), chosen, generator
        ).directions
        torch.testing.assert_close(alone[0], whole[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "joints"),
    [
        ("arms", ARM_JOINTS),
        ("arm", ARM_JOINTS),
        ("forearm", [JOINT["left_wrist"], JOINT["right_wrist"]]),
        ("legs", LEG_JOINTS),
        ("leg", LEG_JOINTS),
        ("shin", [JOINT["left_ankle"], JOINT["right_ankle"]]),
        ("shins", [JOINT["left_ankle"], JOINT["right_ankle"]]),
        ("head", [JOINT["nose"], JOINT["head"]]),
    ],
)
def test_an_exchange_changes_its_own_bones_and_no_others(name: str, joints: list[int]) -> None:
    result = recombine(replace(NEVER, **{name: 1.0}))
    before = BOTH[draw(0, 60)[0]]
    changed = (result.directions - before)[:, 1:].norm(dim=-1) > 1e-3
    others = [joint for joint in range(1, 17) if joint not in joints]
    assert not changed[:, [joint - 1 for joint in others]].any()
    assert changed[:, [joint - 1 for joint in joints]].float().mean() > 0.4
    assert result.kept.any(1).float().mean() > 0.5


def test_the_upper_trunk_takes_arms_and_head_along() -> None:
    result = recombine(replace(NEVER, trunk=1.0))
    changed = (result.directions - BOTH[draw(0, 60)[0]]).norm(dim=-1) > 1e-3
    assert not changed[:, [1, 4, *LEG_JOINTS]].any()
    assert changed[:, [8, 9, 10, *ARM_JOINTS]].float().mean() > 0.5


def test_orientation_turns_the_body_as_a_whole() -> None:
    result = recombine(replace(NEVER, orientation=1.0)).directions
    before = BOTH[draw(0, 60)[0]]
    torch.testing.assert_close(
        result @ result.transpose(1, 2), before @ before.transpose(1, 2), rtol=0, atol=1e-4
    )
    assert (result - before).norm(dim=-1).max() > 0.1


def test_noise_takes_the_forearm_along_with_the_upper_arm() -> None:
    result = recombine(replace(NEVER, arm_noise=5.0)).directions
    before = BOTH[draw(0, 60)[0]]
    for side in ("left", "right"):
        upper, fore = JOINT[f"{side}_elbow"], JOINT[f"{side}_wrist"]
        bend = [(pose[:, upper] * pose[:, fore]).sum(-1) for pose in (result, before)]
        torch.testing.assert_close(bend[0], bend[1], rtol=0, atol=1e-4)
        assert (result - before)[:, fore].norm(dim=-1).mean() > 0.02


def test_foreign_arms_are_exchanged_when_one_donor_of_several_fits() -> None:
    """Hanging arms run through the thighs of a sitter; only the last donor's do not."""
    hanging = with_arms(standing(), (0.05, 0.45, -0.85), (-0.1, 0.95, -0.3))
    ahead = with_arms(standing(), (0.1, 0.9, 0.1), (0.0, 1.0, 0.2))
    raised = with_arms(sitting(), (0.3, 0.0, 1.0), (0.0, 0.0, 1.0))
    foreign = torch.tensor((False, False, True))
    recombiner = Recombiner(torch.stack((hanging, ahead, raised)), foreign)
    for count in range(1, 7):
        for place in range(count):
            donors = torch.tensor([[1 if index == place else 2] for index in range(count)])
            result = recombiner.recombine(
                torch.tensor([2]), donors, lengths(1), NEVER, torch.Generator().manual_seed(0)
            )
            torch.testing.assert_close(
                result.directions[0, ARM_JOINTS], ahead[ARM_JOINTS], rtol=0, atol=1e-5
            )
    refused = recombiner.recombine(
        torch.tensor([2]), torch.tensor([[2], [2]]), lengths(1), NEVER, torch.Generator()
    )
    torch.testing.assert_close(refused.directions[0, 1:], raised[1:], rtol=0, atol=1e-5)
    assert refused.wanted.any()
    assert not refused.kept.any()


def test_wrists_and_elbows_stay_out_of_the_body() -> None:
    """A standing person's arms, held in front of the hips, would run through a sitter's thighs."""
    low = with_arms(standing(), (0.0, 0.3, -1.0), (0.0, 0.75, -0.65))
    recombiner = Recombiner(torch.stack((low, sitting())))
    poses, donors = torch.tensor([1]), torch.tensor([[0]])
    chosen = replace(NEVER, arms=1.0)
    generator = torch.Generator()
    result = recombiner.recombine(poses, donors, lengths(1), chosen, generator)
    assert not result.kept.any()
    torch.testing.assert_close(result.directions[0, 1:], sitting()[1:], rtol=0, atol=1e-5)
    short = lengths(1).clone()
    short[:, ARM_JOINTS] *= 0.4  # too short to get there
    assert recombiner.recombine(poses, donors, short, chosen, generator).kept.any()


def test_legs_stay_out_of_each_other() -> None:
    """Each leg is free to cross, but not both at once into the same place."""
    crossed = with_bones(standing(), right_knee=(-0.3, 0.05, -1.0), right_ankle=(-0.3, 0.0, -1.0))
    recombiner = Recombiner(torch.stack((crossed, standing())))
    poses, donors = torch.tensor([1]), torch.tensor([[0]])
    chosen = replace(NEVER, leg=1.0)  # the left leg of `crossed` is straight
    result = recombiner.recombine(poses, donors, lengths(1), chosen, torch.Generator())
    joints = assemble(result.directions, lengths(1))[0]
    assert (joints[JOINT["right_knee"]] - joints[JOINT["left_knee"]]).norm() > 0.09


def test_kneeling_comes_from_shins_that_point_back() -> None:
    walking = with_bones(standing(), right_knee=(0.0, 0.0, -1.0), right_ankle=(0.0, -1.0, -0.1))
    recombiner = Recombiner(torch.stack((standing(), walking)))
    count = 200
    result = recombiner.recombine(
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(4, count, dtype=torch.int64),
        lengths(count),
        replace(NEVER, kneeling=1.0),
        torch.Generator().manual_seed(0),
    ).directions
    back = [result[:, JOINT[f"{side}_ankle"], 1] < -0.9 for side in ("right", "left")]
    assert 0.15 < (back[0] & ~back[1]).float().mean() < 0.35
    assert 0.15 < (back[1] & ~back[0]).float().mean() < 0.35
    assert 0.4 < (back[0] & back[1]).float().mean() < 0.6


def test_poses_with_parallel_axes_give_numbers() -> None:
    """A spine along the hips, or shoulders along the spine, leave frames undefined."""
    flat = standing()
    flat[JOINT["spine"]] = flat[JOINT["right_hip"]]
    folded = standing()
    folded[JOINT["thorax"]] = folded[JOINT["right_shoulder"]]
    recombiner = Recombiner(torch.stack((flat, folded, standing())))
    result = recombiner.recombine(
        torch.arange(6), torch.arange(12).reshape(2, 6) % 6, lengths(6), ALWAYS, torch.Generator()
    )
    assert result.directions.isfinite().all()


def test_directions_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, 17, 3\)"):
        Recombiner(torch.zeros(4, 16, 3))


def up_axis(chosen: TiltOptions) -> Tensor:
    """Where the trunk of an upright person points afterwards, (2000, 3)."""
    upright = standing().expand(2000, 17, 3)
    turned = tilt(upright, chosen, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        turned @ turned.transpose(1, 2), upright @ upright.transpose(1, 2), rtol=0, atol=1e-5
    )
    return turned[:, JOINT["thorax"]]


def test_tilts_are_as_large_as_asked() -> None:
    small = up_axis(TiltOptions(lying=0.0, tumbling=0.0, tilt_sigma=4.0))
    angle = torch.rad2deg(torch.acos(small[:, 2].clamp(-1, 1)))
    assert angle.square().mean().sqrt() == pytest.approx(4.0, rel=0.1)
    assert (up_axis(TiltOptions(0.0, 15.0, 0.0, 0.0))[:, 2] == 1).all()


def test_lying_and_tumbling() -> None:
    lying = up_axis(TiltOptions(lying=1.0, lying_sigma=10.0))
    assert torch.rad2deg(torch.asin(lying[:, 2])).std() == pytest.approx(10.0, rel=0.1)
    assert lying[:, :2].mean(0).abs().max() < 0.05  # on back, front and both sides alike
    tumbling = up_axis(TiltOptions(lying=0.0, tumbling=1.0))
    assert (tumbling[:, 2] < -0.5).float().mean() == pytest.approx(0.25, abs=0.03)
    some = up_axis(TiltOptions(lying=0.2, tumbling=0.1, tilt_sigma=0.0))
    assert (some[:, 2] < 0.999).float().mean() == pytest.approx(0.3, abs=0.03)
