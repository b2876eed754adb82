import numpy as np
import pytest

from gridpose.pipeline.motion.smoothing import butterworth, one_euro, present_runs, savgol, smooth

FPS = 30.0


def jittery(seed=0):
    generator = np.random.default_rng(seed)
    seconds = np.arange(150) / FPS
    clean = np.stack((np.sin(2 * seconds), seconds, 0 * seconds), -1)[:, None].astype(np.float32)
    return clean, (clean + generator.normal(0, 0.01, clean.shape)).astype(np.float32)


@pytest.mark.parametrize("method", ["savgol", "one-euro", "butterworth"])
def test_noise_goes_and_movement_stays(method):
    clean, noisy = jittery()
    steady = smooth(noisy, FPS, method)
    still = steady[:, 0, 2]
    assert np.abs(np.diff(still)).mean() < 0.5 * np.abs(np.diff(noisy[:, 0, 2])).mean()
    # One-Euro pays for its smoothness with lag: 0.03 at 2 units/s is 15 ms.
    allowed = 0.03 if method == "one-euro" else np.abs(noisy - clean).mean()
    assert np.abs(steady - clean).mean() < allowed


def test_savgol_has_no_lag_and_one_euro_little():
    clean, _ = jittery()
    assert np.abs(savgol(clean, FPS) - clean).max() < 0.01
    assert np.abs(butterworth(clean, FPS) - clean).max() < 0.01
    assert np.abs(one_euro(clean, FPS) - clean)[30:].max() < 0.1


def test_none_changes_nothing():
    _, noisy = jittery()
    np.testing.assert_array_equal(smooth(noisy, FPS, "none"), noisy)


@pytest.mark.parametrize("method", ["savgol", "one-euro", "butterworth"])
def test_gaps_stay_gaps_and_are_not_smeared(method):
    _, noisy = jittery()
    noisy[50:60] = np.nan
    noisy[60:] += 5
    steady = smooth(noisy, FPS, method)
    assert np.isnan(steady[50:60]).all()
    assert np.isfinite(np.delete(steady, np.s_[50:60], axis=0)).all()
    assert np.abs(steady[:50]).max() < 3
    assert steady[60:, 0, 1].min() > 5


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6])
def test_short_runs_are_left_usable(length):
    values = np.random.default_rng(0).normal(size=(length, 17, 3)).astype(np.float32)
    assert np.isfinite(savgol(values, FPS)).all()
    assert np.isfinite(butterworth(values, FPS)).all()


@pytest.mark.parametrize(("hertz", "gain"), [(1, 1.0), (6, 0.7071), (12, 0.12)])
def test_butterworth_cuts_off_where_it_says(hertz, gain):
    seconds = np.arange(600) / 120
    wave = np.sin(2 * np.pi * hertz * seconds)[:, None]
    found = np.abs(butterworth(wave, 120.0)[200:400]).max()
    assert found == pytest.approx(gain, abs=0.03)


def test_butterworth_leaves_slow_videos_alone():
    _, noisy = jittery()
    np.testing.assert_array_equal(butterworth(noisy, 10.0), noisy)


def test_present_runs():
    assert present_runs(np.array([0, 1, 1, 0, 1], bool)) == [(1, 3), (4, 5)]
    assert present_runs(np.zeros(4, bool)) == []
