"""Temporal smoothing of joint trajectories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.signal import butter, savgol_filter, sosfiltfilt

from gridpose.core import AnyArray, FloatArray
from gridpose.pipeline.motion.choices import Smoothing

SAVGOL_SECONDS = 0.3
BUTTERWORTH_HZ = 6.0


def present_runs(present: AnyArray) -> list[tuple[int, int]]:
    """Half-open index ranges in which ``present`` (T,) bool is True without a break."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], present, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def savgol(values: AnyArray, fps: float) -> AnyArray:
    """Zero-phase Savitzky-Golay (quadratic, 0.3 s) along axis 0 of (T, ...), without NaN.

    Savitzky & Golay (1964). Too few frames for the filter are left as they are.
    """
    window = max(5, round(SAVGOL_SECONDS * fps) | 1)
    length = min(window, (len(values) - 1) | 1)
    return values if length < 5 else np.asarray(savgol_filter(values, length, 2, axis=0))


def butterworth(values: AnyArray, fps: float, cutoff: float = BUTTERWORTH_HZ) -> AnyArray:
    """Zero-phase Butterworth low-pass along axis 0 of (T, ...), without NaN.

    Second order run forwards and backwards, the custom of biomechanics (Winter, "Biomechanics and
    Motor Control of Human Movement"); the cut-off, Hz, holds for both passes together. Too few
    frames for the filter, and a rate too low for the cut-off, are left as they are.
    """
    # Two passes of order 2 attenuate as one of order 4; this factor puts the cut-off back.
    single = cutoff / (np.sqrt(2) - 1) ** 0.25
    if single >= 0.45 * fps or len(values) < 5:
        return values
    sections = butter(2, single, fs=fps, output="sos")
    pad = min(len(values) - 1, round(fps / cutoff) * 2)
    return np.asarray(sosfiltfilt(sections, values, axis=0, padlen=pad))


class OneEuro:
    """One-Euro filter of values (...) that come one at a time, however unevenly.

    Casiez, Roussel & Vogel, "1 Euro Filter", CHI 2012. Causal: less lag when a joint moves fast.

    Args:
        min_cutoff: cut-off frequency of what stands still, Hz.
        beta: by how much it rises, Hz per (unit/s).
        derivative_cutoff: cut-off frequency of the speed, Hz.
    """

    def __init__(
        self, min_cutoff: float = 1.5, beta: float = 3.0, derivative_cutoff: float = 1.0
    ) -> None:
        self._min_cutoff, self._beta = min_cutoff, beta
        self._derivative_cutoff = derivative_cutoff
        self._state: AnyArray | None = None
        self._slope: AnyArray = np.zeros(())

    def __call__(self, values: AnyArray, elapsed: float) -> AnyArray:
        """The next values, smoothed; ``elapsed`` seconds after those before, more than 0."""
        if self._state is None:
            self._state, self._slope = values, np.zeros_like(values)
            return values

        def weight(cutoff: AnyArray | float) -> AnyArray:
            return np.asarray(1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff) * elapsed)))

        slope = (values - self._state) / elapsed
        self._slope = self._slope + weight(self._derivative_cutoff) * (slope - self._slope)
        cutoff = self._min_cutoff + self._beta * np.abs(self._slope)
        self._state = self._state + weight(cutoff) * (values - self._state)
        return self._state


def one_euro(values: AnyArray, fps: float) -> AnyArray:
    """:class:`OneEuro` along axis 0 of (T, ...), without NaN."""
    euro, result = OneEuro(), values.copy()
    for index, value in enumerate(values):
        result[index] = euro(value, 1 / fps)
    return result


_FILTERS: Final[dict[str, Callable[[AnyArray, float], AnyArray]]] = {
    "savgol": savgol,
    "butterworth": butterworth,
    "one-euro": one_euro,
}


def smooth(values: FloatArray, fps: float, method: Smoothing) -> FloatArray:
    """Smooth (T, ...) trajectories sampled at ``fps``, each stretch without NaN by itself."""
    if method == "none":
        return values
    result = values.copy()
    present = np.isfinite(values.reshape(len(values), -1)).all(-1)
    for start, stop in present_runs(np.asarray(present)):
        result[start:stop] = _FILTERS[method](values[start:stop], fps)
    return result
