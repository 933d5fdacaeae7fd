"""TiCo: agree with a teacher's other view, and keep the embeddings' covariance from losing rank."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Pair, Training, View, register
from ..networks import Covariance, Embedder, Mlp, Teacher, ordered_pairs, over
from ..objectives import tico
from .base import Method


@register("tico")
class TiCo(Method):
    """Transformation invariance and covariance contrast (Zhu et al., 2022).

    loss = −mean z·z′ + ρ mean zᵀ C_t z,  C_t = β C_{t−1} + (1 − β) mean z zᵀ          (eq. 1 and 2)

    z: the student's unit embedding of a view, z′: the teacher's of the other; the mean of both orders is taken, so that neither
    side's augmentation stays unseen. C remembers all batches: it stands for a memory bank of any size. The teacher's momentum
    rises from `momentum` to 1 along a cosine. BatchNorm statistics are each view's own.
    """

    needs = Pair(asymmetric=True)
    defaults = Training(optimizer="lars", lr=0.2, weight_decay=1.5e-6, batch_size=4096, epochs=1000)
    small = {"hidden": 512, "width": 128, "momentum": 0.95, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 256, hidden: int = 4096, beta: float = 0.9, rho: float = 8.0,
                 momentum: float = 0.99):
        """width: of z. hidden: of the projector. momentum: the teacher's, at first."""
        super().__init__()
        self.beta, self.rho = beta, rho
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width))
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))
        self.covariance = Covariance(width, beta)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        queries, keys = over(views, self.student), over(views, self.teacher)
        for query in queries:
            self.covariance.stage(F.normalize(query.detach(), dim=1))
        c = self.covariance.value
        return sum(tico(q, k, c, beta=self.beta, rho=self.rho) for q, k in ordered_pairs(queries, keys)) / 2
