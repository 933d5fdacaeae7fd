"""A named stream: which items come in which order, as global batches of which every process takes its slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..contracts import Batch, DataError, epoch_order

Request = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(slot, epoch, index), int64 [b] each."""


class BatchReader(Protocol):
    """What a stream reads through: `sources.Loader`."""

    def batches(self, requests: Iterable[Request]) -> Iterator[Batch]: ...


@dataclass
class Stream:
    """`size` items read through `reader`, seen through `views`, `batch_size` at a time over all processes.

    order(epoch) → int64 [n] replaces the hashed order (curricula, hard examples); its length may change between epochs.
    clean: as `views`, but the items without randomness, for the hook between epochs. Partial batches are dropped.
    """

    reader: BatchReader
    views: Callable[..., list]
    batch_size: int
    size: int
    seed: int
    name: str = "train"
    order: Callable[[int], np.ndarray] | None = None
    clean: Callable[..., list] | None = None
    _cache: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size > self.size:
            raise DataError(f"Stream '{self.name}': a batch of {self.batch_size} does not fit into {self.size} items; "
                            f"lower batch_size to at most {self.size}.")

    @property
    def steps_per_epoch(self) -> int:
        return self.size // self.batch_size

    def reorder(self, order: Callable[[int], np.ndarray] | None) -> None:
        self.order, self._cache = order, {}

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._cache:
            self._cache = {epoch: self.order(epoch) if self.order else epoch_order(self.seed, self.name, epoch, self.size)}
        return self._cache[epoch]

    def requests(self, first: int, last: int, *, rank: int, world: int, accumulate: int) -> Iterator[Request]:
        """The slices of this process for steps `first` to `last` − 1, `accumulate` micro-batches each."""
        share = self.batch_size // (world * accumulate)
        for step in range(first, last):
            epoch, place = divmod(step, self.steps_per_epoch)
            order = self._order(epoch)
            for micro in range(accumulate):
                start = place * self.batch_size + micro * share * world + rank * share
                slots = np.arange(start, start + share, dtype=np.int64)
                yield slots, np.full(share, epoch, dtype=np.int64), order[slots]

    def batches(self, first: int, last: int, **place: Any) -> Iterator[Batch]:
        return self.reader.batches(self.requests(first, last, **place))
