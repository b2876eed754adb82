#!/usr/bin/env python
"""Measure a detector's keypoints against annotators', and how steady they are in a video.

    python scripts/measure_keypoints.py COCO.json --media FOLDER --video clip.mp4

Each annotated picture is looked at as it is and mirrored, in three brightnesses. OKS and PCK are
over all annotated people: who is not found counts as 0. OKS is COCO's, with its constants for
keypoints; PCK is the share of keypoints within a tenth of the longer side of the person's box. The
video is looked at as it is, mirrored and turned by 90 degrees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from gridpose.core import MIRRORED, ImageArray
from gridpose.detectors import COCO_17, Detection, Detector, load_detector
from gridpose.pipeline.reader import VideoReader
from gridpose.pipeline.tracking import Observation, Tracker

# Twice the standard deviations of annotators (cocodataset.org/#keypoints-eval), in COCO's order.
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
MIRRORED_COCO = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
BRIGHTNESSES = (0.6, 1.0, 1.4)
PCK_SHARE = 0.1
SAME_LIMB = 0.8
LIMBS = ((1, 2, 3), (11, 12, 13))


def oks(found: np.ndarray, truth: np.ndarray, area: float) -> float:
    """Of keypoints (17, 2) with annotations (17, 3) of a person of so many square px."""
    marked = truth[:, 2] > 0
    distance = ((found - truth[:, :2]) ** 2).sum(1)
    return float(np.exp(-distance / (2 * area * (2 * SIGMAS) ** 2))[marked].mean())


def pictures(detector: Detector, truth: dict, folder: Path) -> None:  # type: ignore[type-arg]
    names = list(detector.convention.keypoints)
    columns = [names.index(name) for name in COCO_17.keypoints]
    scores, hits, marks, found_people = [], 0, 0, 0
    for entry in truth["images"]:
        (file,) = folder.glob(f"*{entry['file_name']}")
        image = np.asarray(cv2.imread(str(file))[..., ::-1])
        people = [a for a in truth["annotations"] if a["image_id"] == entry["id"]]
        people = [a for a in people if a["num_keypoints"] and not a.get("iscrowd")]
        for mirrored in (False, True):
            for brightness in BRIGHTNESSES:
                shown = (image * brightness).clip(0, 255).astype(np.uint8)
                shown = np.ascontiguousarray(shown[:, ::-1] if mirrored else shown)
                detector.forget()
                found = [d.keypoints[columns] for d in detector.detect([shown], [0.0])[0]]
                for person in people:
                    marked = np.array(person["keypoints"], float).reshape(17, 3)
                    if mirrored:
                        marked = marked[MIRRORED_COCO]
                        marked[:, 0] = image.shape[1] - 1 - marked[:, 0]
                    values = [oks(one, marked, person["area"]) for one in found]
                    scores.append(max(values, default=0.0))
                    seen = marked[:, 2] > 0
                    marks += int(seen.sum())
                    if not values or scores[-1] < 0.1:
                        continue
                    found_people += 1
                    best = found[int(np.argmax(values))]
                    apart = np.linalg.norm(best - marked[:, :2], axis=1)[seen]
                    hits += int((apart < PCK_SHARE * max(person["bbox"][2:])).sum())
    typer.echo(
        f"pictures: OKS {np.mean(scores):.3f} over {len(scores)} people, "
        f"{found_people} found, PCK {hits / marks:.3f}"
    )


def frames(detector: Detector, video: list[ImageArray], fps: float, name: str) -> None:
    detector.forget()
    times = [index / fps for index in range(len(video))]
    people: list[list[Detection]] = []
    for start in range(0, len(video), 8):
        people += detector.detect(video[start : start + 8], times[start : start + 8])
    tracker, tracks = Tracker(), dict[int, dict[int, np.ndarray]]()
    for index, (time, found) in enumerate(zip(times, people, strict=True)):
        observed = [
            Observation(one.bbox, *detector.convention.to_human36m(one.keypoints, one.confidence))
            for one in found
        ]
        for number, observation in tracker.update(observed, time).items():
            tracks.setdefault(number, {})[index] = observation.keypoints
    shaking, exchanges = [], 0
    for track in tracks.values():
        for index, joints in track.items():
            before, after = track.get(index - 1), track.get(index + 1)
            if before is not None and after is not None and len(track) >= 5:
                shaking.append(np.linalg.norm(before - 2 * joints + after, axis=-1))
            for limb in LIMBS if before is not None else ():
                sides = [*limb, *(MIRRORED[joint] for joint in limb)]
                other = sides[3:] + sides[:3]
                stayed = np.linalg.norm(joints[sides] - before[sides], axis=-1).sum()
                changed = np.linalg.norm(joints[sides] - before[other], axis=-1).sum()
                exchanges += bool(changed < SAME_LIMB * stayed)
    typical, rare = np.percentile(np.concatenate(shaking), (50, 90))
    typer.echo(
        f"{name}: {sum(map(len, people))} person frames in {len(tracks)} tracks, second "
        f"differences {typical:.1f} px (90th percentile {rare:.1f}), {exchanges} exchanges"
    )


def main(
    truth: Annotated[Path, typer.Argument(help="COCO's keypoint annotations.", exists=True)],
    media: Annotated[Path, typer.Option(help="Folder of the pictures.")],
    video: Annotated[Path | None, typer.Option(help="A video of people.")] = None,
    detector: Annotated[str, typer.Option(help="By name.")] = "blazepose",
) -> None:
    with load_detector(detector) as opened:
        typer.echo(opened.name)
        pictures(opened, json.loads(truth.read_text()), media)
        if video is None:
            return
        with VideoReader(video) as reader:
            plain = [frame.image for frame in reader]
            fps = float(reader.fps)
        frames(opened, plain, fps, "video")
        frames(opened, [np.ascontiguousarray(f[:, ::-1]) for f in plain], fps, "mirrored")
        frames(opened, [np.ascontiguousarray(np.rot90(f)) for f in plain], fps, "turned")


if __name__ == "__main__":
    typer.run(main)
