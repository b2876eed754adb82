"""What unseen legs cost the upper body, on simulated sequences of test clips."""

import numpy as np
import pytest

from gridpose.lifting import load_lifter
from gridpose.lifting.temporal_benchmark import read_sequences

pytestmark = pytest.mark.slow

KNEES, WAIST = [2, 3, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7]
CHEST = [*WAIST, 13, 16]
UPPER, THORAX = range(7, 17), 8
EVERY = 9
"""Of the benchmark's sequences; all of them take minutes."""


@pytest.fixture(scope="module")
def answers(shared):
    """Errors (mm) of the upper body, relative to the thorax, cut and whole, by cut and noise."""
    sequences, fps = read_sequences(shared / "mocap" / "bench_temporal.npz")
    lifter, found = load_lifter(), {}
    for noisy in (False, True):
        for name, cut in {"whole": [], "knees": KNEES, "waist": WAIST, "chest": CHEST}.items():
            poses = []
            for each in sequences[::EVERY]:
                keypoints = each.keypoints_noisy_px if noisy else each.keypoints_px
                rated = each.confidence.copy() if noisy else np.ones_like(each.confidence)
                rated[:, cut] = 0
                poses.append(lifter.lift_sequence(keypoints, each.image_size, rated, fps))
            found[noisy, name] = poses
    return found, [each.poses_camera for each in sequences[::EVERY]]


def error(poses, truth, cut):
    keep = [joint for joint in UPPER if joint not in cut]
    apart = [
        np.linalg.norm(
            (one[:, keep] - one[:, [THORAX]]) - (other[:, keep] - other[:, [THORAX]]), axis=-1
        ).mean()
        for one, other in zip(poses, truth, strict=True)
    ]
    return 1000 * np.mean(apart)


# At waist and chest reached, not wished for (1.10): without a guess 1.97 and 2.30 (exact).
@pytest.mark.parametrize(
    ("name", "cut", "exact", "disturbed"),
    [("knees", KNEES, 1.1, 1.1), ("waist", WAIST, 1.48, 1.25), ("chest", CHEST, 1.58, 1.37)],
)
def test_the_upper_body_without_legs(answers, name, cut, exact, disturbed):
    found, truth = answers
    for noisy, most in ((False, exact), (True, disturbed)):
        whole = error(found[noisy, "whole"], truth, cut)
        half = error(found[noisy, name], truth, cut)
        print(f"{name}, {'disturbed' if noisy else 'exact'}: {half:.1f} mm, uncut {whole:.1f}")
        assert half < most * whole
