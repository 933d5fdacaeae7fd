"""What sources of encoded files share: items of one shape and size from bytes, and a memory of what was decoded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..contracts import DataError, Source
from .decoded import Decoded, memory_limit


class CanvasSource(Source):
    """Base: a subclass gives `blob(index)`, the stored bytes of an item, `decode(blob)`, what they hold on a canvas of one shape, and
    the `canvas` itself. what, suffixes: how a person calls an item, and how files of it end. sizes: how many numbers `size` has.

    Items: {"x": [*canvas], "size": int64 [sizes], "hash": uint64 of the stored bytes}.
    """

    uniform = True  # all items have the same fields and shapes, so batches of them can be stacked where they are read
    what: str
    suffixes: frozenset[str]
    sizes = 2

    def __init__(self, origin: str):
        self.origin = origin
        self._decoded: Decoded | None = None

    def settle(self, count: int, *, notes: Iterable[str] = (), least: int = 2) -> None:
        """Called when it is known how many items there are: looks at some of them and fills `facts`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its items have in common")

    @property
    def canvas(self) -> tuple[tuple[int, ...], str]:
        """(shape, dtype) of `x` in every item."""
        raise NotImplementedError(f"{type(self).__name__} does not say what shape its items have")

    def blob(self, index: int) -> bytes:
        """The stored bytes of one item. Raises BadItem where they cannot be had."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to get at its bytes")

    def decode(self, blob: bytes) -> dict[str, np.ndarray]:
        """The item in these bytes. Raises BadItem where they hold none."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to decode its bytes")

    def read(self, index: int) -> dict[str, np.ndarray]:
        index = int(index)
        if self._decoded is not None and self._decoded.holds[index]:
            return self._decoded.item(index)
        return self.decode(self.blob(index))

    def cache(self, limit_bytes: int | None = None) -> Decoded | None:
        """The memory of decoded items, filled by whoever reads them; None where all N do not fit into `limit_bytes` (default: a
        quarter of the free memory, at most 4 GiB). Batches are the same with and without it."""
        shape, dtype = self.canvas
        if self._decoded is None and Decoded.bytes_for(len(self), shape, dtype) <= (memory_limit() if limit_bytes is None else limit_bytes):
            self._decoded = Decoded(len(self), shape, dtype, self.sizes)
        return self._decoded


def check_count(count: int, origin: str, least: int, what: str) -> None:
    """DataError where there are fewer than `least` items (but some)."""
    if count < least:
        raise DataError(f"{origin} holds {count} {what}{'s' if count != 1 else ''}: learning compares {what}s with each other, so it "
                        f"needs at least {least}; give it a folder, an archive or a list with more.")
