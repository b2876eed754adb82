"""Evaluation of a lifter on a data set: the published protocols, and what else one compares by.

Metres in, millimetres out. Totals are unweighted means of the action means, as published; the
frame-weighted means stand beside them. Nothing is re-centred but by Procrustes alignment.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridpose.core import JOINT_NAMES, MIRRORED, AnyArray, DoubleArray, FloatArray, InputError
from gridpose.lifting.data import dataset as data
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.metrics import (
    PCK_MM,
    acceleration_error,
    aligned_joint_errors,
    auc,
    axis_errors,
    joint_errors,
    mpjve,
    pck,
)

FRAME_SIZE: Final = 1000
"""Width and height in pixels of the frames that keypoints in published data sets refer to."""

_MM = 1000.0
_ROWS = 8192
_CSV_COLUMNS = (
    "action",
    "samples",
    "mpjpe_mm",
    "pa_mpjpe_mm",
    "x_mm",
    "y_mm",
    "z_mm",
    "pck150",
    "auc",
)


@dataclass(frozen=True)
class LeftOut:
    """A sequence that the protocol's exclusion rules left out."""

    subject: str
    file_name: str
    frames: int
    reason: str


@dataclass(frozen=True)
class ActionErrors:
    """Means over the ``samples`` poses of an action, or of several. Millimetres.

    ``mpjpe`` and ``pa_mpjpe`` are protocols 1 and 2; ``x``, ``y``, ``z`` mean absolute errors along
    the camera's axes without alignment; ``pck150`` and ``auc`` shares from 0 to 1.
    """

    samples: int
    mpjpe: float
    pa_mpjpe: float
    x: float
    y: float
    z: float
    pck150: float
    auc: float


