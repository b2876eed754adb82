"""Temporal smoothing of joint trajectories."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, savgol_filter, sosfiltfilt

from gridpose.core import AnyArray, FloatArray
from gridpose.pipeline.options import Smoothing as Smoothing

SAVGOL_SECONDS = 0.3
BUTTERWORTH_HZ = 6.0


def present_runs(present: AnyArray) -> list[tuple[int, int]]:
    """Half-open index ranges in which ``present`` (T,) bool is True without a break."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], present, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def savgol(values: FloatArray, fps: float) -> FloatArray:
    """Zero-phase Savitzky-Golay (quadratic, 0.3 s) along axis 0 of (T, ...); NaN gaps stay.

    Savitzky & Golay (1964). A run of frames too short for the filter is left as it is.
    """
    window = max(5, round(SAVGOL_SECONDS * fps) | 1)
    result = values.copy()
    flat = values.reshape(len(values), -1)
    for start, stop in present_runs(np.asarray(np.isfinite(flat).all(-1))):
        length = min(window, (stop - start - 1) | 1)
        if length >= 5:
            result[start:stop] = savgol_filter(values[start:stop], length, 2, axis=0)
    return result


def butterworth(values: FloatArray, fps: float, cutoff: float = BUTTERWORTH_HZ) -> FloatArray:
    """Zero-phase Butterworth low-pass along axis 0 of (T, ...); NaN gaps stay.

    Second order run forwards and backwards, the custom of biomechanics (Winter, "Biomechanics and
    Motor Control of Human Movement"); the cut-off, Hz, holds for both passes together. A run of
    frames too short for the filter, and a rate too low for the cut-off, are left as they are.
    """
    result = values.copy()
    # Two passes of order 2 attenuate as one of order 4; this factor puts the cut-off back.
    single = cutoff / (np.sqrt(2) - 1) ** 0.25
    if single >= 0.45 * fps:
        return result
    sections = butter(2, single, fs=fps, output="sos")
    flat = values.reshape(len(values), -1)
    for start, stop in present_runs(np.asarray(np.isfinite(flat).all(-1))):
        length = stop - start
        if length >= 5:
            pad = min(length - 1, round(fps / cutoff) * 2)
            result[start:stop] = sosfiltfilt(sections, values[start:stop], axis=0, padlen=pad)
    return result


def one_euro(
    values: FloatArray,
    fps: float,
    min_cutoff: float = 1.5,
    beta: float = 3.0,
    derivative_cutoff: float = 1.0,
) -> FloatArray:
    """One-Euro filter along axis 0 of (T, ...); restarts after NaN gaps.

    Casiez, Roussel & Vogel, "1 Euro Filter", CHI 2012. Causal: less lag when a joint moves fast.
    Cut-off frequencies in Hz; ``beta`` in Hz per (unit/s).
    """
    result = values.copy()
    flat = values.reshape(len(values), -1)

    def weight(cutoff: AnyArray | float) -> AnyArray:
        tau = 1 / (2 * np.pi * np.asarray(cutoff))
        return np.asarray(1 / (1 + tau * fps))

    for start, stop in present_runs(np.asarray(np.isfinite(flat).all(-1))):
        state, slope = values[start], np.zeros_like(values[start])
        for index in range(start + 1, stop):
            raw_slope = (values[index] - state) * fps
            slope = slope + weight(derivative_cutoff) * (raw_slope - slope)
            state = state + weight(min_cutoff + beta * np.abs(slope)) * (values[index] - state)
            result[index] = state
    return result


def smooth(values: FloatArray, fps: float, method: Smoothing) -> FloatArray:
    """Smooth (T, ...) trajectories sampled at ``fps``."""
    if method == "savgol":
        return savgol(values, fps)
    if method == "butterworth":
        return butterworth(values, fps)
    if method == "one-euro":
        return one_euro(values, fps)
    return values
