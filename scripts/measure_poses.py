#!/usr/bin/env python
"""Measure how steady the skeletons of a pose file are: bone lengths, symmetry, jitter.

    gridpose video in.mp4 -o out.mp4 --smoothing none --save-poses poses.npz
    python scripts/measure_poses.py poses.npz

There is no truth to compare with; measured is what no body does. For each track:

bone length deviation: a bone's standard deviation over the frames, in mm and as a share of its
    mean length; the mean over the 16 bones, and the worst.
asymmetry: the difference between a left bone and its right counterpart, mean over the frames of
    its size, in mm and as a share of their mean length; the mean over the 6 pairs, and the worst.
jitter: the length of a joint's second difference, p[t-1] - 2 p[t] + p[t+1] (mm or px per frame²;
    "acceleration" in the literature). Errors that are independent from frame to frame and of RMS
    length e make its mean about 2.3 e. ``depth`` is the part along the camera's axis.
movement: the length of p[t] - p[t-1] (mm or px per frame).

Of both the mean and the median over joints but the hip and over frames whose neighbours are there
too: a joint that jumps now and then, as when a detector mistakes left for right, raises the mean
alone. Everything is relative to the hip, in 2D too, as poses are. Pixels are also given in mm at
the person's distance (pixels per metre: RMS size of the track's keypoints over that of its poses'
x and y): 2D jitter in mm is what the lifter was given, 3D jitter what it made of it.

Bodies accelerate too, so jitter is also taken of joints at rest alone: those whose mean 2D
position in the quarter of a second before a frame and in that after it differ by at most --rest,
5 % by default, of the person's size (median diagonal of the box around the keypoints). Means over
a quarter of a second hardly feel jitter. ``standing still`` are frames with all joints at rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from gridpose.core import (
    BONES,
    JOINT_NAMES,
    MIRRORED,
    PARENTS,
    AnyArray,
    BoolArray,
    DoubleArray,
    GridposeError,
    PoseTracks,
    UsageError,
)
from gridpose.pipeline import read_pose_file

MM: Final = 1000.0
REST_SECONDS: Final = 0.25
LEAST_REST_FRAMES: Final = 2
DEPTH: Final = 2


@dataclass(frozen=True)
class Spread:
    """Mean and worst over bones (or pairs of bones), in mm and in per cent of their length."""

    mean_mm: float
    mean_percent: float
    worst_percent: float
    worst: str
    """Name of the joint that the worst bone ends in."""


@dataclass(frozen=True)
class Amount:
    """Of lengths of joints' differences; see the top of this file."""

    mean: float
    median: float


@dataclass(frozen=True)
class Steadiness:
    """Over some frames of some joints of a track.

    None where there are none. ``jitter`` is per frame², ``movement`` per frame.
    """

    differences: int
    """Joints of frames of which the second difference was taken."""
    jitter_mm: Amount | None
    jitter_depth_mm: Amount | None
    jitter_2d_mm: Amount | None
    jitter_2d_px: Amount | None
    movement_mm: Amount | None
    movement_2d_mm: Amount | None
    movement_2d_px: Amount | None


@dataclass(frozen=True)
class TrackFigures:
    """What is measured of one track."""

    track: int
    frames: int
    pixels_per_metre: float
    bone_lengths: Spread
    asymmetry: Spread
    all: Steadiness
    joints_at_rest: Steadiness
    standing_still: Steadiness


def worst_and_mean(deviation: DoubleArray, length: DoubleArray, names: list[str]) -> Spread:
    """From deviations and mean lengths, metres, of each bone."""
    share = 100 * deviation / length
    worst = int(share.argmax())
    return Spread(
        mean_mm=MM * float(deviation.mean()),
        mean_percent=float(share.mean()),
        worst_percent=float(share[worst]),
        worst=names[worst],
    )


