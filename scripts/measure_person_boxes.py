#!/usr/bin/env python
"""Measure how well people are found, and what it costs.

    python scripts/measure_person_boxes.py TRUTH.json --media FOLDER
    python scripts/measure_person_boxes.py tests/data/sample_video_people.json --media CACHE_FOLDER

Truth is in COCO's format: ``file_name`` of an image is searched for in the folders of ``--media``
by its end, so that a prefix does no harm; ``clip.mp4#65`` is frame 65 of a video. Annotations with
``iscrowd``, or with no keypoint marked, ask for nobody and excuse whoever is found there. A person
is found when a box overlaps theirs by an IoU of 0.5.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import cv2
import numpy as np
import typer

from gridpose.core import DoubleArray, ImageArray, InputError
from gridpose.detectors.blazepose.finder import LEVELS, load_persons
from gridpose.detectors.person_boxes import PersonBoxes, PersonFinder, load_person_finder, overlaps

MIN_IOU: Final = 0.5
EXCUSED_SHARE: Final = 0.6
"""Of a box's area, inside an annotation that excuses it."""
THRESHOLDS: Final = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)


@dataclass(frozen=True)
class Picture:
    """One frame with ``people`` (N, 4) and ``excused`` (M, 4) xyxy px."""

    name: str
    image: ImageArray
    people: DoubleArray
    excused: DoubleArray


@dataclass(frozen=True)
class Outcome:
    """``found`` for each box its IoU with a person of its own, 0 if false, and its score."""

    people: int
    iou: list[float]
    scores: list[float]


def read_frames(folders: list[Path], names: list[str]) -> dict[str, ImageArray]:
    """The pictures of these names; each file is decoded once."""
    frames: dict[str, ImageArray] = {}
    for file_name in dict.fromkeys(name.partition("#")[0] for name in names):
        files = [file for folder in folders for file in sorted(folder.glob(f"*{file_name}"))]
        if not files:
            raise InputError(f"{file_name}: not in {', '.join(map(str, folders))}")
        wanted = {
            int(n.partition("#")[2] or 0): n for n in names if n.partition("#")[0] == file_name
        }
        capture = cv2.VideoCapture(str(files[0]))
        for number in range(max(wanted) + 1):
            if not capture.grab():
                raise InputError(f"{files[0]}: has no frame {number}")
            if number in wanted:
                frames[wanted[number]] = np.asarray(capture.retrieve()[1][..., ::-1], np.uint8)
        capture.release()
    return frames


def read_truth(file: Path, folders: list[Path]) -> list[Picture]:
    truth = json.loads(file.read_text())
    frames = read_frames(folders, [entry["file_name"] for entry in truth["images"]])
    pictures = []
    for entry in truth["images"]:
        boxes: dict[bool, list[list[float]]] = {False: [], True: []}
        for annotation in truth["annotations"]:
            if annotation["image_id"] == entry["id"]:
                x, y, width, height = annotation["bbox"]
                excused = annotation.get("iscrowd", 0) or annotation.get("num_keypoints", 1) == 0
                boxes[bool(excused)].append([x, y, x + width, y + height])
        people, excused_boxes = (np.array(boxes[key], float).reshape(-1, 4) for key in boxes)
        name = entry["file_name"]
        pictures.append(Picture(name, frames[name], people, excused_boxes))
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


def report(label: str, finder: PersonFinder, pictures: list[Picture]) -> None:
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


def main(
    truth: Annotated[list[Path], typer.Argument(help="COCO annotation files.", exists=True)],
    media: Annotated[list[Path], typer.Option(help="Folder of pictures and videos.")],
    finder: Annotated[str, typer.Option(help="Measure this finder, by name.")] = "blazepose",
) -> None:
    pictures = [picture for file in truth for picture in read_truth(file, media)]
    if finder != "blazepose":
        report(finder, load_person_finder(finder, max_persons=100), pictures)
        return
    for levels in LEVELS:
        report(f"blazepose, levels {levels}", load_persons(100, levels), pictures)


if __name__ == "__main__":
    typer.run(main)
