"""Barlow Twins: the cross-correlation of two views' embeddings is to be the identity."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Pair, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import barlow_twins
from .base import Method

SCALE = 0.024


@register("barlow_twins")
class BarlowTwins(Method):
    """Self-supervised learning via redundancy reduction (Zbontar et al., 2021).

    loss = scale · [Σ_i (1 − C_ii)² + λ Σ_i Σ_{j≠i} C_ij²]          (eq. 1 and 2)

    C: cross-correlation of the views over the batch, λ: `off_diagonal_weight`. The authors train biases and BatchNorm
    parameters at .0048, weights at .2: since LARS takes a weight's scale of gradient away and leaves a bias's, .0048/.2 = .024
    times the loss is the same, with the decay of 1e-6 as many times smaller. BatchNorm statistics are each view's own. The rate falls
    to zero, the authors' to a thousandth of its peak.
    """

    needs = Pair(asymmetric=True)
    defaults = Training(optimizer="lars", lr=0.2, weight_decay=SCALE * 1e-6, batch_size=2048, epochs=1000)
    small = {"hidden": 1024, "width": 1024, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt",
             "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 8192, hidden: int = 8192, off_diagonal_weight: float = 0.0051,
                 scale: float = SCALE):
        """width, hidden: of the projector, three layers."""
        super().__init__()
        self.off_diagonal_weight, self.scale = off_diagonal_weight, scale
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, layers=3, last_bias=False))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        a, b = over(views, self.student)
        return self.scale * barlow_twins(a, b, off_diagonal_weight=self.off_diagonal_weight)
