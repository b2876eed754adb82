"""What a dynamic layer reads, picked and scaled in one pass over a GPU's memory.

Picking and scaling apart writes and reads the widest tensor of the network three times more, which
is most of what a layer costs on a GPU. Needs Triton, which PyTorch's CUDA builds bring along.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

_FEWEST_POSES = 64
"""Below this the launch costs more than the pass saves."""
_ROWS = 16


def fuses(x: Tensor) -> bool:
    """Whether :func:`gather_and_scale` is the faster way for this input."""
    return (
        x.device.type == "cuda"
        and len(x) >= _FEWEST_POSES
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _kernel() is not None
    )


def gather_and_scale(x: Tensor, gather: Tensor, attention: Tensor, scale: Tensor) -> Tensor:
    """``x[:, gather] * attention[:, scale, None]``.

    Args:
        x: (B, cells, C), contiguous.
        gather: (E,) int64 cells.
        attention: (B, maps), contiguous, of the type of ``x``.
        scale: (E,) int64 places in the maps.

    Returns:
        (B, E, C).
    """
    kernel = _kernel()
    assert kernel is not None
    batch, cells, channels = x.shape
    entries = len(gather)
    out = x.new_empty(batch, entries, channels)
    width = 1 << (channels - 1).bit_length()
    kernel[(batch, -(-entries // _ROWS))](
        x.contiguous(),
        attention.contiguous(),
        gather,
        scale,
        out,
        entries,
        cells * channels,
        channels,
        attention.shape[1],
        ROWS=_ROWS,
        WIDTH=width,
    )
    return out


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """The compiled function; None where it cannot be had."""
    if find_spec("triton") is None:
        return None
    from gridpose.lifting import fused_kernel

    kernel = fused_kernel.gather_and_scale
    if not torch.cuda.is_available():
        return kernel  # Triton's interpreter
    try:  # it needs a C compiler too
        values = torch.ones(1, 1, 2, device="cuda")
        place = torch.zeros(1, dtype=torch.long, device="cuda")
        out = torch.empty_like(values)
        kernel[(1, 1)](values, values, place, place, out, 1, 2, 2, 2, ROWS=_ROWS, WIDTH=2)
    except Exception:  # noqa: BLE001
        return None
    return kernel
