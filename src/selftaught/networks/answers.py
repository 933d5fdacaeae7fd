"""What a method remembers of the labels it was shown, item by item, so that an epoch's order can follow from it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..collectives import gather
from ..contracts import Clock
from .memory import Memory


class Answers(Memory):
    """Which group each item belongs to, as far as it was seen: int64 [N], −1 = not known. `settled` changes between epochs only."""

    def __init__(self, samples: int):
        super().__init__()
        self.register_buffer("seen", torch.full((samples,), -1))
        self.register_buffer("settled", torch.full((samples,), -1))
        self._staged: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def stage(self, index: Tensor, y: Tensor) -> None:
        self._staged.append((gather(index), gather(y)))

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        for index, y in self._staged:
            self.seen.index_copy_(0, index, y)
        self._staged.clear()

    def settle(self) -> None:
        self.settled.copy_(self.seen)
