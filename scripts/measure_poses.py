#!/usr/bin/env python
"""Measure how steady poses are. There is no truth: what is counted is what no body does.

    python scripts/measure_poses.py steadiness poses.npz
    python scripts/measure_poses.py smoothing [VIDEO]

Everything is relative to the hip. *Jitter* is the length of a joint's second difference, mm or px
per frame²: errors that are independent from frame to frame and of RMS length e make it about 2.3 e.
*Movement* is the length of the first difference. Bodies accelerate too, so both are also told of
joints at rest alone: those whose mean 2D positions in the quarter of a second before a frame and in
that after it differ by at most 5 % of the person's size, the median diagonal of the box around the
keypoints. Means over a quarter of a second hardly feel jitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gridpose.core import (
    BONES,
    JOINT_NAMES,
    MIRRORED,
    AnyArray,
    BoolArray,
    DoubleArray,
    GridposeError,
    ImageArray,
    PoseTracks,
)
from gridpose.detectors import Detection, Detector, load_detector
from gridpose.lifting import load_lifter
from gridpose.pipeline import VideoOptions, read_pose_file, run_video
from gridpose.pipeline.sample import sample_video

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

MM = 1000.0
REST_SECONDS = 0.25
REST_SHARE = 0.05
VARIANTS: dict[str, dict[str, Any]] = {
    "nothing": {"repair": False, "smoothing": "none"},
    "repair": {"smoothing": "none"},
    "savgol alone": {"repair": False, "smoothing": "savgol"},
    "repair, one-euro": {"smoothing": "one-euro"},
    "repair, butterworth": {"smoothing": "butterworth"},
    "repair, savgol (default)": {"smoothing": "savgol"},
    "the same, constant bones": {"smoothing": "savgol", "constant_bones": True},
}
MOVING_MM = 10.0
LONGEST_LAG_FRAMES = 8


def from_hip(points: AnyArray) -> DoubleArray:
    return np.asarray(points.astype(np.float64) - points[..., :1, :])


def differences(points: DoubleArray, order: int) -> DoubleArray:
    """Lengths of differences over frames, ``(T - order, 16)``: the hip is left out."""
    return np.asarray(np.linalg.norm(np.diff(points, order, axis=0), axis=-1)[:, 1:])


def bone_deviations(poses: AnyArray) -> dict[str, float]:
    """Standard deviation over time of each bone of ``(T, 17, 3)``, % of its length, by its end."""
    lengths = {c: np.linalg.norm(poses[:, c] - poses[:, p], axis=-1) for p, c in BONES}
    return {JOINT_NAMES[c]: 100 * float(each.std() / each.mean()) for c, each in lengths.items()}


def asymmetries(poses: AnyArray) -> dict[str, float]:
    """Mean difference of left and right bones of ``(T, 17, 3)``, % of their mean length."""
    lengths = {c: np.linalg.norm(poses[:, c] - poses[:, p], axis=-1) for p, c in BONES}
    pairs = {
        JOINT_NAMES[child].removeprefix("left_"): (lengths[child], lengths[MIRRORED[child]])
        for child in lengths
        if JOINT_NAMES[child].startswith("left_")
    }
    return {
        name: 100 * float(np.abs(left - right).mean() / (left + right).mean() * 2)
        for name, (left, right) in pairs.items()
    }


def at_rest(keypoints: AnyArray, fps: float, share: float = REST_SHARE) -> BoolArray:
    """Which joints rest when, ``(T, 17)``, of ``(T, 17, 2)`` pixels; absent frames are NaN."""
    own = from_hip(keypoints)
    there = np.isfinite(own).all((1, 2))
    size = float(np.median(np.linalg.norm(np.ptp(own[there], axis=1), axis=-1)))
    half = max(2, round(REST_SECONDS * fps))
    rest = np.zeros(own.shape[:2], bool)
    for frame in range(half, len(own) - half):
        moved = own[frame + 1 : frame + half + 1].mean(0) - own[frame - half : frame].mean(0)
        # NaN compares false, so beside a gap nothing is at rest.
        rest[frame] = np.linalg.norm(moved, axis=-1) <= share * size
    return rest


def steadiness_of(
    poses: AnyArray, keypoints: AnyArray, fps: float, rest_share: float = REST_SHARE
) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and median of jitter and movement, of all joints and of those at rest.

    Args:
        poses: ``(T, 17, 3)`` metres, NaN where absent.
        keypoints: ``(T, 17, 2)`` px, likewise.
    """
    own, seen = from_hip(poses) * MM, from_hip(keypoints)
    rest = at_rest(keypoints, fps, rest_share)[1:-1, 1:]
    measured = {
        "jitter, mm": differences(own, 2),
        "jitter in depth, mm": differences(own[..., 2:], 2),
        "jitter, px": differences(seen, 2),
        "movement, mm": differences(own, 1)[:-1],
        "movement, px": differences(seen, 1)[:-1],
    }
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for label, chosen in (("all", np.ones_like(rest)), ("at rest", rest)):
        found[label] = {}
        for name, lengths in measured.items():
            values = lengths[chosen & np.isfinite(lengths)]
            if len(values):
                found[label][name] = (float(values.mean()), float(np.median(values)))
    return found


