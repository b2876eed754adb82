"""Lifter checkpoints: safetensors with the metadata that makes them usable.

Metadata (all strings, JSON where structured): ``format``, ``network`` (architecture and
temperature), ``normalisation``, ``fov_degrees``, ``joints``, ``training``, ``metrics``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gridpose.core import InputError, MissingError, UsageError
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.normalise import DEFAULT_FOV_DEGREES, Scheme

FORMAT = "gridpose-lifter-1"
_JOINTS = "human3.6m-17"


@dataclass(frozen=True)
class Checkpoint:
    """A lifting network's weights and what must be known to use them."""

    network: NetworkConfig
    state: dict[str, Tensor]
    normalisation: Scheme
    fov_degrees: float = DEFAULT_FOV_DEGREES
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def build(self) -> LiftingNetwork:
        """The network in eval mode, float32.

        Raises:
            ValueError: the weights do not fit the architecture.
        """
        return network_of(lambda: build_network(self.network), self.state, self.network.hidden)


Network = TypeVar("Network", bound=nn.Module)


def network_of(make: Callable[[], Network], state: dict[str, Tensor], channels: int) -> Network:
    """What ``make`` makes, in eval mode, with these weights.

    Raises:
        ValueError: the weights do not fit.
    """
    # Shapes are compared on a network without memory: a file may claim any size.
    try:
        with torch.device("meta"):
            expected = make().state_dict()
    except RuntimeError as error:
        raise ValueError(f"{channels} channels are too many") from error
    _check_state(state, expected)
    with torch.inference_mode(False):
        network = make()
    network.load_state_dict(state)
    return network.eval()


def _check_state(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises: ValueError: names, shapes or kinds of tensors are others than expected."""
    for name in {**expected, **state}:
        if name not in state or name not in expected:
            raise ValueError(f"{name!r} is {'unknown' if name in state else 'missing'}")
        given, wanted = tuple(state[name].shape), tuple(expected[name].shape)
        if given != wanted:
            raise ValueError(f"{name!r} is {given}, not {wanted}")
        if state[name].is_floating_point() != expected[name].is_floating_point():
            raise ValueError(f"{name!r} is of {state[name].dtype}")


def save_checkpoint(checkpoint: Checkpoint, file: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write ``file``; floating-point weights are stored as ``dtype``."""
    metadata = {
        "format": FORMAT,
        "network": json.dumps(asdict(checkpoint.network)),
        "normalisation": checkpoint.normalisation,
        "fov_degrees": str(checkpoint.fov_degrees),
        "joints": _JOINTS,
        "training": json.dumps(checkpoint.training),
        "metrics": json.dumps(checkpoint.metrics),
    }
    write_tensors(file, checkpoint.state, metadata, dtype)


def write_tensors(
    file: Path, state: dict[str, Tensor], metadata: dict[str, str], dtype: torch.dtype
) -> None:
    """Write a safetensors file; floating-point tensors are stored as ``dtype``."""
    stored = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
    # Not save_file, whose files only their owner may read, whatever the umask.
    file.write_bytes(save(stored, metadata))


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file; floating-point tensors become float32.

    Raises:
        MissingError: there is no such file.
        InputError: it is no safetensors file.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such lifter weights")
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a safetensors file ({error})") from error
    return {n: v.float() if v.is_floating_point() else v for n, v in state.items()}, metadata


def architecture(values: dict[str, Any], tensors: int) -> NetworkConfig:
    """The architecture that a file of so many tensors declares.

    Raises:
        TypeError, ValueError, UsageError: there is no such architecture.
    """
    config = NetworkConfig(**values)
    if config.blocks >= tensors:
        raise ValueError(f"{config.blocks} blocks in {tensors} tensors")
    return config


def checked(checkpoint: Checkpoint) -> Checkpoint:
    """Raises: ValueError: weights or settings that no keypoints can be lifted with."""
    if checkpoint.normalisation not in get_args(Scheme):
        raise ValueError(f"unknown normalisation {checkpoint.normalisation!r}")
    if not 0 < checkpoint.fov_degrees < 180:
        raise ValueError(f"field of view of {checkpoint.fov_degrees} degrees")
    for name, value in checkpoint.state.items():
        if not value.isfinite().all():
            raise ValueError(f"{name!r} has values that are no numbers")
    return checkpoint


def is_safetensors(file: Path) -> bool:
    """Whether a file starts like a safetensors file rather than like a pickle or a zip.

    Raises:
        MissingError: there is no such file.
        InputError: it cannot be read.
    """
    try:
        if not file.is_file():
            raise MissingError(f"{file}: no such lifter weights")
        with file.open("rb") as stream:
            return stream.read(9)[8:] == b"{"
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint written by :func:`save_checkpoint`; nothing in it is executed.

    Raises:
        MissingError: there is no such file.
        InputError: it is not a gridpose lifter checkpoint.
    """
    state, metadata = read_tensors(file)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{file}: not a gridpose lifter (no {FORMAT} metadata)")
    if metadata.get("joints") != _JOINTS:
        raise InputError(f"{file}: its joints are not {_JOINTS}")
    try:
        return checked(
            Checkpoint(
                network=architecture(json.loads(metadata["network"]), len(state)),
                state=state,
                normalisation=metadata["normalisation"],
                fov_degrees=float(metadata["fov_degrees"]),
                training=dict(json.loads(metadata["training"])),
                metrics=dict(json.loads(metadata["metrics"])),
            )
        )
    except (KeyError, RecursionError, TypeError, ValueError, UsageError) as error:
        raise InputError(f"{file}: damaged checkpoint metadata ({error})") from error
