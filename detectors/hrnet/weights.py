"""Weights of top-down pose networks from files of several generations, under mmpose 1.x's names.

Nothing in a file is executed: pickles go through ``unpickle``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from gridpose.core import InputError, MissingError
from gridpose.detectors.hrnet.evoskeleton import UPSAMPLING
from gridpose.storage import file_sha256
from gridpose.unpickle import load

_NAMES_SHOWN: Final = 3
_COUNTER: Final = "num_batches_tracked"
_PUBLISHED_NAME: Final = re.compile(r"(?P<config>[\w-]+?)-[0-9a-f]{8}_\d{8}")
"""How OpenMMLab names what mmpose 1.x trained: config, start of the SHA-256, date."""


@dataclass(frozen=True)
class PoseWeights:
    """A network's weights on the CPU, as the file names them.

    ``keypoints`` are the names that mmpose 1.x stores with them, where it does.
    """

    file: Path
    state: Mapping[str, Tensor]
    sha256: str
    keypoints: tuple[str, ...] | None

    @property
    def config_in_name(self) -> str | None:
        """The config that a published file's name begins with."""
        match = _PUBLISHED_NAME.fullmatch(self.file.stem)
        return None if match is None else match["config"]


def read_pose_weights(file: Path) -> PoseWeights:
    """Read a ``.pth`` of mmpose or of the original HRNet code.

    Raises:
        MissingError: there is no such file.
        InputError: it is unsafe, damaged, or holds no weights.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such detector weights")
    content = load(file)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{file}: no checkpoint of a network (it holds no state_dict of tensors)")
    odd = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if odd or not all(isinstance(key, str) for key in state):
        raise InputError(f"{file}: its state_dict holds things that are no tensors ({_some(odd)})")
    return PoseWeights(file, state, file_sha256(file), _stored_keypoints(content))


def _stored_keypoints(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    meta = content.get("meta")
    dataset = meta.get("dataset_meta") if isinstance(meta, dict) else None
    names = dataset.get("keypoint_id2name") if isinstance(dataset, dict) else None
    if not isinstance(names, dict) or sorted(names) != list(range(len(names))):
        return None
    return tuple(str(names[index]) for index in range(len(names)))


def _under_present_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as mmpose 1.x names them."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    # The original code (leoxiaobin, EvoSkeleton) knows no backbone and head.
    if "conv1.weight" in state and "final_layer.weight" in state:
        of_head = ("final_layer.", f"{UPSAMPLING}.")
        return {
            f"{'head' if key.startswith(of_head) else 'backbone'}.{key}": value
            for key, value in state.items()
        }
    return {re.sub(r"^keypoint_head\.", "head.", key): value for key, value in state.items()}


def fit(weights: PoseWeights, model: nn.Module, name: str) -> None:
    """Load the weights into mmpose's ``model``, whose config is called ``name``.

    Raises:
        InputError: a weight is missing, left over or of another shape; the message names them.
    """
    state = _under_present_names(weights.state)
    expected = model.state_dict()
    for key, value in expected.items():
        if key.endswith(_COUNTER):  # of no use to a trained network; old files lack them
            state[key] = torch.zeros_like(value)
    faults = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} ({_shape(state[key])}, not {_shape(value)})"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
        "with values that are no numbers": [
            key for key, value in state.items() if not value.isfinite().all()
        ],
    }
    if found := [f"{what} {_some(keys)}" for what, keys in faults.items() if keys]:
        raise InputError(
            f"{weights.file}: its weights do not fit the network {name}: {'; '.join(found)}; "
            "`config` names another network"
        )
    model.load_state_dict(state)


def branch_width(weights: PoseWeights) -> int | None:
    """Channels of HRNet's finest branch (32 or 48), None where this is no HRNet."""
    for key, value in weights.state.items():
        if key.endswith("transition1.0.0.weight"):
            return len(value)
    return None


def is_evoskeleton(weights: PoseWeights) -> bool:
    """Whether the network has EvoSkeleton's layers behind the last one."""
    return any(UPSAMPLING in key for key in weights.state)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def _some(names: Iterable[object]) -> str:
    every = [str(name) for name in names]
    more = len(every) - _NAMES_SHOWN
    return f"{', '.join(every[:_NAMES_SHOWN])}{f' and {more} more' if more > 0 else ''}"
