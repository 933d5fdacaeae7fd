"""Differentiable gather and reduce over processes; the identity in one process.

Convention: a process's loss is the mean over its samples against everything gathered, or the same global value everywhere.
The backward passes sum over processes, DDP divides by their number, and both together give the global gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes; 1 where torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Reduce.apply(grad).narrow(0, rank() * ctx.rows, ctx.rows)


class _Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Reduce.apply(grad)


def gather(x: Tensor) -> Tensor:
    """`[B, ...]` → `[W * B, ...]` in rank order (B equal on all processes); the gradient sums over processes."""
    return x if world_size() == 1 else _Gather.apply(x.contiguous())


def reduce(x: Tensor) -> Tensor:
    """The sum of `x` over processes (shape kept); the gradient sums over processes as well."""
    return x if world_size() == 1 else _Reduce.apply(x)


def mean(x: Tensor) -> Tensor:
    """The mean of `x` over processes."""
    return x if world_size() == 1 else _Reduce.apply(x) / world_size()
