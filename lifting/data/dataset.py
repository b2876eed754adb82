"""Human3.6M and custom data sets in the published format, and which part of them counts.

The protocol: subjects S1, S5, S6, S7 and S8 train, S9 and S11 test. Where a file has none of these
seven, as with data of one's own, all its subjects are used. S11's ``Directions`` (not
``Directions 1``) is always left out, and for tests with detected 2D three recordings of S9 whose
3D drifts against the picture. So results with true and with detected 2D are not over the same
frames: say with :func:`describe_left_out` what was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from gridpose.core import FloatArray, InputError, MissingError
from gridpose.lifting.data.cache import load_table
from gridpose.lifting.data.device_batches import DeviceBatches
from gridpose.lifting.data.files import Key, Split, dataset_files, write_dataset
from gridpose.storage import cache_dir

__all__ = [
    "SUBJECTS",
    "DeviceBatches",
    "Key",
    "PoseDataset",
    "Sequence",
    "Split",
    "default_exclude_drift",
    "describe_left_out",
    "exclusion",
    "load_dataset",
    "write_dataset",
]

SUBJECTS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("S1", "S5", "S6", "S7", "S8"),
    "test": ("S9", "S11"),
}
_CAMERAS: Final = ("54138969", "55011271", "58860488", "60457274")
_DRIFTING: Final = frozenset(
    f"{name}.{camera}" for name in ("Greeting", "SittingDown 1", "Waiting 1") for camera in _CAMERAS
)
_CORRUPT_REASON: Final = "damaged recording"
_DRIFT_REASON: Final = "its 3D drifts against the picture; left out with detected 2D only"


@dataclass(frozen=True)
class Sequence:
    """One camera's view of one performance: rows ``start`` to ``stop`` of the arrays.

    The first three fields are the key, as in ``("S9", "Walking", "Walking 1.54138969")``.
    """

    subject: str
    action: str
    file_name: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def performance(self) -> str:
        """What the file is called without its camera: the text before the first dot."""
        return self.file_name.split(".", 1)[0]

    @property
    def action_name(self) -> str:
        """The text before the first dot, cut at the first space."""
        return self.performance.split(" ", 1)[0]

    @property
    def camera(self) -> str:
        """The text after the last dot; empty where there is none."""
        return self.file_name.rpartition(".")[2] if "." in self.file_name else ""


def exclusion(sequence: Sequence, exclude_drift: bool) -> str | None:
    """Why the protocol leaves a sequence out; None where it does not."""
    if sequence.subject == "S11" and sequence.performance == "Directions":
        return _CORRUPT_REASON
    if exclude_drift and sequence.subject == "S9" and sequence.file_name in _DRIFTING:
        return _DRIFT_REASON
    return None


def default_exclude_drift(split: Split, input_name: str) -> bool:
    """Whether the protocol leaves S9's drifting recordings out: tests with 2D other than ``gt``."""
    return split == "test" and input_name != "gt"


