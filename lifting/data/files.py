"""The published dataset files: reading them with every check, and writing them.

``<folder>/{train,test}_custom_2d_unnorm.pth.tar`` is a dictionary ``(subject, action, file_name) ->
(N, 34)`` pixels; ``..._3d_...`` has the same keys and ``{'pelvis': (N, 3), 'joint_3d': (N, 51),
'camera': [fx, fy, cx, cy]}`` in millimetres, camera axes (x right, y down, z away), the joints
relative to the hip. The published description calls them ``joints_3d``, the published program reads
``joint_3d``: both are read, ``joint_3d`` is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from gridpose import unpickle
from gridpose.core import NUM_JOINTS, PARENTS, AnyArray, DoubleArray, FloatArray, InputError
from gridpose.storage import replacing

Split = Literal["train", "test"]
Key = tuple[str, str, str]
"""Subject, action and file name, as in ``("S9", "Walking", "Walking 1.54138969")``."""

JOINT_KEYS: Final = ("joint_3d", "joints_3d")


@dataclass(frozen=True)
class Table:
    """All of one split, sequence after sequence in the order of the sorted keys.

    ``keypoints_px`` (N, 17, 2) float32 pixels; ``poses`` (N, 17, 3) float32 metres, hip-relative,
    camera axes; ``lengths`` has the frames of each key; ``notes`` are oddities that are no errors.
    """

    keys: tuple[Key, ...]
    lengths: tuple[int, ...]
    keypoints_px: FloatArray
    poses: FloatArray
    notes: tuple[str, ...] = ()


def dataset_files(folder: Path, split: Split) -> tuple[Path, Path]:
    """The names of the 2D and the 3D file."""
    two, three = (folder / f"{split}_custom_{kind}_unnorm.pth.tar" for kind in ("2d", "3d"))
    return two, three


def _key(raw: Any, file: Path) -> Key:
    # Python 2 wrote byte strings.
    parts = tuple(
        part.decode("latin-1") if isinstance(part, bytes) else part
        for part in (raw if isinstance(raw, tuple) else ())
    )
    if len(parts) != 3 or not all(isinstance(part, str) and part for part in parts):
        raise InputError(
            f"{file}: key {raw!r} must be three strings: subject, action and file name"
        )
    subject, action, name = parts
    return subject, action, name


def _dictionary(data: Any, file: Path) -> dict[Key, Any]:
    if not isinstance(data, Mapping):
        raise InputError(
            f"{file}: holds a {type(data).__name__}; a dictionary from (subject, action, file name)"
            " to poses is needed"
        )
    if not data:
        raise InputError(f"{file}: has no sequences")
    sequences: dict[Key, Any] = {}
    for raw, value in data.items():
        key = _key(raw, file)
        if key in sequences:
            raise InputError(f"{file}: key {key} occurs twice")
        sequences[key] = value
    return sequences


def _array(value: Any, width: int, where: str) -> AnyArray:
    """``value`` as ``(N, 17, width)`` of some real dtype."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        raise InputError(f"{where} is a {type(value).__name__}; an array is needed")
    if value.dtype.kind not in "fiu":
        raise InputError(f"{where} is an array of {value.dtype}; real numbers are needed")
    flat = NUM_JOINTS * width
    if value.shape[1:] not in ((flat,), (NUM_JOINTS, width)):
        raise InputError(
            f"{where} has the shape {value.shape}; (N, {flat}) or (N, {NUM_JOINTS}, {width})"
            " is needed"
        )
    if len(value) == 0:
        raise InputError(f"{where} has no frames")
    return value.reshape(-1, NUM_JOINTS, width)


def _joints(value: Any, key: Key, file: Path) -> AnyArray:
    if not isinstance(value, Mapping):
        raise InputError(
            f"{file}: {key} is a {type(value).__name__}; a dictionary with 'joint_3d' is needed"
        )
    named = {k.decode("latin-1") if isinstance(k, bytes) else k: v for k, v in value.items()}
    for name in JOINT_KEYS:
        if name in named:
            return _array(named[name], 3, f"{file}: {key}: {name}")
    raise InputError(f"{file}: {key} has neither 'joint_3d' nor 'joints_3d'")


def _check_finite(array: FloatArray, keys: list[Key], lengths: list[int], file: Path) -> None:
    # A sum is not finite when a number is not, and needs no second array of the same size.
    if np.isfinite(array.sum(dtype=np.float64)):
        return
    row = int(np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))[0])
    index = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
    frame = row - sum(lengths[:index])
    raise InputError(f"{file}: {keys[index]} has a number that is not finite in frame {frame}")


def bone_lengths(poses: AnyArray) -> DoubleArray:
    """Mean length of the bone that ends in each joint, ``(17,)``, in the unit of ``(N, 17, 3)``."""
    lengths = np.zeros(NUM_JOINTS)
    for joint in range(1, NUM_JOINTS):
        # One bone at a time: all bones of a million poses are a gigabyte.
        bone = poses[:, joint] - poses[:, PARENTS[joint]]
        lengths[joint] = np.sqrt(np.einsum("ij,ij->i", bone, bone)).mean(dtype=np.float64)
    return lengths


