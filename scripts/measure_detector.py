#!/usr/bin/env python
"""Measure the errors of BlazePose: the numbers behind the noise that the lifter trains with.

    python scripts/measure_detector.py *.jpg clip.mp4 --truth coco_keypoints.json -o numbers.json

Pictures are measured against COCO-17 ground truth (an annotation file of COCO; pictures are found
by name, with or without a prefix). Around each annotated person several crops are cut, at several
margins, mirrored, darker and brighter, and each is shown to a fresh detector for three frames. In
some crops the picture ends above knees or ankles (``cut``) or a grey box hides part of a limb
(``covered``).

Videos have no truth. Each frame is detected as it is and mirrored, and the two detections of a
person are compared: where they differ, at least one errs, and the differences tell the size of
the random error, how long it lasts and how often sides are exchanged. What both have in common, a
bias, stays unseen. Jitter is what remains of a joint's path beside a quadratic of 0.3 s.

Detections and truth are converted to Human3.6M-17. Errors are shares of the person's extent, the
longer side of the box around the 17 joints. ``along`` is their component from hips to shoulders;
``across``, perpendicular to it in the picture, counts outwards for joints of a side and towards
the person's left for the others. Joints of both sides are pooled.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer

from gridpose.core import (
    JOINT_NAMES,
    PARENTS,
    AnyArray,
    DoubleArray,
    FloatArray,
    GridposeError,
    ImageArray,
    InputError,
    UsageError,
)
from gridpose.detectors import BLAZEPOSE_33, COCO_17
from gridpose.detectors.blazepose.detector import load_blazepose
from gridpose.pipeline.reader import VideoReader, is_image, read_image
from gridpose.pipeline.tracking import Observation, Tracker, oks

MARGINS: Final = (0.15, 0.4, 0.9)
GAINS: Final = (0.6, 1.0, 1.5)
SHOWN_FRAMES: Final = 3
SMALLEST_SIDE: Final = 384
SAME_PERSON_OKS: Final = 0.25
LEAST_KEYPOINTS: Final = 12
TAIL_SIGMAS: Final = 4.0
GROSS: Final = 0.07
"""Median error of its joints from which on a whole pose is wrong, as when it is a neighbour's."""
SAVGOL_SECONDS: Final = 0.3
JOINT: Final = {name: index for index, name in enumerate(JOINT_NAMES)}
KIND: Final = [name.removeprefix("left_").removeprefix("right_") for name in JOINT_NAMES]
KIND[0] = "pelvis"
KINDS: Final = tuple(dict.fromkeys(KIND))
SIGN: Final = np.array([-1.0 if name.startswith("right_") else 1.0 for name in JOINT_NAMES])
LIMB_PARTS: Final = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
VISIBILITY_EDGES: Final = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.001)


@dataclass(frozen=True)
class Sample:
    """One detection of an annotated person. Joints in Human3.6M-17, px of the picture.

    ``truth`` (17, 2), NaN where unknown; ``hidden`` (17,) bool, marked as hidden by the annotator;
    ``outside`` (17,) bool, out of the crop or under the box; ``found`` (17, 2), NaN everywhere
    where the detector found nobody; ``confidence`` (17,).
    """

    person: str
    variant: str
    truth: DoubleArray
    hidden: AnyArray
    outside: AnyArray
    found: DoubleArray
    confidence: DoubleArray


@dataclass(frozen=True)
class Track:
    """A person of a video: ``plain`` and ``mirrored`` (T, 17, 2) px, NaN where absent."""

    plain: DoubleArray
    mirrored: DoubleArray
    confidence: DoubleArray
    fps: float


# ---------------------------------------------------------------------------- detection


def detect_still(image: ImageArray) -> list[tuple[FloatArray, FloatArray]]:
    """Keypoints (33, 2) and confidence (33,) of the people in a picture, as a video shows them."""
    with load_blazepose() as detector:
        found = detector.detect([image] * SHOWN_FRAMES, [i / 30 for i in range(SHOWN_FRAMES)])
    return [(person.keypoints, person.confidence) for person in found[-1]]