@dataclass(frozen=True)
class PoseDataset:
    """Poses of one split with their 2D, sequence after sequence in the order of sorted keys.

    ``keypoints_px`` (N, 17, 2) float32 pixels; ``poses`` (N, 17, 3) float32 metres, hip-relative,
    camera axes (x right, y down, z away). ``left_out`` has the sequences that the protocol's
    exclusion rules removed; their rows run from 0 to their number of frames. ``sha256`` is the
    digest of each source file by its name. ``notes`` say what is odd but no error.
    """

    keypoints_px: FloatArray
    poses: FloatArray
    sequences: tuple[Sequence, ...]
    left_out: tuple[Sequence, ...]
    sha256: dict[str, str]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in the order of their first sequence."""
        return tuple(dict.fromkeys(sequence.subject for sequence in self.sequences))

    def actions(self) -> NDArray[np.str_]:
        """The action name of each row, ``(N,)``."""
        names = np.array([sequence.action_name for sequence in self.sequences], dtype=np.str_)
        return np.repeat(names, [len(sequence) for sequence in self.sequences])

    def select(self, subjects: Iterable[str]) -> PoseDataset:
        """The part with these subjects.

        Raises:
            InputError: there is none of a subject.
        """
        wanted = set(subjects)
        missing = sorted(wanted - set(self.subjects))
        if missing or not wanted:
            raise InputError(
                f"no sequence of subject {missing[0] if missing else '(none asked for)'};"
                f" the data has {', '.join(self.subjects)}"
            )
        return self.filter(lambda sequence: sequence.subject in wanted)

    def filter(self, keep: Callable[[Sequence], bool]) -> PoseDataset:
        """The part whose sequences ``keep`` answers True to; likewise ``left_out``."""
        chosen = [sequence for sequence in self.sequences if keep(sequence)]
        return replace(
            self,
            keypoints_px=_take(self.keypoints_px, chosen),
            poses=_take(self.poses, chosen),
            sequences=_renumber(chosen),
            left_out=tuple(sequence for sequence in self.left_out if keep(sequence)),
        )


def _take(array: FloatArray, chosen: list[Sequence]) -> FloatArray:
    """The rows of ``chosen``; no copy where they follow each other."""
    gaps = [a.stop != b.start for a, b in pairwise(chosen)]
    if not chosen or not any(gaps):
        return array[chosen[0].start : chosen[-1].stop] if chosen else array[:0]
    return np.concatenate([array[sequence.start : sequence.stop] for sequence in chosen])


def _renumber(chosen: Iterable[Sequence]) -> tuple[Sequence, ...]:
    start, numbered = 0, []
    for sequence in chosen:
        stop = start + len(sequence)
        numbered.append(replace(sequence, start=start, stop=stop))
        start = stop
    return tuple(numbered)


def _wanted_subjects(present: list[str], split: Split, file: Path) -> tuple[set[str], list[str]]:
    """The subjects to use, and notes on the others.

    Raises:
        InputError: none is left.
    """
    known = {subject for subjects in SUBJECTS.values() for subject in subjects}
    if not known & set(present):
        return set(present), []
    wanted = set(present) & set(SUBJECTS[split])
    if not wanted:
        raise InputError(
            f"{file}: has no sequence of the subjects for {split}, {', '.join(SUBJECTS[split])};"
            f" it has {', '.join(present)}"
        )
    others = [subject for subject in present if subject not in wanted]
    if not others:
        return wanted, []
    return wanted, [f"{file.name}: not used for {split}: subject {', '.join(others)}"]


def _cache_root(cache: Path | None) -> Path | None:
    if cache is not None:
        return cache
    try:
        return cache_dir() / "datasets"
    except MissingError:
        return None


def load_dataset(
    folder: Path, split: Split, *, exclude_drift: bool, cache: Path | None = None
) -> PoseDataset:
    """Read one split of a data set in the published format, by the protocol's rules.

    The first reading leaves a memory-mapped copy below the cache folder, which later ones use as
    long as the files have the same content. Nothing in the files is executed.

    Args:
        folder: ``DATA_ROOT/<input>``.
        split: ``train`` or ``test``.
        exclude_drift: leave out S9's recordings whose 3D drifts; see :func:`default_exclude_drift`.
        cache: where the copies are, instead of ``datasets`` in gridpose's cache folder.

    Raises:
        MissingError: there is no such data set.
        InputError: it is not in the published format, or has none of the wanted subjects.
    """
    two, three = dataset_files(folder, split)
    for file in (two, three):
        if not file.is_file():
            raise MissingError(
                f"{file}: no such file; `gridpose data convert` makes it from VideoPose3D's files,"
                " `gridpose data build` from motion capture"
            )
    table, hashes = load_table(two, three, _cache_root(cache))
    ends = np.cumsum(table.lengths).tolist()
    everything = [
        Sequence(*key, end - length, end)
        for key, length, end in zip(table.keys, table.lengths, ends, strict=True)
    ]
    present = list(dict.fromkeys(sequence.subject for sequence in everything))
    wanted, notes = _wanted_subjects(present, split, two)
    mine = [sequence for sequence in everything if sequence.subject in wanted]
    left_out = [sequence for sequence in mine if exclusion(sequence, exclude_drift)]
    chosen = [sequence for sequence in mine if sequence not in left_out]
    if not chosen:
        raise InputError(f"{two}: the exclusion rules leave nothing of it")
    return PoseDataset(
        _take(table.keypoints_px, chosen),
        _take(table.poses, chosen),
        _renumber(chosen),
        tuple(replace(sequence, start=0, stop=len(sequence)) for sequence in left_out),
        hashes,
        (*table.notes, *notes),
    )


def describe_left_out(dataset: PoseDataset) -> list[str]:
    """One line for each reason: which sequences and how many frames the rules left out, and why."""
    groups: dict[tuple[str, str], list[Sequence]] = {}
    for sequence in dataset.left_out:
        reason = cast(str, exclusion(sequence, exclude_drift=True))
        groups.setdefault((sequence.subject, reason), []).append(sequence)
    lines = []
    for (subject, reason), members in groups.items():
        names = ", ".join(dict.fromkeys(sequence.performance for sequence in members))
        frames = sum(len(sequence) for sequence in members)
        views = f"{len(members)} sequence{'s' if len(members) > 1 else ''}"
        lines.append(f"left out: {subject} {names} ({views}, {frames} frames): {reason}")
    return lines
