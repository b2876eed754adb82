"""What a detector gets wrong over time: :mod:`.detector_errors` for sequences.

Part of an error is the same in all frames of a sequence, a third of the rest persists to the next
frame; joints leap off and sides are exchanged for some frames at a time; people are cut by the
border of the picture or by what stands before them. Sizes are shares of the person's extent, as
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gridpose.core import NUM_JOINTS
from gridpose.lifting.synthesis.keypoint_errors import ARMS, LEGS, KeypointErrors

_PARTS = (
    LEGS, (0, *LEGS), (3, 6), (2, 3, 5, 6), (1, 2, 3), (4, 5, 6), (11, 12, 13), (14, 15, 16),
    (12, 13, 15, 16), (9, 10), (13,), (16,), (1, 2, 3, 14, 15, 16), (4, 5, 6, 11, 12, 13),
    (7, 8, 9, 10, *ARMS),
)  # fmt: skip
_PART_SHARES = (4, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)


@dataclass(frozen=True)
class SequenceErrors:
    """How the keypoints of a window differ from the projections of Human3.6M's joints."""

    clean: float = 0.15
    """Share of windows with exact 2D."""
    derived: float = 0.4
    """Share of windows whose hip, spine and thorax come from hips and shoulders, as with COCO."""
    offsets: float = 0.25
    """As in :class:`gridpose.lifting.synthesis.detector_errors.DetectorErrors`."""
    noise: float = 0.0105
    noise_spread: float = 0.4
    persistence: float = 1 / 3
    along_limb: float = 1.3
    bias: float = 0.007
    """Error that is the same in all frames, besides the offsets."""
    leap: float = 0.003
    """Chance that a joint leaps off in a frame, for one to six frames, and how far."""
    leap_frames: int = 6
    leap_sigma: float = 0.14
    exchange: float = 0.007
    """Chance that sides are exchanged from a frame on, for two to eight frames, rarely more."""
    exchange_frames: tuple[int, int, int] = (2, 8, 15)
    exchange_legs: float = 0.65
    told: float = 0.5
    """Share of leaps with low confidence."""
    unseen: float = 0.3
    """Share of windows in which a part of the body is not seen, most often all the time."""
    guessed: float = 0.4
    """Share of those in which it is guessed, with low confidence, instead of being told unseen."""
    gap: float = 0.15
    """Share of windows in which the person is not found for up to ten frames."""
    unrated: float = 0.25
    """Share of windows in which the detector gives no confidence."""


@dataclass(frozen=True)
class Detected:
    """``keypoints`` (B, T, 17, 2) pixels, ``confidence`` and ``valid`` (B, T, 17)."""

    keypoints: Tensor
    confidence: Tensor
    valid: Tensor


