"""Cluster labels of all items, kept in a method, and the orders of an epoch that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..contracts import Features, epoch_order
from ..objectives.kmeans import kmeans, whitened_unit


class Clusters(nn.Module):
    """`labels`: int64 [N], the cluster of every item, zero before the first `fit`. Everything it draws follows from `seed`, a
    buffer that is drawn with the weights, so that a resumed run and all processes find the same clusters."""

    def __init__(self, samples: int, k: int):
        super().__init__()
        self.k = k
        self.register_buffer("labels", torch.zeros(samples, dtype=torch.int64))
        self.register_buffer("seed", torch.randint(1 << 31, ()))

    def draw(self, epoch: int) -> int:
        """The seed of an epoch."""
        return int(self.seed) + epoch

    def fit(self, passes: Callable[[], Iterator[tuple[Tensor, Features]]], epoch: int, *, components: int = 256) -> None:
        """k-means of the whitened features of all items."""
        index, rows = zip(*((i, features.pooled) for i, features in passes()))
        index, rows = torch.cat(index), torch.cat(rows)
        x = rows.new_zeros(len(self.labels), rows.shape[1]).index_copy_(0, index, rows)
        self.labels.copy_(kmeans(whitened_unit(x, components), self.k, seed=self.draw(epoch))[0])


def _queues(labels: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """The items of each cluster that has any, as `order` visits them."""
    sorted_ = order[np.argsort(labels[order], kind="stable")]
    return np.split(sorted_, np.flatnonzero(np.diff(labels[sorted_])) + 1)


def even_order(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """int64 [N]: items so that every cluster is visited equally often (but for one), in random order: of large clusters some
    are left out this time, of small ones some come twice."""
    return dealt_order(labels, order)[epoch_order(int(order[0]), "even", int(order[-1]), len(order))]


def dealt_order(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """int64 [N]: the clusters in turn, always in one sequence, each giving its next item: any k in a row are of different
    clusters, and more have as few of one cluster as can be. Clusters are visited equally often."""
    queues = _queues(labels, order)
    sequence = epoch_order(int(order[0]), "sequence", int(order[-1]), len(queues))
    rounds = -(-len(order) // len(queues))
    dealt = np.stack([np.resize(queues[c], rounds) for c in sequence], axis=1)  # [rounds, k]; a short queue begins anew
    return dealt.reshape(-1)[: len(order)]
