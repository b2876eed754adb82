"""Marker files of biomechanics, in millimetres: TRC (y up, for OpenSim) and C3D (z up)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from gridpose.core import JOINT_NAMES, DoubleArray, InputError, PoseTracks

_MM = 1000.0
_MOST_C3D_FRAMES = 65535


def marker_names(tracks: PoseTracks) -> list[str]:
    """The joints' names; with several people each begins with ``pN_``, N being the track."""
    if len(tracks.track_id) == 1:
        return list(JOINT_NAMES)
    return [f"p{track}_{name}" for track in tracks.track_id for name in JOINT_NAMES]


def _markers(tracks: PoseTracks) -> DoubleArray:
    """(T, P * 17, 3) mm, world axes; NaN where somebody is absent."""
    frames = len(tracks.frame_time)
    return tracks.poses_world.astype(np.float64).transpose(1, 0, 2, 3).reshape(frames, -1, 3) * _MM


def trc_text(tracks: PoseTracks, name: str) -> str:
    """A TRC file's content. x right, y up, z towards the camera; absent markers are left empty.

    All rows of the table end in a tab, as those of other programs do: without it OpenSim loses the
    last cell of a row where that is empty.

    Args:
        tracks: at a constant rate.
        name: of the file.
    """
    names, markers = marker_names(tracks), _markers(tracks)
    points = np.stack((markers[..., 0], markers[..., 2], -markers[..., 1]), -1)
    frames, rate = len(points), f"{tracks.fps:.6g}"
    out = io.StringIO()
    out.write(f"PathFileType\t4\t(X/Y/Z)\t{name}\n")
    out.write(
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\t"
        "OrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
    )
    out.write(f"{rate}\t{rate}\t{frames}\t{len(names)}\tmm\t{rate}\t1\t{frames}\n")
    out.write("Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t\t\n")
    numbers = range(1, len(names) + 1)
    out.write("\t\t" + "\t".join(f"X{k}\tY{k}\tZ{k}" for k in numbers) + "\t\n\n")
    for index, (moment, row) in enumerate(zip(tracks.frame_time, points, strict=True)):
        cells = ["" if np.isnan(value) else f"{value:.4f}" for value in row.ravel()]
        out.write(f"{index + 1}\t{moment:.6f}\t" + "\t".join(cells) + "\t\n")
    return out.getvalue()


def write_c3d(tracks: PoseTracks, file: Path) -> None:
    """Write a C3D file: x right, y away from the camera, z up; absent markers are invalid.

    Args:
        tracks: at a constant rate.
        file: the result.

    Raises:
        InputError: there are more frames than the format can count.
    """
    if len(tracks.frame_time) > _MOST_C3D_FRAMES:
        raise InputError(
            f"C3D counts {_MOST_C3D_FRAMES} frames at most, and these are "
            f"{len(tracks.frame_time)}; .trc, or a lower rate by `fps`, takes them"
        )
    import ezc3d

    document = ezc3d.c3d()
    points = np.ones((4, len(marker_names(tracks)), len(tracks.frame_time)))
    points[:3] = _markers(tracks).transpose(2, 1, 0)
    document["data"]["points"] = points
    parameters = document["parameters"]["POINT"]
    parameters["RATE"]["value"] = [tracks.fps]
    parameters["UNITS"]["value"] = ["mm"]
    parameters["LABELS"]["value"] = marker_names(tracks)
    for name, direction in (("X_SCREEN", "+X"), ("Y_SCREEN", "+Z")):
        document.add_parameter("POINT", name, [direction])
    document.write(str(file))
