"""Nearest neighbours by exact search in blocks: neither the N × M matrix nor a second copy of the data is ever held."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..contracts import OptionError, nearest
from .arrays import as_features, check_width

Metric = Literal["cosine", "euclidean"]
_METRICS = ("cosine", "euclidean")
_BLOCK = (2048, 16384)  # queries × references compared at a time: 128 MB


def precision(a: Tensor, b: Tensor) -> torch.dtype:
    """The float type that serves both, at least float32."""
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def prepared(x: Tensor, metric: Metric, dtype: torch.dtype) -> Tensor:
    """A block of rows in the type they are compared in, of unit length for cosine."""
    x = x.to(dtype)
    return F.normalize(x, dim=1) if metric == "cosine" else x


@torch.no_grad()
def search(query: Tensor, reference: Tensor, k: int, metric: Metric = "cosine", *, skip_self: bool = False,
           block: tuple[int, int] = _BLOCK) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The k nearest references of every query, nearest first: (score `[Q, k]`, index `[Q, k]`), a larger score is nearer.

    Scores: the cosine, or minus half the squared distance. skip_self: query i is reference i and is not its own neighbour.
    References run in the outer loop, so each block is prepared once; only the running k best of every query are kept.
    """
    rows, columns = block
    parts, dtype = query.split(rows), precision(query, reference)
    empty = torch.empty(0, dtype=dtype, device=query.device)
    best = [(empty.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.int64, device=q.device)) for q in parts]
    buffer = empty.new_empty(min(rows, len(query)), min(k + columns, 2 * len(reference)))  # touched once, used throughout
    for start in range(0, len(reference), columns):
        r = prepared(reference[start : start + columns], metric, dtype)
        half_norms = None if metric == "cosine" else r.pow(2).sum(1).div_(2)
        for i, part in enumerate(parts):
            score, index = best[i]
            found = score.shape[1]
            scores = buffer[: len(part), : found + len(r)]
            scores[:, :found] = score  # the best so far stand first, which makes the selection short
            similar = torch.mm(prepared(part, metric, dtype), r.T, out=scores[:, found:])
            if half_norms is not None:
                similar.sub_(half_norms)
            if skip_self:
                own = torch.arange(i * rows, i * rows + len(part), device=r.device) - start
                similar.masked_fill_(own[:, None] == torch.arange(len(r), device=r.device), -torch.inf)
            score, place = scores.topk(min(k, scores.shape[1]), sorted=start + columns >= len(reference))
            if found:
                old = index.gather(1, place.clamp_max(found - 1))
                best[i] = score, torch.where(place < found, old, place - found + start)
            else:
                best[i] = score, place + start
    score, index = (torch.cat(list(column)) for column in zip(*best))
    if metric == "euclidean":
        score = score - torch.cat([prepared(p, metric, dtype).pow(2).sum(1).div_(2) for p in parts])[:, None]
    return score, index


def neighbours(query: Any, reference: Any, k: int, *, metric: Metric = "cosine", skip_self: bool = False,
               backend: Literal["torch", "faiss"] = "torch") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(distances float32 `[Q, k]`, indices int64 `[Q, k]`) of the k nearest rows of `reference [N, D]`, nearest first.

    distances: 1 − cosine, or Euclidean. k is cut to the number of references. skip_self: `query` is `reference` and a row is
    not its own neighbour. backend 'faiss' searches the same exact way with faiss-cpu. Raises DataError for bad arrays,
    OptionError for an unknown metric or backend, k < 1, or faiss missing.
    """
    if metric not in _METRICS:
        raise nearest(metric, _METRICS, what="metric")
    if backend not in ("torch", "faiss"):
        raise nearest(backend, ("torch", "faiss"), what="backend")
    query, reference = as_features(query, "query"), as_features(reference, "reference")
    check_width(query, reference, "query and reference")
    k = checked_k(k, len(reference) - skip_self)
    if backend == "faiss":
        return _faiss(query, reference, k, metric, skip_self)
    score, index = search(query.to(reference.device), reference, k, metric, skip_self=skip_self)
    distance = 1.0 - score if metric == "cosine" else score.mul(-2.0).clamp_min_(0.0).sqrt_()
    return distance.float().cpu().numpy(), index.cpu().numpy()


def checked_k(k: int, available: int) -> int:
    """k cut to what is there; k < 1 is an OptionError."""
    if k < 1 or available < 1:
        raise OptionError(f"k = {k} neighbours among {available} rows cannot be found: k counts from 1 and needs rows.")
    return min(k, available)


def _faiss(query: Tensor, reference: Tensor, k: int, metric: Metric, skip_self: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        import faiss
    except ImportError:
        raise OptionError("backend='faiss' needs faiss-cpu: pip install 'selftaught[ann]', or use backend='torch'.") from None
    q, r = (prepared(x, metric, torch.float32).cpu().numpy() for x in (query, reference))
    index = faiss.IndexFlatIP(r.shape[1]) if metric == "cosine" else faiss.IndexFlatL2(r.shape[1])
    index.add(r)
    distance, found = index.search(q, min(k + skip_self, len(r)))
    distance = 1.0 - distance if metric == "cosine" else np.sqrt(np.maximum(distance, 0.0))
    if skip_self:  # a row need not be first among its equals: drop it where it is, else the last
        own = found == np.arange(len(q))[:, None]
        own[~own.any(1), -1] = True
        distance, found = distance[~own].reshape(len(q), -1), found[~own].reshape(len(q), -1)
    return distance[:, :k].astype(np.float32), found[:, :k].astype(np.int64)
