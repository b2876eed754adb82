#!/usr/bin/env python
"""Measure what repair and smoothing do to a video's world poses: steadiness, lag, what is kept.

People are detected once; everything after that runs for each variant. Of each, over people and
joints relative to the hip:

still: mean movement, mm per frame, of joints at rest (scripts/measure_poses.py says which; they
    are chosen once, in the repaired keypoints). Nothing should move there.
jitter: mean second difference, mm per frame², of all joints.
lag: by how many ms the poses must be moved forward in time to fit best those without smoothing.
    Only joints that move; positive is late.
speed: the 95th percentile of speeds, as a share of that without smoothing: what is lost by it is
    noise, and from some point on the movement itself.
bones: mean standard deviation of bone lengths, per cent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final

import numpy as np
import typer
from measure_poses import REST_SECONDS, at_rest, bone_lengths

from gridpose.core import BoolArray, DoubleArray, ImageArray, PoseTracks
from gridpose.detectors import Detection, Detector, load_detector
from gridpose.lifting import load_lifter
from gridpose.pipeline import VideoOptions, run_video
from gridpose.pipeline.sample import sample_video
from gridpose.visualize import Look

MM: Final = 1000.0
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "nothing": {"repair": False, "smoothing": "none"},
    "repair": {"smoothing": "none"},
    "savgol alone": {"repair": False, "smoothing": "savgol"},
    "repair, one-euro": {"smoothing": "one-euro"},
    "repair, butterworth": {"smoothing": "butterworth"},
    "repair, savgol (default)": {"smoothing": "savgol"},
    "the same, constant bones": {"smoothing": "savgol", "constant_bones": True},
}
REFERENCES: Final = {True: "repair", False: "nothing"}
"""By whether there is repair, the variant that is not smoothed."""
REST_SHARE: Final = 0.05
MOVING_MM: Final = 10.0
LONGEST_LAG_FRAMES: Final = 8
STEPS_PER_FRAME: Final = 20


class Recorder:
    """A detector that passes another one's answers on and keeps them."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.answers: list[list[Detection]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """As the detector does."""
        answers = self._detector.detect(frames, times)
        self.answers += answers
        return answers

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Player(Recorder):
    """Gives a recorder's answers again."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder._detector)
        self._left = iter(recorder.answers)

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """What was answered then."""
        return [next(self._left) for _ in frames]


def from_hip(tracks: PoseTracks) -> DoubleArray:
    """World poses (P, T, 17, 3) mm, relative to the hip; NaN where absent."""
    world = tracks.poses_world.astype(np.float64) * MM
    return np.asarray(world - world[:, :, :1])


def resting(tracks: PoseTracks) -> BoolArray:
    """(P, T, 17)."""
    half = max(2, round(REST_SECONDS * tracks.fps))
    rest = []
    for keypoints in tracks.keypoints_2d.astype(np.float64):
        own = keypoints - keypoints[:, :1]
        there = np.isfinite(own).all((1, 2))
        size = float(np.median(np.linalg.norm(np.ptp(own[there], axis=1), axis=-1)))
        rest.append(at_rest(own, half, REST_SHARE * size))
    return np.stack(rest)


def movement(poses: DoubleArray, order: int) -> DoubleArray:
    """Lengths of differences over frames, (P, T - order, 16): the hip is left out."""
    return np.asarray(np.linalg.norm(np.diff(poses, order, axis=1), axis=-1)[..., 1:])


def lag_ms(poses: DoubleArray, reference: DoubleArray, fps: float) -> float:
    """See the top of this file."""
    margin = LONGEST_LAG_FRAMES
    frames = np.arange(poses.shape[1])
    middle = frames[margin:-margin]
    fast = np.zeros((*poses.shape[:3], 1), bool)
    fast[:, :-1, 1:, 0] = movement(reference, 1) > MOVING_MM
    shifts = np.arange(-margin, margin + 1e-9, 1 / STEPS_PER_FRAME)
    errors = []
    for shift in shifts:
        # Where these poses will be `shift` frames later is where the reference is now.
        low = np.floor(middle + shift).astype(int)
        weight = (middle + shift - low)[None, :, None, None]
        high = np.minimum(low + 1, frames[-1])
        moved = (1 - weight) * poses[:, low] + weight * poses[:, high]
        squared = np.square(moved - reference[:, middle])
        squared[~np.broadcast_to(fast[:, middle], squared.shape)] = np.nan
        errors.append(np.nanmean(squared))
    return float(shifts[int(np.argmin(errors))] / fps * MM)


def main(
    video: Annotated[Path | None, typer.Argument(help="By default the demo's sample.")] = None,
) -> None:
    """Print the table, in Markdown."""
    video = video or sample_video()
    lifter = load_lifter()
    recorder = Recorder(load_detector("blazepose"))
    look = Look(layout="skeleton", resolution=(160, 120))
    results: dict[str, PoseTracks] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, chosen in VARIANTS.items():
            detector = Player(recorder) if results else recorder
            options = VideoOptions(
                detector=detector, lifter=lifter, look=look, audio=False, overwrite=True, **chosen
            )
            results[name] = run_video(video, Path(folder) / "out.mp4", options).poses
    rest = resting(results["repair"])
    print("| | still, mm/frame | jitter, mm/frame² | lag, ms | speed, % | bones, % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, tracks in results.items():
        poses = from_hip(tracks)
        reference = from_hip(results[REFERENCES[VARIANTS[name].get("repair", True)]])
        still = movement(poses, 1)[rest[:, 1:, 1:] & rest[:, :-1, 1:]]
        speed, fastest = movement(poses, 1), movement(reference, 1)
        kept = 100 * np.nanpercentile(speed, 95) / np.nanpercentile(fastest, 95)
        bones = [
            bone_lengths(world[present])[0].mean_percent
            for world, present in zip(tracks.poses_world, tracks.present, strict=True)
        ]
        print(
            f"| {name} | {np.nanmean(still):.1f} | {np.nanmean(movement(poses, 2)):.1f} "
            f"| {lag_ms(poses, reference, tracks.fps):.0f} | {kept:.0f} | {np.mean(bones):.1f} |"
        )


if __name__ == "__main__":
    typer.run(main)
