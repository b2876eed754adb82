"""Contacts of feet, and bodies that are moved so that standing feet stay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import FPS, SPEED, standing_pose, tracks_of, walk
from scipy.ndimage import gaussian_filter1d, minimum_filter1d
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation
from simulation import filmed, finished, noisy

from gridpose.core import BONES
from gridpose.pipeline import VideoOptions
from gridpose.pipeline.exports import export_poses
from gridpose.pipeline.motion.contacts import FEET, foot_contacts
from gridpose.pipeline.motion.foot_lock import locked, with_locked_feet
from gridpose.pipeline.motion.smoothing import present_runs
from gridpose.pipeline.poses.file import read_pose_file


def wavering(poses, size, seed=0):
    """The same as lifters see it: places and limbs waver slowly."""
    random = np.random.default_rng(seed)
    drift = gaussian_filter1d(random.normal(0, 1, (len(poses), 1, 3)), 6, axis=0)
    limbs = gaussian_filter1d(random.normal(0, 1, poses.shape), 4, axis=0)
    drift, limbs = drift / drift.std(), limbs / limbs.std()
    return poses + size * (drift * (1, 1, 0.2) + 0.3 * limbs)


def slides(poses, contacts):
    """How far, m, each standing foot goes from where it is on average."""
    return np.array(
        [
            np.linalg.norm(foot - foot.mean(0), axis=-1).max()
            for column, joint in enumerate(FEET)
            for start, stop in present_runs(contacts[:, column])
            for foot in [poses[start:stop, joint]]
        ]
    )


def lengths(poses):
    return np.array([np.linalg.norm(poses[:, a] - poses[:, b], axis=-1) for a, b in BONES])


@pytest.mark.parametrize("travels", [True, False])
def test_contacts_are_where_feet_stand(travels):
    poses, truth = walk(travels=travels)
    seen = wavering(poses, 0.01)
    found = foot_contacts(seen.astype(np.float32), FPS, travels)
    wrong = found != truth
    # Where they begin and end is known to some frames.
    edges = np.abs(np.diff(truth, axis=0, prepend=truth[:1], append=truth[-1:])) > 0
    near = np.stack([np.convolve(edges[:-1, k], np.ones(9), "same") > 0 for k in range(2)], -1)
    assert (wrong & ~near).mean() < 0.02
    assert found.mean() == pytest.approx(truth.mean(), abs=0.1)


def test_nobody_stands_in_the_air_and_gaps_are_no_contacts():
    poses, _ = walk()
    poses[40:60] = np.nan
    found = foot_contacts(poses.astype(np.float32), FPS, True)
    assert not found[40:60].any()
    assert found[:40].any()
    flying = walk()[0]
    flying[..., 0] += 2 * np.arange(len(flying))[:, None] / FPS
    assert not foot_contacts(flying.astype(np.float32), FPS, True).any()
    handstand = standing_pose()[:, (2, 0, 1)] * np.float32(1)
    assert not foot_contacts(np.tile(handstand, (60, 1, 1)), FPS, True).any()


@settings(max_examples=15)
@given(size=st.floats(0, 0.04), seed=st.integers(0, 1000), travels=st.booleans())
def test_standing_feet_stay_and_bones_keep_their_lengths(size, seed, travels):
    poses, contacts = walk(travels=travels)
    tracks = tracks_of(wavering(poses, size, seed))
    tracks = replace(tracks, contacts=contacts[None])
    done = with_locked_feet(tracks).poses_world[0].astype(np.float64)
    assert np.isfinite(done).all()
    assert slides(done, contacts).max() < 0.005
    assert np.ptp(lengths(done), axis=1).max() < 1e-4
    # They walk as far as they did, in place or not.
    walked = done[-1, 0, 0] - done[0, 0, 0]
    assert walked == pytest.approx(SPEED * (len(poses) - 1) / FPS, abs=0.6)


def test_the_pelvis_follows_without_a_jerk():
    poses, contacts = walk()
    seen = wavering(poses, 0.02)

    assert jolts(locked(seen, contacts, FPS, True), poses) < 1.05 * jolts(seen, poses)


def test_without_contacts_nothing_is_moved():
    poses, contacts = walk()
    done = locked(poses, np.zeros_like(contacts), FPS, True)
    np.testing.assert_array_equal(done, poses)
    np.testing.assert_array_equal(locked(poses[:2], contacts[:2], FPS, True), poses[:2])


def test_exports_with_it_and_files_that_know_no_contacts(tmp_path):
    poses, _ = walk()
    tracks = tracks_of(wavering(poses, 0.03), wavering(poses, 0.03, 1), gaps=(50, 51))
    export_poses(tracks, tmp_path / "plain.npz")
    export_poses(tracks, tmp_path / "locked.npz", foot_lock=True)
    plain, done = (read_pose_file(tmp_path / f"{name}.npz") for name in ("plain", "locked"))
    assert not plain.contacts.any()
    assert done.contacts.any()
    before, after = (slides(t.poses_world[0], done.contacts[0]) for t in (plain, done))
    assert np.median(before) > 0.01
    assert after.max() < 0.005
    np.testing.assert_array_equal(done.present, plain.present)
    assert np.isnan(done.poses_world[1, 50:52]).all()


@pytest.mark.slow
@pytest.mark.parametrize("travels", [True, False])
def test_simulated_walks_of_real_people(shared, lifter, travels):
    """Motion capture before still cameras, with 1 % noise, through all stages after detection."""
    random = np.random.default_rng(0)
    agreed = claimed = standing = 0
    slid, pelvis, walked = [], [], []
    for motion in filmed(shared, ("walking", "walking_extra", "walk"), random):
        options = VideoOptions(trajectory=travels, fov=motion.fov)
        seen = noisy(motion.keypoints, random, 0.01)
        people = finished(seen, motion.image_size, lifter, options)
        tracks = tracks_of(np.stack([one.pose_world for (one,) in people]))
        contacts = np.stack([one.contacts for (one,) in people])
        stands = really_stands(motion.world)
        agreed, claimed = agreed + (contacts & stands).sum(), claimed + contacts.sum()
        standing += stands.sum()

        tracks = replace(tracks, fps=30.0, contacts=contacts[None])
        before, after = tracks.poses_world[0], with_locked_feet(tracks).poses_world[0]
        slid.append(slides(after, contacts))
        truth = turned_as(before, motion.world)
        pelvis.append([jolts(poses, truth) for poses in (before, after)])
        walked.append(
            np.linalg.norm(after[-1, 0] - after[0, 0]) / np.linalg.norm(truth[-1, 0] - truth[0, 0])
        )
    worst, (before, after) = np.concatenate(slid).max(), np.mean(pelvis, 0)
    print(
        f"\n{len(slid)} walks: {agreed / claimed:.1%} of contacts right, "
        f"{agreed / standing:.1%} found; they slide at most {1000 * worst:.1f} mm; "
        f"pelvis {1000 * before:.2f} -> {1000 * after:.2f} mm/frame²; length "
        f"{np.median(walked):.2f}"
    )
    assert len(slid) >= 15
    assert agreed > (0.9 if travels else 0.8) * claimed
    assert agreed > (0.85 if travels else 0.75) * standing
    assert worst <= 0.005
    assert after <= before
    assert 0.85 < np.median(walked) < 1.05


def really_stands(world):
    """(T, 2) by the motion capture: ankles slower than 0.35 m/s, and as low as they come."""
    feet = world[:, FEET]
    smooth = savgol_filter(feet, 5, 2, axis=0)
    speed = np.linalg.norm(np.gradient(smooth, 1 / 30, axis=0), axis=-1)
    lowest = minimum_filter1d(feet[..., 2].min(1), 31)
    return (speed < 0.35) & (feet[..., 2] < lowest[:, None] + 0.06)


def turned_as(poses, truth):
    """The truth (T, 17, 3) turned to the axes that poses were seen in."""
    bodies = [(one - one[:, :1]).reshape(-1, 3) for one in (poses, truth)]
    rotation, _ = Rotation.align_vectors(*bodies)
    return rotation.apply(truth.reshape(-1, 3)).reshape(truth.shape)


def jolts(poses, truth):
    """Mean error of the pelvis's second difference, m."""
    error = np.diff(poses[:, 0].astype(float), 2, axis=0) - np.diff(truth[:, 0], 2, axis=0)
    return np.linalg.norm(error, axis=-1).mean()
