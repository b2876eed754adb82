"""What every 2D detector answers, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from gridpose.core import FloatArray, ImageArray
from gridpose.detectors.conventions import Convention


@dataclass(frozen=True)
class Detection:
    """One person in one frame.

    ``bbox`` (4,) xyxy px; ``keypoints`` (K, 2) px, x right, y down, in the order of the detector's
    convention; ``confidence`` (K,) in [0, 1], 0 where a keypoint is not seen, as outside of the
    picture: its place is a guess. ``person_id`` is the same wherever the detector takes
    people for the same person, and nobody else's in this video; None where it does not follow them.
    """

    bbox: FloatArray
    keypoints: FloatArray
    confidence: FloatArray
    person_id: int | None = None


class Detector(Protocol):
    """Finds people and their 2D keypoints. A context manager: leaving it frees the model."""

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> Convention: ...

    @property
    def weights_sha256(self) -> str: ...

    @property
    def reason(self) -> str:
        """Why this detector, and how it runs: a clause for the user."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """What had to be assumed, a sentence each."""
        ...

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """Detect in consecutive frames of one video.

        Args:
            frames: (H, W, 3) uint8 RGB images of one size.
            times: presentation times in seconds, rising across calls too.

        Returns:
            For each frame its people, in no particular order.
        """
        ...

    def forget(self) -> None:
        """Forget who was seen: another video follows."""
        ...

    def __enter__(self) -> Detector: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
