"""From detections to finished people: followed, repaired, lifted, and set steady into the world.

Each stage takes in frames and hands them out in order, some later than others: only a window of
frames is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gridpose.core import Person
from gridpose.pipeline.motion.left_out import LeftOut
from gridpose.pipeline.motion.lifting_stage import lifting_stages
from gridpose.pipeline.motion.timeline import Timeline
from gridpose.pipeline.motion.tracking import Tracker, observed

if TYPE_CHECKING:
    from gridpose.detectors import Convention, Detection
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter
    from gridpose.pipeline.options import VideoOptions


class PostDetection:
    """Everything between detection and drawing.

    Args:
        lifter: what lifts.
        image_size: width, height px.
        fps: rate of the frames.
        options: of the run.
    """

    def __init__(
        self,
        lifter: Lifter | ConvertedLifter,
        image_size: tuple[int, int],
        fps: float,
        options: VideoOptions,
    ) -> None:
        self._tracker = Tracker(image_size)
        self._repair, self._lifting = lifting_stages(
            lifter, image_size, options.fov, fps, options.repair, options.smoothing
        )
        self._timeline = Timeline(
            fps,
            image_size,
            options.smoothing,
            options.persons,
            options.repair and not lifter.sees_time,
            options.constant_bones,
            options.gravity,
            (options.fov or lifter.fov_degrees) if options.trajectory else None,
        )

    def add(self, people: Sequence[Detection], convention: Convention, time: float) -> None:
        """Take in the next frame: detections with keypoints of the convention."""
        self._repair.add(self._tracker.update(observed(people, convention), time))

    def advance(self, at_end: bool = False) -> None:
        """Lift the frames that are due; all that are left ``at_end``."""
        for people in self._repair.finished(at_end):
            self._lifting.add(people)
        for lifted in self._lifting.finished(at_end):
            self._timeline.add(lifted)

    def finished(self, at_end: bool = False) -> Iterator[list[Person]]:
        """People of every lifted frame that can be finished; of all that are left ``at_end``."""
        return self._timeline.finished(at_end)

    @property
    def left_out(self) -> list[LeftOut]:
        """Whom nothing was shown of."""
        return self._timeline.left_out

    @property
    def tilt_degrees(self) -> float:
        """How far from level the camera seems to be, by how people stand."""
        return self._timeline.gravity.tilt_degrees