@dataclass(frozen=True)
class EvaluationReport:
    """Errors of a lifter on a data set, millimetres.

    Attributes:
        mpjpe: protocol 1, unweighted mean of the action means.
        pa_mpjpe: protocol 2, likewise.
        per_axis: mean absolute errors along x, y, z of the camera, likewise.
        per_action: by the name of the action, sorted.
        frame_mean: everything as a mean over all poses.
        mpjve: mean per-joint velocity error in mm per frame over all pairs of consecutive frames;
            None if no sequence has two frames.
        acceleration: acceleration error in mm per frame squared over all that three consecutive
            frames tell; None if no sequence has three.
        per_joint: mean error of each joint over all poses, by name; under ``mpjpe`` as it is, under
            ``pa_mpjpe`` after alignment.
        samples: poses evaluated.
        left_out: sequences that the exclusion rules left out.
        protocol: what was measured on what, in words.
        temperature: of the lifter's attention, None where it has none.
        padding: padding modes of the two branches.
        flip_test: whether the answer was averaged with that to the mirrored person.
        notes: what was odd about the data, or assumed of the checkpoint.
    """

    mpjpe: float
    pa_mpjpe: float
    per_axis: dict[str, float]
    per_action: dict[str, ActionErrors]
    frame_mean: ActionErrors
    mpjve: float | None
    acceleration: float | None
    per_joint: dict[str, dict[str, float]]
    samples: int
    left_out: tuple[LeftOut, ...] = ()
    protocol: str = ""
    temperature: float | None = None
    padding: tuple[str, str] | None = None
    flip_test: bool = False
    notes: tuple[str, ...] = ()

    @property
    def frames_left_out(self) -> int:
        """Frames of all sequences that were left out."""
        return sum(sequence.frames for sequence in self.left_out)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        values = asdict(self)
        values["left_out"] = [asdict(sequence) for sequence in self.left_out]
        values["frames_left_out"] = self.frames_left_out
        values["pck150"], values["auc"] = self.frame_mean.pck150, self.frame_mean.auc
        values["padding"] = None if self.padding is None else list(self.padding)
        values["notes"] = list(self.notes)
        return values

    def to_csv(self) -> str:
        """A row for each action, then one named ``total``; a comma between columns.

        The total's errors are the unweighted means of the action means, but for ``pck150`` and
        ``auc``, which are means over all poses.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_CSV_COLUMNS)
        rows = [*self.per_action.items(), ("total", self.total)]
        for name, errors in rows:
            numbers = list(asdict(errors).values())
            writer.writerow((name, numbers[0], *(f"{number:.4f}" for number in numbers[1:])))
        return stream.getvalue()

    @property
    def total(self) -> ActionErrors:
        """The totals in the form of an action."""
        mean = self.frame_mean
        return ActionErrors(
            self.samples,
            self.mpjpe,
            self.pa_mpjpe,
            self.per_axis["x"],
            self.per_axis["y"],
            self.per_axis["z"],
            mean.pck150,
            mean.auc,
        )


def _check_finite(
    array: AnyArray, what: str, sequences: Sequence[data.Sequence] | None = None
) -> None:
    # A sum is not finite when a number is not, and needs no array of the same size.
    if np.isfinite(array.sum(dtype=np.float64)):
        return
    bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
    if not len(bad):
        return
    where = f"pose {bad[0]}"
    for sequence in sequences or ():
        if sequence.start <= bad[0] < sequence.stop:
            where = f"frame {bad[0] - sequence.start} of {sequence.subject} {sequence.file_name}"
    raise InputError(
        f"{len(bad)} of {len(array)} {what} poses have numbers that are not finite, first {where};"
        " no mean can be taken"
    )


def report(
    predicted: ArrayLike,
    target: ArrayLike,
    actions: ArrayLike,
    sequences: Sequence[data.Sequence] | None = None,
    *,
    left_out: Sequence[LeftOut] = (),
    protocol: str = "",
    temperature: float | None = None,
    padding: tuple[str, str] | None = None,
    flip_test: bool = False,
    notes: Sequence[str] = (),
) -> EvaluationReport:
    """Compare predicted with true poses.

    Args:
        predicted: (N, 17, 3) metres, hip-relative, camera axes (x right, y down, z away).
        target: the same.
        actions: (N,) name of each pose's action.
        sequences: which rows follow each other in time, for MPJVE; they cover all rows in order.
        left_out: kept in the report, as what follows.

    Raises:
        InputError: there are no poses, or poses with numbers that are not finite.
        ValueError: shapes do not go together.
    """
    first, second = np.asarray(predicted), np.asarray(target)
    names: NDArray[np.str_] = np.asarray(actions, dtype=np.str_)
    if names.shape != (len(first),):
        raise ValueError(f"{names.shape} action names for {len(first)} poses")
    if len(first) == 0:
        raise InputError("there are no poses to evaluate")
    plain = joint_errors(first, second) * _MM
    _check_finite(second, "true", sequences)
    _check_finite(first, "predicted", sequences)
    aligned = aligned_joint_errors(first, second) * _MM
    columns = np.column_stack(
        (
            plain.mean(axis=1),
            aligned.mean(axis=1),
            axis_errors(first, second) * _MM,
            pck(plain, PCK_MM),
            auc(plain, PCK_MM),
        )
    )
    labels, which = np.unique(names, return_inverse=True)
    counts = np.bincount(which, minlength=len(labels))
    sums = np.stack([np.bincount(which, column, len(labels)) for column in columns.T], axis=1)
    means = sums / counts[:, None]
    total = means.mean(axis=0)
    velocity = acceleration = None
    if sequences is not None:
        lengths = [sequence.stop - sequence.start for sequence in sequences]
        velocity = mpjve(first, second, lengths)
        acceleration = acceleration_error(first, second, lengths)
    return EvaluationReport(
        mpjpe=float(total[0]),
        pa_mpjpe=float(total[1]),
        per_axis={axis: float(value) for axis, value in zip("xyz", total[2:5], strict=True)},
        per_action={
            str(label): _errors(int(count), row)
            for label, count, row in zip(labels, counts, means, strict=True)
        },
        frame_mean=_errors(len(first), columns.mean(axis=0)),
        mpjve=None if velocity is None else velocity * _MM,
        acceleration=None if acceleration is None else acceleration * _MM,
        per_joint={"mpjpe": _by_joint(plain), "pa_mpjpe": _by_joint(aligned)},
        samples=len(first),
        left_out=tuple(left_out),
        protocol=protocol,
        temperature=temperature,
        padding=padding,
        flip_test=flip_test,
        notes=tuple(notes),
    )


def _errors(samples: int, row: DoubleArray) -> ActionErrors:
    return ActionErrors(samples, *(float(number) for number in row))


def _by_joint(errors: DoubleArray) -> dict[str, float]:
    return {name: float(mean) for name, mean in zip(JOINT_NAMES, errors.mean(axis=0), strict=True)}


def left_out_of(dataset: data.PoseDataset) -> tuple[LeftOut, ...]:
    """What the exclusion rules took from a data set, and why."""
    return tuple(
        LeftOut(
            sequence.subject,
            sequence.file_name,
            len(sequence),
            data.exclusion(sequence, exclude_drift=True) or "",
        )
        for sequence in dataset.left_out
    )


def describe_protocol(
    dataset: data.PoseDataset, input_name: str, split: data.Split, exclude_drift: bool
) -> str:
    """What is measured on what, in words."""
    present = {sequence.subject for sequence in (*dataset.sequences, *dataset.left_out)}
    if not present & set(data.SUBJECTS["test"]):
        rule = "no exclusion rule applies to these subjects"
    elif exclude_drift:
        rule = "S11 Directions and S9 Greeting, SittingDown 1, Waiting 1 left out (detected 2D)"
    else:
        rule = "S11 Directions left out (true 2D)"
    subjects = ", ".join(sorted(dataset.subjects, key=lambda name: (len(name), name)))
    return (
        f"2D input {input_name}, {split} subjects {subjects}; {rule}; 17 joints"
        " with the hip, not re-centred; totals are unweighted means of the action means"
    )


def predict(
    lifter: Lifter,
    keypoints_px: FloatArray,
    *,
    flip_test: bool = False,
    fov_degrees: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """What a lifter answers to keypoints of a data set, as it is evaluated.

    A published checkpoint gets what it was trained on and its answer stays as it is; others are
    told that the frames are 1000x1000 px, and answer with the hip at the origin.

    Args:
        keypoints_px: (N, 17, 2) pixels of 1000 px frames.
        fov_degrees: horizontal field of view of the lens, for lifters that make use of it.
        on_progress: told how many poses of how many are done.

    Returns:
        (N, 17, 3) float32 metres, camera axes.
    """
    published = lifter.checkpoint.normalisation == "published"
    poses = np.empty((len(keypoints_px), len(JOINT_NAMES), 3), np.float32)
    rows = max(1, _ROWS // lifter.batch_size) * lifter.batch_size
    for start in range(0, len(poses), rows):
        part = np.asarray(keypoints_px[start : start + rows], np.float32)
        poses[start : start + rows] = (
            lifter.lift_normalized((part - 500) / 500, flip_test=flip_test)
            if published
            else lifter.lift(part, (FRAME_SIZE, FRAME_SIZE), fov_degrees, flip_test=flip_test)
        )
        if on_progress is not None:
            on_progress(min(start + rows, len(poses)), len(poses))
    return poses


def predict_sequences(
    lifter: Lifter,
    dataset: data.PoseDataset,
    fps: float,
    *,
    flip_test: bool = False,
    fov_degrees: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """What a lifter that sees time answers to the sequences of a data set; as :func:`predict`."""
    mirrored = list(MIRRORED)
    poses = np.empty((len(dataset), len(JOINT_NAMES), 3), np.float32)
    size = (FRAME_SIZE, FRAME_SIZE)
    for sequence in dataset.sequences:
        part = slice(sequence.start, sequence.stop)
        keypoints = np.asarray(dataset.keypoints_px[part], np.float32)
        lifted = lifter.lift_sequence(keypoints, size, fps=fps, fov_degrees=fov_degrees)
        if flip_test:
            other = keypoints[:, mirrored]
            other[..., 0] = FRAME_SIZE - other[..., 0]
            answer = lifter.lift_sequence(other, size, fps=fps, fov_degrees=fov_degrees)
            answer[..., 0] *= -1
            lifted += answer[:, mirrored]
            lifted /= 2
        poses[part] = lifted
        if on_progress is not None:
            on_progress(sequence.stop, len(poses))
    return poses


def evaluate(
    lifter: Lifter,
    dataset: data.PoseDataset,
    *,
    fps: float = 50.0,
    flip_test: bool = False,
    fov_degrees: float | None = None,
    protocol: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Errors of a lifter on a data set by both published protocols and more.

    Args:
        fps: frame rate of the data, for lifters that see time.
        protocol: goes into the report; see :func:`describe_protocol`.
        flip_test, fov_degrees, on_progress: as in :func:`predict`.

    Raises:
        InputError: the data set is empty, or an answer is not finite.
    """
    network = lifter.checkpoint.network
    how: dict[str, Any] = {
        "flip_test": flip_test,
        "fov_degrees": fov_degrees,
        "on_progress": on_progress,
    }
    return report(
        predict_sequences(lifter, dataset, fps, **how)
        if lifter.sees_time
        else predict(lifter, dataset.keypoints_px, **how),
        dataset.poses,
        dataset.actions(),
        dataset.sequences,
        left_out=left_out_of(dataset),
        protocol=protocol,
        temperature=None if network.kind == "gridconv" else network.temperature,
        padding=network.padding_mode,
        flip_test=flip_test,
        notes=(*dataset.notes, *lifter.notices),
    )
