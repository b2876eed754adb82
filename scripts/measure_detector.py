#!/usr/bin/env python
"""Measure what a detector finds against what annotators marked.

    python scripts/measure_detector.py keypoints COCO.json --media FOLDER --video clip.mp4
    python scripts/measure_detector.py persons COCO.json --media FOLDER

Truth is in COCO's format. The ``file_name`` of an image is searched for in the folders of
``--media`` by its end, so that a prefix does no harm; ``clip.mp4#65`` is frame 65 of a video.
Annotations with ``iscrowd``, or with no keypoint marked, ask for nobody and excuse whoever is
found there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from scipy.optimize import linear_sum_assignment

from gridpose.core import MIRRORED, DoubleArray, FloatArray, ImageArray, InputError
from gridpose.detectors import COCO_17, Detector, load_detector
from gridpose.detectors.blazepose.finder import LEVELS, load_persons
from gridpose.detectors.boxes import PersonBoxes, PersonFinder, overlaps
from gridpose.detectors.hrnet.person_finder import load_person_finder
from gridpose.pipeline.motion.tracking import Observation, Tracker
from gridpose.pipeline.video.reader import VideoReader

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

MIN_IOU = 0.5
EXCUSED_SHARE = 0.6
"""Of a box's area, inside an annotation that excuses it."""
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
# Twice the standard deviations of annotators (cocodataset.org/#keypoints-eval), in COCO's order.
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
MIRRORED_COCO = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
BRIGHTNESSES = (0.6, 1.0, 1.4)
LEAST_OKS = 0.1
"""From which on somebody is found."""
PCK_SHARE = 0.1
SAME_LIMB = 0.8
LIMBS = ((1, 2, 3), (11, 12, 13))

Truth = Annotated[list[Path], typer.Argument(help="COCO annotation files.", exists=True)]
Media = Annotated[list[Path], typer.Option(help="Folder of pictures and videos.")]


@dataclass(frozen=True)
class Picture:
    """One frame: ``people`` (N, 4) and ``excused`` (M, 4) xyxy px, and what else is annotated.

    ``keypoints`` (N, 17, 3) are COCO's; ``areas`` (N,) square px, not of boxes.
    """

    name: str
    image: ImageArray
    people: DoubleArray
    excused: DoubleArray
    keypoints: DoubleArray | None = None
    areas: DoubleArray | None = None


@dataclass(frozen=True)
class Outcome:
    """``iou`` is of each box with a person of its own, 0 if it is false; ``scores`` are theirs."""

    people: int
    iou: list[float]
    scores: list[float]


def read_frame(name: str, folders: list[Path]) -> ImageArray:
    """A picture, or a frame of a video, RGB."""
    file_name, _, number = name.partition("#")
    files = [file for folder in folders for file in sorted(folder.glob(f"*{file_name}"))]
    if not files:
        raise InputError(f"{file_name}: not in {', '.join(map(str, folders))}")
    capture = cv2.VideoCapture(str(files[0]))
    for _ in range(int(number or 0)):
        capture.grab()
    right, image = capture.read()
    capture.release()
    if not right:
        raise InputError(f"{files[0]}: has no frame {number or 0}")
    return np.asarray(image[..., ::-1], np.uint8)


