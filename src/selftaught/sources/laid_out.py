"""What sources share whose items lie in memory on one canvas."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts import DataError, Source
from .arrays import check_samples
from .fingerprints import hash_rows


def check_items(x: Any, origin: str, what: str, least: int) -> None:
    """DataError where there are fewer than `least` items in an array or a list, or where x is neither."""
    if not isinstance(x, (list, tuple)) and not np.ndim(x):
        raise DataError(f"{origin} holds one {type(x).__name__} without axes, which is no set of {what}: give an array or a list of them.")
    check_samples(len(x), origin, what, least)


class LaidOut(Source):
    """Base: a subclass lays its items into `_x` [n, ...] and their extents into `_size` int64 [n, axes]."""

    resident = True
    _x: np.ndarray
    _size: np.ndarray

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        x = self._x[indices]
        return {"x": x, "size": self._size[indices], "hash": hash_rows(x)}

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {name: field[0] for name, field in self.take(np.array([int(index)])).items()}
