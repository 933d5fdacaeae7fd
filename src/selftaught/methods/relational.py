"""Relational reasoning: do two views show the same item?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..contracts import Batch, OptionError, Pair, Training, View, register
from ..networks import BatchNorm, Embedder, over
from ..objectives.pretext import focal_binary, shifted_pairs
from .base import Method


@register("relational")
class Relational(Method):
    """Self-supervised relational reasoning (Patacchiola & Storkey, 2020).

    loss = mean over pairs of w · BCE(r([z_i, z_j]), t): t = 1 for two of an item's K views, 0 for views of two items   (eq. 2, 3)

    Every pair of views gives a positive of each item and a negative, the second view's items shifted along the batch: cost
    grows with K², not with the batch. w is the focal weight ½(1 − p_t)^γ. Pairs are concatenated; r has one hidden layer. Its
    BatchNorm is over all pairs, the backbone's joint over the views. More views do as much as a larger batch elsewhere.
    """

    needs = Pair(count=32)
    defaults = Training(optimizer="adamw", lr=1e-3, scale_lr="off", weight_decay=0.0, schedule="constant", warmup=0.0, batch_size=64,
                        epochs=200)
    small = {"views": 4, "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4, "training.schedule": "cosine"}

    def __init__(self, backbone: nn.Module, *, views: int = 32, hidden: int = 256, gamma: float = 2.0):
        """views: K. hidden: of the relation module r. gamma: of the focal weight; 0 leaves half the binary cross-entropy."""
        super().__init__()
        if views < 2:
            raise OptionError(f"method.views={views} makes no pair: give at least 2.")
        self.gamma = gamma
        self.student = Embedder(backbone)
        self.relation = nn.Sequential(nn.Linear(2 * backbone.width, hidden), BatchNorm(hidden), nn.LeakyReLU(), nn.Linear(hidden, 1))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Pair:
        return Pair(count=options.get("views", cls.needs.count))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        logits, targets = self.relate(over(views, self.student, joint=True))
        return focal_binary(logits, targets, gamma=self.gamma)

    def relate(self, z: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits that a pair shows one item, and whether it does: [pairs] each, from the features of the views."""
        pairs, targets = shifted_pairs(z)
        return self.relation(pairs)[:, 0], targets
