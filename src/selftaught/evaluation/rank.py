"""What embeddings say of themselves without labels, each number with a jackknife interval."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import DataError
from ..measures import (
    alignment,
    covariance_spectrum,
    entropy_rank,
    lidar,
    power_law_exponent,
    singular_values,
    spread,
    uniformity,
)
from .arrays import as_features, check_pair, to_numpy
from .intervals import t_quantile
from .score import Interval, Score

ROWS = 25_600  # Garrido et al. (2023) find RankMe settled by then
_PAIRED_ROWS = 5_000  # pairs are quadratic


def label_free(x: Any, views: Any = None, *, parts: int = 8, seed: int = 0) -> dict[str, Score]:
    """effective_rank, rank_me, alpha_req, spread, uniformity of `x [N, D]`; of `views [N, V, D]` also lidar and alignment.

    Rows beyond 25,600 (5,000 for uniformity) are sampled by `seed`. Intervals are delete-a-group jackknife over `parts`
    parts of the rows with Student's t; ranks of N rows are at most N, so compare encoders on equally many rows only (`n`).
    Raises DataError for bad arrays, fewer than two rows, or fewer than two views an item.
    """
    x = as_features(x, "x")
    check_pair(x, None, "x")
    rows = sampled(x, ROWS, seed)
    scores = _jackknifed(rows, _spectral, parts)
    scores |= _jackknifed(rows, lambda z: {"spread": spread(z)}, parts)
    scores |= _jackknifed(sampled(x, _PAIRED_ROWS, seed), lambda z: {"uniformity": uniformity(z)}, parts)
    if views is not None:
        views = views if isinstance(views, Tensor) else torch.as_tensor(to_numpy(views))
        if views.ndim != 3 or views.shape[0] < 2 or views.shape[1] < 2:
            raise DataError(f"views have shape {tuple(views.shape)}, but [N, V, D] with N ≥ 2 items and V ≥ 2 views is needed.")
        as_features(views, "views")
        scores |= _jackknifed(sampled(views.float(), _PAIRED_ROWS, seed), _paired, parts)
    return scores


def _spectral(z: Tensor) -> dict[str, Tensor]:
    sigma = singular_values(z)
    return {"effective_rank": entropy_rank(sigma), "rank_me": entropy_rank(sigma, 1e-7),
            "alpha_req": power_law_exponent(covariance_spectrum(z))}  # fmt: skip


def _paired(z: Tensor) -> dict[str, Tensor]:
    return {"lidar": lidar(z), "alignment": alignment(z[:, 0], z[:, 1])}


def sampled(x: Tensor, most: int, seed: int = 0) -> Tensor:
    """At most so many rows, drawn by `seed`, in their order: the first ones would be those of the first classes."""
    if len(x) <= most:
        return x
    rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:most])
    return x[torch.from_numpy(rows).to(x.device)]


def _jackknifed(z: Tensor, measure: Callable[[Tensor], dict[str, Tensor]], parts: int) -> dict[str, Score]:
    start = time.perf_counter()
    whole, parts = measure(z), min(parts, len(z) // 2)
    part = torch.arange(len(z), device=z.device) % max(parts, 1)
    without = [measure(z[part != p]) for p in range(parts)] if parts > 1 else []
    seconds = time.perf_counter() - start
    return {name: _score(name, float(v), [float(w[name]) for w in without], len(z), seconds) for name, v in whole.items()}


def _score(name: str, value: float, without: list[float], n: int, seconds: float) -> Score:
    g = len(without)
    half = t_quantile(0.95, g - 1) * math.sqrt((g - 1) / g * np.var(without) * g) if g > 1 else math.nan
    interval = Interval(value, value - half, value + half, n, "jackknife" if g > 1 else "none: too few rows")
    return Score.of(name, interval, metric=name, detail={}, seconds=seconds)