def _check_units(keypoints: FloatArray, poses: FloatArray, two: Path, three: Path) -> list[str]:
    """Refuse other units; returns what is merely odd. ``poses`` are (N, 17, 3) metres."""
    # All units are plain in a thousand frames.
    chosen = slice(None, None, max(1, len(poses) // 1000))
    notes = []
    total = float(bone_lengths(poses[chosen]).sum())
    for unit, factor in (("metres", 1000), ("centimetres", 10)):
        if 1.5 < total * factor < 8:
            raise InputError(
                f"{three}: its joints are {unit} (the bones add up to {total * 1000:.4g});"
                " millimetres are needed"
            )
    if not 1.5 < total < 8:
        notes.append(
            f"{three.name}: the bones add up to {total * 1000:.0f} mm;"
            " those of a person to about 4000 mm"
        )
    if float(np.abs(keypoints[chosen]).max()) < 3:
        raise InputError(
            f"{two}: its keypoints are normalised already; pixels of 1000 px frames are needed"
        )
    hip = float(np.median(np.linalg.norm(poses[chosen, 0], axis=-1)))
    if hip > 0.001:
        notes.append(
            f"{three.name}: the hip lies {hip * 1000:.0f} mm from the origin;"
            " joints relative to the hip are expected"
        )
    return notes


def make_table(data2d: Any, data3d: Any, two: Path, three: Path) -> Table:
    """Check what the two files hold and lay it out in arrays.

    Args:
        data2d: content of ``two``.
        data3d: content of ``three``.

    Raises:
        InputError: it is not a dataset in the published format; the text names file, key and shape.
    """
    keypoints, poses = _dictionary(data2d, two), _dictionary(data3d, three)
    for have, lack, file, other in (
        (keypoints, poses, three, two),
        (poses, keypoints, two, three),
    ):
        missing = sorted(have.keys() - lack.keys())
        if missing:
            raise InputError(
                f"{file}: lacks {missing[0]}, which {other.name} has"
                + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
            )
    keys = sorted(keypoints)
    flat = [_array(keypoints[key], 2, f"{two}: {key}") for key in keys]
    deep = [_joints(poses[key], key, three) for key in keys]
    lengths = [len(array) for array in flat]
    for key, length, array in zip(keys, lengths, deep, strict=True):
        if len(array) != length:
            raise InputError(f"{three}: {key} has {len(array)} frames, but {length} in {two.name}")
    pixels = np.empty((sum(lengths), NUM_JOINTS, 2), np.float32)
    metres = np.empty((sum(lengths), NUM_JOINTS, 3), np.float32)
    start = 0
    with np.errstate(over="ignore"):  # too large for float32 is found as not finite
        for length, array2, array3 in zip(lengths, flat, deep, strict=True):
            pixels[start : start + length] = array2
            # Divided before it is rounded, as the published program does.
            metres[start : start + length] = array3 / 1000
            start += length
    _check_finite(pixels, keys, lengths, two)
    _check_finite(metres, keys, lengths, three)
    notes = _check_units(pixels, metres, two, three)
    return Table(tuple(keys), tuple(lengths), pixels, metres, tuple(notes))


def read_table(two: Path, three: Path) -> Table:
    """Read the 2D file ``two`` and the 3D file ``three``; nothing in them is executed.

    Raises:
        InputError: not a dataset in the published format, or an unsafe one.
    """
    return make_table(unpickle.load(two), unpickle.load(three), two, three)


def write_dataset(
    folder: Path, split: Split, data2d: Mapping[Key, AnyArray], data3d: Mapping[Key, dict[str, Any]]
) -> tuple[Path, Path]:
    """Write a dataset in the published format; both files appear when both are complete.

    The files are of the kind that PyTorch wrote before 1.6 with pickle protocol 2, which every
    PyTorch reads, the one of the published program included.

    Args:
        folder: ``DATA_ROOT/<input>``; made when missing.
        split: which half.
        data2d: ``key -> (N, 34)`` or (N, 17, 2) pixels.
        data3d: ``key -> {'pelvis': (N, 3), 'joint_3d': (N, 51) or (N, 17, 3), 'camera': [fx, fy,
            cx, cy]}``, millimetres.

    Returns:
        The 2D and the 3D file.

    Raises:
        InputError: what was given is not such a dataset.
        MissingError: the disk said no.
    """
    two, three = dataset_files(folder, split)
    make_table(data2d, data3d, two, three)
    flat = {key: np.asarray(data2d[key], np.float64).reshape(-1, 34) for key in sorted(data2d)}
    deep = {
        key: {
            "pelvis": np.asarray(data3d[key]["pelvis"], np.float64).reshape(-1, 3),
            "joint_3d": np.asarray(data3d[key]["joint_3d"], np.float64).reshape(-1, 51),
            "camera": [float(number) for number in data3d[key]["camera"]],
        }
        for key in sorted(data3d)
    }
    with replacing(two) as partial2, replacing(three) as partial3:
        folder.mkdir(parents=True, exist_ok=True)
        for content, partial in ((flat, partial2), (deep, partial3)):
            torch.save(content, partial, pickle_protocol=2, _use_new_zipfile_serialization=False)
    return two, three
