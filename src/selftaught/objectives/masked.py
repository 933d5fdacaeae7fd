"""Errors of predicted tokens, NaN in a target meaning that nothing is to be predicted there, and their mean over hidden tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import nearest
from .precision import full_precision

ERRORS = {
    "l2": lambda difference, beta: difference.square(),
    "l1": lambda difference, beta: difference.abs(),
    "smooth_l1": lambda difference, beta: F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=beta),
}
"""Name → error of a difference; smooth_l1 is difference² / 2β up to β, then |difference| − β / 2."""


@full_precision
def token_error(predicted: Tensor, target: Tensor, *, kind: str = "l2", beta: float = 1.0) -> Tensor:
    """predicted, target [..., P] → [...]: mean error over the values that the target has, NaN where it has none."""
    if kind not in ERRORS:
        raise nearest(kind, ERRORS, what="error")
    there = ~target.isnan()
    error = ERRORS[kind](predicted - torch.where(there, target, predicted.detach()), beta)
    count = there.sum(-1)
    return (error.sum(-1) / count.clamp(min=1)).masked_fill(count == 0, torch.nan)


@full_precision
def signal_error(predicted: Tensor, target: Tensor, *, counts: Tensor | None = None, kind: str = "l2") -> Tensor:
    """predicted [B, T, P], target [B, T, Q] → [B, T], NaN where the target has no value.

    counts: None for patches, whose values are numbers (Q = P); or int64 [B, T] for cells (Q = 1): 0 = a number, its error that of the
    first value predicted; else a code, its error the cross-entropy over the first `counts` logits.
    """
    if counts is None:
        return token_error(predicted, target, kind=kind)
    number = token_error(predicted[..., :1], target, kind=kind)
    beyond = torch.arange(predicted.shape[-1], device=counts.device) >= counts[..., None].clamp(min=1)
    code = target.nan_to_num(0.0).long().clamp(min=0).minimum((counts[..., None] - 1).clamp(min=0))
    entropy = -predicted.masked_fill(beyond, -torch.inf).log_softmax(-1).gather(-1, code)[..., 0]
    return torch.where(counts > 0, entropy.masked_fill(target[..., 0].isnan(), torch.nan), number)


@full_precision
def masked_mean(error: Tensor) -> Tensor:
    """error [B, T] → mean over items of each item's mean over its tokens, those that are NaN left out.

    With equally many tokens a row this is the mean over all hidden tokens, as in the authors' codes; an item without any counts
    as zero."""
    there = ~error.isnan()
    return (torch.where(there, error, 0.0).sum(1) / there.sum(1).clamp(min=1)).mean()
