"""The processes of one training, started by torchrun, and BatchNorm over the batches of all.

PyTorch's own ``SyncBatchNorm`` works on GPUs only; with it, several CPU processes would train
another network than one process does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

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


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm(nn.Module):
    """BatchNorm of ``(B, C)`` or ``(B, C, ...)`` whose statistics are those of all processes.

    It takes over the parameters, buffers and names of the module that it replaces. Processes may
    have batches of different size.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, source: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        assert source.momentum is not None
        self.eps, self.momentum = source.eps, source.momentum
        self.weight, self.bias = source.weight, source.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, source.get_buffer(name))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        shape = (1, -1) + (1,) * (x.ndim - 2)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        size = torch.tensor(x.numel() // x.shape[1], dtype=x.dtype, device=x.device)
        sums = _sum(torch.cat((x.sum(dims), size[None])))
        count = sums[-1]
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        variance = _sum(centred.square().sum(dims)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight / (variance + self.eps).sqrt()
        return centred * scale.view(shape) + self.bias.view(shape)


def share_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Let all BatchNorm layers of ``module`` share their statistics between processes."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]
            module
        )
        return converted
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, SharedBatchNorm(child))
        else:
            share_batch_norm(child, device)
    return module
