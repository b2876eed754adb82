"""People who are not shown, and how to tell it; light, because a run tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Reason = Literal["small", "implausible", "brief"]

_REASONS: Final[dict[Reason, str]] = {
    "small": "much smaller than the others",
    "implausible": "no likely body",
    "brief": "seen for less than half a second",
}


@dataclass(frozen=True)
class LeftOut:
    """Somebody detected of whom nothing was shown.

    ``frames`` is in how many they were, from ``first`` to ``last``, counted from 0; ``height_px``
    their height in the picture, or the width if they lie.
    """

    reason: Reason
    frames: int
    first: int
    last: int
    height_px: float

    def to_dict(self, times: Sequence[float]) -> dict[str, Any]:
        """For the pose file's ``meta``; ``times`` are the seconds of all frames."""
        return {
            "reason": _REASONS[self.reason],
            "frames": self.frames,
            "first": round(times[self.first], 3),
            "last": round(times[self.last], 3),
            "height_px": round(self.height_px, 1),
        }


def left_out_note(people: Sequence[LeftOut]) -> str:
    """A sentence for the user on who was left out and why."""
    counts = Counter(_REASONS[person.reason] for person in people)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    who = "1 person" if len(people) == 1 else f"{len(people)} people"
    return f"{who} left out: {reasons}; `persons=everyone` keeps them"
