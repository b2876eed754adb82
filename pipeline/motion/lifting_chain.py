"""Repairing keypoints and lifting them, as suits a lifter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gridpose.pipeline.motion.choices import Smoothing
from gridpose.pipeline.motion.lifting_stage import FrameByFrame, Lifted, OverTime
from gridpose.pipeline.motion.pulls import Pulls
from gridpose.pipeline.motion.repair import KeypointRepair
from gridpose.pipeline.motion.sides import Sides
from gridpose.pipeline.motion.tracking import Observation

if TYPE_CHECKING:
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter


class LiftingChain:
    """Takes in followed people frame by frame and hands them out repaired and lifted.

    A lifter that sees time tells outliers and noise from movement by itself, and which side is
    which; others get keypoints whose sides it has set right, and which are repaired and smoothed.

    Args:
        lifter: what lifts.
        judge: tells sides for a lifter of single frames: one that sees time; None leaves them.
        image_size: width, height px.
        fov_degrees: the lens's horizontal field of view, if known.
        fps: rate of the frames.
        repair: repair what the detector gets wrong.
        smoothing: of keypoints.
    """

    def __init__(
        self,
        lifter: Lifter | ConvertedLifter,
        judge: Lifter | ConvertedLifter | None,
        image_size: tuple[int, int],
        fov_degrees: float | None,
        fps: float,
        repair: bool,
        smoothing: Smoothing,
    ) -> None:
        from gridpose.lifting.converted import ConvertedLifter

        single = None if isinstance(lifter, ConvertedLifter) or lifter.sees_time else lifter
        seer = lifter if single is None else judge
        self._gaps = KeypointRepair(fps, "gaps" if repair else "nothing", "none")
        self._over_time: OverTime | None = None
        self._pulls: Pulls | None = None
        self._sides: Sides | None = None
        if seer is not None and (repair or single is None):
            self._over_time = OverTime(seer, image_size, fov_degrees, fps)
            if repair:
                self._pulls = Pulls(seer, image_size, fov_degrees, fps)
                fov = seer.horizontal_fov(image_size, fov_degrees)
                self._sides = Sides(image_size, fov, fps)
        self._repair: KeypointRepair | None = None
        self._frame_by_frame: FrameByFrame | None = None
        if single is not None:
            self._repair = KeypointRepair(fps, "all" if repair else "nothing", smoothing)
            self._frame_by_frame = FrameByFrame(single, image_size, fov_degrees)

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        self._gaps.add(people)

    def finished(self, at_end: bool = False) -> Iterator[Mapping[int, Lifted]]:
        """People of every frame that is lifted by now; of all that are left ``at_end``."""
        if self._repair is None or self._frame_by_frame is None:
            yield from self._lifted_over_time(at_end)
            return
        if self._over_time is None:
            for seen in self._gaps.finished(at_end):
                self._repair.add(seen)
        for people in self._lifted_over_time(at_end):
            self._repair.add({track_id: one.observation for track_id, one in people.items()})
        for seen in self._repair.finished(at_end):
            self._frame_by_frame.add(seen)
        yield from self._frame_by_frame.finished(at_end)

    def _lifted_over_time(self, at_end: bool) -> Iterator[Mapping[int, Lifted]]:
        if self._over_time is None:
            return
        for seen in self._without_pulls(at_end):
            self._over_time.add(seen)
        if self._sides is None:
            yield from self._over_time.finished(at_end)
            return
        for people in self._over_time.finished(at_end):
            self._sides.add(people)
        yield from self._sides.finished(at_end)

    def _without_pulls(self, at_end: bool) -> Iterator[Mapping[int, Observation]]:
        if self._pulls is None:
            yield from self._gaps.finished(at_end)
            return
        for seen in self._gaps.finished(at_end):
            self._pulls.add(seen)
        yield from self._pulls.finished(at_end)
