"""Training windows from motion capture: bodies that move, cameras that stand or move, errors.

As :mod:`gridpose.lifting.synthesis.poses`, but for sequences. All of it is batched torch code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gridpose.core import MIRRORED, NUM_JOINTS
from gridpose.lifting.sequences import WINDOW_FPS
from gridpose.lifting.synthesis.bone_directions import TiltOptions, assemble, mirror, tilt
from gridpose.lifting.synthesis.collisions import Collisions
from gridpose.lifting.synthesis.joint_limits import LIMITED
from gridpose.lifting.synthesis.keypoint_errors import RandomDraws
from gridpose.lifting.synthesis.local_frames import ROWS, LocalFrames, rows
from gridpose.lifting.synthesis.motion_capture import PoseBank, SequenceBank
from gridpose.lifting.synthesis.poses import Synthesiser, SynthesisOptions
from gridpose.lifting.synthesis.recombination import rotate_a_little
from gridpose.lifting.synthesis.sequence_errors import SequenceErrorModel, SequenceErrors

# Which limbs of another window somebody may get, and how often.
_EXCHANGES = (
    (("right_upper_arm", "left_upper_arm", "right_forearm", "left_forearm"), 0.2),
    (("right_upper_arm", "right_forearm"), 0.08),
    (("left_upper_arm", "left_forearm"), 0.08),
    (("right_thigh", "left_thigh", "right_shin", "left_shin"), 0.08),
    (("nose", "head"), 0.15),
)
_MOST_COLLISIONS = 0.04
"""Share of frames in which exchanged limbs may go through the body."""


@dataclass(frozen=True)
class SequenceOptions:
    """How windows vary. Angles in degrees, lengths in metres."""

    speed: tuple[float, float] = (0.6, 1.6)
    as_captured: float = 0.4
    """Share of windows at the speed of the capture; the others' lies between the two above."""
    joint_noise: float = 3.5
    """By how much the angles of a window's joints differ from the captured ones."""
    still: float = 0.1
    """Share of windows that show a recombined pose which hardly moves."""
    panning: float = 0.25
    """Share of cameras that turn after the person; others stand or are carried."""
    carried: float = 0.2
    short: float = 0.3
    """Share of windows that begin or end early, as at the ends of a track and when streaming."""
    frames: SynthesisOptions = field(default_factory=SynthesisOptions)
    tilt: TiltOptions = field(default_factory=lambda: TiltOptions(lying=0.03, tumbling=0.02))
    errors: SequenceErrors = field(default_factory=SequenceErrors)


@dataclass(frozen=True)
class SyntheticWindows:
    """B windows of T frames at 30 fps.

    Attributes:
        keypoints_px, exact_px: (B, T, 17, 2) as detected, and exact projections.
        confidence, valid: (B, T, 17); frames outside the window's sequence are not valid.
        image_size: (B, 2).
        poses: (B, T, 17, 3) metres, hip at the origin, camera axes.
        focal_px: (B,).
        within: (B, T) bool, frames that the answer counts in.
    """

    keypoints_px: Tensor
    exact_px: Tensor
    confidence: Tensor
    valid: Tensor
    image_size: Tensor
    poses: Tensor
    focal_px: Tensor
    within: Tensor