def bone_lengths(poses: AnyArray) -> tuple[Spread, Spread]:
    """Deviation and asymmetry of the bones of ``(T, 17, 3)`` poses, metres."""
    children = np.array([child for _, child in BONES])
    lengths = np.linalg.norm(poses - poses[:, np.maximum(PARENTS, 0)], axis=-1)
    bones = lengths[:, children]
    deviation = worst_and_mean(
        bones.std(axis=0), bones.mean(axis=0), [JOINT_NAMES[child] for child in children]
    )
    left = [child for child in children if JOINT_NAMES[child].startswith("left_")]
    right = [MIRRORED[child] for child in left]
    asymmetry = worst_and_mean(
        np.abs(lengths[:, left] - lengths[:, right]).mean(axis=0),
        (lengths[:, left] + lengths[:, right]).mean(axis=0) / 2,
        [JOINT_NAMES[child].removeprefix("left_") for child in left],
    )
    return deviation, asymmetry


def at_rest(keypoints: DoubleArray, half: int, farthest: float) -> BoolArray:
    """Which joints rest when, ``(T, 17)``, of ``(T, 17, 2)`` pixels; absent frames are NaN.

    Args:
        half: frames before, and after, whose mean is taken.
        farthest: pixels by which the two means may differ.
    """
    rest = np.zeros(keypoints.shape[:2], bool)
    for frame in range(half, len(keypoints) - half):
        before = keypoints[frame - half : frame].mean(axis=0)
        after = keypoints[frame + 1 : frame + half + 1].mean(axis=0)
        # NaN compares false, so beside a gap nothing is at rest.
        rest[frame] = np.linalg.norm(after - before, axis=-1) <= farthest
    return rest


def lengths_of(vectors: DoubleArray) -> DoubleArray:
    return np.asarray(np.linalg.norm(vectors, axis=-1))


def steadiness(
    poses: DoubleArray, keypoints: DoubleArray, pixels_per_metre: float, which: BoolArray
) -> Steadiness:
    """Jitter and movement of the joints of frames ``which`` ``(T, 17)``.

    Args:
        poses: (T, 17, 3) metres, relative to the hip; NaN in absent frames.
        keypoints: (T, 17, 2) pixels, likewise.
    """

    def amount(lengths: DoubleArray, first_frame: int) -> Amount | None:
        rows = slice(first_frame, first_frame + len(lengths))
        # The hip is the origin and does not move.
        chosen = lengths[:, 1:][which[rows, 1:]]
        chosen = chosen[np.isfinite(chosen)]
        return Amount(float(chosen.mean()), float(np.median(chosen))) if len(chosen) else None

    acceleration, step = np.diff(poses, 2, axis=0) * MM, np.diff(poses, axis=0) * MM
    jitter_px = lengths_of(np.diff(keypoints, 2, axis=0))
    step_px = lengths_of(np.diff(keypoints, axis=0))
    to_mm = MM / pixels_per_metre
    taken = np.isfinite(acceleration).all(axis=-1) & which[1:-1]
    return Steadiness(
        differences=int(taken[:, 1:].sum()),
        jitter_mm=amount(lengths_of(acceleration), 1),
        jitter_depth_mm=amount(np.abs(acceleration[..., DEPTH]), 1),
        jitter_2d_mm=amount(jitter_px * to_mm, 1),
        jitter_2d_px=amount(jitter_px, 1),
        movement_mm=amount(lengths_of(step), 1),
        movement_2d_mm=amount(step_px * to_mm, 1),
        movement_2d_px=amount(step_px, 1),
    )


def rms_size(points: AnyArray) -> float:
    """Root mean square distance of joints from the centroid of their pose, over all poses."""
    spread = points - points.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.square(spread).sum(axis=-1).mean()))


