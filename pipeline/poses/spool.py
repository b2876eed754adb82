"""Finished poses on disk while a run goes on, so that memory does not grow with the video."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gridpose.core import PERSON_ARRAYS, AnyArray, MissingError, Person, PoseArray, PoseTracks
from gridpose.pipeline.poses.file import write_pose_file
from gridpose.storage import ArrayInPieces

_RECORD = np.dtype([(each.name, each.dtype, each.shape(0, 0)[2:]) for each in PERSON_ARRAYS])


class PoseSpool:
    """Collects the people of each frame, in order, and writes the pose file at the end."""

    def __init__(self, fps: float, image_size: tuple[int, int]) -> None:
        self.fps, self.image_size = fps, image_size
        self._file = tempfile.TemporaryFile(prefix="gridpose-")  # noqa: SIM115 - lives with self
        self._times = array("d")
        self._frames, self._tracks = array("l"), array("l")

    def add(self, time: float, people: Sequence[Person]) -> None:
        """Take in the next frame."""
        for person in people:
            values = tuple(getattr(person, each.person) for each in PERSON_ARRAYS)
            try:
                self._file.write(np.array(values, _RECORD).tobytes())
            except OSError as error:
                raise MissingError(
                    f"{tempfile.gettempdir()}: no room for the poses ({error.strerror}); "
                    "set TMPDIR to a folder with more"
                ) from error
            self._frames.append(len(self._times))
            self._tracks.append(person.track_id)
        self._times.append(time)

    @property
    def times(self) -> Sequence[float]:
        """Seconds of the frames so far."""
        return self._times

    @property
    def frame_count(self) -> int:
        return len(self._times)

    @property
    def track_ids(self) -> list[int]:
        return sorted(set(self._tracks))

    def tracks(self, meta: dict[str, Any]) -> PoseTracks:
        """Everything in memory."""
        dense: dict[str, Any] = {}
        for each in PERSON_ARRAYS:
            dense[each.name] = np.empty(self._shape(each), each.dtype)
            for row, values in enumerate(self._tracks_of(each)):
                dense[each.name][row] = values
        return PoseTracks(**self._small_values(meta), **dense)

    def write_npz(self, file: Path, meta: dict[str, Any]) -> None:
        """Write the pose file, one track in memory at a time.

        Raises:
            MissingError: the disk said no.
        """
        pieces = {
            each.name: ArrayInPieces(self._shape(each), each.dtype, self._tracks_of(each))
            for each in PERSON_ARRAYS
        }
        write_pose_file(file, {**self._small_values(meta), **pieces})

    def _shape(self, each: PoseArray) -> tuple[int, ...]:
        return each.shape(len(self.track_ids), self.frame_count)

    def _tracks_of(self, each: PoseArray) -> Iterator[AnyArray]:
        """An array by track, ``(T, ...)`` each."""
        tracks, frames = np.array(self._tracks, np.int64), np.array(self._frames, np.int64)
        self._file.flush()
        for track_id in self.track_ids:
            rows = np.flatnonzero(tracks == track_id)
            dense = np.full(self._shape(each)[1:], each.absent, each.dtype)
            # Mapped anew for each track: the pages read so far do not pile up in memory.
            records = np.memmap(self._file, _RECORD, "r")
            dense[frames[rows]] = records[rows][each.name]
            del records
            yield dense

    def _small_values(self, meta: dict[str, Any]) -> dict[str, Any]:
        """The fields of :class:`PoseTracks` that do not grow with joints."""
        present = np.zeros((len(self.track_ids), self.frame_count), np.bool_)
        if present.size:
            present[np.searchsorted(self.track_ids, self._tracks), self._frames] = True
        return {
            "fps": self.fps,
            "frame_time": np.array(self._times, np.float64),
            "image_size": self.image_size,
            "track_id": np.array(self.track_ids, np.int64),
            "present": present,
            "meta": meta,
        }

    def close(self) -> None:
        self._file.close()
