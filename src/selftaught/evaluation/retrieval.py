"""Are items of the same class each other's nearest: mean average precision over the full ranking, and recall at k."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import DataError, OptionError
from .arrays import as_features, check_pair, check_width, labelled_rows, to_numpy
from .intervals import bootstrap
from .neighbours import precision, prepared
from .score import Score


@torch.no_grad()
def retrieval(x: Any, y: Any, *, gallery_x: Any = None, gallery_y: Any = None, k: Sequence[int] = (1, 5, 10),
              queries: int = 2000, seed: int = 0, groups: Any = None) -> Score:  # fmt: skip
    """Mean average precision by cosine; every row of `x [N, D]` searches all others, or the gallery where one is given.

    At most `queries` rows ask (drawn by `seed`); the ranking is over everything. detail: `recall@k`, the share of queries
    with at least one of their class among the k nearest. Rows labelled −1 are left out; queries whose class nobody else has
    are not counted (`without_partner`). groups: the interval resamples whole groups. Raises DataError for bad arrays.
    """
    start = time.perf_counter()
    if min(k) < 1 or queries < 1:
        raise OptionError(f"k={tuple(k)} and queries={queries} count from 1.")
    x, y, rows = _labelled(x, y, "x")
    own = gallery_x is None
    against, labels, _ = (x, y, rows) if own else _labelled(gallery_x, gallery_y, "gallery")
    check_width(x, against, "x and gallery")
    names, codes = np.unique(np.concatenate([y, labels]), return_inverse=True)
    codes, labels = codes[: len(y)], codes[len(y) :]
    partners = np.bincount(labels, minlength=len(names))[codes] - own
    asking = np.flatnonzero(partners > 0)
    if len(asking) == 0:
        raise DataError("No query has another item of its class to find: give at least two rows of a class.")
    asking = np.sort(np.random.default_rng(seed).permutation(asking)[:queries])
    average, first = _ranked(x, against, torch.from_numpy(codes), torch.from_numpy(labels), torch.from_numpy(asking), own)
    alone = int((partners <= 0).sum())
    detail: dict[str, Any] = {"queries": len(asking), "gallery": len(labels) - own, "without_partner": alone}
    for at in k:
        detail[f"recall@{at}"] = float((first < at).mean())
    interval = bootstrap(average, groups=None if groups is None else to_numpy(groups)[rows][asking])
    return Score.of("retrieval", interval, metric="map", detail=detail, seconds=time.perf_counter() - start)


def _labelled(x: Any, y: Any, name: str) -> tuple[Tensor, np.ndarray, np.ndarray]:
    x, y = as_features(x, name), to_numpy(y)
    check_pair(x, y, name, least=1)
    rows = np.flatnonzero(labelled_rows(y))
    return x[torch.from_numpy(rows).to(x.device)], y[rows], rows


def _ranked(x: Tensor, gallery: Tensor, codes: Tensor, labels: Tensor, asking: Tensor, own: bool
            ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Average precision and rank (from 0) of the first hit, `[Q]` each; 2²⁴ comparisons are held at a time."""
    device, dtype = gallery.device, precision(x, gallery)
    x, codes, labels, asking = x.to(device), codes.to(device), labels.to(device), asking.to(device)
    rank = torch.arange(1, len(gallery) + 1, device=device)
    average, first = [], []
    for rows in asking.split(max(1, 2**24 // len(gallery))):
        q = prepared(x[rows], "cosine", dtype)
        similar = torch.cat([q @ prepared(part, "cosine", dtype).T for part in gallery.split(16384)], 1)
        if own:
            similar.scatter_(1, rows[:, None], -torch.inf)  # itself comes last, and counts as wrong
        hit = labels[similar.argsort(dim=1, descending=True, stable=True)] == codes[rows, None]  # [q, N]
        if own:
            hit[:, -1] = False
        found = hit.cumsum(1)
        average.append((hit * (found.double() / rank)).sum(1) / found[:, -1])
        first.append(hit.int().argmax(1))
    return torch.cat(average).cpu().numpy(), torch.cat(first).cpu().numpy()
