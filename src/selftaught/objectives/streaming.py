"""Log-sum-exp of all similarities, a block of rows at a time: contrastive losses at any batch size in little memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1 << 24
"""Similarities held at once (64 MB in float32). A batch of 2,048 pairs is a single block."""


class _SumLogSumExp(torch.autograd.Function):
    """Gradients are taken in the forward pass, while a block's softmax is at hand: a second pass would compute it again."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, own: Tensor | None, exclude: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad
        d_queries = torch.empty_like(queries) if wanted[0] else None
        d_keys = torch.zeros_like(keys) if wanted[1] else None
        d_own = torch.empty_like(own) if wanted[2] else None
        total = queries.new_zeros(())
        rows = max(1, min(len(queries), BLOCK // len(keys)))
        buffer = queries.new_empty(rows, len(keys))
        for start in range(0, len(queries), rows):
            part = slice(start, min(start + rows, len(queries)))
            block = torch.mm(queries[part], keys.T, out=buffer[: part.stop - start])  # [rows, M]
            if exclude is not None:
                block.scatter_(1, exclude[part], -torch.inf)
            peak = block.amax(1, keepdim=True)
            if own is not None:
                peak = torch.maximum(peak, own[part, None])
            mass = block.sub_(peak).exp_().sum(1, keepdim=True)
            if own is not None:
                mine = (own[part, None] - peak).exp_()
                mass += mine
                if d_own is not None:
                    d_own[part] = (mine / mass).squeeze(1)
            total += (peak + mass.log()).sum()
            if d_queries is not None or d_keys is not None:
                block.div_(mass)  # the softmax
            if d_queries is not None:
                torch.mm(block, keys, out=d_queries[part])
            if d_keys is not None:
                d_keys.addmm_(block.T, queries[part])
        ctx.save_for_backward(d_queries, d_keys, d_own)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if d is None else d * grad for d in ctx.saved_tensors), None)


def sum_log_sum_exp(queries: Tensor, keys: Tensor, *, own: Tensor | None = None, exclude: Tensor | None = None) -> Tensor:
    """Σ_i log Σ_j exp(queries_i · keys_j), a scalar.

    queries: [B, D]. keys: [M, D]. own: [B], one more logit for each query. exclude: int64 [B, E], columns that a query must
    not see. Memory beside the gradients: one block of at most `BLOCK` similarities. Differentiable once.
    """
    return _SumLogSumExp.apply(queries, keys, own, exclude)
