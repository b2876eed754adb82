"""Data sets in the published format from motion capture, seen by virtual cameras.

Bones get Human3.6M's mean lengths, directions kept. The cameras are like Human3.6M's (1000 x 1000
px, focal length about 1146 px, without distortion) and stand all round the person; each sees all of
a piece of a clip, and the person stays wholly in the frame.

Clips are dealt out to the protocol's own subjects, S1, S5, S6, S7, S8 for training and S9, S11 for
tests, so that every program for the published format reads them and a subject can be held out.
These are groups of clips, not people; but clips that one performer made stay together.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gridpose.core import NUM_JOINTS, PARENTS, DoubleArray, InputError, MissingError, UsageError
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.data.dataset import SUBJECTS
from gridpose.lifting.data.files import Key, Split
from gridpose.lifting.data.h36m_cameras import LENSES, Lens
from gridpose.lifting.synthesis.bone_directions import assemble

FRAME_PX: Final = 1000
_MARGIN_PX: Final = 10
_PIECE_M: Final = 2.0
"""A clip is cut where the person has gone this far: else the cameras would stand too far away."""
_DISTANCE_M: Final = (3.0, 7.0)
_FARTHEST_M: Final = 30.0
_ELEVATION_DEGREES: Final = (-8.0, 30.0)
_ROLL_DEGREES: Final = 2.0
_AIM_M: Final = 0.25


@dataclass(frozen=True)
class BuildOptions:
    """How a data set is made.

    ``views`` cameras see each piece of a clip; ``noise_px`` is the standard deviation of the 2D's
    error in pixels; at most ``max_frames`` poses over all views are kept, evenly over the clips.
    """

    views: int = 4
    noise_px: float = 0.0
    seed: int = 0
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.views < 1:
            raise UsageError(f"`views` {self.views}: must be at least 1")
        if not 0 <= self.noise_px < 1000:
            raise UsageError(f"`noise_px` {self.noise_px}: must be pixels, at least 0")
        if self.max_frames is not None and self.max_frames < self.views:
            raise UsageError(f"`max_frames` {self.max_frames}: must be at least `views`")


@dataclass(frozen=True)
class Clip:
    """One take: ``positions`` (N, 17, 3) metres in world axes, z up."""

    name: str
    action: str
    performer: str
    positions: DoubleArray


def performer_of(clip_name: str) -> str:
    """Who made a clip, as far as its name tells.

    ``.../m01_s03_e02`` is performer s03, ``.../13_29`` performer 13 (CMU's subject and trial); else
    the name without its trailing number.
    """
    folder, _, name = clip_name.rpartition("/")
    found = re.search(r"(?:^|_)(s\d+)(?:_|$)", name) or re.fullmatch(r"(\d+)_\d+", name)
    return f"{folder}/{found[1] if found else re.sub(r'_?[0-9]+$', '', name)}"


def read_clips(file: Path) -> list[Clip]:
    """The clips of a motion capture ``.npz``.

    It has ``positions`` (N, 17, 3) metres, z up, Human3.6M-17 joints; ``clip`` (N,) into
    ``clip_names``; ``action`` for each clip; and perhaps ``subject`` for each clip.

    Raises:
        MissingError: there is no such file.
        InputError: it lacks an array or has another shape or unit.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such file")
    try:
        with np.load(file, allow_pickle=False) as data:
            positions, clip = data["positions"], data["clip"]
            names, actions = data["clip_names"], data["action"]
            performers = data.get("subject")
    except KeyError as error:
        raise InputError(f"{file}: no array {error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{file}: not a motion capture npz file ({error})") from error
    if positions.ndim != 3 or positions.shape[1:] != (NUM_JOINTS, 3) or len(positions) == 0:
        raise InputError(f"{file}: positions must be (N, 17, 3), got {positions.shape}")
    if clip.shape != (len(positions),) or clip.dtype.kind not in "iu":
        raise InputError(f"{file}: clip must be ({len(positions)},) whole numbers")
    in_range = names.ndim == 1 and 0 <= clip.min() <= clip.max() < len(names)
    if not in_range or names.shape != actions.shape:
        raise InputError(f"{file}: clip_names and action must name every clip")
    positions = positions.astype(np.float64)
    if not np.isfinite(positions).all():
        raise InputError(f"{file}: positions has numbers that are not finite")
    bones = np.linalg.norm(positions - positions[:, np.maximum(PARENTS, 0)], axis=-1)
    if not 1.5 < float(np.median(bones.sum(axis=1))) < 8:
        raise InputError(f"{file}: positions must be people in metres")
    clips = []
    for index in np.unique(clip):
        name = str(names[index])
        performer = performer_of(name) if performers is None else str(performers[index])
        clips.append(Clip(name, str(actions[index]), performer, positions[clip == index]))
    return clips


def _camel_case(text: str) -> str:
    """An action as one word: the file name's action ends at the first space or dot."""
    words = re.findall(r"[^\W_]+", text)
    return "".join(word[0].upper() + word[1:] for word in words) or "Unnamed"


def _relength(positions: DoubleArray) -> DoubleArray:
    """The same bone directions with Human3.6M's mean lengths, the hip where it was."""
    bones = positions - positions[:, np.maximum(PARENTS, 0)]
    length = np.linalg.norm(bones, axis=-1, keepdims=True)
    directions = torch.from_numpy(bones / np.maximum(length, 1e-9))
    lengths = torch.tensor(BONE_LENGTHS, dtype=torch.float64).expand(len(positions), -1)
    return np.asarray(assemble(directions, lengths).numpy() + positions[:, :1])


def _pieces(clip: Clip) -> list[slice]:
    """Cut a clip so that in each piece the hip stays within a square of ``_PIECE_M``."""
    path = clip.positions[:, 0, :2]
    pieces, start = [], 0
    low = high = path[0]
    for frame in range(1, len(path)):
        low, high = np.minimum(low, path[frame]), np.maximum(high, path[frame])
        if (high - low).max() > _PIECE_M:
            pieces.append(slice(start, frame))
            start, low, high = frame, path[frame], path[frame]
    return [*pieces, slice(start, len(path))]


def _deal(clips: Sequence[Clip], subjects: Sequence[str]) -> dict[str, str]:
    """Performer -> subject, such that the subjects get about as many frames each."""
    frames: dict[str, int] = {}
    for clip in clips:
        frames[clip.performer] = frames.get(clip.performer, 0) + len(clip.positions)
    load = dict.fromkeys(subjects, 0)
    dealt = {}
    for performer in sorted(frames, key=lambda name: (-frames[name], name)):
        subject = min(subjects, key=lambda name: load[name])
        load[subject] += frames[performer]
        dealt[performer] = subject
    return dealt


def _orientation(yaw: float, elevation: float, roll: float) -> Rotation:
    """World (z up) to camera axes (x right, y down, z away); angles in radians.

    The camera looks along ``yaw`` from ``elevation`` above the horizon.
    """
    away = np.array((np.cos(yaw) * np.cos(elevation), np.sin(yaw) * np.cos(elevation), 0))
    away[2] = -np.sin(elevation)
    right = np.array((np.sin(yaw), -np.cos(yaw), 0))
    level = Rotation.from_matrix(np.stack((right, np.cross(away, right), away)))
    return Rotation.from_euler("z", roll) * level


def _see(
    poses: DoubleArray, lens: Lens, yaw: float, generator: np.random.Generator
) -> tuple[DoubleArray, DoubleArray]:
    """Place a camera that has all of ``poses`` (N, 17, 3) in the frame.

    Returns:
        The joints (N, 17, 3) in metres in camera axes and (N, 17, 2) pixels.
    """
    turn = _orientation(
        yaw,
        np.radians(generator.uniform(*_ELEVATION_DEGREES)),
        np.radians(generator.normal(0, _ROLL_DEGREES)),
    )
    middle = (poses.min(axis=(0, 1)) + poses.max(axis=(0, 1))) / 2
    aim = generator.uniform(-_AIM_M, _AIM_M, 3)
    turned = turn.apply((poses - middle - aim).reshape(-1, 3)).reshape(poses.shape)
    distance = generator.uniform(*_DISTANCE_M)
    while distance < _FARTHEST_M:
        seen = turned + np.array((0, 0, distance))
        if seen[..., 2].min() > 1:
            pixels = lens.project(seen)
            if pixels.min() >= _MARGIN_PX and pixels.max() <= FRAME_PX - _MARGIN_PX:
                return seen, pixels
        distance *= 1.05
    raise InputError("no camera sees the whole person")


@dataclass(frozen=True)
class _Piece:
    subject: str
    action: str
    name: str
    poses: DoubleArray


def _all_pieces(files: Sequence[Path], split: Split) -> list[_Piece]:
    clips = [clip for file in files for clip in read_clips(file)]
    dealt = _deal(clips, SUBJECTS[split])
    pieces, used = [], set()
    for clip in clips:
        parts = _pieces(clip)
        for number, part in enumerate(parts):
            action = _camel_case(clip.action)
            name = f"{action} {re.sub(r'[^0-9A-Za-z_-]+', '-', clip.name).strip('-') or 'clip'}"
            if len(parts) > 1:
                name += f" part{number + 1}"
            unique, copy = name, 1
            while (dealt[clip.performer], unique) in used:
                copy += 1
                unique = f"{name} copy{copy}"
            used.add((dealt[clip.performer], unique))
            poses = _relength(clip.positions[part])
            pieces.append(_Piece(dealt[clip.performer], action, unique, poses))
    return pieces


def _thin(pieces: list[_Piece], count: int) -> list[_Piece]:
    """Keep ``count`` poses, evenly."""
    lengths = [len(piece.poses) for piece in pieces]
    if count >= sum(lengths):
        return pieces
    kept: NDArray[np.int64] = np.linspace(0, sum(lengths) - 1, count).round().astype(np.int64)
    ends = np.cumsum(lengths)
    thinned = []
    for piece, start, end in zip(pieces, ends - lengths, ends, strict=True):
        rows = kept[(kept >= start) & (kept < end)] - start
        if len(rows):
            thinned.append(replace(piece, poses=piece.poses[rows]))
    return thinned


def build_split(
    files: Sequence[Path], split: Split, options: BuildOptions
) -> tuple[dict[Key, DoubleArray], dict[Key, dict[str, Any]]]:
    """Motion capture files to a data set, ready for ``write_dataset``.

    The same files, options and seed give the same numbers. Cameras are called ``view1``, ``view2``
    and so on: none of the published exclusion rules, which name cameras, meets them.

    Args:
        files: see :func:`read_clips`.
        split: whose subjects the clips are dealt out to.
        options: cameras and noise.

    Returns:
        ``key -> (N, 34)`` pixels, and ``key -> {'pelvis', 'joint_3d', 'camera'}`` in millimetres.

    Raises:
        MissingError: a file is missing.
        InputError: a file is not motion capture.
    """
    pieces = _all_pieces(files, split)
    if options.max_frames is not None:
        pieces = _thin(pieces, options.max_frames // options.views)
    data2d: dict[Key, DoubleArray] = {}
    data3d: dict[Key, dict[str, Any]] = {}
    for number, piece in enumerate(pieces):
        # A generator of its own: what one clip is given does not hang on the clips before it.
        generator = np.random.default_rng((options.seed, number))
        first = generator.uniform(0, 2 * np.pi)
        for view in range(options.views):
            # All round, evenly but for a third of a step.
            step = view + generator.uniform(-1 / 6, 1 / 6)
            yaw = first + 2 * np.pi * step / options.views
            lens = LENSES[view % len(LENSES)]
            lens = Lens(lens.camera, lens.centre, lens.focal)
            seen, pixels = _see(piece.poses, lens, yaw, generator)
            pixels = pixels + generator.normal(0, 1, pixels.shape) * options.noise_px
            key = (piece.subject, piece.action, f"{piece.name}.view{view + 1}")
            data2d[key] = pixels.reshape(len(pixels), -1)
            data3d[key] = {
                "pelvis": seen[:, 0] * 1000,
                "joint_3d": ((seen - seen[:, :1]) * 1000).reshape(len(seen), -1),
                "camera": lens.pinhole,
            }
    return data2d, data3d
