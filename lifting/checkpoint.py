"""Lifter checkpoints: safetensors with the metadata that makes them usable.

Metadata (all strings, JSON where structured): ``format``, ``network`` (architecture and
temperature), ``normalisation``, ``fov_degrees``, ``joints``, ``training``, ``metrics``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gridpose.core import InputError, MissingError
from gridpose.lifting.network import DGridConvNetwork, NetworkConfig
from gridpose.lifting.normalise import DEFAULT_FOV_DEGREES, Scheme

FORMAT = "gridpose-lifter-1"


@dataclass(frozen=True)
class Checkpoint:
    """A lifting network's weights and what must be known to use them."""

    network: NetworkConfig
    state: dict[str, Tensor]
    normalisation: Scheme
    fov_degrees: float = DEFAULT_FOV_DEGREES
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def build(self) -> DGridConvNetwork:
        """The network in eval mode, float32.

        Raises:
            ValueError: the weights do not fit the architecture.
        """
        network = DGridConvNetwork(self.network)
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return network.eval()


def save_checkpoint(checkpoint: Checkpoint, file: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write ``file``; floating-point weights are stored as ``dtype``."""
    metadata = {
        "format": FORMAT,
        "network": json.dumps(checkpoint.network.to_dict()),
        "normalisation": checkpoint.normalisation,
        "fov_degrees": str(checkpoint.fov_degrees),
        "joints": "human3.6m-17",
        "training": json.dumps(checkpoint.training),
        "metrics": json.dumps(checkpoint.metrics),
    }
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in checkpoint.state.items()
    }
    save_file(state, file, metadata)


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint written by :func:`save_checkpoint`; nothing in it is executed.

    Raises:
        MissingError: there is no such file.
        InputError: it is not a gridpose lifter checkpoint.
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
        raise InputError(f"{file}: not a gridpose lifter (no {FORMAT} metadata)")
    try:
        return Checkpoint(
            network=NetworkConfig.from_dict(json.loads(metadata["network"])),
            state={k: v.float() if v.is_floating_point() else v for k, v in state.items()},
            normalisation=metadata["normalisation"],
            fov_degrees=float(metadata["fov_degrees"]),
            training=json.loads(metadata["training"]),
            metrics=json.loads(metadata["metrics"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: damaged checkpoint metadata ({error})") from error
