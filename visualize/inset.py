"""Where the inset of a layout lies: in a corner that hides nobody, if there is one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from gridpose.core import DoubleArray, Person, UsageError

Corner = Literal["bottom-right", "top-right", "bottom-left", "top-left"]
CORNERS: Final[tuple[Corner, ...]] = get_args(Corner)
_SIZE = 0.3
_SMALLEST, _LARGEST = 0.1, 0.5
_MEMORY_SECONDS = 1.5
_COVERED, _BETTER = 0.2, 0.3
"""A corner is left when so much of it is taken, and of the other one less than so much of that."""
_COVERED_SECONDS, _STAY_SECONDS, _FADE_SECONDS = 2.0, 3.0, 0.8


@dataclass(frozen=True)
class Inset:
    """A square in a corner, None for the emptiest; its side is ``size`` of the longer side of the
    picture.
    """

    corner: Corner | None = None
    size: float = _SIZE


AUTO_INSET: Final = Inset()


def parse_inset(text: str) -> Inset:
    """The inset that a text names: ``CORNER``, ``CORNER,SIZE`` or ``SIZE``.

    Raises:
        UsageError: no such corner, or a size out of range.
    """
    found = re.fullmatch(r"([a-z-]*[a-z])?(?:(?:^|,)(\d*\.?\d+))?", text.replace(" ", ""))
    named = found[1] or "auto" if found and text else ""
    size = float(found[2] or _SIZE) if found else 0.0
    corners: dict[str, Corner | None] = {"auto": None, **{corner: corner for corner in CORNERS}}
    if named not in corners or not _SMALLEST <= size <= _LARGEST:
        raise UsageError(
            f"`inset={text}`: must be CORNER, SIZE or CORNER,SIZE, the corner one of "
            f"{', '.join(corners)}, the size between {_SMALLEST} and {_LARGEST} of the longer side"
        )
    return Inset(corners[named], size)


class EmptiestCorner:
    """Chooses a corner, and another one when people have been there for long.

    Args:
        areas: (C, 4) left, top, right, bottom of each corner's, px.
    """

    def __init__(self, areas: DoubleArray) -> None:
        self._areas = areas
        self.cut()

    def cut(self) -> None:
        """Choose anew."""
        self.corner: int = 0
        self.before: int = 0
        """The one left last."""
        self._taken: DoubleArray | None = None
        self._since, self._covered = math.inf, 0.0
        self._fixed = False

    def fix(self, moments: Iterable[Sequence[Person]]) -> None:
        """Stay where there are fewest people in all of some frames."""
        taken = sum((self._taken_by(people) for people in moments), np.zeros(len(self._areas)))
        self.corner = self.before = int(np.argmin(taken))
        self._fixed = True

    def follow(
        self, people: Sequence[Person], elapsed: float, upcoming: Sequence[Sequence[Person]]
    ) -> float:
        """Take in who is there, and who will be.

        Returns:
            How far the change from the corner before to the present one is, in [0, 1].
        """
        if self._fixed:
            return 1.0
        self._since += elapsed
        ahead = [self._taken_by(those) for those in (people, *upcoming[::4])]
        now = np.mean(ahead, axis=0)
        if self._taken is None:
            self._taken = now
            self.corner = self.before = int(np.argmin(now))
        share = 1 - math.exp(-elapsed / _MEMORY_SECONDS)
        self._taken = self._taken + share * (now - self._taken)
        best = int(np.argmin(np.maximum(self._taken, now)))
        here, there = self._taken[self.corner], max(self._taken[best], now[best])
        covered = here > _COVERED and there < _BETTER * here
        self._covered = self._covered + elapsed if covered else 0.0
        if self._covered > _COVERED_SECONDS and self._since > _STAY_SECONDS:
            self.before, self.corner, self._since, self._covered = self.corner, best, 0.0, 0.0
        part = min(1.0, self._since / _FADE_SECONDS)
        return part * part * (3 - 2 * part)

    def _taken_by(self, people: Sequence[Person]) -> DoubleArray:
        """(C,) parts of each corner's area that people's boxes take."""
        areas = self._areas
        sizes = areas[:, 2:] - areas[:, :2]
        taken = np.zeros(len(areas))
        for person in people:
            low = np.maximum(areas[:, :2], person.bbox[:2])
            high = np.minimum(areas[:, 2:], person.bbox[2:])
            taken += (np.maximum(high - low, 0) / sizes).prod(-1)
        return np.nan_to_num(taken)
