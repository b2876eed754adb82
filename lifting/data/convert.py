"""From VideoPose3D's Human3.6M files to the published dataset format.

VideoPose3D (Pavllo et al., CVPR 2019) keeps Human3.6M as ``data_3d_h36m.npz``, with
``positions_3d``: subject -> action -> (N, 32 or 17, 3) metres in world axes, z up; and 2D as
``data_2d_h36m_<detector>.npz``, with ``positions_2d``: subject -> action -> four arrays (N, 17, 2)
of pixels, in the order of :data:`gridpose.lifting.data.h36m_cameras.LENSES`. Both hold pickled
dictionaries; they are read without running anything in them.

Names are carried over as they are: action ``Walking 1`` seen by camera 54138969 becomes ``(subject,
"Walking", "Walking 1.54138969")``. VideoPose3D itself calls Human3.6M's ``TakingPhoto`` and
``WalkingDog`` ``Photo`` and ``WalkDog`` for every subject, and lacks S11's damaged ``Directions``;
a file that says otherwise is not corrected.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from gridpose import unpickle
from gridpose.core import MIRRORED, NUM_JOINTS, DoubleArray, InputError, MissingError
from gridpose.lifting.data.dataset import SUBJECTS
from gridpose.lifting.data.files import Key, Split, bone_lengths
from gridpose.lifting.data.h36m_cameras import LENSES, MOUNTS
from gridpose.storage import NPZ_ERRORS

STATIC_JOINTS: Final = (4, 5, 9, 10, 11, 16, 20, 21, 22, 23, 24, 28, 29, 30, 31)
"""Those of Human3.6M's 32 joints that repeat another one or end a hand or foot. The others are, in
their order, Human3.6M-17."""
_FULL: Final = 32
_LONGEST_NAME: Final = 256
_MOVING: Final = tuple(joint for joint in range(_FULL) if joint not in STATIC_JOINTS)
_LEFT_RIGHT: Final = ([4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16])
_FAR_PX: Final = 50.0
"""Detections lie within a few pixels of the projected joints; other joints or cameras do not."""


@dataclass
class Conversion:
    """One split in the published format, and what happened on the way."""

    data2d: dict[Key, DoubleArray] = field(default_factory=dict)
    data3d: dict[Key, dict[str, Any]] = field(default_factory=dict)
    frames: int = 0
    cut: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """Sequences cut to the shorter of 3D and 2D, with the frames of both."""
    without_2d: list[str] = field(default_factory=list)
    """Performances, as in ``S9 Walking 1``, that the 2D file lacks."""
    pixel_error: float | None = None
    """Median distance in pixels of the given 2D from the projected 3D."""


def _object_array(stream: IO[bytes], where: str) -> Any:
    """The object in an ``.npy`` stream: an array, or what a pickled 0-d object array holds."""
    reader: Any = npy  # numpy's own functions, of which it gives no types
    version = reader.read_magic(stream)
    # Version 3 differs from 2 in the encoding of field names, which plain arrays lack.
    read_header = {(1, 0): reader.read_array_header_1_0}.get(version, reader.read_array_header_2_0)
    shape, _, dtype = read_header(stream)
    if not dtype.hasobject:
        raise InputError(f"{where} is an array of {dtype} {shape}; a dictionary is needed")
    content = unpickle.loads(stream.read(), where)
    if isinstance(content, np.ndarray) and content.shape == ():
        return content.item()
    return content


def read_objects(file: Path, required: str, *optional: str) -> dict[str, Any]:
    """Pickled objects of an ``.npz`` by their names; nothing in it is executed.

    Raises:
        MissingError: there is no such file.
        InputError: it is not an ``.npz`` with the ``required`` pickled object, or an unsafe one.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such file")
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if required not in names:
                raise InputError(f"{file}: has no {required}, but {', '.join(names) or 'nothing'}")
            for name in (required, *(name for name in optional if name in names)):
                content = io.BytesIO(archive.read(f"{name}.npy"))
                found[name] = _object_array(content, f"{file}: {name}")
    except (*NPZ_ERRORS, KeyError) as error:
        raise InputError(f"{file}: not an npz file of VideoPose3D ({error})") from error
    return found


