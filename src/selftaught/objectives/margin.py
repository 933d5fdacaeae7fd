"""Contrastive losses with an additive margin: the positive must be ahead of the negatives by more than their order asks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank
from .comparison import refuse_few
from .precision import full_precision
from .streaming import sum_log_sum_exp


@full_precision
def margin_nt_xent(a: Tensor, b: Tensor, *, temperature: float, margin: float) -> Tensor:
    """SNT-Xent-AM (Lepage & Dehak, 2024, eq. 6): both views are anchors, against all other views of all other items.

    ℓ(i, j) = −log e^{(cos_ij − m)/τ} / (e^{(cos_ij − m)/τ} + Σ_{k≠i,j} e^{cos_ik/τ}). a, b: raw [N, D]. Returns the sum of both sides'
    means: with m = 0 `nt_xent`, of which the authors' code has half.
    """
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    keys_a, keys_b = gather(a), gather(b)
    refuse_few("margin_nt_xent", len(keys_a))
    place = torch.arange(len(a), device=a.device) + rank() * len(a)
    own = torch.cat([place, place + len(keys_a)])
    exclude = torch.stack([own, own.roll(len(a))], dim=1)  # oneself and one's partner, who comes back with the margin
    positive = ((a * b).sum(1) - margin) / temperature
    total = sum_log_sum_exp(torch.cat([a, b]) / temperature, torch.cat([keys_a, keys_b]), own=positive.repeat(2), exclude=exclude)
    return (total - 2 * positive.sum()) / len(a)


@full_precision
def margin_info_nce(query: Tensor, key: Tensor, negatives: Tensor | None = None, *, temperature: float, margin: float) -> Tensor:
    """NT-Xent-AM (Lepage & Dehak, 2024, eq. 5): one view is the anchor, the other items' other views are negatives; or a queue's rows.

    query, key: raw [N, D]. negatives: raw [M, D], equal on all processes. Returns the mean over queries: with m = 0 `info_nce`.
    """
    query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    positive, exclude = ((query * key).sum(1) - margin) / temperature, None
    if negatives is None:
        negatives, exclude = gather(key), (torch.arange(len(key), device=key.device) + rank() * len(key))[:, None]
        refuse_few("margin_info_nce", len(negatives))
    total = sum_log_sum_exp(query / temperature, F.normalize(negatives, dim=1), own=positive, exclude=exclude)
    return (total - positive.sum()) / len(query)
