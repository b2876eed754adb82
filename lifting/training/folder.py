"""The folder of a training: what is in it, and whether it can be gone on with."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gridpose.core import InputError, MissingError, UsageError
from gridpose.lifting.training.options import FREE, TrainOptions
from gridpose.lifting.training.validation import Row
from gridpose.storage import replacing

STATE = "state.pth"
CURVES = "curves.csv"
CONFIG = "config.json"
BEST, LAST = "best.safetensors", "last.safetensors"


def describe_run(options: TrainOptions, data: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """What ``config.json`` says."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(options), default=str))
    if options.temporal is not None:
        # It has no lifting network of its own, nor what belongs to one.
        for name in ("network", "loss", "temperature_schedule", "temperature_epochs", "grid_lr"):
            values[name] = None
    return {
        "options": values,
        "data": data,
        "notes": notes,
        "versions": {name: version(name) for name in ("gridpose", "torch", "mmengine", "numpy")},
    }


def prepare_folder(options: TrainOptions, described: dict[str, Any]) -> list[Row]:
    """Make the run folder, or check that it can be gone on with; answer the rows so far.

    Raises:
        UsageError: it has another run's results, or was started with other options or data.
        MissingError: there is nothing to go on from, or the folder cannot be written.
    """
    run, rows = options.run, []
    if options.resume:
        if not (run / STATE).is_file() or not (run / CONFIG).is_file():
            raise MissingError(f"{run}: no training to go on with (no {STATE}); leave `resume` out")
        _compare(run, described)
        rows = _read_rows(run / CURVES)
    elif not options.overwrite and any((run / name).exists() for name in (STATE, BEST, LAST)):
        raise UsageError(
            f"{run}: has a training already; `resume` goes on with it, `overwrite` starts anew, "
            "`run=NAME` takes another folder"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
        for unfinished in run.glob(".*.part.*"):  # of a run that was killed
            unfinished.unlink()
        if not options.resume:
            for name in (STATE, CURVES, "curves.png", BEST, LAST):
                (run / name).unlink(missing_ok=True)
        with replacing(run / CONFIG) as partial:
            partial.write_text(json.dumps(described, indent=1))
    except OSError as error:
        raise MissingError(f"{run}: cannot be written ({error.strerror})") from error
    return rows


def _compare(run: Path, described: dict[str, Any]) -> None:
    """Raises: UsageError: a run was started with other options or data."""
    defaults = describe_run(TrainOptions(None, run), {}, [])["options"]
    try:
        before = json.loads((run / CONFIG).read_text())
        # An option that the run's version did not have was as its default is.
        were = {**defaults, **before["options"]}
        differing = [
            name
            for name, value in described["options"].items()
            if name not in FREE and were[name] != value
        ]
        if before["data"]["sha256"] != described["data"]["sha256"]:
            differing.append("the data")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{run / CONFIG}: damaged, so this training cannot go on; `overwrite` starts anew"
        ) from error
    if differing:
        raise UsageError(
            f"{run}: was started with other values of {', '.join(differing)}; give the same, "
            "or train into another folder (`run`)"
        )


def _read_rows(file: Path) -> list[Row]:
    try:
        with file.open(newline="") as stream:
            rows = [
                {n: int(value) if n == "epoch" else float(value) for n, value in row.items()}
                for row in csv.DictReader(stream)
            ]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("not an epoch a row")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: damaged, so this training cannot go on; `overwrite` starts anew"
        ) from error
    return rows


def write_rows(file: Path, rows: list[Row]) -> None:
    """Write ``curves.csv``, a row an epoch."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(file) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows({n: repr(v) for n, v in row.items()} for row in rows)