def describe(tracks: PoseTracks, index: int) -> str:
    """Figures of a track in a few lines."""
    there = tracks.present[index] & np.isfinite(tracks.poses_3d[index]).all((1, 2))
    if not there.any():
        return f"track {tracks.track_id[index]}: nobody is there"
    gone = ~there[:, None, None]
    poses = np.where(gone, np.nan, tracks.poses_3d[index])
    keypoints = np.where(gone, np.nan, tracks.keypoints_2d[index])
    lines = [f"track {tracks.track_id[index]}: {there.sum()} frames"]
    for title, shares in (
        ("bone lengths deviate by", bone_deviations(poses[there])),
        ("left and right differ by", asymmetries(poses[there])),
    ):
        worst = max(shares, key=lambda name: shares[name])
        mean = np.mean(list(shares.values()))
        lines.append(f"  {title} {mean:.1f} %, at most {shares[worst]:.1f} % ({worst})")
    for label, figures in steadiness_of(poses, keypoints, tracks.fps).items():
        lines.append(f"  joints {label}: mean (median) per frame, of jitter per frame²")
        lines += [f"    {name:<20} {a:8.1f} ({b:.1f})" for name, (a, b) in figures.items()]
    return "\n".join(lines)


@app.command()
def steadiness(
    poses: Annotated[Path, typer.Argument(metavar="POSES", help="a pose file, .npz")],
) -> None:
    """Bone lengths, symmetry and jitter of the tracks of a pose file."""
    try:
        tracks = read_pose_file(poses)
    except GridposeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error
    for index in range(len(tracks.track_id)):
        print(describe(tracks, index))


class Replay:
    """A detector that keeps another one's answers, and gives them again to every further video."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._answers: dict[float, list[Detection]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """As the detector does."""
        if times[0] not in self._answers:
            self._answers |= dict(zip(times, self._detector.detect(frames, times), strict=True))
        return [self._answers[time] for time in times]

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def lag_ms(poses: DoubleArray, reference: DoubleArray, fps: float) -> float:
    """By how many ms poses ``(P, T, 17, 3)`` in mm must move forward to fit the reference best.

    Only joints that move count; positive is late.
    """
    margin = LONGEST_LAG_FRAMES
    middle = np.arange(poses.shape[1])[margin:-margin]
    steps = np.linalg.norm(np.diff(reference, axis=1), axis=-1)
    slow = ~(steps[:, margin : margin + len(middle)] > MOVING_MM)
    slow[..., 0] = True
    errors = {}
    for shift in np.arange(-20 * margin, 20 * margin) / 20:
        # Where these poses will be `shift` frames later is where the reference is now.
        low = np.floor(middle + shift).astype(int)
        weight = (middle + shift - low)[None, :, None, None]
        moved = (1 - weight) * poses[:, low] + weight * poses[:, low + 1]
        squared = np.square(moved - reference[:, middle]).sum(-1)
        squared[slow] = np.nan
        errors[float(shift)] = np.nanmean(squared)
    return min(errors, key=lambda shift: errors[shift]) / fps * MM


@app.command()
def smoothing(
    video: Annotated[Path | None, typer.Argument(help="the demo's if not given")] = None,
) -> None:
    """What repair and every filter do to a video's world poses, as a table in Markdown.

    People are detected once. still: movement of joints at rest, chosen once in the repaired
    keypoints; lag: against the poses that are not smoothed; speed: the 95th percentile, as a share
    of that without smoothing; bones: mean deviation of their lengths.
    """
    lifter, detector = load_lifter(), Replay(load_detector("blazepose"))
    results: dict[str, PoseTracks] = {}
    for name, chosen in VARIANTS.items():
        options = VideoOptions(detector=detector, lifter=lifter, **chosen)  # type: ignore[arg-type]
        results[name] = run_video(video or sample_video(), None, options).poses
    fps = results["repair"].fps
    rest = np.stack([at_rest(keypoints, fps) for keypoints in results["repair"].keypoints_2d])
    resting = rest[:, 1:, 1:] & rest[:, :-1, 1:]
    print("| | still, mm/frame | jitter, mm/frame² | lag, ms | speed, % | bones, % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, tracks in results.items():
        plain = results["repair" if VARIANTS[name].get("repair", True) else "nothing"]
        poses, reference = (MM * from_hip(each.poses_world) for each in (tracks, plain))
        speed, plain_speed = (
            np.stack([differences(person, 1) for person in each]) for each in (poses, reference)
        )
        jitter = np.nanmean(np.stack([differences(person, 2) for person in poses]))
        kept = 100 * np.nanpercentile(speed, 95) / np.nanpercentile(plain_speed, 95)
        bones = [
            np.mean(list(bone_deviations(world[present]).values()))
            for world, present in zip(tracks.poses_world, tracks.present, strict=True)
        ]
        print(
            f"| {name} | {np.nanmean(speed[resting]):.1f} | {jitter:.1f} "
            f"| {lag_ms(poses, reference, fps):.0f} | {kept:.0f} | {np.mean(bones):.1f} |"
        )


if __name__ == "__main__":
    app()
