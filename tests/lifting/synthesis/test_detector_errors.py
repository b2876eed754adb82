"""What synthetic detectors get wrong, measured on their output."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridpose.core import JOINT_NAMES, MIRRORED
from gridpose.lifting.synthesis.detector_errors import DetectorErrors, ErrorModel

torch.set_num_threads(1)

JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
NONE = DetectorErrors(
    clean=0.0, derived=0.0, offsets=0.0, noise=0.0, noise_spread=0.0, along_limb=1.0, outlier=0.0,
    hidden=0.0, collapsed=0.0, swapped=0.0,
)  # fmt: skip
COUNT = 2000
EXTENT = 500.0


def model(errors: DetectorErrors) -> ErrorModel:
    return ErrorModel(errors, torch.Generator().manual_seed(0))


def people() -> Tensor:
    """Keypoints of one extent, at random places within it."""
    keypoints = torch.rand(COUNT, 17, 2, generator=torch.Generator().manual_seed(1)) * EXTENT
    keypoints[:, JOINT["head"]], keypoints[:, JOINT["right_ankle"]] = 0.0, EXTENT
    return keypoints


def disturbed(errors: DetectorErrors) -> Tensor:
    """What is added to keypoints, as a share of the extent."""
    everybody = torch.ones(COUNT, dtype=torch.bool)
    return (model(errors).disturb(people(), everybody) - people()) / EXTENT


def body(generator_seed: int = 2) -> Tensor:
    return torch.randn(COUNT, 17, 3, generator=torch.Generator().manual_seed(generator_seed))


def test_noise_has_the_size_asked_for() -> None:
    error = disturbed(replace(NONE, noise=0.01))
    assert error.std().item() == pytest.approx(0.01, rel=0.03)
    assert error.mean().abs().item() < 0.0005


def test_noise_is_longer_along_the_limbs() -> None:
    error = disturbed(replace(NONE, noise=0.01, along_limb=2.0))
    keypoints = people()
    for name, parent in (("left_knee", "left_hip"), ("right_wrist", "right_elbow")):
        bone = keypoints[:, JOINT[name]] - keypoints[:, JOINT[parent]]
        bone = bone / bone.norm(dim=-1, keepdim=True)
        across = torch.stack((-bone[:, 1], bone[:, 0]), dim=-1)
        for direction, size in ((bone, 0.02), (across, 0.01)):
            found = (error[:, JOINT[name]] * direction).sum(-1).std().item()
            assert found == pytest.approx(size, rel=0.07)
    assert error[:, JOINT["thorax"]].std().item() == pytest.approx(0.01, rel=0.05)


def test_some_pictures_are_noisier_than_others() -> None:
    by_pose = disturbed(replace(NONE, noise=0.01, noise_spread=0.5)).flatten(1).std(dim=1).log()
    assert by_pose.exp().median().item() == pytest.approx(0.01, rel=0.1)
    assert by_pose.std().item() == pytest.approx(0.5, rel=0.1)


def test_outliers_are_as_frequent_as_asked_for() -> None:
    error = disturbed(replace(NONE, outlier=0.1, outlier_sigma=0.5))
    assert (error.norm(dim=-1) > 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert error[error != 0].std().item() == pytest.approx(0.5, rel=0.05)


def test_hidden_limbs_are_guessed_the_end_worse_than_the_middle() -> None:
    error = disturbed(replace(NONE, hidden=0.2, hidden_sigma=(0.1, 0.3)))
    moved = error.norm(dim=-1) > 0
    for side in ("left", "right"):
        for first, second in (("knee", "ankle"), ("elbow", "wrist")):
            middle, end = JOINT[f"{side}_{first}"], JOINT[f"{side}_{second}"]
            assert torch.equal(moved[:, middle], moved[:, end])
            assert moved[:, end].float().mean().item() == pytest.approx(0.2, abs=0.03)
            for joint, size in ((middle, 0.1), (end, 0.3)):
                found = error[moved[:, joint], joint].std().item()
                assert found == pytest.approx(size, rel=0.12)
    assert not moved[:, [JOINT["hip"], JOINT["head"], JOINT["left_shoulder"]]].any()


def limb(*names: str) -> list[int]:
    return [JOINT[f"{side}_{name}"] for side in ("left", "right") for name in names]


def test_sides_are_exchanged_for_legs_arms_ankles_and_the_whole() -> None:
    given = model(replace(NONE, swapped=0.2)).disturb(people(), torch.ones(COUNT) > 0)
    mirrored = people()[:, list(MIRRORED)]
    upper, ankles, arms = limb("hip", "knee"), limb("ankle"), limb("shoulder", "elbow", "wrist")
    exchanged = {}
    for name, index in (("legs", upper), ("ankles", ankles), ("arms", arms)):
        same = (given[:, index] == people()[:, index]).all((1, 2))
        other = (given[:, index] == mirrored[:, index]).all((1, 2))
        assert (same ^ other).all()
        exchanged[name] = other
    # Two of three causes at once undo each other.
    assert exchanged["legs"].float().mean().item() == pytest.approx(2 * 0.2 * 0.8, abs=0.04)
    assert exchanged["arms"].float().mean().item() == pytest.approx(2 * 0.2 * 0.8, abs=0.04)
    alone = (exchanged["legs"] != exchanged["ankles"]).float().mean().item()
    assert alone == pytest.approx(0.2, abs=0.04)


def test_collapsed_limbs_lie_where_the_other_one_is() -> None:
    given = model(replace(NONE, collapsed=0.1)).disturb(people(), torch.ones(COUNT) > 0)
    for side, opposite in (("left", "right"), ("right", "left")):
        for names in (("knee", "ankle"), ("elbow", "wrist")):
            own = [JOINT[f"{side}_{name}"] for name in names]
            other = [JOINT[f"{opposite}_{name}"] for name in names]
            moved = (given[:, own] != people()[:, own]).any(-1).any(-1)
            assert moved.float().mean().item() == pytest.approx(0.1, abs=0.03)
            assert torch.equal(given[moved][:, own], people()[moved][:, other])


def test_clean_poses_are_left_alone() -> None:
    some = torch.arange(COUNT) % 2 == 0
    noisy = model(DetectorErrors()).disturb(people(), some)
    assert torch.equal(noisy[~some], people()[~some])
    assert (noisy[some] != people()[some]).any(-1).any(-1).all()
    joints, erring = model(DetectorErrors(clean=0.25, derived=0.0)).misplace(body())
    assert erring.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(joints[~erring], body()[~erring])


def test_misplaced_joints_are_off_alike_on_both_sides() -> None:
    still = torch.zeros(COUNT, 17, 3)
    still[:, JOINT["thorax"]] = torch.tensor((0.0, -0.5, 2.0))  # up is -y in camera axes
    still[:, JOINT["right_hip"]] = torch.tensor((-0.1, 0.0, 2.0))
    still[:, JOINT["left_hip"]] = torch.tensor((0.1, 0.0, 2.0))
    still[:, JOINT["hip"], 2] = 2.0
    moved, _ = model(replace(NONE, offsets=1.0)).misplace(still)
    offset = moved - still
    left, right = offset[:, JOINT["left_hip"]], offset[:, JOINT["right_hip"]]
    mirrored = right * torch.tensor((-1.0, 1.0, 1.0))
    torch.testing.assert_close(left, mirrored, rtol=0, atol=1e-6)
    across, along, _ = left.std(dim=0).tolist()
    assert (across, along) == pytest.approx((0.03, 0.04), rel=0.06)


def test_derived_joints_are_what_a_coco_detector_would_give() -> None:
    joints, _ = model(replace(NONE, derived=1.0)).misplace(body())
    hips = (joints[:, JOINT["left_hip"]] + joints[:, JOINT["right_hip"]]) / 2
    shoulders = (joints[:, JOINT["left_shoulder"]] + joints[:, JOINT["right_shoulder"]]) / 2
    torch.testing.assert_close(joints[:, JOINT["hip"]], hips)
    torch.testing.assert_close(joints[:, JOINT["thorax"]], shoulders)
    torch.testing.assert_close(joints[:, JOINT["spine"]], (hips + shoulders) / 2)


@given(scale=st.floats(0.1, 10), x=st.floats(-500, 500), y=st.floats(-500, 500))
@settings(max_examples=20, deadline=None)
def test_errors_grow_with_the_person_and_not_with_the_place(
    scale: float, x: float, y: float
) -> None:
    everybody, place = torch.ones(COUNT, dtype=torch.bool), torch.tensor((x, y))
    near = model(DetectorErrors()).disturb(people() * scale + place, everybody)
    expected = model(DetectorErrors()).disturb(people(), everybody) * scale + place
    torch.testing.assert_close(near, expected, rtol=0, atol=0.02 * max(1.0, scale))
