"""Checkpoints of temporal networks: safetensors with the metadata that makes them usable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gridpose.core import InputError, MissingError, UsageError
from gridpose.lifting.temporal import TemporalConfig, TemporalNetwork

FORMAT = "gridpose-temporal-1"


@dataclass(frozen=True)
class TemporalCheckpoint:
    """A temporal network's weights and what must be known to use them."""

    network: TemporalConfig
    state: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def build(self) -> TemporalNetwork:
        """The network in eval mode, float32.

        Raises:
            ValueError: the weights do not fit the architecture.
        """
        with torch.inference_mode(False):
            network = TemporalNetwork(self.network)
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return network.eval()


def save_temporal(
    checkpoint: TemporalCheckpoint, file: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write ``file``; weights are stored as ``dtype``."""
    metadata = {
        "format": FORMAT,
        "network": json.dumps(checkpoint.network.to_dict()),
        "training": json.dumps(checkpoint.training),
        "metrics": json.dumps(checkpoint.metrics),
    }
    state = {name: value.to(dtype).contiguous() for name, value in checkpoint.state.items()}
    file.write_bytes(save(state, metadata))


def read_temporal(file: Path) -> TemporalCheckpoint:
    """Read what :func:`save_temporal` wrote; nothing in it is executed.

    Raises:
        MissingError: there is no such file.
        InputError: it is not a temporal network's checkpoint.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such lifter weights")
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{file}: not a temporal lifter (no {FORMAT} metadata)")
    if not all(value.isfinite().all() for value in state.values()):
        raise InputError(f"{file}: has values that are no numbers")
    try:
        return TemporalCheckpoint(
            TemporalConfig.from_dict(json.loads(metadata["network"])),
            {name: value.float() for name, value in state.items()},
            dict(json.loads(metadata["training"])),
            dict(json.loads(metadata["metrics"])),
        )
    except (KeyError, RecursionError, TypeError, ValueError, UsageError) as error:
        raise InputError(f"{file}: damaged checkpoint metadata ({error})") from error