def read_truth(file: Path, folders: list[Path]) -> list[Picture]:
    truth = json.loads(file.read_text())
    pictures = []
    for entry in truth["images"]:
        own = [one for one in truth["annotations"] if one["image_id"] == entry["id"]]
        boxes = np.array([one["bbox"] for one in own], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        asked = [not one.get("iscrowd") and one.get("num_keypoints", 1) > 0 for one in own]
        people = np.array(asked, bool)
        marked = [one["keypoints"] for one in own if "keypoints" in one]
        keypoints = np.array(marked, float).reshape(-1, 17, 3)
        pictures.append(
            Picture(
                entry["file_name"],
                read_frame(entry["file_name"], folders),
                boxes[people],
                boxes[~people],
                keypoints[people] if len(keypoints) == len(own) else None,
                np.array([one.get("area", np.nan) for one in own])[people],
            )
        )
    return pictures


def is_excused(box: DoubleArray, excused: DoubleArray) -> bool:
    low, high = np.maximum(box[:2], excused[:, :2]), np.minimum(box[2:], excused[:, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    return bool((shared > EXCUSED_SHARE * (box[2:] - box[:2]).prod()).any())


def compare(picture: Picture, found: PersonBoxes) -> Outcome:
    """Match boxes to people, best score first, each person once."""
    iou = overlaps(found.boxes, picture.people.astype(np.float32))[0]
    outcome = Outcome(len(picture.people), [], [])
    free = np.ones(len(picture.people), bool)
    for index in np.argsort(-found.scores, kind="stable"):
        candidates = np.where(free, iou[index], 0)
        best = float(candidates.max(initial=0))
        if best >= MIN_IOU:
            free[candidates.argmax()] = False
        elif is_excused(found.boxes[index].astype(float), picture.excused):
            continue
        outcome.iou.append(best if best >= MIN_IOU else 0.0)
        outcome.scores.append(float(found.scores[index]))
    return outcome


def report_persons(label: str, finder: PersonFinder, pictures: list[Picture]) -> None:
    with finder:
        finder.find([pictures[0].image])  # what is only made once
        started = time.perf_counter()
        found = [finder.find([picture.image])[0] for picture in pictures]
        milliseconds = 1000 * (time.perf_counter() - started) / len(pictures)
    outcomes = [compare(*pair) for pair in zip(pictures, found, strict=True)]
    people = sum(outcome.people for outcome in outcomes)
    iou = np.array([value for outcome in outcomes for value in outcome.iou])
    scores = np.array([value for outcome in outcomes for value in outcome.scores])
    typer.echo(
        f"{label}: {np.sum(iou > 0)} of {people} found, {np.sum(iou == 0)} false, "
        f"mean IoU {iou[iou > 0].mean() if (iou > 0).any() else 0:.2f}, {milliseconds:.0f} ms/frame"
    )
    for picture, outcome in zip(pictures, outcomes, strict=True):
        right = sum(value > 0 for value in outcome.iou)
        if right < outcome.people or right < len(outcome.iou):
            false = len(outcome.iou) - right
            typer.echo(f"    {picture.name}: {right} of {outcome.people}, {false} false")
    for threshold in THRESHOLDS:
        kept = iou[scores >= threshold]
        typer.echo(f"    score >= {threshold}: {np.sum(kept > 0)}, {np.sum(kept == 0)} false")


@app.command()
def persons(
    truth: Truth,
    media: Media,
    finder: Annotated[str, typer.Option(help="Of people, by name.")] = "blazepose",
) -> None:
    """How many people are found, and the cost; found means an IoU of at least 0.5."""
    pictures = [picture for file in truth for picture in read_truth(file, media)]
    if finder != "blazepose":
        report_persons(finder, load_person_finder(finder, max_persons=100), pictures)
        return
    for levels in LEVELS:
        report_persons(f"blazepose, levels {levels}", load_persons(100, levels), pictures)


def oks(found: FloatArray, marked: DoubleArray, area: float) -> float:
    """COCO's similarity of keypoints (17, 2) with marked ones (17, 3) in so many square px."""
    distance = ((found - marked[:, :2]) ** 2).sum(1)
    similar = np.exp(-distance / (2 * area * (2 * SIGMAS) ** 2))
    return float(similar[marked[:, 2] > 0].mean())


def sights(picture: Picture) -> Iterator[tuple[ImageArray, DoubleArray]]:
    """A picture as it is and mirrored, in three brightnesses, and the keypoints (N, 17, 3)."""
    assert picture.keypoints is not None, f"{picture.name}: keypoints are not marked"
    mirrored = picture.keypoints[:, MIRRORED_COCO]
    mirrored[..., 0] = picture.image.shape[1] - 1 - mirrored[..., 0]
    for brightness in BRIGHTNESSES:
        shown = (picture.image * brightness).clip(0, 255).astype(np.uint8)
        yield shown, picture.keypoints
        yield np.ascontiguousarray(shown[:, ::-1]), mirrored


def owned(found: list[FloatArray], keypoints: DoubleArray, areas: DoubleArray) -> dict[int, int]:
    """Whom (index of keypoints (N, 17, 3)) each found person (17, 2) is, by the best OKS of all."""
    values = np.array(
        [[oks(one, *each) for each in zip(keypoints, areas, strict=True)] for one in found]
    )
    pairs = zip(
        *linear_sum_assignment(values.reshape(len(found), len(keypoints)), maximize=True),
        strict=True,
    )
    return {int(own): int(row) for row, own in pairs if values[row, own] >= LEAST_OKS}


def strayed(found: list[FloatArray], keypoints: DoubleArray, areas: DoubleArray) -> tuple[int, int]:
    """How many marked keypoints of those found lie nearer to another's same one, and of how many.

    Either side of the other's counts, and only others for whom it is marked.
    """
    astray = count = 0
    for own, row in owned(found, keypoints, areas).items():
        others = np.delete(keypoints, own, axis=0)
        others = np.concatenate((others, others[:, MIRRORED_COCO]))
        marks = np.where(others[..., 2:] > 0, others[..., :2], np.inf)
        to_others = np.linalg.norm(found[row] - marks, axis=-1).min(0, initial=np.inf)
        to_own = np.linalg.norm(found[row] - keypoints[own, :, :2], axis=-1)
        seen = keypoints[own, :, 2] > 0
        astray += int((to_others < to_own)[seen].sum())
        count += int(seen.sum())
    return astray, count


def measure_pictures(detector: Detector, pictures: list[Picture]) -> str:
    columns = [detector.convention.keypoints.index(name) for name in COCO_17.keypoints]
    scores: list[float] = []
    hits = marks = astray = own = 0
    for picture in pictures:
        assert picture.areas is not None
        sides = (picture.people[:, 2:] - picture.people[:, :2]).max(1)
        for image, keypoints in sights(picture):
            detector.forget()
            found = [one.keypoints[columns] for one in detector.detect([image], [0.0])[0]]
            lost, of = strayed(found, keypoints, picture.areas)
            astray, own = astray + lost, own + of
            for marked, area, side in zip(keypoints, picture.areas, sides, strict=True):
                values = [oks(one, marked, area) for one in found]
                scores.append(max(values, default=0.0))
                seen = marked[:, 2] > 0
                marks += int(seen.sum())
                if scores[-1] >= LEAST_OKS:
                    best = found[int(np.argmax(values))]
                    apart = np.linalg.norm(best - marked[:, :2], axis=1)[seen]
                    hits += int((apart < PCK_SHARE * side).sum())
    return (
        f"pictures: OKS {np.mean(scores):.3f} over {len(scores)} people, "
        f"{np.sum(np.array(scores) >= LEAST_OKS)} found, PCK {hits / marks:.3f}, "
        f"{astray / own:.1%} of the keypoints of those found nearer to somebody else's"
    )


def measure_video(detector: Detector, images: list[ImageArray], fps: float) -> str:
    detector.forget()
    tracker, tracks = Tracker(), dict[int, dict[int, FloatArray]]()
    seen = 0
    for start in range(0, len(images), 8):
        times = [index / fps for index in range(start, min(start + 8, len(images)))]
        answers = detector.detect(images[start : start + 8], times)
        for index, (moment, people) in enumerate(zip(times, answers, strict=True), start):
            joints = [
                Observation(p.bbox, *detector.convention.to_human36m(p.keypoints, p.confidence))
                for p in people
            ]
            seen += len(people)
            for number, observation in tracker.update(joints, moment).items():
                tracks.setdefault(number, {})[index] = observation.keypoints
    shaking, exchanges = [], 0
    for track in tracks.values():
        for index, joints in track.items():
            before, after = track.get(index - 1), track.get(index + 1)
            if before is None:
                continue
            if after is not None and len(track) >= 5:
                shaking.append(np.linalg.norm(before - 2 * joints + after, axis=-1))
            for limb in LIMBS:
                sides, other = list(limb), [MIRRORED[joint] for joint in limb]
                stayed = np.linalg.norm((joints - before)[sides + other], axis=-1).sum()
                turned = joints[sides + other] - before[other + sides]
                exchanges += bool(np.linalg.norm(turned, axis=-1).sum() < SAME_LIMB * stayed)
    typical, rare = np.percentile(np.concatenate(shaking), (50, 90))
    return (
        f"{seen} person frames in {len(tracks)} tracks, second "
        f"differences {typical:.1f} px (90th percentile {rare:.1f}), {exchanges} exchanges"
    )


@app.command()
def keypoints(
    truth: Truth,
    media: Media,
    video: Annotated[Path | None, typer.Option(help="A video of people.")] = None,
    detector: Annotated[str, typer.Option(help="By name.")] = "blazepose",
) -> None:
    """OKS and PCK in pictures; how steady keypoints are in a video, and exchanges of sides.

    Pictures are looked at as they are and mirrored, in three brightnesses; who is not found counts
    as 0. PCK is the share of keypoints within a tenth of the longer side of the person's box. The
    video is looked at as it is, mirrored and turned by 90 degrees.
    """
    with load_detector(detector) as opened:
        pictures = [picture for file in truth for picture in read_truth(file, media)]
        typer.echo(f"{opened.name}, {measure_pictures(opened, pictures)}")
        if video is None:
            return
        with VideoReader(video) as reader:
            images, fps = [frame.image for frame in reader], float(reader.fps)
        for name, turned in (
            ("video", images),
            ("mirrored", [np.ascontiguousarray(image[:, ::-1]) for image in images]),
            ("turned", [np.ascontiguousarray(np.rot90(image)) for image in images]),
        ):
            typer.echo(f"{name}: {measure_video(opened, turned, fps)}")


if __name__ == "__main__":
    app()
