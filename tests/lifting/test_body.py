"""Poses of the mean person's size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import PARENTS
from gridpose.lifting.body import BONE_LENGTHS, to_mean_size
from gridpose.lifting.synthesis.bone_directions import assemble

LENGTHS = torch.tensor(BONE_LENGTHS)


def people(count: int = 50) -> torch.Tensor:
    directions = torch.randn(count, 17, 3, generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return assemble(directions, LENGTHS.expand(count, 17))


@given(scale=st.floats(0.81, 1.24))
@settings(max_examples=20, deadline=None)
def test_everybody_gets_the_same_size(scale: float) -> None:
    torch.testing.assert_close(to_mean_size(people() * scale), people(), rtol=0, atol=1e-5)


def test_one_short_limb_changes_nothing() -> None:
    poses = people()
    for joint in (15, 16):  # an arm that points at the camera and is taken for a short one
        bone = people()[:, joint] - people()[:, PARENTS[joint]]
        poses[:, joint] = poses[:, PARENTS[joint]] + 0.3 * bone
    torch.testing.assert_close(to_mean_size(poses), poses, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "left"), [(0.5, 0.5 * 1.25), (2.0, 2.0 / 1.25)])
def test_impossible_sizes_are_not_made_up_for(scale: float, left: float) -> None:
    torch.testing.assert_close(to_mean_size(people() * scale), people() * left)


def test_a_collapsed_pose_stays_finite() -> None:
    assert to_mean_size(torch.zeros(2, 17, 3)).isfinite().all()
