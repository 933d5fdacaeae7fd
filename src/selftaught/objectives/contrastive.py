"""Contrastive losses: pull the two views of an item together, push all other items away."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank
from .comparison import refuse_few
from .precision import full_precision
from .streaming import sum_log_sum_exp


def _both_sides(a: Tensor, b: Tensor, temperature: float | Tensor, *, decoupled: bool) -> Tensor:
    """Mean over a's rows plus mean over b's rows of log Σ exp(other similarities) − the positive's."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    keys_a, keys_b = gather(a), gather(b)
    refuse_few("decoupled_contrastive" if decoupled else "nt_xent", len(keys_a))
    place = torch.arange(len(a), device=a.device) + rank() * len(a)
    exclude = torch.cat([place, place + len(keys_a)])[:, None]  # [2B, 1]: oneself
    if decoupled:
        exclude = torch.cat([exclude, exclude.roll(len(a), 0)], 1)  # [2B, 2]: and one's partner
    total = sum_log_sum_exp(torch.cat([a, b]) / temperature, torch.cat([keys_a, keys_b]), exclude=exclude)
    return (total - 2 * (a * b).sum() / temperature) / len(a)


@full_precision
def nt_xent(a: Tensor, b: Tensor, *, temperature: float | Tensor) -> Tensor:
    """The normalised temperature-scaled cross-entropy of SimCLR (Chen et al., 2020, eq. 1).

    ℓ(i, j) = −log exp(sim(z_i, z_j)/τ) / Σ_{k≠i} exp(sim(z_i, z_k)/τ), where k runs over both views of all items. a, b: raw
    [N, D]. Returns mean_i ℓ(a_i, b_i) + mean_i ℓ(b_i, a_i): the sum of both sides, as the authors' code has it (the paper's
    equation is half of that). N ≥ 2 over all processes. Similarities are streamed: 16,384 pairs need no 4 GB matrix.
    """
    return _both_sides(a, b, temperature, decoupled=False)


@full_precision
def decoupled_contrastive(a: Tensor, b: Tensor, *, temperature: float | Tensor) -> Tensor:
    """NT-Xent whose denominator leaves the positive out (Yeh et al., 2022, eq. 6): no coupling that stalls small batches.

    a, b: raw [N, D], N ≥ 2 over all processes. Returns the sum of both sides' means, as the authors' code does.
    """
    return _both_sides(a, b, temperature, decoupled=True)


@full_precision
def info_nce(query: Tensor, key: Tensor, negatives: Tensor | None = None, *, temperature: float | Tensor) -> Tensor:
    """InfoNCE as MoCo has it (van den Oord et al., 2018; He et al., 2020, eq. 1): which key belongs to this query?

    query, key: raw [N, D]. negatives: raw [M, D], shared by all queries and equal on all processes (a queue); None takes the
    keys of the other items, over all processes (at least 2 items then). Returns the mean over queries of −log softmax at the positive.
    """
    query, key = F.normalize(query, dim=1) / temperature, F.normalize(key, dim=1)
    positives = (query * key).sum(1)
    if negatives is None:
        keys = gather(key)
        refuse_few("info_nce", len(keys))
        total = sum_log_sum_exp(query, keys)
    else:
        total = sum_log_sum_exp(query, F.normalize(negatives, dim=1), own=positives)
    return (total - positives.sum()) / len(query)
