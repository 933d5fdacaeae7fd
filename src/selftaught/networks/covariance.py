"""A moving average of second moments, for methods that look at the spectrum of what they have seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ..collectives import reduce
from ..contracts import Clock, Schedule, value_at
from .memory import Memory


class Covariance(Memory):
    """Moving average of E[f fᵀ] of the rows staged, not centred, over all processes: value ← m · value + (1 − m) · mean f fᵀ.

    `value`: [width, width], zero at first. from_first: the first commit takes the place of the zeros (DirectPred); else it is
    averaged with them (TiCo).
    """

    def __init__(self, width: int, momentum: float | Schedule, *, from_first: bool = False):
        super().__init__()
        self.momentum, self.from_first = momentum, from_first
        self.register_buffer("value", torch.zeros(width, width))
        self.register_buffer("started", torch.tensor(False))
        self._staged: list[Tensor] = []

    @torch.no_grad()
    def stage(self, rows: Tensor) -> None:
        """[..., width], without gradient."""
        rows = rows.detach().to(torch.promote_types(rows.dtype, self.value.dtype)).flatten(0, -2)
        self._staged.append(torch.cat([(rows.T @ rows).flatten(), rows.new_full((1,), len(rows))]))

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        if not self._staged:
            return
        total = reduce(torch.stack(self._staged).sum(0))
        self._staged.clear()
        moment = (total[:-1] / total[-1]).view_as(self.value).to(self.value.dtype)
        weight = moment.new_full((), 1.0 - value_at(self.momentum, clock))
        if self.from_first:
            weight = torch.where(self.started, weight, torch.ones_like(weight))
        self.value.lerp_(moment, weight)
        self.started.fill_(True)