def converted(keypoints: FloatArray, confidence: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Human3.6M-17 joints of BlazePose's keypoints."""
    joints, certainty = BLAZEPOSE_33.to_human36m(keypoints, confidence)
    return joints.astype(float), certainty.astype(float)


def truth_of(annotation: dict[str, Any]) -> tuple[DoubleArray, AnyArray]:
    """Joints (17, 2), NaN where not all keypoints are annotated, and which are hidden (17,)."""
    raw = np.array(annotation["keypoints"], np.float32).reshape(17, 3)
    ears = [COCO_17.keypoints.index(f"{side}_ear") for side in ("left", "right")]
    both_ears = bool((raw[ears, 2] > 0).all())
    for ear, other in (ears, ears[::-1]):
        # From the side one ear is never marked. For the thorax, which owes them an eighth, the
        # other is near enough.
        if raw[ear, 2] == 0:
            raw[ear] = raw[other]
    joints, least = COCO_17.to_human36m(raw[:, :2], raw[:, 2])
    known = least > 0
    known[JOINT["head"]] &= both_ears
    return np.where(known[:, None], joints.astype(float), np.nan), least == 1


def crops(image: ImageArray, box: AnyArray) -> Iterator[tuple[str, AnyArray]]:
    """Names and corners (x0, y0, x1, y1) of the views of one person."""
    height, width = image.shape[:2]
    limit = np.array([width, height, width, height])
    side = max(box[2:] - box[:2])
    for margin in MARGINS:
        grown = box + margin * side * np.array([-1, -1, 1, 1])
        yield f"margin {margin}", np.clip(np.round(grown), 0, limit).astype(int)


def picture_samples(
    image: ImageArray, name: str, annotations: Sequence[dict[str, Any]]
) -> Iterator[Sample]:
    """Every annotated person of a picture in every variant."""
    for annotation in annotations:
        if annotation["num_keypoints"] < LEAST_KEYPOINTS:
            continue
        truth, hidden = truth_of(annotation)
        person = f"{name}/{annotation['id']}"
        x, y, w, h = annotation["bbox"]
        for view, corners in crops(image, np.array([x, y, x + w, y + h])):
            crop = image[corners[1] : corners[3], corners[0] : corners[2]]
            nothing = np.zeros(17, bool)
            for mirror in (False, True):
                for gain in GAINS:
                    yield _sample(
                        (person, f"{view}, gain {gain}, mirrored {mirror}"),
                        crop,
                        (truth, hidden, nothing),
                        corners[:2],
                        gain,
                        mirror,
                    )
                if view == f"margin {MARGINS[1]}":
                    for spoilt, label, outside in spoilt_views(crop, truth - corners[:2]):
                        yield _sample(
                            (person, label),
                            spoilt,
                            (truth, hidden, outside),
                            corners[:2],
                            1,
                            mirror,
                        )


def spoilt_views(
    crop: ImageArray, truth: DoubleArray
) -> Iterator[tuple[ImageArray, str, AnyArray]]:
    """The crop cut off below knees or hips, or with a grey box over a limb; lost joints (17,)."""
    size = max(np.nanmax(truth, 0) - np.nanmin(truth, 0))
    for label, joints in (
        ("cut above ankles", ("left_ankle", "right_ankle")),
        ("cut above knees", ("left_knee", "right_knee", "left_ankle", "right_ankle")),
    ):
        rows = truth[[JOINT[j] for j in joints], 1]
        if np.isfinite(rows).all():
            row = int(np.nanmin(rows) - 0.03 * size)
            if row > 0.3 * len(crop):
                yield crop[:row], label, np.nan_to_num(truth[:, 1], nan=-1) > row
    for limb in (("knee", "ankle"), ("elbow", "wrist")):
        for side in ("left", "right"):
            points = truth[[JOINT[f"{side}_{part}"] for part in limb]]
            if not np.isfinite(points).all():
                continue
            low = np.maximum(points.min(0) - 0.06 * size, 0).astype(int)
            high = np.maximum(points.max(0) + 0.06 * size, 0).astype(int)
            covered = crop.copy()
            covered[low[1] : high[1], low[0] : high[0]] = 128
            inside = ((truth > low) & (truth < high)).all(1)
            yield covered, f"covered {limb[0]} and {limb[1]}", inside


def _sample(
    label: tuple[str, str],
    crop: ImageArray,
    truth: tuple[DoubleArray, AnyArray, AnyArray],
    origin: AnyArray,
    gain: float,
    mirror: bool,
) -> Sample:
    shown = np.clip(crop.astype(np.float32) * gain, 0, 255).astype(np.uint8)
    scale = max(1.0, SMALLEST_SIDE / max(shown.shape[:2]))
    shown = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    if mirror:
        shown = np.ascontiguousarray(shown[:, ::-1])
    joints, hidden, outside = truth
    known = np.isfinite(joints).all(1)
    size = extent(joints)
    best, score = (np.full((17, 2), np.nan), np.zeros(17)), SAME_PERSON_OKS
    for keypoints, confidence in detect_still(shown):
        keypoints = unmirrored(keypoints, shown.shape[1]) if mirror else keypoints
        confidence = confidence[_OTHER_SIDE] if mirror else confidence
        found, certainty = converted(keypoints, confidence)
        found = found / scale + origin
        likeness = oks(found[known & ~outside], joints[known & ~outside], size)
        if likeness > score:
            best, score = (found, certainty), likeness
    return Sample(*label, joints, hidden, outside, *best)


_OTHER_SIDE: Final = [
    BLAZEPOSE_33.keypoints.index(
        name.replace("left", "right") if "left" in name else name.replace("right", "left")
    )
    for name in BLAZEPOSE_33.keypoints
]


def unmirrored(keypoints: FloatArray, width: int) -> FloatArray:
    """Keypoints (33, 2) found in a mirrored picture, in the picture as it was."""
    turned = keypoints[_OTHER_SIDE].copy()
    turned[:, 0] = width - turned[:, 0]
    return turned


def video_tracks(file: Path) -> list[Track]:
    """People of a video, followed, and the detections of the mirrored video that match them."""
    plain: dict[int, dict[int, tuple[DoubleArray, DoubleArray]]] = {}
    mirrored: dict[int, dict[int, DoubleArray]] = {}
    tracker, count = Tracker(), 0
    with VideoReader(file) as video, load_blazepose() as detector, load_blazepose() as other:
        fps = float(video.fps)
        for frame in video:
            count += 1
            width = frame.image.shape[1]
            people = []
            for person in detector.detect([frame.image], [frame.time])[0]:
                joints, confidence = converted(person.keypoints, person.confidence)
                people.append(
                    Observation(
                        person.bbox, joints.astype(np.float32), confidence.astype(np.float32)
                    )
                )
            turned = np.ascontiguousarray(frame.image[:, ::-1])
            reflections = [
                converted(unmirrored(person.keypoints, width), person.confidence)[0]
                for person in other.detect([turned], [frame.time])[0]
            ]
            for track, seen in tracker.update(people, frame.time).items():
                joints = seen.keypoints.astype(float)
                plain.setdefault(track, {})[frame.index] = (joints, seen.confidence.astype(float))
                alike = [
                    (oks(seen.keypoints, r.astype(np.float32), extent(joints)), n)
                    for n, r in enumerate(reflections)
                ]
                if alike and max(alike)[0] > SAME_PERSON_OKS:
                    mirrored.setdefault(track, {})[frame.index] = reflections[max(alike)[1]]
    tracks = []
    for track, frames in plain.items():
        arrays = (np.full((count, 17, 2), np.nan), np.full((count, 17, 2), np.nan))
        confidence = np.full((count, 17), np.nan)
        for index, (joints, certainty) in frames.items():
            arrays[0][index], confidence[index] = joints, certainty
        for index, joints in mirrored.get(track, {}).items():
            arrays[1][index] = joints
        tracks.append(Track(*arrays, confidence, fps))
    return tracks


# ---------------------------------------------------------------------------- frames of reference


def extent(joints: AnyArray) -> float:
    """Longer side of the box around (17, 2) joints, of those that are known."""
    return float(max(np.nanmax(joints, 0) - np.nanmin(joints, 0)))


def trunk_frame(joints: AnyArray) -> DoubleArray:
    """Unit vectors (..., 2, 2) across and along the trunk of (..., 17, 2) joints.

    Rows are across, towards the person's left, and along, from hips to shoulders.
    """
    sides = [
        [JOINT[f"{side}_{part}"] for side in ("left", "right")] for part in ("shoulder", "hip")
    ]
    along = joints[..., sides[0], :].mean(-2) - joints[..., sides[1], :].mean(-2)
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    across = np.stack((-along[..., 1], along[..., 0]), -1)
    width = sum(joints[..., left, :] - joints[..., right, :] for left, right in sides)
    sign = np.where((across * width).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    return np.stack((across * sign, along), -2)


def body_errors(found: AnyArray, truth: AnyArray, frame: AnyArray | None = None) -> DoubleArray:
    """Errors (..., 17, 2) across (outwards) and along the trunk, shares of the extent."""
    axes = trunk_frame(truth) if frame is None else frame
    filled = np.where(np.isfinite(truth), truth, found)
    size = (np.nanmax(filled, -2) - np.nanmin(filled, -2)).max(-1)
    error = np.einsum("...jc,...ac->...ja", found - truth, axes) / size[..., None, None]
    error[..., 0] *= SIGN
    return np.asarray(error)


def robust_sigma(values: AnyArray) -> float:
    """Standard deviation of the core of a distribution, from the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else np.nan


def pair(values: AnyArray) -> dict[str, float]:
    return {"across": float(values[0]), "along": float(values[1])}


# ---------------------------------------------------------------------------- pictures


def error_table(errors: AnyArray, chosen: AnyArray, persons: AnyArray) -> dict[str, Any]:
    """Errors (S, 17, 2) by kind of joint, of those ``chosen`` (S, 17), S samples of ``persons``.

    ``bias`` is the mean over persons of their mean error; ``offset_sigma`` how those means scatter
    from person to person (annotators' errors included); ``sigma`` how detections of one person
    scatter about that person's median (core only); ``tail_share`` how often that is more than 4
    sigma off, and ``tail_rms`` the root mean square length of those.
    """
    table: dict[str, Any] = {}
    for kind in KINDS:
        centres, rests, lengths = [], [], []
        for joint in [j for j in range(17) if KIND[j] == kind]:
            for person in np.unique(persons):
                values = errors[chosen[:, joint] & (persons == person), joint]
                if len(values) >= 4:
                    centre = np.median(values, 0)
                    centres.append(centre)
                    rests.append(values - centre)
                    lengths.append(np.linalg.norm(values, axis=1))
        if not centres:
            continue
        centre, rest, length = np.stack(centres), np.concatenate(rests), np.concatenate(lengths)
        sigma = np.array([max(robust_sigma(rest[:, axis]), 1e-4) for axis in (0, 1)])
        far = np.sqrt(((rest / sigma) ** 2).sum(1)) > TAIL_SIGMAS
        table[kind] = {
            "joints": len(centres),
            "detections": len(rest),
            "bias": pair(centre.mean(0)),
            "median_bias": pair(np.median(centre, 0)),
            "bias_standard_error": pair(centre.std(0, ddof=1) / len(centre) ** 0.5)
            if len(centre) > 1
            else None,
            "offset_sigma": pair(centre.std(0, ddof=1)) if len(centre) > 1 else None,
            "offset_sigma_robust": pair(
                np.array([robust_sigma(centre[:, 0]), robust_sigma(centre[:, 1])])
            ),
            "sigma": pair(sigma),
            "tail_share": float(far.mean()),
            "tail_rms": float(np.sqrt((rest[far] ** 2).sum(1).mean())) if far.any() else None,
            "median_length": float(np.median(length)),
            "p90_length": float(np.quantile(length, 0.9)),
        }
    return table


def limb_errors(errors_px: AnyArray, truth: AnyArray, sizes: AnyArray) -> dict[str, Any]:
    """Errors along and across the bone that ends in a joint, and how they go with its parent's.

    ``errors_px`` and ``truth`` (S, 17, 2), ``sizes`` (S,) the extents.
    """
    table: dict[str, Any] = {}
    for kind in LIMB_PARTS:
        own, parents = [], []
        for joint in [j for j in range(17) if KIND[j] == kind]:
            bone = truth[:, joint] - truth[:, PARENTS[joint]]
            length = np.linalg.norm(bone, axis=1)
            ok = (length > 0.06 * sizes) & np.isfinite(errors_px[:, [joint, PARENTS[joint]]]).all(
                (1, 2)
            )
            unit = bone[ok] / length[ok, None]
            axes = np.stack((unit, np.stack((-unit[:, 1], unit[:, 0]), -1)), 1)
            for which, store in ((joint, own), (PARENTS[joint], parents)):
                store.append(np.einsum("sc,sac->sa", errors_px[ok, which], axes) / sizes[ok, None])
        mine, theirs = np.concatenate(own), np.concatenate(parents)
        # Exchanged sides and strangers would dominate a correlation.
        core = (np.abs(mine) < 0.08).all(1) & (np.abs(theirs) < 0.08).all(1)
        mine, theirs = mine[core], theirs[core]
        if len(mine) < 20 or not (mine.std(0).all() and theirs.std(0).all()):
            continue
        table[kind] = {
            "n": len(mine),
            "sigma_along_bone": robust_sigma(mine[:, 0]),
            "sigma_across_bone": robust_sigma(mine[:, 1]),
            "correlation_with_parent_along": float(np.corrcoef(mine[:, 0], theirs[:, 0])[0, 1]),
            "correlation_with_parent_across": float(np.corrcoef(mine[:, 1], theirs[:, 1])[0, 1]),
        }
    return table


def exchanged(found: AnyArray, truth: AnyArray) -> tuple[frozenset[str], frozenset[str]]:
    """Parts whose two sides (17, 2) are exchanged, and parts of which that can be told."""
    size, parts, told = extent(truth), set(), set()
    for part in LIMB_PARTS:
        sides = [JOINT["left_" + part], JOINT["right_" + part]]
        if not np.isfinite(truth[sides]).all() or not np.isfinite(found[sides]).all():
            continue
        if np.linalg.norm(truth[sides[0]] - truth[sides[1]]) < 0.08 * size:
            continue
        told.add(part)
        own = np.linalg.norm(found[sides] - truth[sides], axis=1).sum()
        other = np.linalg.norm(found[sides] - truth[sides[::-1]], axis=1).sum()
        if other < 0.5 * own:
            parts.add(part)
    return frozenset(parts), frozenset(told)


def swap_table(pairs: Sequence[tuple[AnyArray, AnyArray]]) -> dict[str, Any]:
    """How often the sides of which parts are exchanged between two lists of joints (17, 2)."""
    patterns: Counter[str] = Counter()
    told: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for found, truth in pairs:
        parts, possible = exchanged(found, truth)
        told.update(possible)
        wrong.update(parts)
        if parts:
            patterns["+".join(part for part in LIMB_PARTS if part in parts)] += 1
    return {
        "poses": len(pairs),
        "share_by_part": {part: wrong[part] / told[part] for part in LIMB_PARTS if told[part]},
        "told": dict(told),
        "patterns": dict(patterns.most_common()),
    }


def collapse_table(pairs: Sequence[tuple[AnyArray, AnyArray]]) -> dict[str, dict[str, float]]:
    """How often both joints of a pair are put onto one of them.

    Of pairs whose truth is at least 0.12 of the extent apart, those found less than 0.4 as far
    apart, of which the worse joint lies nearer to its counterpart than to its own place.
    """
    table = {}
    for part in LIMB_PARTS:
        sides = [JOINT["left_" + part], JOINT["right_" + part]]
        told = fell = 0
        for found, truth in pairs:
            apart = np.linalg.norm(truth[sides[0]] - truth[sides[1]])
            if not apart > 0.12 * extent(truth):
                continue
            told += 1
            near = np.linalg.norm(found[sides[0]] - found[sides[1]]) < 0.4 * apart
            own = np.linalg.norm(found[sides] - truth[sides], axis=1)
            other = np.linalg.norm(found[sides] - truth[sides[::-1]], axis=1)
            fell += bool(near and other[own.argmax()] < own.max())
        if told:
            table[part] = {"poses": told, "share": fell / told}
    return table


def by_confidence(errors: AnyArray, confidence: AnyArray) -> list[dict[str, float]]:
    """Lengths of errors (N, 2) in bins of confidence (N,)."""
    rows = []
    length = np.linalg.norm(errors, axis=1)
    for low, high in itertools.pairwise(VISIBILITY_EDGES):
        inside = (confidence >= low) & (confidence < high) & np.isfinite(length)
        if inside.any():
            rows.append(
                {
                    "from": low,
                    "to": min(high, 1.0),
                    "n": int(inside.sum()),
                    "median": float(np.median(length[inside])),
                    "rms": float(np.sqrt((length[inside] ** 2).mean())),
                    "p90": float(np.quantile(length[inside], 0.9)),
                }
            )
    return rows


def pose_scale(errors: AnyArray, persons: AnyArray) -> dict[str, Any]:
    """How the size of errors (S, 17, 2) varies from person to person and from view to view."""
    length = np.linalg.norm(errors, axis=-1)
    typical = np.sqrt(np.nanmedian(length**2, 1))
    logs = np.log(np.maximum(typical, 1e-4))
    means = np.array([logs[persons == person].mean() for person in np.unique(persons)])
    rests = np.concatenate(
        [logs[persons == p] - logs[persons == p].mean() for p in np.unique(persons)]
    )
    return {
        "median_joint_error_quantiles": dict(
            zip(
                ("5%", "25%", "50%", "75%", "95%"),
                np.quantile(typical, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(),
                strict=True,
            )
        ),
        "log_sigma_between_persons": float(means.std(ddof=1)) if len(means) > 1 else None,
        "log_sigma_between_views": float(rests.std()),
    }


def measure_pictures(samples: Sequence[Sample]) -> dict[str, Any]:
    """All that pictures with truth tell."""
    seen = [s for s in samples if np.isfinite(s.found).all()]
    plain = [s for s in seen if not s.outside.any()]
    truth, found = np.stack([s.truth for s in plain]), np.stack([s.found for s in plain])
    persons = np.array([s.person for s in plain])
    errors = body_errors(found, truth)
    known = np.isfinite(errors).all(-1)
    hidden = np.stack([s.hidden for s in plain])
    confidence = np.stack([s.confidence for s in plain])
    # Exchanged sides are told apart from errors of position.
    swapped = np.zeros_like(known)
    for row, sample in enumerate(plain):
        parts, _ = exchanged(sample.found, sample.truth)
        swapped[row] = [KIND[j] in parts for j in range(17)]
    sizes = np.array(
        [extent(np.where(np.isfinite(t), t, f)) for t, f in zip(truth, found, strict=True)]
    )
    length = np.where(known, np.linalg.norm(errors, axis=-1), np.nan)
    gross = np.nanmedian(length, 1) > GROSS
    usual = known & ~swapped & ~gross[:, None]
    clean = [s for s in samples if not s.outside.any()]
    spoilt: dict[str, Any] = {}
    for label in sorted({s.variant for s in samples if s.outside.any()}):
        chosen = [s for s in samples if s.variant == label]
        hits = [s for s in chosen if np.isfinite(s.found).all()]
        spoilt[label] = {"views": len(chosen), "found": len(hits)}
        if hits:
            off = body_errors(np.stack([s.found for s in hits]), np.stack([s.truth for s in hits]))
            lost = np.stack([s.outside for s in hits]) & np.isfinite(off).all(-1)
            kept = ~np.stack([s.outside for s in hits]) & np.isfinite(off).all(-1)
            sure = np.stack([s.confidence for s in hits])
            spoilt[label] |= {
                "lost_joints": error_summary(off[lost], sure[lost]),
                "other_joints": error_summary(off[kept], sure[kept]),
                "lost_by_kind": {
                    kind: error_summary(off[part], sure[part])
                    for kind in KINDS
                    if (part := lost & (np.array(KIND) == kind)).any()
                },
            }
    return {
        "persons": len(np.unique(persons)),
        "views": len(clean),
        "not_found": 1 - len(plain) / len(clean),
        "not_found_by_person": {
            p: 1 - float(np.mean([np.isfinite(s.found).all() for s in clean if s.person == p]))
            for p in sorted({s.person for s in clean})
        },
        "gross": {
            "share": float(gross.mean()),
            "by_person": {p: float(gross[persons == p].mean()) for p in np.unique(persons)},
            "joints": error_summary(errors[gross][known[gross]], confidence[gross][known[gross]])
            if gross.any()
            else None,
        },
        "visible": error_table(errors, usual & ~hidden, persons),
        "hidden": error_table(errors, usual & hidden, persons),
        "hidden_all": {
            kind: error_summary(errors[part], confidence[part])
            for kind in KINDS
            if (part := known & hidden & (np.array(KIND) == kind)).any()
        },
        "per_pose": pose_scale(np.where(known[..., None], errors, np.nan), persons),
        "limbs": limb_errors(np.where(usual[..., None], found - truth, np.nan), truth, sizes),
        "swaps": swap_table([(s.found, s.truth) for s in plain]),
        "collapses": collapse_table([(s.found, s.truth) for s in plain]),
        "by_confidence": by_confidence(errors[known], confidence[known]),
        "lost": spoilt,
    }


def error_summary(errors: AnyArray, confidence: AnyArray) -> dict[str, Any]:
    """Of errors (N, 2) and their confidence (N,)."""
    length = np.linalg.norm(errors, axis=1)
    return {
        "n": len(errors),
        "mean": pair(errors.mean(0)),
        "median_length": float(np.median(length)),
        "p90_length": float(np.quantile(length, 0.9)),
        "rms": float(np.sqrt((length**2).mean())),
        "median_confidence": float(np.median(confidence)),
    }


# ---------------------------------------------------------------------------- videos


def autocorrelation(values: AnyArray, lag: int) -> float | None:
    """Of (T, ...) with NaN gaps, mean zero assumed; None with fewer than 30 pairs."""
    first, second = values[:-lag], values[lag:]
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 30:
        return None
    power = 0.5 * ((first[both] ** 2).mean() + (second[both] ** 2).mean())
    return float((first[both] * second[both]).mean() / power)


def smooth_rest(track: AnyArray, fps: float) -> DoubleArray:
    """What (T, 17, 2) differs from a local quadratic of 0.3 s; NaN where no window fits.

    Scaled so that white noise keeps its standard deviation.
    """
    window = max(5, round(SAVGOL_SECONDS * fps) | 1)
    half = window // 2
    steps = np.arange(-half, half + 1)
    powers = np.stack([steps**n for n in range(3)], 1)
    weights = np.linalg.pinv(powers)[0]
    rest = np.full(track.shape, np.nan)
    for t in range(half, len(track) - half):
        rest[t] = track[t] - np.tensordot(weights, track[t - half : t + half + 1], 1)
    return np.asarray(rest / np.sqrt(1 - weights[half]))


def measure_tracks(tracks: Sequence[Track]) -> dict[str, Any]:
    """What a video tells: see the top of this file."""
    long = [t for t in tracks if np.isfinite(t.plain[:, 0, 0] + t.mirrored[:, 0, 0]).sum() >= 3]
    if not long:
        return {"tracks": []}
    differences, fits, confidences, swaps, centred = [], [], [], [], []
    for track in long:
        there = np.isfinite(track.plain[:, 0, 0])
        both = there & np.isfinite(track.mirrored[:, 0, 0])
        swaps += list(zip(track.mirrored[both], track.plain[both], strict=True))
        axes = trunk_frame((track.plain + track.mirrored) / 2)
        gap = np.full(track.plain.shape, np.nan)
        gap[both] = body_errors(track.mirrored[both], track.plain[both], axes[both]) / 2**0.5
        for row in np.flatnonzero(both):
            parts, _ = exchanged(track.mirrored[row], track.plain[row])
            gap[row, [KIND[j] in parts for j in range(17)]] = np.nan
        differences.append(gap)
        confidences.append(track.confidence)
        # A constant difference is a bias that is not symmetric, not a random error.
        centred.append(gap - np.nanmedian(gap, 0) if both.any() else gap)
        rest = np.full(track.plain.shape, np.nan)
        smooth = smooth_rest(track.plain, track.fps)
        rest[there] = body_errors(
            (track.plain + smooth)[there], track.plain[there], trunk_frame(track.plain[there])
        )
        fits.append(rest)
    gap, confidence = np.concatenate(differences), np.concatenate(confidences)
    rest, shifted = np.concatenate(fits), np.concatenate(centred)
    fps = long[0].fps
    joints: dict[str, Any] = {}
    for kind in KINDS:
        columns = np.array(KIND) == kind
        d = gap[:, columns][np.isfinite(gap[:, columns]).all(-1)]
        r = rest[:, columns][np.isfinite(rest[:, columns]).all(-1)]
        if not len(d):
            continue
        sigma = np.array([robust_sigma(d[:, axis]) for axis in (0, 1)])
        far = np.sqrt(((d / sigma) ** 2).sum(1)) > TAIL_SIGMAS
        joints[kind] = {
            "n": len(d),
            "sigma": pair(sigma),
            "sigma_with_tail": pair(d.std(0)),
            "tail_share": float(far.mean()),
            "tail_rms": float(np.sqrt((d[far] ** 2).sum(1).mean())) if far.any() else None,
            "jitter_sigma": pair([robust_sigma(r[:, axis]) for axis in (0, 1)]) if len(r) else None,
            "jitter_rms": pair(np.sqrt((r**2).mean(0))) if len(r) else None,
            "autocorrelation": {
                f"{lag} frames, {lag / fps:.2f} s": autocorrelation(
                    np.clip(shifted[:, columns], -0.1, 0.1), lag
                )
                for lag in (1, 2, 3, 5, 10, 20, 30)
            },
            "jitter_autocorrelation_1": autocorrelation(np.clip(rest[:, columns], -0.05, 0.05), 1),
        }
    known = np.isfinite(gap).all(-1)
    persons = np.concatenate([np.full(len(t.plain), n) for n, t in enumerate(long)])
    posed = known.any(1)
    return {
        "tracks": [int(np.isfinite(t.plain[:, 0, 0]).sum()) for t in long],
        "fps": fps,
        "joints": joints,
        "per_pose": pose_scale(gap[posed], persons[posed]),
        "swaps_mirrored": swap_table(swaps),
        "by_confidence": by_confidence(gap[known], confidence[known]),
    }


# ---------------------------------------------------------------------------- command


def read_truth(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Annotations by the file name of their picture.

    Raises:
        InputError: not COCO keypoint annotations.
    """
    try:
        data = json.loads(file.read_text())
        names = {image["id"]: image["file_name"] for image in data["images"]}
        annotations: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
        for annotation in data["annotations"]:
            annotations[names[annotation["image_id"]]].append(annotation)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not COCO keypoint annotations ({error})") from error
    return annotations


def main(
    inputs: Annotated[list[Path], typer.Argument(metavar="VIDEO_OR_PICTURE...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="numbers, as JSON")],
    truth: Annotated[Path | None, typer.Option(help="COCO annotations of the pictures")] = None,
) -> None:
    try:
        numbers = measure(inputs, truth)
    except GridposeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error
    output.write_text(json.dumps(numbers, indent=1) + "\n")


def measure(inputs: Sequence[Path], truth: Path | None) -> dict[str, Any]:
    """Numbers of all pictures together and of each video.

    Raises:
        InputError: an input is unreadable, or a picture is not in the annotations.
        UsageError: pictures without annotations.
    """
    pictures = [file for file in inputs if is_image(file)]
    numbers: dict[str, Any] = {"unit": "share of the longer side of the box around 17 joints"}
    if pictures:
        if truth is None:
            raise UsageError("pictures can only be measured with --truth")
        annotations, samples = read_truth(truth), list[Sample]()
        for file in pictures:
            own = [found for name, found in annotations.items() if file.name.endswith(name)]
            if not own:
                raise InputError(f"{file}: not in {truth}")
            samples += picture_samples(read_image(file), file.stem, own[0])
        numbers["pictures"] = measure_pictures(samples)
    numbers["videos"] = {
        file.name: measure_tracks(video_tracks(file)) for file in inputs if file not in pictures
    }
    return numbers


if __name__ == "__main__":
    typer.run(main)
