"""Losses that tell instances and classes apart by their neighbours: in a memory bank, in a queue, or in the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank, reduce, world_size
from .comparison import refuse_few
from .contrastive import decoupled_contrastive
from .precision import full_precision
from .streaming import sum_log_sum_exp

BLOCK = 1 << 24
"""Similarities held at once while nearest neighbours are sought."""


@full_precision
def noise_contrastive(positive: Tensor, negatives: Tensor, log_z: Tensor, items: int) -> Tensor:
    """Noise-contrastive estimation with uniform noise over the items (Wu et al., 2018, eq. 5 to 7): data or noise?

    −log h(positive) − Σ_j log(1 − h(negative_j)), h = P / (P + m/n), P = exp(score) / Z, averaged over samples. positive: [N],
    negatives: [N, m], scores v·f/τ. items: n. The authors' code adds 1e-7 below h's fraction line; this has no need of it.
    """
    shift = log_z + math.log(negatives.shape[1] / items)
    return (F.softplus(shift - positive) + F.softplus(negatives - shift).sum(1)).mean()


@full_precision
def decoupled_contrastive_weighted(a: Tensor, b: Tensor, *, temperature: float | Tensor, sigma: float) -> Tensor:
    """DCLW (Yeh et al., 2022, eq. 7): decoupled contrastive loss whose positives weigh the more, the further apart they are.

    a, b: raw [N, D]. w_i = 2 − exp(cos_i/σ) / mean_j exp(cos_j/σ), over all processes; no gradient goes through the weights
    (in the code found it does; the paper has them as numbers).
    """
    cosine = F.cosine_similarity(a, b, dim=1)
    with torch.no_grad():
        pull = (cosine / sigma).exp()
        extra = 1 - pull / (reduce(pull.sum()) / (len(pull) * world_size()))  # w − 1
    return decoupled_contrastive(a, b, temperature=temperature) - 2 * (extra * cosine).mean() / temperature


@full_precision
def supervised_contrastive(a: Tensor, b: Tensor, labels: Tensor, *, temperature: float | Tensor) -> Tensor:
    """SupCon's L_out (Khosla et al., 2020, eq. 2): the views of all items of a class are positives of one another.

    −1/|P(i)| Σ_{p∈P(i)} log exp(z_i·z_p/τ) / Σ_{k≠i} exp(z_i·z_k/τ), averaged over the 2N views of all processes. a, b: raw
    [N, D]. labels: int64 [N]; an unlabelled item (−1) is a class of its own, so that without any label this is half of NT-Xent.
    The authors' code multiplies by τ/0.07, which is left to the learning rate here.
    """
    n = len(a)
    z = torch.cat([F.normalize(a, dim=1), F.normalize(b, dim=1)])  # [2N, D]
    keys_a, keys_b = gather(z[:n]), gather(z[n:])
    refuse_few("supervised_contrastive", len(keys_a))
    place = torch.arange(n, device=a.device) + rank() * n
    total = sum_log_sum_exp(z / temperature, torch.cat([keys_a, keys_b]), exclude=torch.cat([place, place + len(keys_a)])[:, None])
    same = (labels[:, None] == gather(labels)) & (labels >= 0)[:, None]
    same = same.scatter(1, place[:, None], True).to(a.dtype)  # [N, all items]
    members = (same @ (keys_a + keys_b)).repeat(2, 1) - z  # [2N, D]: the positives' sum, without oneself
    count = (2 * same.sum(1) - 1).repeat(2)
    return (total - ((z * members).sum(1) / count).sum() / temperature) / (2 * n)


@torch.no_grad()
@full_precision
def nearest(z: Tensor, pool: Tensor) -> Tensor:
    """[N, D]: for each row of z the row of the pool [M, D] with the largest cosine, as it lies there; no gradient."""
    z, unit = F.normalize(z, dim=1), F.normalize(pool, dim=1)
    rows = max(1, BLOCK // len(pool))
    return pool[torch.cat([(part @ unit.T).argmax(1) for part in z.split(rows)])]


@full_precision
def leave_one_out(query: Tensor, keys: Tensor, tags: Tensor, memory: Tensor, memory_tags: Tensor, *, neighbours: int,
                  temperature: float | Tensor) -> Tensor:
    """LOOK (Feng et al., 2022): most of an item's k nearest neighbours, itself left out, shall bear its label.

    −log Σ_{j∈N_k(i), y_j=y_i} exp(z_i·z_j/τ) / Σ_{j∈N_k(i)} exp(z_i·z_j/τ). query: raw [N, D]. keys, tags: raw [N, D] and int64
    [N, 2] (place in the source, label) of the same items. memory, memory_tags: [M, D], [M, 2], likewise, equal on all processes.
    Neighbours are sought among the labelled (label ≥ 0) of memory and batch; the nearest of one's own label always counts as
    one, or an item without any among its k would have nothing to follow. Averaged over the items, of all processes, that find
    one of their label; 0 where none does.
    """
    pool, theirs = torch.cat([gather(keys), memory]), torch.cat([gather(tags), memory_tags])
    scores = F.normalize(query, dim=1) @ F.normalize(pool, dim=1).T / temperature  # [N, M + all items]
    allowed = (theirs[:, 1] >= 0) & (tags[:, :1] != theirs[:, 0])
    same = allowed & (tags[:, 1:] == theirs[:, 1])
    low = torch.finfo(scores.dtype).min
    seen, own = scores.detach().masked_fill(~allowed, low), scores.detach().masked_fill(~same, low)
    k_th = seen.topk(min(neighbours, len(pool)), dim=1).values[:, -1:]
    members = allowed & ((seen >= k_th) | (same & (own >= own.amax(1, keepdim=True))))
    every, mine = (scores.masked_fill(~m, low).logsumexp(1) for m in (members, members & same))
    counts = same.any(1)
    total = torch.where(counts, every - mine, torch.zeros_like(mine)).sum()
    return total * world_size() / reduce(counts.sum().to(total.dtype)).clamp_min(1)
