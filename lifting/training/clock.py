"""How far a training is."""

from __future__ import annotations

import time


class Clock:
    """Tells how far a training is: by its steps, or by the time that it may take.

    Epochs take equal shares of the time, with whatever is between them.

    Args:
        epochs: of the training.
        seconds: which all of them may take; None counts steps.
    """

    def __init__(self, epochs: int, seconds: float | None) -> None:
        self.epochs = epochs
        self._epoch_seconds = None if seconds is None else seconds / epochs
        self._began = time.monotonic()

    @property
    def limits_time(self) -> bool:
        return self._epoch_seconds is not None

    def start(self, epoch: int) -> None:
        """Training begins, or goes on, with this epoch (from 0)."""
        self._began = time.monotonic() - epoch * (self._epoch_seconds or 0)

    def share(self, epoch: int, done: int, steps: int) -> float:
        """Share of an epoch that is over after ``done`` of its ``steps``, from 0 to 1."""
        if self._epoch_seconds is None:
            return done / steps
        elapsed = time.monotonic() - self._began
        return min(1.0, max(0.0, elapsed / self._epoch_seconds - epoch))
