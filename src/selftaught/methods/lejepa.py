"""LeJEPA: every view predicts the mean of the large ones, and embeddings are held to a standard normal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..contracts import Batch, MultiCrop, Terms, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import random_directions, sigreg
from .base import Method


@register("lejepa")
class LeJEPA(Method):
    """Provable and scalable self-supervised learning without the heuristics (Balestriero & LeCun, 2025).

    loss = (1 − λ) mean_v ‖z_v − μ‖²/D + λ mean_v SIGReg(z_v),  μ = mean of the global views' z          (alg. 2)

    SIGReg: mean Epps–Pulley statistic against N(0, 1) along `directions` random lines, drawn anew at every step. λ is `sigreg`.
    No teacher, no stopped gradient, no schedule of its own. A decay of 5e-4 suits ConvNets. BatchNorm statistics are joint over
    the views of one size.
    """

    needs = MultiCrop(small=6, large_scale=(0.3, 1.0), small_scale=(0.05, 0.3))
    defaults = Training(optimizer="adamw", lr=5e-4, scale_lr="off", final_lr=5e-7, weight_decay=0.05, warmup=1.0,
                        batch_size=256, epochs=100)
    small = {"hidden": 512, "width": 64, "directions": 128, "training.lr": 2e-3, "training.scale_lr": "sqrt",
             "training.weight_decay": 5e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 128, hidden: int = 2048, sigreg: float = 0.05,
                 directions: int = 1024, points: int = 17, limit: float = 3.0):
        """width: of z. hidden: of the projector, three layers. points, limit: nodes of the integral, and where it ends."""
        super().__init__()
        self.sigreg, self.directions, self.points, self.limit = sigreg, directions, points, limit
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, layers=3))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        z = over(views, self.student, joint=True)
        centre = torch.stack([e for e, view in zip(z, views) if view.role == "global"]).mean(0)
        prediction = torch.stack([F.mse_loss(e, centre) for e in z]).mean()
        lines = random_directions(z[0].shape[1], self.directions, self.clock.moment, like=z[0])
        gaussian = torch.stack([sigreg(e, lines, points=self.points, limit=self.limit) for e in z]).mean()
        return Terms((1 - self.sigreg) * prediction + self.sigreg * gaussian, prediction=prediction, sigreg=gaussian)
