"""W-MSE: whiten the batch, then pull the views of an item together; whitened embeddings cannot collapse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Need, OptionError, Pair, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import sliced_whitening_mse
from .base import Method


@register("w_mse")
class WMSE(Method):
    """Whitening for self-supervised representation learning (Ermolov et al., 2021).

    loss = mean over the pairs of `positives` views of 2 − 2·cos(w(z_i), w(z_j)),  w(z) = L⁻¹ (z − μ),  L Lᵀ = Cov(z)   (eq. 5)

    The batch is cut at random into slices of `sub_batch`, each view of a slice whitened by itself, `iterations` times over.
    The authors' Adam has its decay in the gradient and two late drops of the rate; here AdamW and the cosine that their code
    offers too. BatchNorm statistics are each view's own in the backbone and joint in the projector.
    """

    needs = Pair()
    defaults = Training(optimizer="adamw", lr=3e-3, scale_lr="off", weight_decay=1e-6, warmup=5.0, batch_size=512, epochs=1000)
    small = {"width": 32, "hidden": 512, "sub_batch": 64, "training.lr": 2e-3, "training.scale_lr": "sqrt",
             "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 64, hidden: int = 1024, positives: int = 2, sub_batch: int = 128,
                 iterations: int = 1, normalise: bool = True, eps: float = 0.0):
        """width: of z, less than sub_batch. hidden: of the projector. positives: views of an item. normalise: compare unit
        vectors. eps: share of the identity in the covariance."""
        super().__init__()
        if positives < 2:
            raise OptionError(f"method.positives={positives} leaves nothing to compare: give 2 or more.")
        self.sub_batch, self.iterations, self.normalise, self.eps = sub_batch, iterations, normalise, eps
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Need:
        return Pair(count=options.get("positives", 2))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        pooled = over(views, lambda v: self.student.backbone(v.x, lengths=v.lengths).pooled)
        z = torch.stack(over(pooled, self.student.head, joint=True))
        return sliced_whitening_mse(z, sub_batch=self.sub_batch, iterations=self.iterations, step=self.clock.moment,
                                    normalise=self.normalise, eps=self.eps)
