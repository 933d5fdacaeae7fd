"""Was the test seen in pretraining: the same content by hash, or nearly the same by embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .arrays import as_features, check_width, to_numpy
from .neighbours import search


@dataclass(frozen=True)
class Overlap:
    """Which of B's `n` items are in A: `index` int64 [count], places in B; `partner` int64 [count], a place in A of each."""

    count: int
    n: int
    index: np.ndarray
    partner: np.ndarray

    @property
    def fraction(self) -> float:
        return self.count / self.n if self.n else 0.0

    def sentence(self, a: str = "the pretraining data", b: str = "test") -> str:
        """For the report."""
        if not self.count:
            return f"None of the {self.n} items of {b} is in {a}."
        return f"{self.count} of the {self.n} items of {b} ({self.fraction:.1%}) are in {a} too."

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "n": self.n, "fraction": self.fraction}


def overlap(hashes_a: Any, hashes_b: Any) -> Overlap:
    """Items of B whose content hash (uint64 [N], or words) A has as well."""
    a, b = to_numpy(hashes_a).ravel(), to_numpy(hashes_b).ravel()
    if len(a) == 0 or len(b) == 0:
        return Overlap(0, len(b), np.empty(0, np.int64), np.empty(0, np.int64))
    known, place = np.unique(a, return_index=True)
    at = np.searchsorted(known, b).clip(max=len(known) - 1)
    index = np.flatnonzero(known[at] == b)
    return Overlap(len(index), len(b), index, place[at[index]].astype(np.int64))


def near_duplicates(x_a: Any, x_b: Any, threshold: float = 0.999) -> Overlap:
    """Rows of `x_b [N, D]` whose nearest row of `x_a [M, D]` has a cosine of at least `threshold`.

    What is near depends on the encoder: 0.999 finds re-encoded copies with most; look at some pairs before trusting it.
    """
    a, b = as_features(x_a, "x_a"), as_features(x_b, "x_b")
    check_width(a, b, "x_a and x_b")
    score, place = search(b.to(a.device), a, 1)
    index = torch.nonzero(score[:, 0] >= threshold - 1e-6)[:, 0]
    return Overlap(len(index), len(b), index.cpu().numpy(), place[index, 0].cpu().numpy())
