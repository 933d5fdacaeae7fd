"""Reading attention maps, [B, heads, N, N] a layer, rows summing to one: how far heads look, how sharply, and at what in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts import DataError
from .arrays import to_numpy


def attention_distance(maps: Sequence[Any], grid: Sequence[int], *, lengths: Any = None) -> np.ndarray:
    """float64 [layers, heads]: the mean distance, in tokens, between a token and what it attends to (Dosovitskiy et al., 2021, figure 7).

    maps: a layer each, over the tokens of `grid`, any tokens before them (cls) left out and the rest weighed anew. lengths: int [B],
    tokens of each item along the last axis where those beyond are padding.
    """
    found = []
    for layer in maps:
        weights, inside = _of_grid(layer, grid, lengths)
        apart = _distances(grid)
        total = np.einsum("bhqk,qk->bhq", weights, apart) / np.maximum(weights.sum(3), 1e-12)
        found.append((total * inside[:, None]).sum((0, 2)) / inside.sum())
    return np.stack(found)


def attention_entropy(maps: Sequence[Any]) -> np.ndarray:
    """float64 [layers, heads]: entropy of the rows over log N, mean over items and tokens: 1 looks everywhere alike, 0 at one token."""
    found = []
    for layer in maps:
        weights = _layer(layer)
        entropy = -np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300)), 0.0).sum(3)
        found.append(entropy.mean((0, 2)) / math.log(max(weights.shape[3], 2)))
    return np.stack(found)


def attention_rollout(maps: Sequence[Any]) -> np.ndarray:
    """float64 [B, N, N]: how much of each input token reaches each output token through all layers, rows summing to one: the product of
    (A + 1) / 2, A the mean over heads, 1 for the residual (Abnar & Zuidema, 2020)."""
    total = None
    for layer in maps:
        weights = _layer(layer).mean(1)
        step = (weights + np.eye(weights.shape[-1])) / 2
        total = step if total is None else step @ total
    if total is None:
        raise DataError("There is no layer of attention to follow: give at least one map.")
    return total


def _layer(layer: Any) -> np.ndarray:
    weights = to_numpy(layer).astype(np.float64)
    if weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
        raise DataError(f"An attention map has shape {weights.shape}, but a layer's is [B, heads, N, N]: give one of each layer.")
    return weights


def _of_grid(layer: Any, grid: Sequence[int], lengths: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights among the tokens of the grid alone [B, heads, N, N], and which tokens are inside their item, bool [B, N]."""
    weights, count = _layer(layer), math.prod(grid)
    if weights.shape[2] < count:
        raise DataError(f"An attention map is over {weights.shape[2]} tokens, fewer than the grid {tuple(grid)} has: give "
                        "the grid it is of.")
    inside = np.ones((len(weights), count), dtype=bool)
    if lengths is not None:
        inside = np.tile(np.arange(grid[-1]) < to_numpy(lengths)[:, None], (1, count // grid[-1]))
    return weights[:, :, -count:, -count:] * inside[:, None, None], inside


def _distances(grid: Sequence[int]) -> np.ndarray:
    places = np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), -1).reshape(-1, len(grid)).astype(np.float64)
    return np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
