"""How alike two representations of the same items are, whatever their widths, bases and scales: linear CKA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts import DataError
from .arrays import as_features, to_numpy


def linear_cka(a: Any, b: Any) -> float:
    """‖B̄ᵀĀ‖² / (‖ĀᵀĀ‖ ‖B̄ᵀB̄‖), Frobenius norms, columns centred (Kornblith et al., 2019): 1 where one is the other turned and scaled,
    near 0 where they share nothing; NaN where one is constant.

    a: [N, D], b: [N, E], rows of the same items. It is biased upward where N is not far above D and E. DataError for bad arrays, and
    for different numbers of rows.
    """
    return float(cka_matrix([a], [b])[0, 0])


def cka_matrix(layers_a: Sequence[Any], layers_b: Sequence[Any]) -> np.ndarray:
    """float64 [A, B]: `linear_cka` of every layer [N, D] of one network with every layer [N, E] of another, on the same items."""
    ours, theirs = (_units(layers, name) for layers, name in ((layers_a, "a"), (layers_b, "b")))
    if len({len(x) for x in ours + theirs}) != 1:
        raise DataError(f"Layers have {[len(x) for x in ours]} and {[len(x) for x in theirs]} rows: encode the same items with both.")
    return np.array([[np.square(x.T @ y).sum() for y in theirs] for x in ours])


def _units(layers: Sequence[Any], name: str) -> list[np.ndarray]:
    """Each layer in float64, centred, scaled so that ‖XᵀX‖ = 1."""
    found = []
    for number, layer in enumerate(layers):
        x = to_numpy(as_features(layer, f"layer {number} of {name}")).astype(np.float64)
        x = x - x.mean(0)
        gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
        norm = np.linalg.norm(gram)
        found.append(x / np.sqrt(norm) if norm > 0 else np.full_like(x, np.nan))
    if not found:
        raise DataError(f"{name} has no layers to compare: give at least one.")
    return found
