"""VICReg: views agree, every dimension varies, and no two dimensions say the same."""

from __future__ import annotations

from torch import nn

from ..contracts import Batch, Pair, Terms, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import vicreg_terms
from .base import Method


@register("vicreg")
class VICReg(Method):
    """Variance-invariance-covariance regularisation (Bardes et al., 2022).

    loss = λ s(Z, Z′) + μ [v(Z) + v(Z′)] + ν [c(Z) + c(Z′)]          (eq. 6)

    s: mean squared distance of the views; v: hinge that keeps each dimension's deviation at 1; c: squared covariances between
    dimensions. λ, μ, ν are `invariance`, `variance`, `covariance`. BatchNorm statistics are each view's own. The rate
    falls to zero, the authors' to a thousandth of its peak.
    """

    needs = Pair(asymmetric=True)
    defaults = Training(optimizer="lars", lr=0.2, weight_decay=1e-6, batch_size=2048, epochs=1000)
    small = {"hidden": 1024, "width": 1024, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt",
             "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 8192, hidden: int = 8192, invariance: float = 25.0,
                 variance: float = 25.0, covariance: float = 1.0):
        """width, hidden: of the expander, three layers."""
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, layers=3, last_bias=False))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        s, v, c = vicreg_terms(*over(views, self.student))
        total = self.invariance * s + self.variance * v + self.covariance * c
        return Terms(total, invariance=s, variance=v, covariance=c)
