"""SimCLR: two views of an item against all other items of the batch."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Pair, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import nt_xent
from .base import Method


@register("simclr")
class SimCLR(Method):
    """A simple framework for contrastive learning (Chen et al., 2020): tell the other view of an item from all other items.

    z = g(f(x));  ℓ(i, j) = −log exp(sim(z_i, z_j)/τ) / Σ_{k≠i} exp(sim(z_i, z_k)/τ)          (eq. 1)

    BatchNorm statistics are those of both views together. g ends in a linear layer, as the paper says; the authors' code has a
    BatchNorm without shift after it. The larger the batch, the more negatives.
    """

    needs = Pair()
    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, batch_size=4096, epochs=100)
    small = {"hidden": 512, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 128, hidden: int | None = None, temperature: float = 0.1):
        """width: of z. hidden: of the projector g; None takes the backbone's width, as the paper does."""
        super().__init__()
        self.temperature = temperature
        self.student = Embedder(backbone, Mlp(backbone.width, hidden or backbone.width, width))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        a, b = over(views, self.student, joint=True)
        return nt_xent(a, b, temperature=self.temperature)
