"""A lifter measured on a fixed benchmark: known 3D poses seen by known cameras.

A benchmark file holds each pose twice in 2D, as exact projections and with the errors of a
detector, so that one can tell what a lifter loses to either. Metres in, millimetres out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gridpose.core import (
    JOINT_NAMES,
    NUM_JOINTS,
    AnyArray,
    BoolArray,
    DoubleArray,
    FloatArray,
    InputError,
)
from gridpose.lifting.metrics import aligned_joint_errors, joint_errors
from gridpose.lifting.npz import read_arrays

_MM = 1000.0
_FOV_DECIMALS: Final = 1
"""Of a degree; rounding moves the shipped lifter's joints by 0.03 mm in the mean."""


class PoseLifter(Protocol):
    """What is measured: :class:`gridpose.lifting.Lifter`, or anything that lifts like it."""

    def lift(
        self,
        keypoints_px: FloatArray,
        image_size: AnyArray,
        fov_degrees: float | None = None,
        *,
        flip_test: bool = False,
    ) -> FloatArray:
        """As :meth:`gridpose.lifting.Lifter.lift`."""
        ...


@dataclass(frozen=True)
class Benchmark:
    """N poses and what cameras saw of them; the fields are the arrays of the file.

    Attributes:
        keypoints_px: (N, 17, 2) exact projections, pixels, x right, y down.
        keypoints_noisy_px: (N, 17, 2) the same with errors like a detector's.
        image_size: (N, 2) width, height in pixels.
        focal_px: (N,) focal lengths in pixels; the principal point is the frame's middle.
        poses_camera: (N, 17, 3) metres, hip at the origin, x right, y down, z away from the camera.
        clip: (N,) which of ``clip_names`` a pose is from.
        clip_names: (C,).
    """

    keypoints_px: FloatArray
    keypoints_noisy_px: FloatArray
    image_size: FloatArray
    focal_px: FloatArray
    poses_camera: FloatArray
    clip: NDArray[np.int64]
    clip_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.poses_camera)

    @property
    def fov_degrees(self) -> DoubleArray:
        """(N,) horizontal fields of view."""
        half_width = self.image_size[:, 0].astype(np.float64) / 2
        return np.asarray(np.degrees(2 * np.arctan(half_width / self.focal_px)))

    def families(self, actions: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """The family of each pose, N names; see :func:`family_of`."""
        names = [family_of(name, actions) for name in self.clip_names]
        return tuple(names[index] for index in self.clip)


@dataclass(frozen=True)
class MeanErrors:
    """Means over the ``samples`` poses of a group, millimetres."""

    samples: int
    mpjpe: float
    pa_mpjpe: float


@dataclass(frozen=True)
class Measurement:
    """A lifter's answers to one kind of 2D keypoints, and their errors in millimetres.

    Attributes:
        poses: (N, 17, 3) metres, what the lifter answered.
        mpjpe: (N,) of each pose, hip at the origin, all 17 joints (protocol 1).
        pa_mpjpe: (N,) of each pose after Procrustes alignment (protocol 2).
        overall: means over all poses.
        by_family: means over the poses of each family, by its name, sorted.
        by_joint: means of each joint over all poses, by its name.
    """

    poses: FloatArray
    mpjpe: DoubleArray
    pa_mpjpe: DoubleArray
    overall: MeanErrors
    by_family: dict[str, MeanErrors]
    by_joint: dict[str, MeanErrors]

    def to_dict(self) -> dict[str, Any]:
        """The means, as JSON has them."""
        return {
            "overall": asdict(self.overall),
            "by_family": {name: asdict(errors) for name, errors in self.by_family.items()},
            "by_joint": {name: asdict(errors) for name, errors in self.by_joint.items()},
        }


@dataclass(frozen=True)
class BenchmarkResult:
    """Errors of a lifter given exact and noisy 2D keypoints of the same poses."""

    exact: Measurement
    noisy: Measurement


def family_of(clip_name: str, actions: Mapping[str, str] | None = None) -> str:
    """The family of a clip: what is done in it, whoever does it and however often.

    This is the action, less what stands in brackets, where ``actions`` knows the clip; otherwise
    the last part of its name without the numbers at the end, and with the part before when
    nothing but a number is left: ``cmu/test/walking_extra_10`` is of ``walking_extra``,
    ``cmu/13_29`` of ``cmu/13``.

    Args:
        actions: by the clip's name, as :func:`read_actions` gives them.
    """
    action = (actions or {}).get(clip_name, "").split(" (")[0].strip()
    if action:
        return action
    folder, _, stem = clip_name.strip("/").rpartition("/")
    family = re.sub(r"(_\d+)+$", "", stem)
    bare = family.strip("_0123456789") == ""
    return f"{folder.rpartition('/')[2]}/{family}" if bare and folder else family


def read_benchmark(file: Path) -> Benchmark:
    """Read a benchmark file (``.npz``); nothing in it is executed.

    Raises:
        InputError: not such a file, an array is missing or has another shape, or numbers in it
            mean nothing.
    """
    arrays = read_arrays(file, [field.name for field in fields(Benchmark)])
    count = len(arrays["poses_camera"]) if arrays["poses_camera"].ndim else 0
    shapes = {
        "poses_camera": (count, NUM_JOINTS, 3),
        "keypoints_px": (count, NUM_JOINTS, 2),
        "keypoints_noisy_px": (count, NUM_JOINTS, 2),
        "image_size": (count, 2),
        "focal_px": (count,),
        "clip": (count,),
    }
    for name, shape in shapes.items():
        found = arrays[name]
        if found.shape != shape:
            raise InputError(f"{file}: {name} is {found.shape}, expected {shape}")
        if found.dtype.kind not in "fiu":
            raise InputError(f"{file}: {name} holds no numbers ({found.dtype})")
        if not np.isfinite(found).all():
            raise InputError(f"{file}: {name} has numbers that are not finite")
    if not count:
        raise InputError(f"{file}: has no poses")
    for name in ("image_size", "focal_px"):
        if not (arrays[name] > 0).all():
            raise InputError(f"{file}: {name} must be positive")
    clip, names = arrays["clip"], arrays["clip_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(f"{file}: clip_names must be a list of names")
    if clip.dtype.kind == "f" or clip.min() < 0 or clip.max() >= len(names):
        raise InputError(f"{file}: clip must hold indices into the {len(names)} clip_names")
    return Benchmark(
        keypoints_px=arrays["keypoints_px"].astype(np.float32),
        keypoints_noisy_px=arrays["keypoints_noisy_px"].astype(np.float32),
        image_size=arrays["image_size"].astype(np.float32),
        focal_px=arrays["focal_px"].astype(np.float32),
        poses_camera=arrays["poses_camera"].astype(np.float32),
        clip=clip.astype(np.int64),
        clip_names=tuple(str(name) for name in names),
    )


def read_actions(file: Path) -> dict[str, str]:
    """Action of each clip by its name, from ``clip_names`` and ``action`` of an ``.npz`` file.

    Raises:
        InputError: not such a file, or an array is missing or has another shape.
    """
    arrays = read_arrays(file, ["clip_names", "action"])
    names, actions = arrays["clip_names"], arrays["action"]
    if names.ndim != 1 or names.shape != actions.shape:
        raise InputError(f"{file}: action is {actions.shape}, expected one for each clip_names")
    return {str(name): str(action) for name, action in zip(names, actions, strict=True)}


def measure(
    lifter: PoseLifter,
    benchmark: Benchmark,
    families: Sequence[str] | None = None,
    *,
    flip_test: bool = False,
    true_fov: bool = False,
) -> BenchmarkResult:
    """Errors of a lifter on a benchmark.

    Args:
        families: of each pose, N names; by the clips' names if not given.
        flip_test: average each answer with that to the mirrored person.
        true_fov: tell the lifter the field of view of each pose's camera, to a tenth of a degree;
            otherwise it assumes its own.

    Raises:
        InputError: an answer is not finite.
        ValueError: not as many families as poses.
    """
    names = benchmark.families() if families is None else tuple(families)
    if len(names) != len(benchmark):
        raise ValueError(f"{len(names)} families for {len(benchmark)} poses")
    fov = benchmark.fov_degrees.round(_FOV_DECIMALS) if true_fov else None

    def measured(keypoints_px: FloatArray) -> Measurement:
        poses = _lift(lifter, keypoints_px, benchmark.image_size, fov, flip_test)
        return _measurement(poses, benchmark.poses_camera, np.array(names))

    return BenchmarkResult(
        exact=measured(benchmark.keypoints_px), noisy=measured(benchmark.keypoints_noisy_px)
    )


def _lift(
    lifter: PoseLifter,
    keypoints_px: FloatArray,
    image_size: FloatArray,
    fov_degrees: DoubleArray | None,
    flip_test: bool,
) -> FloatArray:
    if fov_degrees is None:
        return lifter.lift(keypoints_px, image_size, flip_test=flip_test)
    poses = np.empty((*keypoints_px.shape[:2], 3), np.float32)
    for fov in np.unique(fov_degrees):
        rows = fov_degrees == fov
        poses[rows] = lifter.lift(
            keypoints_px[rows], image_size[rows], float(fov), flip_test=flip_test
        )
    return poses


def _measurement(poses: FloatArray, target: FloatArray, families: NDArray[np.str_]) -> Measurement:
    unusable = np.flatnonzero(~np.isfinite(poses).all((1, 2)))
    if len(unusable):
        raise InputError(
            f"the lifter's answers to {len(unusable)} of {len(poses)} poses are not finite, first"
            f" to pose {unusable[0]}; no mean can be taken"
        )
    plain = joint_errors(poses, target) * _MM
    aligned = aligned_joint_errors(poses, target) * _MM
    mpjpe, pa_mpjpe = plain.mean(axis=1), aligned.mean(axis=1)

    def means(rows: BoolArray | slice) -> MeanErrors:
        return MeanErrors(len(mpjpe[rows]), float(mpjpe[rows].mean()), float(pa_mpjpe[rows].mean()))

    return Measurement(
        poses=poses,
        mpjpe=mpjpe,
        pa_mpjpe=pa_mpjpe,
        overall=means(slice(None)),
        by_family={str(name): means(families == name) for name in np.unique(families)},
        by_joint={
            name: MeanErrors(len(poses), float(plain[:, j].mean()), float(aligned[:, j].mean()))
            for j, name in enumerate(JOINT_NAMES)
        },
    )
