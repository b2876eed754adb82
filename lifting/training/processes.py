"""The processes of one training, started by torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from gridpose.core import GridposeError
from gridpose.devices import resolve_device


def rank() -> int:
    """Number of this process; the first one, 0, writes and speaks."""
    return int(os.environ.get("RANK", "0"))


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes when started by torchrun; answer this process's device."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield device
        return
    if device.type == "cuda":
        device = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise GridposeError(
                f"process {rank()} ends because another one did; that one says why"
            ) from error
        raise
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block, then the others do; its error is the error of all."""
    if not torch.distributed.is_initialized():
        yield
        return
    failed: list[GridposeError | None] = [None]
    if rank() > 0:
        torch.distributed.broadcast_object_list(failed)
        if failed[0] is not None:
            raise failed[0]
        yield
        return
    try:
        yield
    except GridposeError as error:
        failed[0] = error
        raise
    finally:
        torch.distributed.broadcast_object_list(failed)