def by_name(value: Any, where: str, *, empty: bool = True) -> dict[str, Any]:
    """A dictionary, which may be ``empty``, whose keys are text, or bytes that stand for it.

    Raises:
        InputError: something else.
    """
    if not isinstance(value, Mapping) or not (value or empty):
        raise InputError(f"{where} must be a dictionary{'' if empty else ' with entries'}")
    named = {}
    for key, item in value.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else key
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            shown = repr(key)[:_LONGEST_NAME]
            raise InputError(f"{where}: key {shown} must be a string, at most {_LONGEST_NAME} long")
        named[name] = item
    return named


def _joints(value: Any, width: int, where: str) -> DoubleArray:
    """``value``, (N, 32 or 17, width), as (N, 17, width)."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise InputError(f"{where} must be an array of numbers")
    if value.ndim != 3 or value.shape[1] not in (NUM_JOINTS, _FULL) or value.shape[2] != width:
        raise InputError(f"{where} is {value.shape}; it must be (N, 17 or 32, {width})")
    array = np.asarray(value, np.float64)
    if len(array) == 0 or not np.isfinite(array).all():
        raise InputError(f"{where} is empty or has numbers that are not finite")
    return array[:, _MOVING] if array.shape[1] == _FULL else array


def _check_metadata(metadata: Any, file: Path) -> None:
    """Refuse joints other than Human3.6M-17, where the file says what they are."""
    if not isinstance(metadata, Mapping):
        return
    named = by_name(metadata, f"{file}: metadata")
    symmetry = named.get("keypoints_symmetry")
    sides = symmetry if isinstance(symmetry, (list, tuple)) and len(symmetry) == 2 else _LEFT_RIGHT
    given = tuple([int(joint) for joint in np.asarray(side).ravel()] for side in sides)
    if given != _LEFT_RIGHT:
        layout = named.get("layout_name", "another layout")
        raise InputError(
            f"{file}: its joints are not Human3.6M-17 ({layout}; left {given[0]}, right {given[1]})"
        )


def _check_body(positions: DoubleArray, where: str) -> None:
    """Refuse other units and joint orders."""
    lengths = bone_lengths(positions)
    total = float(lengths.sum())
    if 1500 < total < 8000:
        raise InputError(f"{where} is in millimetres; VideoPose3D's files hold metres")
    if not 1.5 < total < 8:
        raise InputError(
            f"{where} is not a person in Human3.6M's joint order, in metres:"
            f" its bones add up to {total:.3g} m"
        )
    mirrored = lengths[list(MIRRORED)]
    if float(np.abs(lengths - mirrored).max()) > 0.25 * float(lengths.max()):
        raise InputError(
            f"{where} is not in Human3.6M's joint order: left and right limbs differ in length"
        )


@dataclass(frozen=True)
class VideoPose3D:
    """VideoPose3D's two files, opened and looked over.

    Args:
        file3d: ``data_3d_h36m.npz``.
        file2d: ``data_2d_h36m_<detector>.npz``; without it, 2D is projected from the 3D.

    Raises:
        MissingError: a file is missing.
        InputError: it is not such a file.
    """

    file3d: Path
    file2d: Path | None
    positions: dict[str, dict[str, Any]]
    keypoints: dict[str, dict[str, Any]] | None

    @classmethod
    def open(cls, file3d: Path, file2d: Path | None = None) -> VideoPose3D:
        """Read the files."""
        positions = _subjects(read_objects(file3d, "positions_3d")["positions_3d"], file3d)
        unknown = sorted(positions.keys() - MOUNTS.keys())
        if unknown:
            raise InputError(
                f"{file3d}: there is no calibration of subject {unknown[0]};"
                f" known are {', '.join(MOUNTS)}"
            )
        keypoints = None
        if file2d is not None:
            objects = read_objects(file2d, "positions_2d", "metadata")
            keypoints = _subjects(objects["positions_2d"], file2d)
            _check_metadata(objects.get("metadata"), file2d)
        return cls(file3d, file2d, positions, keypoints)

    def performances(self, split: Split) -> Iterator[tuple[str, str, DoubleArray]]:
        """Subject, action and world positions (N, 17, 3) in metres of all recordings of a split."""
        for subject in SUBJECTS[split]:
            for action, value in self.positions.get(subject, {}).items():
                where = f"{self.file3d}: {subject} {action}"
                positions = _joints(value, 3, where)
                _check_body(positions, where)
                yield subject, action, positions

    def views(self, subject: str, action: str) -> list[DoubleArray] | None:
        """The given 2D (N, 17, 2) of the four cameras; None where the file lacks it."""
        given = (self.keypoints or {}).get(subject, {}).get(action)
        if given is None:
            return None
        where = f"{self.file2d}: {subject} {action}"
        if not isinstance(given, (list, tuple, np.ndarray)) or len(given) != len(LENSES):
            raise InputError(f"{where} must have the arrays of {len(LENSES)} cameras")
        return [
            _joints(np.asarray(view), 2, f"{where}, camera {lens.camera}")
            for view, lens in zip(given, LENSES, strict=True)
        ]


def _subjects(content: Any, file: Path) -> dict[str, dict[str, Any]]:
    subjects = by_name(content, f"{file}: its content", empty=False)
    return {
        subject: by_name(value, f"{file}: subject {subject}", empty=False)
        for subject, value in subjects.items()
    }


def _distances(given: DoubleArray, exact: DoubleArray) -> DoubleArray:
    """Distance in pixels of a sample of given joints from the projected ones.

    Row 0: as they are; row 1: with left and right exchanged.
    """
    sample = slice(None, None, max(1, len(given) // 50))
    both = np.stack((given[sample], given[sample][:, MIRRORED]))
    return np.asarray(np.linalg.norm(both - exact[sample], axis=-1)).reshape(2, -1)


def _check_distances(distances: list[DoubleArray], file: Path | None) -> float:
    """The median distance of the given 2D from where the 3D is seen.

    Raises:
        InputError: they do not belong together.
    """
    straight, swapped = np.median(np.concatenate(distances, axis=1), axis=1).tolist()
    if swapped < straight and swapped <= _FAR_PX:
        raise InputError(
            f"{file}: left and right joints are the other way round than in the 3D"
            f" ({swapped:.1f} px from it when exchanged, {straight:.1f} px as they are)"
        )
    if straight > _FAR_PX:
        raise InputError(
            f"{file}: its joints lie {straight:.0f} px from where the 3D is seen:"
            " another order of joints or cameras"
        )
    return float(straight)


def convert_split(source: VideoPose3D, split: Split) -> Conversion:
    """One split in the published format, ready for ``write_dataset``.

    2D and 3D of different length are cut to the shorter, from the start; both begin together.

    Raises:
        InputError: the files hold something else, or 2D and 3D do not belong together.
    """
    result = Conversion()
    distances: list[DoubleArray] = []
    for subject, name, positions in source.performances(split):
        views = source.views(subject, name)
        if views is None and source.keypoints is not None:
            result.without_2d.append(f"{subject} {name}")
            continue
        action = name.split(".", 1)[0].split(" ", 1)[0]
        for index, (lens, mount) in enumerate(zip(LENSES, MOUNTS[subject], strict=True)):
            key = (subject, action, f"{name}.{lens.camera}")
            seen = mount.to_camera(positions * 1000)
            if float(seen[..., 2].min()) <= 0:
                raise InputError(
                    f"{source.file3d}: {subject} {name}: the person is behind camera"
                    f" {lens.camera}; other world axes?"
                )
            pixels = lens.project(seen)
            if views is not None:
                given = views[index]
                frames = min(len(seen), len(given))
                if len(seen) != len(given):
                    result.cut[key] = (len(seen), len(given))
                if 2 * frames < max(len(seen), len(given)):
                    raise InputError(
                        f"{source.file2d}: {key} has {len(given)} frames, its 3D {len(seen)}:"
                        " they do not belong together"
                    )
                distances.append(_distances(given[:frames], pixels[:frames]))
                seen, pixels = seen[:frames], given[:frames]
            result.data2d[key] = pixels.reshape(len(pixels), -1)
            result.data3d[key] = {
                "pelvis": seen[:, 0],
                "joint_3d": (seen - seen[:, :1]).reshape(len(seen), -1),
                "camera": lens.pinhole,
            }
            result.frames += len(pixels)
    if distances:
        result.pixel_error = _check_distances(distances, source.file2d)
    return result
