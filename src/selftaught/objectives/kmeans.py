"""k-means by Lloyd's iterations on the device, the same on every process; features whitened first, as DeepCluster does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather
from .precision import full_precision

CHUNK = 1 << 14
"""Rows compared with all centroids at a time."""


@torch.no_grad()
@full_precision
def kmeans(x: Tensor, k: int, *, seed: int, iterations: int = 20) -> tuple[Tensor, Tensor]:
    """(labels int64 [N], centroids [k, D]) of rows x [N, D], squared Euclidean distance, from `seed` alone.

    It starts from k different rows. A cluster that runs empty takes the centroid of another, drawn by size, a little moved, so
    that the two share its rows (Johnson et al., 2019). Several processes get the first one's labels.
    """
    generator = torch.Generator().manual_seed(seed)
    centroids = x[torch.randperm(len(x), generator=generator)[:k].to(x.device)]
    for _ in range(iterations):
        _, sums, counts = _assign(x, centroids)
        moved = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
        drawn = torch.rand(k, generator=generator, dtype=torch.float64).to(x.device, x.dtype)
        nudge = torch.randn(moved.shape, generator=generator, dtype=torch.float64).to(x.device, x.dtype) / 1024
        sizes = counts.cumsum(0)
        donor = torch.searchsorted(sizes, drawn * sizes[-1]).clamp(max=k - 1)
        centroids = torch.where(counts[:, None] > 0, moved, moved[donor] * (1 + nudge))
    labels = _assign(x, centroids)[0]
    return gather(labels)[: len(x)], centroids


def _assign(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest centroid of every row [N], the sums [k, D] and numbers [k] of the rows of each."""
    half = centroids.square().sum(1) / 2
    sums, counts, labels = torch.zeros_like(centroids), torch.zeros_like(half), []
    for rows in x.split(CHUNK):
        nearest = (rows @ centroids.T - half).argmax(1)
        member = F.one_hot(nearest, len(centroids)).to(x.dtype)  # sums by products: the same in every run, on any device
        sums, counts = sums + member.T @ rows, counts + member.sum(0)
        labels.append(nearest)
    return torch.cat(labels), sums, counts


@torch.no_grad()
@full_precision
def whitened_unit(x: Tensor, width: int = 256) -> Tensor:
    """[N, min(width, D)]: the first principal components of rows x [N, D], each of variance one, then rows of length one
    (DeepCluster's preprocessing). Directions in which the data hardly vary (1e-6 of the largest variance) become zero."""
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    scale = torch.where(values > 1e-6 * values[0].clamp_min(1e-30), values.clamp_min(1e-30).rsqrt(), 0.0)
    return F.normalize(centred @ vectors * scale, dim=1)
