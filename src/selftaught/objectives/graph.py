"""Losses as functions of a graph of relations: who belongs with whom is an argument, not a part of the loss (PAL).

Cabannes, Bottou, LeCun & Balestriero (2023). z: raw [R, D], the views of this process's items, view after view. graph: [R, M] ≥ 0,
G_ij = 1 where row i and row j of `gather(z)` belong together (any weight will do); the whole graph is symmetric. With only the other
views of the same item in it the losses are those of self-supervision, with every item of a class those of supervision. M ≥ 3: two rows
are the views of one item.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank, reduce, world_size
from .comparison import refuse_few
from .precision import full_precision
from .redundancy import vicreg_terms


def relations(index: Tensor, y: Tensor | None = None) -> Tensor:
    """bool [R, W·R]: G of rows of items `index` int64 [R]: the same item, or the same y ≥ 0 where `y` [R] is given; not oneself."""
    graph = index[:, None] == gather(index)
    if y is not None:
        graph = graph | ((y[:, None] == gather(y)) & (y[:, None] >= 0))
    return graph & ~_oneself(graph)


def _oneself(graph: Tensor) -> Tensor:
    """bool [R, M]: the place of every row of this process among all."""
    rows, columns = graph.shape
    place = torch.arange(rows, device=graph.device) + rank() * rows
    return place[:, None] == torch.arange(columns, device=graph.device)


@full_precision
def graph_nt_xent(z: Tensor, graph: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Twice the mean over rows of −Σ_j Ĝ_ij log softmax_{j≠i}(cos(z_i, z_j)/τ), the rows of Ĝ summing to one (eq. 4).

    Twice, so that with two views of each item and nothing else in G it is `nt_xent` to rounding. A row without relations counts
    as zero. A full [R, M] matrix is held: not for batches of many thousands.
    """
    refuse_few("graph_nt_xent", graph.shape[1], least=3)
    z = F.normalize(z, dim=1)
    oneself, weight = _oneself(graph), graph.to(z.dtype)
    logits = (z / temperature @ gather(z).T).masked_fill(oneself, -torch.inf)
    weight = weight.masked_fill(oneself, 0.0)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    log_p = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(oneself, 0.0)
    return -2 * (weight * log_p).sum(1).mean()


def _pull(z: Tensor, graph: Tensor) -> Tensor:
    """Σ_ij G_ij ‖z_i − z_j‖² / Σ_ij G_ij over the rows of all processes."""
    z = z - gather(z).mean(0)  # the same differences, with less cancellation in the squares
    everyone, weight = gather(z), graph.to(z.dtype)
    square = (weight.sum(1) * z.square().sum(1)).sum() + (weight.sum(0) * everyone.square().sum(1)).sum()
    return (square - 2 * (weight * (z @ everyone.T)).sum()) * world_size() / reduce(weight.sum()).clamp_min(1e-12)


@full_precision
def graph_vicreg(z: Tensor, graph: Tensor, *, invariance: float, variance: float, covariance: float, views: int = 2) -> Tensor:
    """λ Σ_ij G_ij ‖z_i − z_j‖² / (D Σ G) + μ v + ν c (eq. 3): `vicreg` whose invariance runs over the graph.

    v, c: variance and covariance of each of the `views` parts of z, averaged and doubled as `vicreg` has them for two; with two
    views of each item and nothing else in G it is `vicreg` to rounding.
    """
    parts = z.chunk(views)
    terms = [vicreg_terms(part, part) for part in parts]  # of one part twice: v is its hinge, c twice its covariance
    v, c = (sum(t[k] for t in terms) / views for k in (1, 2))
    return invariance * _pull(z, graph) / z.shape[1] + variance * v + covariance * c


@full_precision
def graph_spectral(z: Tensor, graph: Tensor) -> Tensor:
    """−2 Σ_ij G_ij z_i·z_j / Σ G + ‖ZᵀZ/M‖²_F, the spectral contrastive loss (HaoChen et al., 2021) on a graph; z is not normalised.

    Up to a constant and the weighting of the rows it is ‖ZZᵀ − G‖²_F: its minimum is the spectral embedding of G (sec. 3.2).
    """
    refuse_few("graph_spectral", graph.shape[1], least=3)
    everyone, weight = gather(z), graph.to(z.dtype)
    agreement = (weight * (z @ everyone.T)).sum() * world_size() / reduce(weight.sum()).clamp_min(1e-12)
    return (everyone.T @ everyone / len(everyone)).square().sum() - 2 * agreement
