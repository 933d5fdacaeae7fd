"""SIE: one half of the features ignores the transformation, the other half moves with it as predicted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import TRANSFORM_WIDTH, Batch, OptionError, Pair, Terms, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import vicreg_terms
from ..objectives.pretext import deviation_hinge
from .base import Method


class SplitExpander(nn.Module):
    """An expander of its own for each part of [B, width]: the first `cut` features (invariant), and the others (equivariant)."""

    def __init__(self, width: int, cut: int, hidden: int, out: int):
        super().__init__()
        self.cut = cut
        part = cut / width
        self.invariant = Mlp(cut, round(part * hidden), round(part * out), layers=3, last_bias=False)
        self.equivariant = Mlp(width - cut, hidden - round(part * hidden), out - round(part * out), layers=3, last_bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.invariant(x[:, : self.cut]), self.equivariant(x[:, self.cut:])], 1)


class HyperPredictor(nn.Module):
    """z → W(g) z, [B, E] → [B, E], with W(g) = Σ_k g_k A_k for g [B, K]: a linear map whose weights a linear hypernetwork makes.

    Without g there are no weights: it cannot be ignored. A_k z is computed for all k, so no item's W is ever built."""

    def __init__(self, width: int, conditions: int):
        super().__init__()
        self.maps = nn.Linear(width, conditions * width, bias=False)

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        return (self.maps(z).unflatten(1, (g.shape[1], -1)) * g[:, :, None].to(z.dtype)).sum(1)


@register("sie")
class SIE(Method):
    """Split invariant–equivariant representations (Garrido et al., 2023).

    loss = λ_i ‖z_inv − z′_inv‖² + λ_e ‖ρ_ψ(g)(z_eq) − z′_eq‖² + λ_v [V(z) + V(z′) + V(ρ_ψ(g)(z_eq))/2] + λ_c [C(z) + C(z′)]

    z: the expanded halves of the features, side by side; V, C: VICReg's variance and covariance. ρ_ψ(g) is linear with weights
    from a linear hypernetwork. g is (1, t, t′), what is known of both views, where the paper has the rotation between two
    renderings as a quaternion. λ_i, λ_e, λ_v, λ_c: `invariance`, `equivariance`, `variance`, `covariance`. BatchNorm statistics
    are each view's own.
    """

    needs = Pair(known=True)
    defaults = Training(optimizer="adamw", lr=1e-3, scale_lr="off", weight_decay=1e-6, schedule="constant", warmup=0.0,
                        batch_size=1024, epochs=2000)
    small = {"hidden": 1024, "width": 512, "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4,
             "training.schedule": "cosine"}

    def __init__(self, backbone: nn.Module, *, width: int = 2048, hidden: int = 2048, equivariant: float = 0.5,
                 invariance: float = 10.0, equivariance: float = 4.5, variance: float = 10.0, covariance: float = 1.0):
        """width, hidden: of both expanders together. equivariant: part of the features that moves (the last ones)."""
        super().__init__()
        if not 0 < (moved := round(equivariant * backbone.width)) < backbone.width:
            raise OptionError(f"method.equivariant={equivariant} leaves {moved} of {backbone.width} features to move: give a part between "
                              "0 and 1, or VICReg where none is to move.")
        self.invariance, self.equivariance, self.variance, self.covariance = invariance, equivariance, variance, covariance
        expander = SplitExpander(backbone.width, backbone.width - moved, hidden, width)
        self.student = Embedder(backbone, expander)
        self.cut = expander.invariant.width
        self.predictor = HyperPredictor(width - self.cut, 1 + 2 * TRANSFORM_WIDTH)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        a, b = over(views, self.student)
        predicted = self.predictor(a[:, self.cut:], self.known(views))
        _, v, c = vicreg_terms(a, b)
        terms = {"invariance": F.mse_loss(a[:, : self.cut], b[:, : self.cut]), "equivariance": F.mse_loss(predicted, b[:, self.cut:]),
                 "variance": v + deviation_hinge(predicted) / 2, "covariance": c}
        return Terms(sum(getattr(self, name) * term for name, term in terms.items()), **terms)

    def known(self, views: list[View]) -> Tensor:
        """g [B, 1 + 2 · TRANSFORM_WIDTH] of the first two views."""
        t, other = (v.applied["transform"] for v in views[:2])
        return torch.cat([torch.ones_like(t[:, :1]), t, other], 1)
