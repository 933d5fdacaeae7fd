"""What agreement of whole grids of tokens costs: classifications of tokens by a teacher, places told, latents of one encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full_precision


@full_precision
def token_cross_entropy(logits: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """−Σ_k t_k log softmax(logits / τ)_k of every token: [..., K] and [..., K] → [...]; NaN where the target is."""
    entropy = -(targets.nan_to_num(0.0) * (logits / temperature).log_softmax(-1)).sum(-1)
    return entropy.masked_fill(targets.isnan().any(-1), torch.nan)


@full_precision
def place_cross_entropy(logits: Tensor, places: Tensor, valid: Tensor | None = None) -> Tensor:
    """−log softmax(logits)[place] of every token: logits [B, N, K], places int64 [B, N] → [B, N]; NaN where one is not `valid` [B, N]."""
    entropy = F.cross_entropy(logits.transpose(1, 2), places, reduction="none")
    return entropy if valid is None else entropy.masked_fill(~valid, torch.nan)


@full_precision
def uncertainty_weighted(loss: Tensor, log_variance: Tensor, *, scale: float = 1.0) -> Tensor:
    """scale · exp(−s) · loss + s / 2: a task weighted by its learned uncertainty (Kendall et al., 2018), s = log σ².

    scale: 1 for a classification, ½ for a regression. This is Kendall's form, which SiT's code has in one version; in another
    it has exp(−scale · s) · loss + s / 2."""
    return scale * (-log_variance).exp() * loss + 0.5 * log_variance
