"""DIET: every item is a class of its own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Single, Training, View, register
from ..networks import Embedder
from .base import Method


@register("diet")
class DIET(Method):
    """Datum index as target (Balestriero, 2023): classify each augmented item as itself.

    loss = CE(W f(x_n), n), with label smoothing; W has a row for each of the N items          (eq. 1)

    No projector, no pairs, no teacher: what works on a batch of any size. W grows with the data, so it is for up to some
    hundred thousand items, and it needs many epochs, since an item's row learns only when the item comes by.
    """

    grounded = True
    needs = Single(strength="strong")
    defaults = Training(optimizer="adamw", lr=1e-3, weight_decay=0.05, batch_size=256, epochs=3000)
    small = {"training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, facts: Facts, label_smoothing: float = 0.8):
        super().__init__()
        self.label_smoothing = label_smoothing
        self.student = Embedder(backbone, nn.Linear(backbone.width, facts.samples, bias=False))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        return F.cross_entropy(self.student(views[0]), batch.index, label_smoothing=self.label_smoothing)
