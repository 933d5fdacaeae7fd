"""BYOL: predict what a slowly moving teacher says of another view. No negatives."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Cosine, Pair, Training, View, register
from ..networks import Embedder, Mlp, Teacher, ordered_pairs, over
from ..objectives import negative_cosine
from .base import Method


@register("byol")
class BYOL(Method):
    """Bootstrap your own latent (Grill et al., 2020): predict a slowly moving teacher's projection of another view.

    loss = Σ over ordered pairs of views a ≠ b of 2 − 2·cos(q(g(f(a))), sg[ḡ(f̄(b))])          (eq. 2)

    The teacher's momentum rises from `momentum` to 1 along a cosine. BatchNorm statistics are each view's own.
    """

    needs = Pair(asymmetric=True)
    defaults = Training(optimizer="lars", lr=0.2, weight_decay=1.5e-6, batch_size=4096, epochs=1000)
    small = {"hidden": 512, "width": 128, "momentum": 0.95, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt",
             "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 256, hidden: int = 4096, momentum: float = 0.996):
        """width: of projections and predictions. hidden: of projector g and predictor q. momentum: the teacher's, at first."""
        super().__init__()
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, last_bias=False))
        self.predictor = Mlp(width, hidden, width, last_bias=False)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        predicted = over(views, lambda v: self.predictor(self.student(v)))
        targets = over(views, self.teacher)
        return sum(2 + 2 * negative_cosine(p, t) for p, t in ordered_pairs(predicted, targets))
