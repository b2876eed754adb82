"""Checkpoints of temporal networks: safetensors with the metadata that makes them usable.

A file may hold the lifter of single frames that a network belongs to as well: its tensors are named
``frames.*``, and what must be known of it is in the metadata's ``frames``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gridpose.core import InputError, UsageError
from gridpose.lifting.model.temporal import TemporalConfig, TemporalNetwork
from gridpose.lifting.weights.checkpoint import (
    Checkpoint,
    architecture,
    checked,
    network_of,
    read_tensors,
    write_tensors,
)

FORMAT = "gridpose-temporal-1"
_FRAMES = "frames."


@dataclass(frozen=True)
class TemporalCheckpoint:
    """A temporal network's weights and what must be known to use them."""

    network: TemporalConfig
    state: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    frames: Checkpoint | None = None
    """The lifter of single frames, where it is in the same file."""

    def build(self) -> TemporalNetwork:
        """The network in eval mode, float32.

        Raises:
            ValueError: the weights do not fit the architecture.
        """
        blocks = len(self.network.before) + len(self.network.after)
        if blocks >= len(self.state):
            raise ValueError(f"{blocks} blocks in {len(self.state)} tensors")
        return network_of(lambda: TemporalNetwork(self.network), self.state, self.network.hidden)


def save_temporal(
    checkpoint: TemporalCheckpoint, file: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write ``file``; floating-point weights are stored as ``dtype``."""
    metadata = {
        "format": FORMAT,
        "network": json.dumps(asdict(checkpoint.network)),
        "training": json.dumps(checkpoint.training),
        "metrics": json.dumps(checkpoint.metrics),
    }
    state = dict(checkpoint.state)
    frames = checkpoint.frames
    if frames is not None:
        metadata["frames"] = json.dumps(
            {
                "network": asdict(frames.network),
                "normalisation": frames.normalisation,
                "fov_degrees": frames.fov_degrees,
                "training": frames.training,
            }
        )
        state |= {_FRAMES + name: value for name, value in frames.state.items()}
    write_tensors(file, state, metadata, dtype)


def is_temporal(file: Path) -> bool:
    """Whether this is a temporal network's checkpoint.

    Raises:
        InputError: it is no safetensors file.
    """
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            return bool((stored.metadata() or {}).get("format") == FORMAT)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a safetensors file ({error})") from error


def read_temporal(file: Path) -> TemporalCheckpoint:
    """Read what :func:`save_temporal` wrote; nothing in it is executed.

    Raises:
        MissingError: there is no such file.
        InputError: it is not a temporal network's checkpoint.
    """
    state, metadata = read_tensors(file)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{file}: not a temporal lifter (no {FORMAT} metadata)")
    if not all(value.isfinite().all() for value in state.values()):
        raise InputError(f"{file}: has values that are no numbers")
    try:
        own = {name: value for name, value in state.items() if not name.startswith(_FRAMES)}
        return TemporalCheckpoint(
            TemporalConfig(**json.loads(metadata["network"])),
            own,
            dict(json.loads(metadata["training"])),
            dict(json.loads(metadata["metrics"])),
            _frames(metadata, state),
        )
    except (KeyError, RecursionError, TypeError, ValueError, UsageError) as error:
        raise InputError(f"{file}: damaged checkpoint metadata ({error})") from error


def _frames(metadata: dict[str, str], state: dict[str, Tensor]) -> Checkpoint | None:
    """The lifter of single frames in a file.

    Raises:
        KeyError, TypeError, ValueError, UsageError: damaged.
    """
    if "frames" not in metadata:
        return None
    about = json.loads(metadata["frames"])
    return checked(
        Checkpoint(
            architecture(about["network"], len(state)),
            {n.removeprefix(_FRAMES): v for n, v in state.items() if n.startswith(_FRAMES)},
            about["normalisation"],
            float(about["fov_degrees"]),
            dict(about["training"]),
        )
    )
