"""Limbs that something pulls away for some frames are put back; quick movement stays."""

import numpy as np
import pytest
from poses import walk
from scipy.spatial.transform import Rotation
from simulation import FPS, filmed, noisy

from gridpose.core import JOINT_NAMES, Repair
from gridpose.pipeline.motion.lifting_chain import LiftingChain
from gridpose.pipeline.motion.tracking import Observation
from gridpose.pipeline.motion.window import stacked

LEGS = ((2, 3), (5, 6))
SIZE = (1280, 720)
ANKLES = [JOINT_NAMES.index(f"{side}_ankle") for side in ("right", "left")]
ACTIONS = (
    "walking", "walking_extra", "walk", "walk on uneven terrain", "dance_b", "running",
    "basketball", "soccer", "kick", "jumping",
)  # fmt: skip


def lifted(lifter, keypoints, size, sure=None, repair=True, judge=None):
    """Poses (T, 17, 3), marks of what was filled (T, 17) and keypoints of a chain."""
    stages, out = LiftingChain(lifter, judge, size, None, FPS, repair, "savgol"), []
    for frame, points in enumerate(keypoints.astype(np.float32)):
        box = np.concatenate((points.min(0), points.max(0)))
        surest = np.full(17, 0.9, np.float32) if sure is None else sure[frame]
        stages.add({3: Observation(box, points, surest)})
        out.extend(stages.finished())
    out.extend(stages.finished(at_end=True))
    assert len(out) == len(keypoints)
    people = [frame[3] for frame in out]
    marks = stacked([(one.observation.repaired & Repair.FILLED) > 0 for one in people])
    return (
        stacked([one.pose for one in people]),
        marks,
        stacked([one.observation.keypoints for one in people]),
    )


def pulled(keypoints, random, frames, share, leg):
    """A leg pulled to a side by a share of the trunk's length: abruptly, or in two steps."""
    result = keypoints.copy()
    trunk = np.median(np.linalg.norm(keypoints[:, 8] - keypoints[:, 0], axis=-1))
    turn = random.uniform(0, 2 * np.pi)
    off = np.array((np.cos(turn), np.sin(turn))) * share * trunk
    there = np.ones((len(frames), 1))
    if random.random() < 1 / 3:
        there[[0, -1]] = 0.6
    knee, ankle = LEGS[leg]
    knees = random.choice((0.55, 0.8, 1.0))
    for joint, part in ((knee, knees), (ankle, 1.0)):
        tremor = random.normal(0, 0.05 * share * trunk, (len(frames), 2))
        result[frames, joint] += part * there * off + tremor
    sure = np.full(keypoints.shape[:2], 0.9, np.float32)
    sure[np.ix_(frames, LEGS[leg])] = random.uniform(0.8, 0.95, (len(frames), 2))
    return result, sure


def seen_walk():
    """Somebody who walks in place 5 m away: keypoints (90, 17, 2) px."""
    world, _ = walk(3.0, travels=False)
    turned = Rotation.from_euler("z", 40, degrees=True).apply(world.reshape(-1, 3))
    poses = turned.reshape(-1, 17, 3)[..., (1, 2, 0)] * (-1, -1, 1)
    points = poses - poses[:, :1] + (0.3, 0.2, 5)
    focal = SIZE[0] / 2 / np.tan(np.radians(55 / 2))
    return points[:90, :, :2] / points[:90, :, 2:] * focal + np.array(SIZE) / 2


@pytest.mark.parametrize("leg", [0, 1])
def test_a_pulled_leg_is_put_back_and_marked(lifter, frame_lifter, leg):
    random = np.random.default_rng(3)
    keypoints, frames = seen_walk(), np.arange(40, 46)
    wrong, sure = pulled(keypoints, random, frames, 0.8, leg)
    size = np.ptp(keypoints, axis=1).max()
    for one, judge in ((lifter, None), (frame_lifter, lifter)):
        _, marks, points = lifted(one, wrong, SIZE, sure, judge=judge)
        assert marks[np.ix_(frames, LEGS[leg])].all()
        assert not np.delete(marks, LEGS[leg], 1).any()
        off = np.linalg.norm(points - keypoints, axis=-1)
        assert off[np.ix_(frames, LEGS[leg])].max() < 0.1 * size
    clean, *_ = lifted(lifter, keypoints, SIZE)
    mended, *_ = lifted(lifter, wrong, SIZE, sure)
    bare, *_ = lifted(lifter, wrong, SIZE, sure, repair=False)
    kicks, kicked = (
        np.linalg.norm(poses - clean, axis=-1)[np.ix_(frames, LEGS[leg])].mean()
        for poses in (mended, bare)
    )
    assert kicks < 0.5 * kicked


