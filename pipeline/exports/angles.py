"""Joint angles from world poses, and their table and figures.

Angles are degrees between bones as positions show them, not joint rotations of a biomechanical
model: there is no twist about a bone, and no offset for how a body stands at rest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import (
    JOINT_NAMES,
    BoolArray,
    DoubleArray,
    FloatArray,
    InputError,
    PoseTracks,
    Repair,
    unit_vectors,
)
from gridpose.pipeline.exports import Exported, one_person_each
from gridpose.pipeline.outputs import check_output, check_suffix
from gridpose.storage import replacing

FORMATS: Final = (".csv", ".png", ".pdf", ".svg")
UP: Final = np.array((0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Angle:
    """An angle: its ``name``, and the ``joints`` whose positions it comes from."""

    name: str
    joints: tuple[str, ...]


def _sided(name: str, joints: str) -> tuple[Angle, ...]:
    return tuple(
        Angle(f"{side}_{name}", tuple(joints.replace("SIDE", side).split()))
        for side in ("left", "right")
    )


ANGLES: Final = (
    *_sided("knee_flexion", "SIDE_hip SIDE_knee SIDE_ankle"),
    *_sided("hip_flexion", "hip left_hip right_hip thorax SIDE_knee"),
    *_sided("elbow_flexion", "SIDE_shoulder SIDE_elbow SIDE_wrist"),
    *_sided("shoulder_elevation", "hip thorax SIDE_shoulder SIDE_elbow"),
    Angle("trunk_forward_lean", ("hip", "thorax", "left_hip", "right_hip")),
    Angle("trunk_left_lean", ("hip", "thorax", "left_hip", "right_hip")),
)
"""In the order of :func:`joint_angles`."""


def joint_angles(poses_world: FloatArray) -> DoubleArray:
    """Degrees (..., 10), in the order of :data:`ANGLES`, of poses (..., 17, 3), z up.

    - Knee and elbow flexion: by how much the lower part of the limb departs from the line of the
      upper one, 0 (straight) to 180.
    - Hip flexion: the thigh against the line of the trunk (from hip to thorax), seen from the
      side of the pelvis: 0 in line, positive forwards, -180 to 180.
    - Shoulder elevation: the upper arm against the trunk, 0 hanging, 90 horizontal, 180 overhead.
    - Trunk lean: the trunk against the vertical, 0 upright: forwards, as seen from the person's
      side, -180 to 180, and to the person's left, -90 to 90.

    NaN where a position that it takes is.
    """
    at = {
        name: poses_world[..., index, :].astype(np.float64)
        for index, name in enumerate(JOINT_NAMES)
    }
    trunk = unit_vectors(at["thorax"] - at["hip"])
    across = at["left_hip"] - at["right_hip"]
    left = unit_vectors(across - (across * trunk).sum(-1, keepdims=True) * trunk)
    forward = np.cross(left, trunk)
    angles: dict[str, DoubleArray] = {}
    for side in ("left", "right"):
        hip, knee, ankle, shoulder, elbow, wrist = (
            at[f"{side}_{joint}"]
            for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        angles[f"{side}_knee_flexion"] = _between(knee - hip, ankle - knee)
        angles[f"{side}_elbow_flexion"] = _between(elbow - shoulder, wrist - elbow)
        angles[f"{side}_shoulder_elevation"] = _between(elbow - shoulder, -trunk)
        thigh = knee - hip
        angles[f"{side}_hip_flexion"] = _from_to(
            -(thigh * trunk).sum(-1), (thigh * forward).sum(-1)
        )
    level_left = unit_vectors(across * (1, 1, 0))
    level_forward = np.cross(level_left, UP)
    angles["trunk_forward_lean"] = _from_to(trunk[..., 2], (trunk * level_forward).sum(-1))
    sideways = np.clip((trunk * level_left).sum(-1), -1, 1)
    angles["trunk_left_lean"] = np.asarray(np.degrees(np.arcsin(sideways)))
    return np.stack([angles[angle.name] for angle in ANGLES], -1)


_REPAIRS: Final = {"interpolated": Repair.FILLED, "exchanged": Repair.EXCHANGED}
"""Columns of the table that name the angles whose joints were repaired."""


def repaired_angles(repaired: NDArray[np.uint8], how: Repair) -> BoolArray:
    """(..., 10) bool: which angles come from positions repaired so, of flags (..., 17)."""
    filled = (repaired & how) != 0
    return np.stack([filled[..., _joints(angle)].any(-1) for angle in ANGLES], -1)


def _joints(angle: Angle) -> list[int]:
    return [JOINT_NAMES.index(name) for name in angle.joints]


def seen_angles(poses_world: FloatArray, confidence: FloatArray) -> DoubleArray:
    """:func:`joint_angles`, NaN where they come from a joint that is not seen.

    Args:
        poses_world: (..., 17, 3).
        confidence: (..., 17), 0 where unseen; people without any are taken as seen.
    """
    unseen = ~(confidence > 0) & (confidence > 0).any(-1, keepdims=True)
    blank = np.stack([unseen[..., _joints(angle)].any(-1) for angle in ANGLES], -1)
    return np.where(blank, np.nan, joint_angles(poses_world))


def write_angles(
    tracks: PoseTracks,
    file: Path,
    *,
    track_ids: Sequence[int] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write joint angles as a table (.csv) or as curves (.png, .pdf, .svg).

    A table has everybody; of figures, each person has their own, ``NAME_pN.png`` when there are
    several.

    Raises:
        UsageError: unknown suffix or track, or the file exists.
        InputError: there is nobody in the poses.
        MissingError: the folder cannot be written to.
    """
    check_suffix(file, FORMATS)
    if track_ids is not None:
        tracks = tracks.select(tracks=tracks.rows(track_ids))
    if not tracks.present.any():
        raise InputError(f"{file}: there is nobody in these poses")
    is_table = file.suffix.lower() == ".csv"
    parts = [(file, tracks)] if is_table else one_person_each(tracks, file)
    for each, _ in parts:
        check_output(each, overwrite)
    for each, part in parts:
        with replacing(each) as partial:
            if is_table:
                partial.write_text(csv_text(part), encoding="utf-8")
            else:
                _write_figure(part, partial)
    return Exported([each for each, _ in parts], [])


