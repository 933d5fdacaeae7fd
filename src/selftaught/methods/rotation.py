"""Rotation prediction: tell how an item was turned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Training, Transformed, View, register
from ..networks import Embedder, over
from .base import Method


@register("rotation")
class Rotation(Method):
    """Unsupervised representation learning by predicting rotations (Gidaris et al., 2018).

    loss = −(1/K) Σ_y log F^y(g(x | y)), the K = 4 turns g(· | y) of every item in one batch          (eq. 2 and 3)

    What a turn is, the modality says. BatchNorm statistics are joint over the turns. The paper lowers its rate in steps, here
    it falls along a cosine; its classifier is the last layer of the network, here a linear map of the pooled features.
    """

    grounded = True
    needs = Transformed(kind="turn")
    defaults = Training(optimizer="sgd", lr=0.2, weight_decay=5e-4, decay_norm_and_bias=True, warmup=0.0, batch_size=128, epochs=100)
    small = {"training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.student = Embedder(backbone, nn.Linear(backbone.width, self.needs.classes))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        logits = torch.cat(over(views, self.student, joint=True))
        return F.cross_entropy(logits, torch.cat([v.applied["class"] for v in views]))
