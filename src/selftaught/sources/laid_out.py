"""What sources share whose items lie in memory on one canvas."""

from __future__ import annotations

import numpy as np

from ..contracts import Source
from .fingerprints import hash_rows


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
