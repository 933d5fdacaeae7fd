"""Plain supervised training: the baseline that sees the labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Single, Training, View, register
from ..networks import BatchNorm, Embedder, LinearHead
from ..objectives import cross_entropy_labelled
from .base import Method


@register("supervised")
class Supervised(Method):
    """Cross-entropy of a linear classifier on the backbone, or mean squared error where the labels are numbers.

    loss = CE(W f(x) + b, y) over the labelled items (y ≥ 0), or ‖w·f(x) + b − y′‖², y′ standardised over the batch. The
    defaults are those of ResNets on ImageNet (He et al., 2016; Goyal et al., 2017).
    """

    grounded = True
    needs = Single(strength="weak")
    defaults = Training(optimizer="sgd", lr=0.1, weight_decay=1e-4, warmup=5.0, batch_size=256, epochs=90)
    small = {"training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 0.05}
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts):
        super().__init__()
        self.student = Embedder(backbone, LinearHead(backbone.width, facts.classes or 1))
        self.standardised = None if facts.classes else BatchNorm(1, affine=False)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        predicted = self.student(views[0])
        if self.standardised is None:
            return cross_entropy_labelled(predicted, batch.y)
        return F.mse_loss(predicted, self.standardised(batch.y.to(predicted.dtype)[:, None]))