def test_a_walk_is_left_alone(lifter):
    keypoints = seen_walk()
    _, marks, points = lifted(lifter, keypoints, SIZE)
    assert not marks.any()
    np.testing.assert_array_equal(points, keypoints.astype(np.float32))


def test_without_repair_nothing_is_put_back(lifter):
    random = np.random.default_rng(3)
    wrong, sure = pulled(seen_walk(), random, np.arange(40, 46), 0.8, 0)
    _, marks, points = lifted(lifter, wrong, SIZE, sure, repair=False)
    assert not marks.any()
    np.testing.assert_array_equal(points, wrong.astype(np.float32))


def seen_by(poses, world):
    """World poses (T, 17, 3) turned as a whole to be closest to poses in camera axes."""
    relative = world - world[:, :1]
    turn, _ = Rotation.align_vectors(poses.reshape(-1, 3), relative.reshape(-1, 3))
    return turn.apply(relative.reshape(-1, 3)).reshape(poses.shape)


def peak_speed(poses):
    """Of either ankle, m/s, the hip at rest."""
    return np.linalg.norm(np.diff(poses[:, ANKLES], axis=0), axis=-1).max(0) * FPS


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_simulated_legs_are_pulled(shared, lifter, noise):
    """By 0.3 to 1 of the trunk's length for 4 to 8 frames."""
    random = np.random.default_rng(1)
    errors, outside, kept, found, marked = [], [], [], [], []
    for motion in filmed(shared, ACTIONS, random, elevations=(-20, 35)):
        size, keypoints = motion.image_size, noisy(motion.keypoints[:110], random, noise)
        if len(keypoints) < 45:
            continue
        leg, length = random.integers(2), random.integers(4, 9)
        start = random.integers(12, len(keypoints) - length - 12)
        frames = np.arange(start, start + length)
        wrong, sure = pulled(keypoints, random, frames, random.uniform(0.3, 1), leg)
        bare, *_ = lifted(lifter, keypoints, size, repair=False)
        clean, marks, _ = lifted(lifter, keypoints, size)
        mended, found_there, _ = lifted(lifter, wrong, size, sure)
        kicked, *_ = lifted(lifter, wrong, size, sure, repair=False)
        truth = seen_by(bare, motion.world[: len(keypoints)])
        during = np.ix_(frames, LEGS[leg])
        after = np.ix_(frames[-1] + np.arange(2, 6), LEGS[leg])
        errors.append(
            [
                np.linalg.norm(poses - truth, axis=-1)[part].mean()
                for part in (during, after)
                for poses in (bare, mended, kicked)
            ]
        )
        far = np.r_[: frames[0] - 1, frames[-1] + 3 : len(keypoints)]
        outside.append(np.linalg.norm(mended - bare, axis=-1)[far].mean())
        found.append(found_there[during].mean())
        marked.append(marks[:, ANKLES].mean())
        kept.append(peak_speed(clean) / peak_speed(bare))
    undisturbed, put_back, alone, then, after, after_alone = 1000 * np.mean(errors, 0)
    kept = np.array(kept)
    print(
        f"\n{noise:.0%} noise, {len(errors)} clips: {np.mean(found):.1%} of pulled joints found; "
        f"error of the leg, mm, undisturbed {undisturbed:.1f}, pulled {alone:.1f}, put back "
        f"{put_back:.1f}; from the 2nd frame after it {then:.1f}, {after_alone:.1f}, {after:.1f};"
        f" outside poses differ by {1000 * np.mean(outside):.2f}, at most "
        f"{1000 * np.max(outside):.1f}; undisturbed {np.mean(marked):.2%} of ankles marked, peak "
        f"speed {kept.mean():.1%}, of {(kept < 0.95).mean():.1%} of ankles below 95 %"
    )
    # 0.31 of the error was reached without noise.
    assert put_back <= (0.4 if noise == 0 else 0.65) * alone
    assert after <= 1.2 * then
    assert np.max(outside) < 0.01
    assert np.mean(marked) <= 0.01
    assert kept.mean() >= 0.95
