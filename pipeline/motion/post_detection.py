"""From detections to finished people: followed, repaired, lifted, and set steady into the world.

Each stage takes in frames and hands them out in order, some later than others: only a window of
frames is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gridpose.core import DoubleArray, Person
from gridpose.pipeline.motion.left_out import LeftOut
from gridpose.pipeline.motion.lifting_chain import LiftingChain
from gridpose.pipeline.motion.places import Places
from gridpose.pipeline.motion.timeline import Timeline
from gridpose.pipeline.motion.tracking import Observation, Tracker, observed

if TYPE_CHECKING:
    from gridpose.detectors import Convention, Detection
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter
    from gridpose.pipeline.options import VideoOptions

_HIGH_STILL = 0.7


class PostDetection:
    """Everything between detection and drawing.

    Args:
        lifter: what lifts.
        image_size: width, height px.
        fps: rate of the frames.
        options: of the run.
        judge: see :class:`LiftingChain`.
        first_track: number of the first person.
    """

    def __init__(
        self,
        lifter: Lifter | ConvertedLifter,
        image_size: tuple[int, int],
        fps: float,
        options: VideoOptions,
        judge: Lifter | ConvertedLifter | None = None,
        first_track: int = 1,
    ) -> None:
        self._lifter, self._judge, self._image_size = lifter, judge, image_size
        self._fps, self._options = fps, options
        self._tracker = Tracker(image_size)
        self._high: set[int] = set()
        self._lifting = LiftingChain(
            lifter, judge, image_size, options.fov, fps, options.repair, options.smoothing
        )
        fov = options.fov or lifter.fov_degrees
        self.places = Places(fps, image_size, fov, options.trajectory)
        self._timeline = Timeline(
            fps,
            image_size,
            options.smoothing,
            options.persons,
            options.repair and not lifter.sees_time,
            options.constant_bones,
            options.gravity,
            self.places,
            first_track,
        )

    def anew(self) -> PostDetection:
        """For the next shot: nothing is remembered but which numbers people have had."""
        next_track = self._timeline.next_track
        return PostDetection(
            self._lifter, self._image_size, self._fps, self._options, self._judge, next_track
        )

    def add(self, people: Sequence[Detection], convention: Convention, time: float) -> None:
        """Take in the next frame: detections with keypoints of the convention."""
        seen = self._tracker.update(observed(people, convention), time)
        self._lifting.add(self._high_enough(seen))

    def _high_enough(self, people: dict[int, Observation]) -> dict[int, Observation]:
        """Who is as high as the options want; who was stays as long as they do not get far from it.

        Heights are the longer sides of boxes: people may lie.
        """
        least = self._options.min_height
        for track_id, seen in people.items():
            size = float((seen.bbox[2:] - seen.bbox[:2]).max())
            if size >= least:
                self._high.add(track_id)
            elif size < _HIGH_STILL * least:
                self._high.discard(track_id)
        return {track_id: seen for track_id, seen in people.items() if track_id in self._high}

    def add_followed(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame of people who are known apart: observations by who they are."""
        self._lifting.add(people)

    def advance(self, at_end: bool = False) -> None:
        """Lift the frames that are due; all that are left ``at_end``."""
        for lifted in self._lifting.finished(at_end):
            self._timeline.add(lifted)

    def finished(self, at_end: bool = False) -> Iterator[list[Person]]:
        """People of every lifted frame that can be finished; of all that are left ``at_end``."""
        return self._timeline.finished(at_end)

    @property
    def numbers(self) -> Mapping[int, int]:
        """Numbers of people who were shown, by those that :meth:`add_followed` was given."""
        return self._timeline.numbers

    @property
    def up(self) -> DoubleArray:
        """(3,) unit vector against gravity, camera axes."""
        return self._timeline.gravity.up

    @property
    def left_out(self) -> list[LeftOut]:
        """Whom nothing was shown of; frames are counted from where these stages began."""
        return self._timeline.left_out

    @property
    def tilt_degrees(self) -> float:
        """How far from level the camera seems to be, by how people stand."""
        return self._timeline.gravity.tilt_degrees
