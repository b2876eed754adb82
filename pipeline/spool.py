"""Finished poses on disk while a run goes on, so that memory does not grow with the video."""

from __future__ import annotations

import tempfile
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from gridpose.core import (
    JOINT_NAMES,
    NUM_JOINTS,
    AnyArray,
    MissingError,
    Person,
    PoseTracks,
)
from gridpose.pipeline import posefile
from gridpose.storage import replacing

_RECORD = np.dtype(
    [
        ("bbox", np.float32, (4,)),
        ("keypoints_2d", np.float32, (NUM_JOINTS, 2)),
        ("confidence", np.float32, (NUM_JOINTS,)),
        ("poses_3d", np.float32, (NUM_JOINTS, 3)),
        ("poses_world", np.float32, (NUM_JOINTS, 3)),
        ("repaired", np.uint8, (NUM_JOINTS,)),
    ]
)


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
            record = np.zeros((), _RECORD)
            record["bbox"] = person.bbox
            record["keypoints_2d"] = person.keypoints_2d
            record["confidence"] = person.confidence
            record["poses_3d"] = person.pose_3d
            record["poses_world"] = person.pose_world
            record["repaired"] = person.repaired
            try:
                self._file.write(record.tobytes())
            except OSError as error:
                raise MissingError(
                    f"{tempfile.gettempdir()}: no room for the poses ({error.strerror}); "
                    "set TMPDIR to a folder with more"
                ) from error
            self._frames.append(len(self._times))
            self._tracks.append(person.track_id)
        self._times.append(time)

    @property
    def frame_count(self) -> int:
        return len(self._times)

    @property
    def track_ids(self) -> list[int]:
        return sorted(set(self._tracks))

    def _dense(self, name: str) -> Iterator[AnyArray]:
        """One ``(T, ...)`` array for each track; absent frames are NaN, whole numbers 0."""
        tracks, frames = np.array(self._tracks, np.int64), np.array(self._frames, np.int64)
        self._file.flush()
        for track_id in self.track_ids:
            rows = np.flatnonzero(tracks == track_id)
            kind = _RECORD[name].base
            absent = np.nan if kind.kind == "f" else 0
            dense = np.full((self.frame_count, *_RECORD[name].shape), absent, kind)
            # Mapped anew for each track: the pages read so far do not pile up in memory.
            records = np.memmap(self._file, _RECORD, "r")
            dense[frames[rows]] = records[rows][name]
            del records
            yield dense

    def _present(self) -> AnyArray:
        present = np.zeros((len(self.track_ids), self.frame_count), np.bool_)
        if present.size:
            present[np.searchsorted(self.track_ids, self._tracks), self._frames] = True
        return present

    def tracks(self, meta: dict[str, Any]) -> PoseTracks:
        """Everything in memory."""

        def stacked(name: str) -> AnyArray:
            empty = np.empty((0, self.frame_count, *_RECORD[name].shape), _RECORD[name].base)
            rows = list(self._dense(name))
            return np.stack(rows) if rows else empty

        return PoseTracks(
            fps=self.fps,
            frame_time=np.array(self._times, np.float64),
            image_size=self.image_size,
            track_id=np.array(self.track_ids, np.int64),
            present=self._present(),
            bbox=stacked("bbox"),
            keypoints_2d=stacked("keypoints_2d"),
            confidence=stacked("confidence"),
            poses_3d=stacked("poses_3d"),
            poses_world=stacked("poses_world"),
            repaired=stacked("repaired"),
            meta=meta,
        )

    def write_npz(self, file: Path, meta: dict[str, Any]) -> None:
        """Write the pose file, one track in memory at a time."""
        small = posefile.small_arrays(
            fps=self.fps,
            frame_time=np.array(self._times, np.float64),
            image_size=self.image_size,
            track_id=np.array(self.track_ids, np.int64),
            present=self._present(),
            joint_names=JOINT_NAMES,
            meta=meta,
        )
        with (
            replacing(file) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            for name, values in small.items():
                with archive.open(f"{name}.npy", "w") as stream:
                    npy_format.write_array(stream, values, allow_pickle=False)  # type: ignore[no-untyped-call]
            for name in _RECORD.names or ():
                shape = (len(self.track_ids), self.frame_count, *_RECORD[name].shape)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    kind = _RECORD[name].base.str
                    header = {"descr": kind, "fortran_order": False, "shape": shape}
                    npy_format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
                    for dense in self._dense(name):
                        stream.write(dense.tobytes())

    def close(self) -> None:
        self._file.close()
