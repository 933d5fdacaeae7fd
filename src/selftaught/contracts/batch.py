"""What travels from the source to the loss: a Batch of named tensors, and the Views that a method sees of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .draws import Draws

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _move(value: Any, device: torch.device | str) -> Any:
    if hasattr(value, "is_floating_point"):  # a tensor
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {k: _move(v, device) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_move(v, device) for v in value)
    return value


@dataclass
class Batch:
    """Named fields of B items, as the modality's `collate` made them (images still uint8).

    fields: name → tensor; the main one is `x`. index: int64 [B], place in the source. slot, epoch: int64 [B], place in the
    epoch's order and which epoch, the counters of every random draw. y: labels where the stream is labelled, else None
    (may be sequences, masks, boxes, votes). lengths: int64 [B], valid steps of `x` where they vary, else None.
    """

    fields: dict[str, Any]
    index: Tensor
    slot: Tensor
    epoch: Tensor
    y: Any = None
    lengths: Tensor | None = None

    @property
    def x(self) -> Any:
        return self.fields["x"]

    def __len__(self) -> int:
        return self.index.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(**{k: _move(v, device) for k, v in self.__dict__.items()})

    def draws(self, seed: int, stream: str, *, step: int = 0) -> Draws:
        return Draws.for_items(seed, stream, self.epoch, self.slot, step=step)


@dataclass
class View:
    """One way of seeing a batch.

    x: [B, ...], ready for the network: float, or int64 token ids. lengths: int64 [B] or None. y: labels moved with x (masks,
    boxes), or None. positions: [B, K] where in the item the view lies (normalised coordinates), or None. applied: name → [B, ...],
    the parameters drawn. role: global, local, weak, strong or clean. masks: bool [M, B, N] on the backbone's grid, True = hidden.
    field: which of the batch's fields it shows.
    """

    x: Any
    lengths: Tensor | None = None
    y: Any = None
    positions: Tensor | None = None
    applied: dict[str, Tensor] = field(default_factory=dict)
    role: str = "global"
    masks: Tensor | None = None
    field: str = "x"

    def with_(self, **changes: Any) -> View:
        return replace(self, **changes)


@dataclass
class Features:
    """What a backbone gives: pooled [B, D]; tokens [B, N, D] or None; layers on request; lengths int64 [B] of the tokens."""

    pooled: Tensor
    tokens: Tensor | None = None
    layers: list[Tensor] | None = None
    lengths: Tensor | None = None