def measure_track(tracks: PoseTracks, index: int, rest_share: float) -> TrackFigures | None:
    """Figures of a track; None if it is nowhere present with finite numbers."""
    poses = tracks.poses_3d[index].astype(np.float64)
    keypoints = tracks.keypoints_2d[index].astype(np.float64)
    there = tracks.present[index] & np.isfinite(poses).all((1, 2))
    there &= np.isfinite(keypoints).all((1, 2))
    if not there.any():
        return None
    poses[~there], keypoints[~there] = np.nan, np.nan
    pixels_per_metre = rms_size(keypoints[there]) / rms_size(poses[there][..., :DEPTH])
    poses, keypoints = poses - poses[:, :1], keypoints - keypoints[:, :1]
    size = float(np.median(np.linalg.norm(np.ptp(keypoints[there], axis=1), axis=-1)))
    half = max(LEAST_REST_FRAMES, round(REST_SECONDS * tracks.fps))
    rest = at_rest(keypoints, half, rest_share * size)
    still = np.broadcast_to(rest.all(axis=1, keepdims=True), rest.shape)
    deviation, asymmetry = bone_lengths(poses[there])
    return TrackFigures(
        track=int(tracks.track_id[index]),
        frames=int(there.sum()),
        pixels_per_metre=pixels_per_metre,
        bone_lengths=deviation,
        asymmetry=asymmetry,
        all=steadiness(poses, keypoints, pixels_per_metre, np.ones_like(rest)),
        joints_at_rest=steadiness(poses, keypoints, pixels_per_metre, rest),
        standing_still=steadiness(poses, keypoints, pixels_per_metre, still),
    )


def cut(tracks: PoseTracks, frames: str) -> PoseTracks:
    """The frames ``A:B``, B not included, either left out for the first or the end.

    Raises:
        UsageError: not such a range, or none of the frames is there.
    """
    start, colon, stop = frames.partition(":")
    try:
        if not colon:
            raise ValueError("no colon")
        rows = slice(int(start or 0), int(stop) if stop else None)
    except ValueError as error:
        raise UsageError(f"--frames {frames}: give A:B, such as 0:100") from error
    if not len(tracks.frame_time[rows]):
        raise UsageError(f"--frames {frames}: the file has frames 0:{len(tracks.frame_time)}")
    return tracks.select(frames=rows)


def describe(figures: TrackFigures) -> str:
    """The figures of a track in a few aligned lines."""

    def spread(name: str, values: Spread) -> str:
        return (
            f"  {name:<21} mean {values.mean_mm:5.1f} mm {values.mean_percent:5.1f} %"
            f"   worst {values.worst_percent:5.1f} % ({values.worst})"
        )

    def steady(name: str, values: Steadiness) -> list[str]:
        jitter = (
            *(values.jitter_mm, values.jitter_depth_mm),
            *(values.jitter_2d_mm, values.jitter_2d_px),
        )
        movement = (values.movement_mm, values.movement_2d_mm, values.movement_2d_px)

        def row(statistic: str, label: str, count: str) -> str:
            columns = [
                " ".join(
                    f"{'–' if amount is None else f'{getattr(amount, statistic):.1f}':>7}"
                    for amount in group
                )
                for group in (jitter, movement)
            ]
            return f"  {label:<14} {count:>6} {statistic:<6}  {'   '.join(columns)}"

        return [row("mean", name, str(values.differences)), row("median", "", "")]

    return "\n".join(
        (
            f"track {figures.track}: {figures.frames} frames, "
            f"{figures.pixels_per_metre:.0f} px per metre",
            spread("bone length deviation", figures.bone_lengths),
            spread("left-right asymmetry", figures.asymmetry),
            f"  {'':<28}  {'jitter, per frame²':^31}   {'movement, per frame':^23}",
            f"  {'':<14} {'joints':>6} {'':<6}  {'3D mm':>7} {'depth':>7} {'2D mm':>7} {'2D px':>7}"
            f"   {'3D mm':>7} {'2D mm':>7} {'2D px':>7}",
            *steady("all", figures.all),
            *steady("joints at rest", figures.joints_at_rest),
            *steady("standing still", figures.standing_still),
        )
    )


def main(
    poses: Annotated[Path, typer.Argument(metavar="POSES", help="a pose file, .npz")],
    frames: Annotated[str, typer.Option(metavar="A:B", help="only these, B not included")] = ":",
    rest: Annotated[
        float, typer.Option(help="share of the person's size that a joint at rest may move")
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    try:
        tracks = cut(read_pose_file(poses), frames)
    except GridposeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error
    measured = (measure_track(tracks, index, rest) for index in range(len(tracks.track_id)))
    figures = [track for track in measured if track is not None]
    if as_json:
        print(json.dumps({"file": poses.name, "tracks": [asdict(track) for track in figures]}))
        return
    print("\n\n".join(describe(track) for track in figures) or f"{poses.name}: nobody is there")


if __name__ == "__main__":
    typer.run(main)
