"""Checkpoints that the published GridConv code wrote (``.pth.tar``).

They hold weights and little else, so the architecture is read off names and shapes. What those
leave open (padding modes, temperature, sides of a grid that is not square) is assumed as the
published models have it, and every assumption is told.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from gridpose.core import InputError, UsageError
from gridpose.lifting.model.layers import TAPS, PaddingModes
from gridpose.lifting.model.network import Kind, NetworkConfig, build_network
from gridpose.lifting.model.sgt import GRID_SHAPE
from gridpose.lifting.weights.checkpoint import Checkpoint
from gridpose.unpickle import load

PUBLISHED_TEMPERATURE: Final = 30.0
"""What the published models were trained and evaluated with; their files do not say so."""

_PADDING_BY_NAME: Final[dict[str, PaddingModes]] = {"hrnet": ("c", "z"), "gt": ("c", "r")}
_DEFAULT_PADDING: Final[PaddingModes] = ("c", "z")
_NAMES_SHOWN: Final = 3

_SCORES: Final = "sgt_layer.sgt_trans_mat"
_ATTENTION: Final = "atten_conv1.position_fc.weight"
_STATIC: Final = "w1.donut_conv.weight"
_DYNAMIC: Final = "w1.branch1_weight"


def read_published(
    file: Path,
    *,
    kind: Kind | None = None,
    padding_mode: PaddingModes | None = None,
    temperature: float | None = None,
    grid_shape: tuple[int, int] | None = None,
) -> tuple[Checkpoint, list[str]]:
    """Read a published checkpoint; nothing in it is executed.

    Args:
        file: what the published code saved, or a bare state dict, in any form that PyTorch wrote.
        kind: what the network must be.
        padding_mode: of the two branches; not in the file.
        temperature: of the attention; in files of ours only.
        grid_shape: height and width, where the number of cells does not tell them.

    Returns:
        The checkpoint, and one sentence for each thing that was assumed.

    Raises:
        MissingError: there is no such file.
        InputError: it is unsafe, damaged, or no lifting network.
        UsageError: the network is none of this kind or grid.
    """
    content = load(file)
    state = _state(content, file)
    found = _kind(state, file)
    if kind is not None and kind != found:
        raise UsageError(f"{file}: its lifting model is {found}, not {kind}")
    notices: list[str] = []
    dynamic = found != "gridconv"
    shape = _grid_shape(state, found, grid_shape, file, notices)
    if padding_mode is None:
        padding_mode = _padding(file, notices) if dynamic else _DEFAULT_PADDING
    if temperature is None:
        temperature = _temperature(content, file, notices if dynamic else [])
    config = NetworkConfig(
        kind=found,
        hidden=_first_size(state, _DYNAMIC if dynamic else _STATIC, file),
        blocks=_blocks(state),
        grid_shape=shape,
        padding_mode=padding_mode,
        temperature=temperature,
        keep_joints=False,
    )
    _check_state(state, config, file)
    training = {"source": file.name, **_numbers(content)}
    return Checkpoint(config, state, "published", training=training), notices


def _state(content: Any, file: Path) -> dict[str, Tensor]:
    """The weights, float32, named as in one process."""
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(key, str) for key in state)
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise InputError(f"{file}: no checkpoint of a network (it holds no state_dict of tensors)")
    # DataParallel, on several GPUs, puts this in front of all names.
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {
        key.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for key, value in state.items()
    }


def _kind(state: dict[str, Tensor], file: Path) -> Kind:
    if _SCORES in state:
        return "dgridconv_autogrids"
    if _DYNAMIC in state:
        return "dgridconv"
    if _STATIC in state:
        return "gridconv"
    some = ", ".join(list(state)[:_NAMES_SHOWN])
    raise InputError(f"{file}: not a GridConv lifting network (it has {some} and the like)")


def _first_size(state: dict[str, Tensor], name: str, file: Path) -> int:
    if name not in state or not state[name].dim() or not len(state[name]):
        raise InputError(f"{file}: {name} is missing or empty")
    return len(state[name])


def _blocks(state: dict[str, Tensor]) -> int:
    """Numbers between the dots of ``linear_stages.N.``; gaps show up as missing names later."""
    parts = [name.split(".") for name in state if name.startswith("linear_stages.")]
    return len({part[1] for part in parts})


def _grid_shape(
    state: dict[str, Tensor],
    kind: Kind,
    wanted: tuple[int, int] | None,
    file: Path,
    notices: list[str],
) -> tuple[int, int]:
    if kind == "gridconv":
        # Its weights are the same on every grid.
        return wanted or GRID_SHAPE
    cells = _first_size(state, _ATTENTION, file) // TAPS
    if wanted is not None:
        if math.prod(wanted) != cells:
            height, width = wanted
            raise UsageError(f"{file}: its grid has {cells} cells, not {height}x{width}")
        return wanted
    side = math.isqrt(cells)
    if side * side != cells:
        raise InputError(
            f"{file}: its grid has {cells} cells and the file does not say how they lie; "
            "give `grid_shape` HEIGHT WIDTH"
        )
    if (side, side) != GRID_SHAPE:
        notices.append(f"grid {side}x{side}: assumed to be square; `grid_shape` overrides")
    return side, side


def _padding(file: Path, notices: list[str]) -> PaddingModes:
    for start, modes in _PADDING_BY_NAME.items():
        if file.name.lower().startswith(start):
            notices.append(
                f"padding modes {' '.join(modes)}: published models named {start}* have them, "
                "the file does not say; `padding_mode` overrides"
            )
            return modes
    notices.append(
        f"padding modes {' '.join(_DEFAULT_PADDING)} are a guess, and wrong ones spoil the poses: "
        "neither the file nor its name (hrnet*: c z, gt*: c r) says them; "
        "set `padding_mode` as in training"
    )
    return _DEFAULT_PADDING


def _temperature(content: dict[str, Any], file: Path, notices: list[str]) -> float:
    stored = _number(content.get("temperature"))
    if stored is None:
        notices.append(
            f"temperature {PUBLISHED_TEMPERATURE:g}: right for published models, the file does "
            "not say; `temperature` overrides"
        )
        return PUBLISHED_TEMPERATURE
    if stored <= 0:
        raise InputError(f"{file}: a temperature of {stored:g} is not possible")
    return float(stored)


def _number(value: Any) -> int | float | None:
    """A finite number as a plain one, or None."""
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
        value = value.item()
    if type(value) in (int, float) and math.isfinite(value):
        return value  # type: ignore[no-any-return]
    return None


def _numbers(content: dict[str, Any]) -> dict[str, int | float]:
    """What the published code says of training: epoch, learning rate and test error (mm)."""
    numbers = {name: _number(content.get(name)) for name in ("epoch", "lr", "error")}
    return {name: number for name, number in numbers.items() if number is not None}


def _check_state(state: dict[str, Tensor], config: NetworkConfig, file: Path) -> None:
    # Without memory: a file may claim any size.
    try:
        with torch.device("meta"):
            expected = build_network(config).state_dict()
    except (RuntimeError, UsageError) as error:
        raise InputError(f"{file}: no such network is possible ({error})") from error
    wrong = [
        f"{name} ({_shown(value)}, not {_shown(expected[name])})"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    faults = {
        "missing": [name for name in expected if name not in state],
        "unknown": [name for name in state if name not in expected],
        "of another shape": wrong,
        "with values that are no numbers": [
            name for name, value in state.items() if not value.isfinite().all()
        ],
    }
    if found := [f"{what} {_some(names)}" for what, names in faults.items() if names]:
        raise InputError(f"{file}: its weights make no {config.kind} network: {'; '.join(found)}")


def _some(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shown(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"
