"""Everything in the pose file as text: JSON, and CSV with one row for each joint."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np

from gridpose.core import JOINT_NAMES, PERSON_ARRAYS, AnyArray, PoseTracks

CSV_COLUMNS = (
    "frame", "time_s", "track_id", "joint", "u_px", "v_px", "confidence",
    "camera_x_m", "camera_y_m", "camera_z_m", "world_x_m", "world_y_m", "world_z_m",
    "repaired",
)  # fmt: skip


def csv_text(tracks: PoseTracks) -> str:
    """Tidy: a row for each joint of each person in each frame where they are present."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for frame, moment in enumerate(tracks.frame_time):
        for person in np.flatnonzero(tracks.present[:, frame]):
            values = np.concatenate(
                (
                    tracks.keypoints_2d[person, frame],
                    tracks.confidence[person, frame][:, None],
                    tracks.poses_3d[person, frame],
                    tracks.poses_world[person, frame],
                ),
                axis=1,
            )
            flags = tracks.repaired[person, frame].tolist()
            for joint, row, flag in zip(JOINT_NAMES, values, flags, strict=True):
                shown = ("" if np.isnan(value) else f"{value:.6g}" for value in row)
                writer.writerow(
                    (frame, f"{moment:.6f}", int(tracks.track_id[person]), joint, *shown, flag)
                )
    return out.getvalue()


def json_text(tracks: PoseTracks) -> str:
    """The arrays of the pose file by their names; frames in which somebody is absent are null."""
    content: dict[str, Any] = {
        "format_version": 1,
        "fps": tracks.fps,
        "frame_time": tracks.frame_time.tolist(),
        "shot": tracks.shot.tolist(),
        "image_size": list(tracks.image_size),
        "joint_names": list(JOINT_NAMES),
        "track_id": tracks.track_id.tolist(),
        "present": tracks.present.tolist(),
        "meta": tracks.meta,
    }
    for array in PERSON_ARRAYS:
        content[array.name] = [
            [_plain(value) if there else None for value, there in zip(values, present, strict=True)]
            for values, present in zip(getattr(tracks, array.name), tracks.present, strict=True)
        ]
    return json.dumps(content, allow_nan=False) + "\n"


def _plain(values: AnyArray) -> Any:
    """Nested lists, shortest decimals of single precision, None for NaN."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    if values.dtype.kind in "uib":
        return values.tolist()
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in values]
