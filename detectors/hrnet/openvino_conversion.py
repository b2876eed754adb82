"""Networks of torch as OpenVINO's, converted once and kept in the cache folder.

What is kept lies in a folder of its own for each set of weights, network, crop size and version of
OpenVINO: ``network.xml`` and ``network.bin``, OpenVINO's form, and ``about.json`` with their
digests. A folder appears when it is complete; one that is damaged is made anew.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import filelock
import numpy as np
import torch
from torch import Tensor, nn

from gridpose.core import GridposeError, InputError
from gridpose.openvino_engine import OPENVINO_FOLDER, Engine, EnginePrecision, import_openvino
from gridpose.storage import cache_dir, file_sha256, sha256

_FORMAT: Final = 1
"""To be raised when what is converted changes, though weights and config do not."""
_NETWORK, _WEIGHTS, _ABOUT = "network.xml", "network.bin", "about.json"
_LARGEST_ERROR: Final = 1e-3
"""Of a converted network, against torch, as part of the largest value."""


@dataclass(frozen=True)
class Converted:
    """A network of OpenVINO.

    Attributes:
        model: its file, or the ``openvino.Model`` where nothing can be kept.
        structure: how its outputs nest: a number, or ``[kind, part, ...]`` with kind ``list`` or
            ``tuple``.
        folder: where more that is known about it may be kept, if anywhere.
    """

    model: Path | Any
    structure: Any
    folder: Path | None


class OpenVINONetwork:
    """A converted network that is called as the torch module is: (N, 3, H, W) float32 tensors.

    Args:
        converted: the network.
        precision: of products.
    """

    def __init__(self, converted: Converted, precision: EnginePrecision) -> None:
        self._engine = Engine(converted.model, precision=precision)
        self._structure = converted.structure

    def __call__(self, crops: Tensor) -> Any:
        """What the torch module would answer, but for rounding."""
        answers = [torch.from_numpy(answer) for answer in self._engine(crops.numpy())]
        return _nested(self._structure, answers)


def converted(network: nn.Module, crop_size: tuple[int, int], what: Mapping[str, Any]) -> Converted:
    """The network in OpenVINO's form, from the cache where it is there.

    Args:
        network: maps (N, 3, H, W) float32 to tensors in tuples and lists; in eval mode.
        crop_size: width, height.
        what: tells this network, weights included, from every other; JSON.

    Raises:
        MissingError: OpenVINO is not installed.
        InputError: OpenVINO cannot convert it, or converts it wrongly.
    """
    key = json.dumps(
        {
            "format": _FORMAT,
            "openvino": str(import_openvino().__version__),
            "crop": crop_size,
            "network": what,
        },
        sort_keys=True,
        default=str,
    )
    try:
        folder = cache_dir() / OPENVINO_FOLDER / sha256(key.encode())[:32]
        if (before := _kept(folder, key)) is not None:
            return before
        folder.parent.mkdir(exist_ok=True)
        # Of several processes one converts, the others wait for it.
        with filelock.FileLock(folder.with_suffix(".lock")):
            return _kept(folder, key) or _keep(folder, key, *_convert(network, crop_size))
    except (OSError, GridposeError) as error:
        if isinstance(error, InputError):
            raise
        return Converted(*_convert(network, crop_size), None)  # full or read-only: go without


def _kept(folder: Path, key: str) -> Converted | None:
    """What is in the cache, if all of it is what was put there."""
    try:
        about = json.loads((folder / _ABOUT).read_text())
        if about["key"] != key or any(
            file_sha256(folder / name) != about["sha256"][name] for name in (_NETWORK, _WEIGHTS)
        ):
            return None
        return Converted(folder / _NETWORK, about["structure"], folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(folder: Path, key: str, model: Any, structure: Any) -> Converted:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as room:
        made = Path(room) / folder.name
        made.mkdir()
        import_openvino().save_model(model, made / _NETWORK, compress_to_fp16=False)
        about = {
            "key": key,
            "structure": structure,
            "sha256": {name: file_sha256(made / name) for name in (_NETWORK, _WEIGHTS)},
        }
        (made / _ABOUT).write_text(json.dumps(about))
        if folder.exists():  # and damaged
            shutil.move(folder, Path(room) / "old")
        made.rename(folder)
    return Converted(folder / _NETWORK, structure, folder)


def _convert(network: nn.Module, crop_size: tuple[int, int]) -> tuple[Any, Any]:
    """The network as an ``openvino.Model`` for one crop, and how its outputs nest."""
    width, height = crop_size
    generator = torch.Generator().manual_seed(0)
    crops = torch.randn(2, 3, height, width, generator=generator)
    try:
        # Not inference_mode, whose tensors the tracer cannot take.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, for developers of the network
            flat = _Flat(network)
            wanted = flat(crops)
            # Frozen, since otherwise reading it takes three times as long.
            trace: Any = torch.jit.trace
            traced = trace(flat, crops[:1], check_trace=False, strict=False)
            frozen = torch.jit.freeze(traced.eval())
            ov = import_openvino()
            shape = [1, 3, height, width]
            model = ov.convert_model(frozen, input=[(shape, ov.Type.f32)])
        found = Engine(model)(crops.numpy())
    except GridposeError:
        raise
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InputError(f"OpenVINO cannot convert this network ({why})") from error
    if len(found) != len(wanted) or not all(map(_alike, found, wanted)):
        raise InputError("OpenVINO converts this network to one that answers otherwise")
    return model, flat.structure


def _alike(found: Any, wanted: Tensor) -> bool:
    if found.shape != tuple(wanted.shape):
        return False
    bound = _LARGEST_ERROR * float(wanted.abs().max())
    return bool(np.abs(found - wanted.numpy()).max() <= bound)


class _Flat(nn.Module):
    """The network, with its outputs in one tuple; ``structure`` says afterwards how they nested."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.structure: Any = None

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        leaves: list[Tensor] = []
        self.structure = _flattened(self.network(crops), leaves)
        return tuple(leaves)


def _flattened(answer: Any, leaves: list[Tensor]) -> Any:
    """Put the tensors of nested lists and tuples into ``leaves``; returns how they nested."""
    if isinstance(answer, Tensor):
        leaves.append(answer)
        return len(leaves) - 1
    if not isinstance(answer, (list, tuple)):
        raise TypeError(f"it answers with a {type(answer).__name__}")
    kind = "list" if isinstance(answer, list) else "tuple"
    return [kind, *(_flattened(part, leaves) for part in answer)]


def _nested(structure: Any, leaves: list[Tensor]) -> Any:
    """The opposite of :func:`_flattened`."""
    if isinstance(structure, int):
        return leaves[structure]
    parts = [_nested(part, leaves) for part in structure[1:]]
    return parts if structure[0] == "list" else tuple(parts)
