"""What a method remembers between steps: read in `loss`, staged there, committed by the engine after the optimiser step."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..collectives import gather, reduce
from ..contracts import Clock, OptionError, Schedule, value_at


class Memory(nn.Module):
    """Base of Teacher, Queue, Centre. Several micro-batches may be staged before one `commit`."""

    def commit(self, clock: Clock) -> None:
        """Takes in what was staged; called once after every optimiser step."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it remembers")


class Teacher(Memory):
    """A frozen copy of `module` that follows it: parameters ← m · parameters + (1 − m) · the source's, at every commit.

    `teacher(view)` runs the copy without gradient; in training mode it uses batch statistics as the source does, and its
    BatchNorm buffers follow its own forwards (they are no moving average of the source's). `momentum`: number or Schedule.
    It never drops anything out. `.module` is the copy, `.backbone` its backbone. The source is neither a parameter nor a part of the state
    here, and a copy of the whole method keeps the link between its own two parts.
    """

    def __init__(self, module: nn.Module, momentum: float | Schedule):
        super().__init__()
        ends = vars(momentum).items() if isinstance(momentum, Schedule) else [("value", momentum)]
        if wrong := [v for name, v in ends if name in ("value", "start", "peak", "end") and not 0 <= v <= 1]:
            raise OptionError(f"A teacher's momentum of {wrong[0]} does not fit: expected a number between 0 and 1, such as 0.996.")
        self.momentum = momentum
        self.module = copy.deepcopy(module).requires_grad_(False)
        self._source = (module,)  # a tuple hides it from parameters(), state_dict() and train()
        self.train(self.training)

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode)
        for part in self.module.modules():
            if isinstance(part, nn.Dropout):
                part.eval()
        return self

    @property
    def backbone(self) -> nn.Module:
        return self.module.backbone

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        ours, theirs = list(self.module.parameters()), list(self._source[0].parameters())
        if ours:
            torch._foreach_lerp_(ours, theirs, 1.0 - value_at(self.momentum, clock))


class Queue(Memory):
    """The last `size` rows staged, of `width` numbers each; the oldest are overwritten (MoCo, SwAV).

    `rows()`: [size, width], the row after the newest is the oldest. `filled`: 0-dim int64, how many were really staged. Before
    they are, rows are random unit vectors drawn from `seed`, or zeros with `random=False`. Rows of all processes enter in rank
    order, so stage every view by itself and the order is that of one process.
    """

    def __init__(self, size: int, width: int, *, random: bool = True, seed: int = 0):
        super().__init__()
        rows = torch.zeros(size, width)
        if random:
            rows = F.normalize(torch.randn(size, width, generator=torch.Generator().manual_seed(seed)), dim=1)
        self.register_buffer("_rows", rows)
        self.register_buffer("position", torch.tensor(0))
        self.register_buffer("filled", torch.tensor(0))
        self._staged: list[Tensor] = []

    def rows(self) -> Tensor:
        """[size, width]; a constant of the step: commits write to it only afterwards."""
        return self._rows

    @torch.no_grad()
    def stage(self, rows: Tensor) -> None:
        """[b, width], without gradient."""
        self._staged.append(gather(rows.detach()))

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        if not self._staged:
            return
        rows, size = torch.cat(self._staged), len(self._rows)
        self._staged.clear()
        count, rows = len(rows), rows[-size:]
        places = (self.position + (count - len(rows)) + torch.arange(len(rows), device=rows.device)) % size
        self._rows.index_copy_(0, places, rows.to(self._rows.dtype))
        self.position.copy_((self.position + count) % size)
        self.filled.copy_((self.filled + count).clamp(max=size))


class Centre(Memory):
    """Moving average of the mean of the rows staged, over all processes (DINO): value ← m · value + (1 − m) · mean.

    `value`: [width].
    """

    def __init__(self, width: int, momentum: float | Schedule):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(width))
        self._staged: list[Tensor] = []

    @torch.no_grad()
    def stage(self, rows: Tensor) -> None:
        """[..., width], without gradient."""
        rows = rows.detach().to(torch.promote_types(rows.dtype, self.value.dtype)).flatten(0, -2)
        self._staged.append(torch.cat([rows.sum(0), rows.new_full((1,), len(rows))]))

    @torch.no_grad()
    def commit(self, clock: Clock) -> None:
        if not self._staged:
            return
        total = reduce(torch.stack(self._staged).sum(0))
        self._staged.clear()
        self.value.lerp_((total[:-1] / total[-1]).to(self.value.dtype), 1.0 - value_at(self.momentum, clock))