class SequenceSynthesiser(RandomDraws):
    """Draws windows from a :class:`SequenceBank`.

    Args:
        bank: sequences.
        still: poses for windows in which nobody moves.
        options: how windows vary.
        seed: decides everything.
    """

    def __init__(
        self, bank: SequenceBank, still: PoseBank, options: SequenceOptions, seed: int
    ) -> None:
        self.bank, self.options = bank, options
        self._frames = Synthesiser(still, options.frames, seed)
        super().__init__(self._frames.generator)
        self._errors = SequenceErrorModel(options.errors, self.generator)
        self._local = LocalFrames(bank.poses.directions)
        self._collisions = Collisions(bank.poses.directions)
        self._limited = torch.tensor(LIMITED, device=self.device)
        masks = torch.zeros(len(_EXCHANGES), len(ROWS), dtype=torch.bool)
        for index, (names, _) in enumerate(_EXCHANGES):
            masks[index, rows(*names)] = True
        self._exchange_rows = masks.to(self.device)
        self._exchange_chance = torch.tensor([chance for _, chance in _EXCHANGES]).to(self.device)
        self._mirrored = torch.tensor(MIRRORED, device=self.device)

    def windows(self, count: int, frames: int) -> SyntheticWindows:
        """Draw ``count`` windows of ``frames`` frames."""
        options = self.options
        lengths = self._frames.lengths(count)
        centre = self.bank.poses.draw(count, self.generator)
        directions, hips, within = self._motion(centre, frames)
        directions = self._varied(directions, lengths, within, self.bank.poses.foreign_arms[centre])
        still = self.uniform(count) < options.still
        held = self._frames.directions(count, lengths)
        directions = torch.where(still[:, None, None, None], held[:, None], directions)
        hips = torch.where(still[:, None, None], 0.0, hips)
        within = within | still[:, None]
        within = within & self._shortened(count, frames)
        turned = tilt(directions.flatten(1, 2), options.tilt, self.generator)
        poses = assemble(
            turned.view(-1, NUM_JOINTS, 3),
            lengths[:, None].expand(count, frames, NUM_JOINTS).flatten(0, 1),
        ).view(count, frames, NUM_JOINTS, 3)

        view = self._frames.views(count)
        poses = poses @ view.transpose(1, 2)[:, None]
        hips = hips @ view.transpose(1, 2)
        size, focal = self._frames.lenses(count)
        root = self._frames.roots(count, size, focal, torch.zeros(count, device=self.device))
        path, poses = self._carried(hips + root[:, None], poses)
        # Nobody comes nearer than this.
        nearest = (poses[..., 2].amin(2) + path[..., 2]).masked_fill(~within, 1e3).amin(1)
        path = path + (0.9 - nearest).clamp(min=0)[:, None, None] * path.new_tensor((0, 0, 1.0))
        seen = poses + path[:, :, None]
        seen = torch.cat((seen[..., :2], seen[..., 2:].clamp(min=0.3)), -1)
        found, noisy = self._errors.misplace(seen)

        def pixels(points: Tensor) -> Tensor:
            flat = points[..., :2] / points[..., 2:].clamp(min=0.3)
            return flat * focal[:, None, None, None] + size[:, None, None] / 2

        detected = self._errors.detect(pixels(found), noisy, size)
        valid = detected.valid & within[..., None]
        return SyntheticWindows(
            detected.keypoints, pixels(seen), detected.confidence, valid, size, poses, focal, within
        )

    def _motion(self, centre: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """World bone directions (B, T, 17, 3), hips (B, T, 3), frames that exist (B, T).

        Args:
            centre: (B,) a frame of the bank for each window, anywhere inside of it.
            frames: T.
        """
        bank, count = self.bank, len(centre)
        low, high = (math.log(value) for value in self.options.speed)
        speed = (low + (high - low) * self.uniform(count)).exp()
        speed = torch.where(self.uniform(count) < self.options.as_captured, 1.0, speed)
        step = (bank.fps[centre] / WINDOW_FPS * speed)[:, None]
        offset = (frames * self.uniform(count)).long()[:, None]
        at = centre[:, None] + (torch.arange(frames, device=self.device) - offset) * step
        first, last = bank.first[centre][:, None], bank.last[centre][:, None]
        within = (at >= first) & (at <= last)
        at = torch.minimum(torch.maximum(at, first), last)
        floor = at.long()
        share = (at - floor)[..., None]
        following = torch.minimum(floor + 1, last)
        directions = torch.lerp(
            bank.poses.directions[floor], bank.poses.directions[following], share[..., None]
        )
        directions = normalize(directions, dim=-1)
        hips = torch.lerp(bank.hips[floor], bank.hips[following], share)
        mean = (hips * within[..., None]).sum(1, keepdim=True) / within.sum(1)[:, None, None]
        hips = hips - mean
        mirrored = (self.uniform(count) < 0.5)[:, None, None]
        seen = mirror(directions.flatten(0, 1)).view_as(directions)
        directions = torch.where(mirrored[..., None], seen, directions)
        hips = torch.where(mirrored, hips * hips.new_tensor((-1.0, 1.0, 1.0)), hips)
        return directions, hips, within

    def _varied(
        self, directions: Tensor, lengths: Tensor, within: Tensor, foreign_arms: Tensor
    ) -> Tensor:
        """Other angles, and limbs of another window where they do not go through the body.

        Windows with ``foreign_arms`` (B,) always get others', and lend theirs to none.
        """
        count, frames = directions.shape[:2]
        local, world = self._local.to_local(directions.flatten(0, 1))
        local = local.view(count, frames, *local.shape[1:])
        turns = self.normal(count, 1, len(LIMITED), 3) * math.radians(self.options.joint_noise)
        turns[:, :, -1] = turns[:, :, 5]  # the trunk turns as a whole
        varied = local.clone()
        varied[:, :, self._limited] = rotate_a_little(local[:, :, self._limited], turns)
        order = torch.randperm(count, generator=self.generator, device=self.device)
        drawn = self.uniform(count, len(_EXCHANGES)) < self._exchange_chance
        drawn[:, 0] |= foreign_arms
        drawn[:, :3] &= ~foreign_arms[order][:, None]
        foreign = (drawn[:, :, None] & self._exchange_rows).any(1) & within[order].any(1)[:, None]
        mixed = torch.where(foreign[:, None, :, None], varied[order], varied)
        # Limbs of a frame that is not there are of no use.
        usable = (within[order] | ~within).float().mean(1) > 0.9
        built = self._local.to_world(mixed.flatten(0, 1), world)
        source = foreign[:, None].expand(count, frames, len(ROWS)).flatten(0, 1).long()
        each = lengths[:, None].expand(count, frames, NUM_JOINTS).flatten(0, 1)
        hit = self._collisions.find(built, each, source, None).any(1).view(count, frames)
        usable = usable & ((hit & within).float().mean(1) <= _MOST_COLLISIONS)
        alone = self._local.to_world(varied.flatten(0, 1), world).view_as(directions)
        return torch.where(usable[:, None, None, None], built.view_as(directions), alone)

    def _shortened(self, count: int, frames: int) -> Tensor:
        """(B, T) bool: windows that begin late or end early."""
        index = torch.arange(frames, device=self.device)
        middle = frames * self.uniform(count, 1)
        short = self.uniform(count, 2, 1) < self.options.short
        start = torch.where(short[:, 0], middle * self.uniform(count, 1), -1.0)
        stop = middle + (frames - middle) * self.uniform(count, 1)
        stop = torch.where(short[:, 1], stop, float(frames))
        return (index >= start - 0.5) & (index <= stop + 0.5)

    def _carried(self, path: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Hips (B, T, 3) and poses in the axes of cameras that turn and are carried about."""
        options, (count, frames) = self.options, path.shape[:2]
        time = torch.linspace(-1, 1, frames, device=self.device)
        kind = self.uniform(count, 1)
        panning, carried = kind < options.panning, kind > 1 - options.carried
        drift = self.normal(count, 1, 3) * path.new_tensor((0.5, 0.15, 0.5)) * time[:, None]
        path = path - torch.where(carried[..., None], drift, 0.0)
        bearing = path / path[..., 2:].clamp(min=0.5)
        yaw, pitch = torch.atan(bearing[..., 0]), torch.atan(bearing[..., 1])
        share = 0.5 + 0.5 * self.uniform(count, 1)

        def followed(angle: Tensor) -> Tensor:
            return share * (angle - angle.mean(1, keepdim=True))

        def sway(degrees: float) -> Tensor:
            phase = 2 * math.pi * self.uniform(count, 1)
            swing = torch.sin(phase + time * (1 + 5 * self.uniform(count, 1)))
            return math.radians(degrees) * self.normal(count, 1) * swing

        yaw = torch.where(panning, followed(yaw), torch.where(carried, sway(5.0), 0.0))
        pitch = torch.where(panning, followed(pitch), torch.where(carried, sway(3.0), 0.0))
        roll = torch.where(carried, sway(1.5), 0.0)
        turn = _turns(yaw, pitch, roll)
        return (path[:, :, None] @ turn)[:, :, 0], poses @ turn


def _turns(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Matrices (..., 3, 3) that rows of points are multiplied with: into the axes of a camera
    turned right, then down, then about its line of sight.
    """
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    cos, sin = yaw.cos(), yaw.sin()
    about_y = torch.stack((cos, zero, sin, zero, one, zero, -sin, zero, cos), -1)
    cos, sin = pitch.cos(), pitch.sin()
    about_x = torch.stack((one, zero, zero, zero, cos, sin, zero, -sin, cos), -1)
    cos, sin = roll.cos(), roll.sin()
    about_z = torch.stack((cos, sin, zero, -sin, cos, zero, zero, zero, one), -1)
    shape = (*yaw.shape, 3, 3)
    return about_y.view(shape) @ about_x.view(shape) @ about_z.view(shape)
