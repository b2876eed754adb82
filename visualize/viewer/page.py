"""Poses as one HTML page: the data packed small, and everything that shows them beside it."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import (
    BONES,
    JOINT_NAMES,
    NUM_JOINTS,
    AnyArray,
    BoolArray,
    DoubleArray,
    InputError,
    MissingError,
    PoseTracks,
)
from gridpose.visualize.bones import FAINTEST, line_colour
from gridpose.visualize.palette import THEMES, hex_of
from gridpose.visualize.stage import SPACING_METRES

ASSETS = Path(__file__).with_name("assets")
VENDOR = Path(__file__).with_name("vendor")
"""three.js, which ``setup.py`` fetches."""

_LIBRARY: Final = {
    # What modules import -> the file that has it.
    "three": "three.module.min.js",
    "three/addons/controls/OrbitControls.js": "OrbitControls.js",
}
_MILLIMETRES: Final = 1000.0
_UNSEEN: Final = -32768
"""Stands for 2D coordinates that are not numbers."""
_KEYPOINT_STEPS: Final = 16000
"""The longer side of the picture in steps of 2D coordinates: these may lie twice as far outside."""


def viewer_page(
    tracks: PoseTracks, *, title: str, video: bytes | None = None, hide_unseen: bool = False
) -> str:
    """A page that plays the skeletons of ``tracks`` in any browser, with no network.

    Everything is inside the page: poses (``poses_world`` (P, T, 17, 3) metres, z up, floor at
    z = 0, to the millimetre), 2D keypoints (P, T, 17, 2) px, the library that draws, and the video.
    People whose hips all stay above the origin stand side by side, in the order in which they
    are seen from left to right; others stay where they are.

    Args:
        tracks: frames may be unevenly spaced; ``frame_time`` (T,) seconds must not decrease.
        title: any text; it is escaped.
        video: an MP4 file with H.264, in whose time ``frame_time`` counts.
        hide_unseen: leave out joints of confidence 0, which nobody saw; else they are faint.

    Raises:
        InputError: there is no frame, or frame times are not finite or decrease.
        MissingError: three.js is not there.
    """
    times = tracks.frame_time
    if not len(times):
        raise InputError("there is no frame to show")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise InputError("the frame times are not finite or decrease")
    header, blocks = _packed(tracks)
    header["hideUnseen"] = hide_unseen
    return _filled(
        _asset("page.html"),
        {
            "title": html.escape(title),
            "style": _asset("viewer.css"),
            "modules": "\n".join(_module(name, text) for name, text in modules().items()),
            "header": _json(header),
            "poses": _compressed(blocks),
            "video": "" if video is None else base64.b64encode(video).decode(),
            "licence": html.escape(_vendored("LICENSE").decode()),
        },
    )


def modules() -> dict[str, bytes]:
    """The JavaScript that draws, by the names under which it is imported.

    Raises:
        MissingError: three.js is not there.
    """
    scripts = {name: _vendored(file) for name, file in _LIBRARY.items()}
    for file in sorted(ASSETS.glob("*.js")):
        scripts[f"gridpose/{file.name}"] = file.read_bytes()
    return scripts


def anatomy() -> dict[str, Any]:
    """What the drawing needs to know besides poses: joints, bones, colours of the stage."""
    return {
        "jointNames": JOINT_NAMES,
        "bones": BONES,
        "faintest": FAINTEST,
        "stage": _stage_colours(),
    }


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _vendored(name: str) -> bytes:
    file = VENDOR / name
    try:
        return file.read_bytes()
    except OSError as error:
        raise MissingError(
            f"{file} is missing, a part of three.js, which the viewer needs: install gridpose "
            "again with a network connection (in a checkout: pip install -e .), which fetches it"
        ) from error


def _module(name: str, text: bytes) -> str:
    identity = f'id="module:{name}" data-module="{name}"'
    return f'<script type="text/plain" {identity}>{_compressed(text)}</script>'


def _compressed(content: bytes) -> str:
    # No time of day in it: the same poses give the same page.
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """``template`` with every ``{{name}}`` replaced, once: values are not looked into."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _packed(tracks: PoseTracks) -> tuple[dict[str, Any], bytes]:
    """What the page reads: a header for JSON, and the arrays it tells of as bytes."""
    visible = tracks.present & np.isfinite(tracks.poses_world).all((-2, -1))
    step = max(*tracks.image_size, 1) / _KEYPOINT_STEPS
    roots, joints = _millimetres(tracks.poses_world.astype(np.float64), visible)
    arrays = {
        "times": tracks.frame_time.astype(np.float64),
        "roots": _changes(roots),
        "joints": _changes(joints),
        "keypoints": _changes(_quantised_keypoints(tracks, visible, step)),
        "confidence": _changes(_quantised_confidence(tracks, visible)),
        "present": _changes(visible.astype(np.uint8)),
    }
    header = {
        "frames": len(tracks.frame_time),
        "imageSize": list(tracks.image_size),
        "keypointStep": step,
        **anatomy(),
        "people": [
            {"id": int(number), "place": place, "colours": joint_colours(int(number))}
            for number, place in zip(tracks.track_id, _places(tracks, visible), strict=True)
        ],
        "arrays": [
            {"name": name, "type": array.dtype.name, "count": array.size}
            for name, array in arrays.items()
        ],
    }
    return header, b"".join(_planes(array) for array in arrays.values())