def csv_text(tracks: PoseTracks) -> str:
    """A row for each person in each frame where they are present; degrees."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("frame", "time_s", "track_id", *(f"{a.name}_deg" for a in ANGLES), *_REPAIRS))
    angles = seen_angles(tracks.poses_world, tracks.confidence)
    repairs = [repaired_angles(tracks.repaired, how) for how in _REPAIRS.values()]
    for frame, moment in enumerate(tracks.frame_time):
        for person in np.flatnonzero(tracks.present[:, frame]):
            values = [
                f"{value:.2f}" if np.isfinite(value) else "" for value in angles[person, frame]
            ]
            names = [
                " ".join(
                    a.name for a, is_so in zip(ANGLES, of[person, frame], strict=True) if is_so
                )
                for of in repairs
            ]
            track = int(tracks.track_id[person])
            writer.writerow((frame, f"{moment:.6f}", track, *values, *names))
    return out.getvalue()


def _write_figure(tracks: PoseTracks, file: Path) -> None:
    """Curves of the one person of ``tracks``."""
    from gridpose.visualize.angle_plots import angle_curves
    from gridpose.visualize.plots import save

    angles = seen_angles(tracks.poses_world[0], tracks.confidence[0])
    filled = repaired_angles(tracks.repaired[0], Repair.FILLED)
    source = str(tracks.meta.get("source") or "")
    figure = angle_curves(
        tracks.frame_time,
        {angle.name: angles[:, index] for index, angle in enumerate(ANGLES)},
        {angle.name: filled[:, index] for index, angle in enumerate(ANGLES)},
        title=f"person {int(tracks.track_id[0])}" + (f", {source}" if source else ""),
    )
    save(figure, file)


def _between(first: DoubleArray, second: DoubleArray) -> DoubleArray:
    """Degrees between vectors (..., 3), 0 to 180; exact for small ones too."""
    across = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, (first * second).sum(-1))))


def _from_to(along: DoubleArray, aside: DoubleArray) -> DoubleArray:
    return np.asarray(np.degrees(np.arctan2(aside, along)))