class SequenceErrorModel(KeypointErrors):
    """Applies :class:`SequenceErrors` to windows."""

    def __init__(self, errors: SequenceErrors, generator: torch.Generator) -> None:
        super().__init__(errors.offsets, errors.along_limb, generator)
        self.errors = errors
        self._sides = _rows((LEGS, (*LEGS, *ARMS))).to(self.device)
        self._parts = _rows(_PARTS).to(self.device)
        self._part_shares = torch.tensor(_PART_SHARES, dtype=torch.float, device=self.device)

    def misplace(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B, T, 17, 3), metres in camera axes, where a detector sees them, and which
        windows (B,) have errors at all; :meth:`detect` wants both.
        """
        moved, derived, noisy = self._misplaced(joints, self.errors.clean)
        use = (self.uniform(len(joints)) < self.errors.derived) & noisy
        return torch.where(use[:, None, None, None], derived, moved), noisy

    def detect(self, keypoints: Tensor, noisy: Tensor, image_size: Tensor) -> Detected:
        """Add errors to the keypoints (B, T, 17, 2), pixels, of the windows that have any."""
        errors = self.errors
        batch, frames = keypoints.shape[:2]
        extent = (keypoints.amax(2) - keypoints.amin(2)).amax(-1)[..., None, None]
        level = (errors.noise_spread * self.normal(batch, 1, 1, 1)).clamp(-2, 2).exp()
        error = errors.noise * self._lasting_noise(keypoints) + errors.bias * self.normal(
            batch, 1, NUM_JOINTS, 2
        )
        often = (0.5 * self.normal(batch, 1, 1)).clamp(-2, 2).exp()
        leaps, leaping = self._leaps(often, frames)
        shown = keypoints + extent * (level * error + leaps)
        shown = self._exchange(shown, often)

        confidence = 0.75 + 0.25 * self.uniform(batch, frames, NUM_JOINTS)
        low = 0.1 + 0.5 * self.uniform(batch, frames, NUM_JOINTS)
        confidence = torch.where(leaping, low, confidence)
        shown, confidence, valid = self._hide(shown, confidence, extent, image_size)
        rated = self.uniform(batch, 1, 1) >= errors.unrated
        confidence = torch.where(rated, confidence, 1.0)
        shown = torch.where(noisy[:, None, None, None], shown, keypoints)
        return Detected(shown, confidence, valid & self._found(batch, frames))

    def hide(self, keypoints: Tensor, image_size: Tensor) -> Detected:
        """Keypoints (B, T, 17, 2), pixels, less what is covered or outside of the picture."""
        batch, frames = keypoints.shape[:2]
        extent = (keypoints.amax(2) - keypoints.amin(2)).amax(-1)[..., None, None]
        sure = torch.ones_like(keypoints[..., 0])
        shown, confidence, valid = self._hide(keypoints, sure, extent, image_size)
        return Detected(shown, confidence, valid & self._found(batch, frames))

    def _lasting_noise(self, keypoints: Tensor) -> Tensor:
        errors, fresh = self.errors, self._noise(keypoints)
        # What persists fades geometrically, so some frames say all of it.
        kept, renewed = errors.persistence, (1 - errors.persistence**2) ** 0.5
        noise: Tensor = renewed * fresh
        for back in range(1, 5):
            noise[:, back:] += renewed * kept**back * fresh[:, :-back]
        return noise

    def _lasting(self, starts: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Which frames (dimension 1) are within an event, and how far back it began."""
        active, back = torch.zeros_like(starts), torch.zeros_like(lengths)
        for age in range(min(longest, starts.shape[1])):
            size = starts.shape[1] - age
            begun = starts[:, :size] & (lengths[:, :size] > age) & ~active[:, age:]
            active[:, age:] |= begun
            back[:, age:] = torch.where(begun, age, back[:, age:])
        return active, back

    def _leaps(self, often: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Offsets (B, T, 17, 2) as shares of the extent, and which of them have low confidence."""
        errors, batch = self.errors, len(often)
        starts = self.uniform(batch, frames, NUM_JOINTS) < errors.leap * often
        lengths = (1 + errors.leap_frames * self.uniform(batch, frames, NUM_JOINTS)).long()
        active, back = self._lasting(starts, lengths, errors.leap_frames)
        index = torch.arange(frames, device=self.device)[:, None] - back
        offset = errors.leap_sigma * self.normal(batch, frames, NUM_JOINTS, 2)
        offset = offset.gather(1, index[..., None].expand_as(offset)) * active[..., None]
        told = self.uniform(batch, frames, NUM_JOINTS).gather(1, index) < errors.told
        return offset, active & told

    def _exchange(self, keypoints: Tensor, often: Tensor) -> Tensor:
        errors, (batch, frames) = self.errors, keypoints.shape[:2]
        shortest, usual, longest = errors.exchange_frames
        starts = self.uniform(batch, frames) < errors.exchange * often[..., 0]
        most = torch.where(self.uniform(batch, frames) < 0.15, longest, usual)
        lengths = (shortest + (most - shortest + 1) * self.uniform(batch, frames)).long()
        active, back = self._lasting(starts, lengths, longest)
        index = torch.arange(frames, device=self.device) - back
        legs = self.uniform(batch, frames).gather(1, index) < errors.exchange_legs
        joints = self._sides[torch.where(legs, 0, 1)] & active[..., None]
        return torch.where(joints[..., None], keypoints[:, :, self._mirrored], keypoints)

    def _hide(
        self, keypoints: Tensor, confidence: Tensor, extent: Tensor, image_size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Parts that are covered or outside of the picture."""
        errors, (batch, frames) = self.errors, keypoints.shape[:2]
        part = torch.multinomial(
            self._part_shares, batch, replacement=True, generator=self.generator
        )
        covered = self.uniform(batch, 1) < errors.unseen
        # Most often all the time; else from a frame on, up to a frame, or in between.
        index = torch.arange(frames, device=self.device)
        ends = frames * (1.6 * self.uniform(batch, 2, 1) - 0.3)
        while_covered = (index >= ends.amin(1)) & (index <= ends.amax(1))
        covered = covered & (while_covered | (self.uniform(batch, 1) < 0.6))
        hidden = self._parts[part][:, None] & covered[..., None]
        size = image_size.to(keypoints)[:, None, None]
        outside = ((keypoints < 0) | (keypoints > size)).any(-1)
        cut = self.uniform(batch, 1, 1) < 0.7
        hidden = hidden | (outside & cut)
        guess = self.normal(batch, 1, NUM_JOINTS, 2) * 0.12
        guess = guess + 0.04 * self.normal(batch, frames, NUM_JOINTS, 2)
        inside = torch.minimum((keypoints + extent * guess).clamp(min=0), size)
        guessed = (self.uniform(batch, 1, 1) < errors.guessed) & hidden
        keypoints = torch.where(guessed[..., None], inside, keypoints)
        low = 0.05 + 0.45 * self.uniform(batch, frames, NUM_JOINTS)
        confidence = torch.where(guessed, low, confidence)
        return keypoints, confidence, guessed | ~hidden

    def _found(self, batch: int, frames: int) -> Tensor:
        """(B, T, 1) bool, in which frames the person is found."""
        index = torch.arange(frames, device=self.device)
        start = frames * self.uniform(batch, 1)
        length = 1 + 10 * self.uniform(batch, 1)
        gap = (index >= start) & (index < start + length)
        return ~(gap & (self.uniform(batch, 1) < self.errors.gap))[..., None]


def _rows(parts: Sequence[Sequence[int]]) -> Tensor:
    """(number of parts, 17) bool: which joints are of each part."""
    rows = torch.zeros(len(parts), NUM_JOINTS, dtype=torch.bool)
    for row, part in zip(rows, parts, strict=True):
        row[list(part)] = True
    return rows
