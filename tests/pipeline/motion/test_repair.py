from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import Repair
from gridpose.pipeline.motion.repair import (
    CHUNK,
    KeypointRepair,
    filled,
    outliers,
    person_size,
    repaired,
)
from gridpose.pipeline.motion.tracking import Observation

FPS = 30.0
FRAMES = 90
POSE = np.load(Path(__file__).parents[2] / "data" / "mocap_small.npz")["positions"][0]


def walk(frames=FRAMES, noise=0.0, heading=0.0, seed=0):
    """(T, 17, 2) px of somebody who walks: straight legs and arms that cross in the side view.

    ``heading`` is 0 for the front view, a right angle for the side view.
    """
    phase = 2 * np.pi * np.arange(frames) / FPS
    points = np.repeat((POSE - POSE[0])[None], frames, 0)
    right, up = points[0, 1] - points[0, 4], np.array((0.0, 0.0, 1.0))
    forward = np.cross(up, right / np.linalg.norm(right))
    for hip, knee, ankle, sign in ((1, 2, 3, 1), (4, 5, 6, -1)):
        for joint, length in ((knee, 0.44), (ankle, 0.89)):
            angle = sign * 0.5 * np.sin(phase)[:, None]
            points[:, joint] = points[:, hip] + length * (
                np.sin(angle) * forward - np.cos(angle) * up
            )
    for shoulder, elbow, wrist, sign in ((14, 15, 16, -1), (11, 12, 13, 1)):
        for joint, length in ((elbow, 0.28), (wrist, 0.53)):
            angle = sign * 0.6 * np.sin(phase)[:, None]
            points[:, joint] = points[:, shoulder] + length * (
                np.sin(angle) * forward - np.cos(angle) * up
            )
    across = -right / np.linalg.norm(right) * np.cos(heading) + forward * np.sin(heading)
    pixels = 200 * np.stack((points @ across, -points[..., 2]), -1) + (640, 360)
    pixels[..., 0] += 2.0 * np.arange(frames)[:, None]
    random = np.random.default_rng(seed)
    return (pixels + random.normal(0, noise, pixels.shape)).astype(np.float32)


def test_outliers_are_found_and_fast_limbs_are_none():
    keypoints = walk(noise=1.0, heading=np.pi / 2)
    assert not outliers(keypoints, FPS, person_size(keypoints)).any()
    keypoints[33, 16] += (90, -40)
    keypoints[60:62, 3] -= (0, 80)
    found = np.argwhere(outliers(keypoints, FPS, person_size(keypoints))).tolist()
    assert found == [[33, 16], [60, 3], [61, 3]]


def test_gaps_are_filled_up_to_a_limit():
    keypoints = walk(heading=0.5)
    holes = keypoints.copy()
    holes[30:36] = np.nan
    holes[50:65] = np.nan
    holes[:3] = np.nan
    result, marks = filled(holes, FPS)
    assert np.flatnonzero(marks.all(1)).tolist() == list(range(30, 36))
    assert np.isnan(result[50:65]).all()
    assert np.isnan(result[:3]).all()
    assert np.abs(result[30:36] - keypoints[30:36]).max() < 0.05 * person_size(keypoints)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 16)), max_size=12),
    st.lists(st.integers(0, 39), max_size=15),
)
def test_repair_never_invents_or_loses_people(strange, missing):
    keypoints = walk(40, noise=1.0)
    for frame, joint in strange:
        keypoints[frame, joint] += 150
    keypoints[list(missing)] = np.nan
    result, flags = repaired(keypoints, FPS)
    seen = np.isfinite(keypoints).all((1, 2))
    assert np.isfinite(result[seen]).all()
    new = ~seen & np.isfinite(result).all((1, 2))
    assert (flags[new] & Repair.FILLED).all()
    untouched = flags == 0
    np.testing.assert_array_equal(
        result[untouched & seen[:, None]], keypoints[untouched & seen[:, None]]
    )
    if not seen.any():
        assert np.isnan(result).all()


def observation(keypoints):
    box = np.concatenate((keypoints.min(0), keypoints.max(0)))
    return Observation(box, keypoints, np.full(17, 0.8, np.float32))


def repair(frames, **options):
    """Frames are (17, 2) px or None where the person is not seen."""
    stage = KeypointRepair(FPS, **options)
    out = []
    for number, frame in enumerate(frames):
        stage.add({} if frame is None else {5: observation(frame)})
        out.extend(stage.finished())
        assert len(out) <= number + 1
    waiting = len(frames) - len(out)
    assert waiting <= stage.look_ahead + CHUNK
    return [people.get(5) for people in out + list(stage.finished(at_end=True))]


def test_clean_people_pass_unchanged():
    keypoints = walk(200)
    out = repair(list(keypoints))
    assert len(out) == 200
    for frame, person in enumerate(out):
        np.testing.assert_array_equal(person.keypoints, keypoints[frame])
        assert not person.repaired.any()
        assert person.confidence.min() == np.float32(0.8)


def test_streaming_finds_what_the_whole_clip_shows():
    keypoints = walk(200, noise=1.0, heading=0.4)
    wrong = keypoints.copy()
    wrong[150, 13] += 120
    frames = list(wrong)
    for frame in range(60, 66):
        frames[frame] = None
    out = repair(frames)
    flags = np.stack([person.repaired for person in out])
    assert np.flatnonzero((flags & Repair.FILLED).all(1)).tolist() == list(range(60, 66))
    assert flags[150, 13] == Repair.FILLED
    mended = np.stack([person.keypoints for person in out])
    assert np.abs(mended - keypoints).max() < 0.05 * person_size(keypoints)
    assert not out[62].seen
    assert out[62].confidence.max() < 0.5
    box = out[62].bbox
    assert box[0] == pytest.approx(keypoints[62, :, 0].min(), abs=10)


def test_long_absence_is_absence():
    keypoints = walk(200)
    frames = list(keypoints)
    for frame in range(60, 100):
        frames[frame] = None
    out = repair(frames)
    assert [person is not None for person in out] == [not 60 <= frame < 100 for frame in range(200)]


def test_without_repair_and_smoothing_nothing_waits_or_changes():
    stage = KeypointRepair(FPS, "nothing", "none")
    wrong = walk(40)
    wrong[20:25, 13] += 120
    out = []
    for keypoints in wrong:
        stage.add({1: observation(keypoints)})
        out.extend(stage.finished())
    assert len(out) == 40
    np.testing.assert_array_equal(np.stack([people[1].keypoints for people in out]), wrong)
    assert all(people[1].smoothed is None for people in out)


@pytest.mark.parametrize("smoothing", ["savgol", "one-euro", "butterworth"])
def test_steady_keypoints_are_smooth(smoothing):
    noisy = walk(120, noise=3.0)
    out = repair(list(noisy), smoothing=smoothing)
    steady = np.stack([person.smoothed for person in out])

    def jitter(points):
        return np.linalg.norm(np.diff(points, 2, axis=0), axis=-1).mean()

    assert jitter(steady) < 0.5 * jitter(noisy)
    assert np.abs(steady - walk(120)).mean() < np.abs(noisy - walk(120)).mean()