def _millimetres(world: DoubleArray, visible: BoolArray) -> tuple[AnyArray, AnyArray]:
    """Hips (P, T, 3) int32 in the world and joints (P, T, 17, 3) int16 from the hip, in mm.

    However far somebody walks, joints fit 16 bits.
    """
    held = _held(world, visible) * _MILLIMETRES
    roots = np.clip(np.rint(held[:, :, 0]), -(2**31), 2**31 - 1)
    joints = np.clip(np.rint(held - roots[:, :, None]), -32767, 32767)
    return roots.astype(np.int32), joints.astype(np.int16)


def _quantised_keypoints(tracks: PoseTracks, visible: BoolArray, step: float) -> AnyArray:
    """(P, T, 17, 2) int16 in steps of ``step`` px; ``_UNSEEN`` where there is no number."""
    keypoints = tracks.keypoints_2d.astype(np.float64)
    known = np.isfinite(keypoints).all(-1, keepdims=True)
    steps = np.clip(np.rint(np.where(known, keypoints, 0) / step), -32767, 32767)
    return _held(np.where(known, steps, _UNSEEN), visible).astype(np.int16)


def _quantised_confidence(tracks: PoseTracks, visible: BoolArray) -> AnyArray:
    """(P, T, 17) uint8, 255 for certain, and 0 for unseen only."""
    known = np.nan_to_num(tracks.confidence.astype(np.float64), nan=0.0)
    steps = np.where(known > 0, np.clip(np.rint(255 * known), 1, 255), 0.0)
    return _held(steps, visible).astype(np.uint8)


def _held(values: DoubleArray, visible: BoolArray) -> DoubleArray:
    """``values`` (P, T, ...), where nobody is there those before: changes that need no bytes."""
    frames = np.arange(visible.shape[1])
    last = np.maximum.accumulate(np.where(visible, frames, -1), axis=1)
    people = np.arange(len(visible))[:, None]
    held = values[people, np.maximum(last, 0)]
    known = (last >= 0).reshape(*last.shape, *(1,) * (values.ndim - 2))
    return np.asarray(np.where(known, held, 0.0), np.float64)


def _changes(array: AnyArray) -> AnyArray:
    """(P, T, ...) as changes from frame to frame (P, ..., T); they wrap around."""
    series = np.moveaxis(array, 1, -1)
    return np.diff(series, axis=-1, prepend=np.zeros_like(series[..., :1]))


def _planes(array: AnyArray) -> bytes:
    """The first bytes of all numbers, then the second ones, ...: compresses far better."""
    numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return numbers.reshape(-1, 1).view(np.uint8).T.tobytes()


def _places(tracks: PoseTracks, visible: BoolArray) -> list[list[float]]:
    """Where in the scene each person's origin is: x, y in metres."""
    count = len(tracks.track_id)
    if tracks.has_places:
        return [[0.0, 0.0]] * count
    seen = np.zeros(count)
    for person in range(count):
        columns = tracks.keypoints_2d[person, visible[person], :, 0]
        columns = columns[np.isfinite(columns)]
        seen[person] = columns.mean() if columns.size else 0.0
    order = np.argsort(np.argsort(seen, kind="stable")).tolist()
    return [[SPACING_METRES * (place - (count - 1) / 2), 0.0] for place in order]


def _stage_colours() -> dict[str, dict[str, str]]:
    parts = ("background", "floor", "grid", "shadow")
    return {
        name: {part: hex_of(getattr(theme, part)) for part in parts}
        for name, theme in THEMES.items()
    }


def joint_colours(track_id: int) -> dict[str, list[str]]:
    """By theme, the colours of joints and of the bones that end in them."""
    return {
        name: [hex_of(line_colour(joint, theme.family(track_id))) for joint in range(NUM_JOINTS)]
        for name, theme in THEMES.items()
    }
