"""A memory bank: one row for every item of the data, and the constant that makes its similarities probabilities."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, world_size
from ..contracts import Clock
from .memory import Memory


class Bank(Memory):
    """A unit row of `width` numbers for each of `items` items, moved whenever the item comes by (Wu et al., 2018).

    At a commit: row ← normalise(m · row + (1 − m) · new), from the row before the commit. Where an item was staged more than
    once, the last one in global sample order counts. Rows start as random directions drawn from `seed`, the same on every
    process, and are in the checkpoint.
    """

    def __init__(self, items: int, width: int, momentum: float = 0.5, *, seed: int = 0):
        super().__init__()
        self.items, self.momentum = items, momentum
        rows = torch.randn(items, width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("_rows", F.normalize(rows, dim=1))
        self._staged: list[tuple[Tensor, Tensor]] = []

    def rows(self, index: Tensor | None = None) -> Tensor:
        """[items, width], or the rows of `index` (int64, any shape); a constant of the step."""
        return self._rows if index is None else F.embedding(index, self._rows)

    def scores(self, z: Tensor, places: Tensor) -> Tensor:
        """[b, m]: z [b, D] times the rows of places (int64 [b, m]), in at least float32; a gradient reaches z alone."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(self._rows.dtype)
            if self.items <= 8 * places.shape[1]:  # cheaper to take all products than to gather m rows for each
                return (z @ self._rows.T).gather(1, places)
            return torch.einsum("bd,bmd->bm", z, self.rows(places))

    @torch.no_grad()
    def stage(self, index: Tensor, rows: Tensor) -> None:
        """index: int64 [b], places in the source. rows: [b, width], unit, without gradient."""
        self._staged.append((gather(index), gather(rows.detach())))

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        if not self._staged:
            return
        index, rows = (torch.cat(parts) for parts in zip(*self._staged))
        self._staged.clear()
        order = index.argsort(stable=True)
        last = order[torch.searchsorted(index[order], index, right=True) - 1]  # [b]: all of one item write the same row
        moved = torch.lerp(rows[last].to(self._rows.dtype), self._rows[index], self.momentum)
        self._rows.index_copy_(0, index, F.normalize(moved, dim=1))


class Partition(Memory):
    """log Z of P(i|v) = exp(v·f_i/τ) / Z, estimated from the first step's similarities and constant from then on.

    Z = items · mean exp(v·f/τ), as Wu et al. (2018, eq. 8) and their code have it.
    """

    def __init__(self, items: int):
        super().__init__()
        self.items = items
        self.register_buffer("log_z", torch.tensor(0.0))
        self.register_buffer("known", torch.tensor(False))
        self._staged: list[Tensor] = []

    @torch.no_grad()
    def value(self, scores: Tensor) -> Tensor:
        """log Z, 0-dim: the constant, or before the first commit the estimate from `scores` (v·f/τ, any shape), over processes."""
        exact = torch.promote_types(scores.dtype, self.log_z.dtype)
        here = scores.detach().to(exact).flatten().logsumexp(0) - math.log(scores.numel() * world_size())
        estimate = gather(here.view(1)).logsumexp(0) + math.log(self.items)
        self._staged.append(estimate)
        return torch.where(self.known, self.log_z.to(exact), estimate)

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        if not self._staged:
            return
        estimate = torch.stack(self._staged).mean().to(self.log_z.dtype)
        self._staged.clear()
        self.log_z.copy_(torch.where(self.known, self.log_z, estimate))
        self.known.fill_(True)
