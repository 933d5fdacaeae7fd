"""DirectPred: a linear predictor that is set from the spectrum of its inputs, not learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..contracts import Batch, OptionError, Pair, Training, View, nearest, register
from ..networks import BatchNorm, Covariance, Embedder, Teacher, ordered_pairs, over
from ..objectives import negative_cosine
from .base import Method

BALANCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "boost_scale": lambda s, eps: ((s.clamp_min(0) / s.max().clamp_min(1e-30)).sqrt() + eps).clamp_min(1e-4),
    "paper": lambda s, eps: s.clamp_min(0).sqrt() + eps * s.max(),
    "shrink2mean": lambda s, eps: (s + s.mean()) / 2,
    "clamp": lambda s, eps: s.clamp(0, 1),
}
"""Eigenvalues s of F → eigenvalues p of the predictor. boost_scale: √(s/max s) + ε, as the authors ran it; paper: eq. 18."""


def direct_predictor(correlation: Tensor, *, eps: float, balance: str) -> Tensor:
    """W = U diag(p) Uᵀ [D, D] for F = U diag(s) Uᵀ, in at least float32. NaN where F is not finite (the solver would raise)."""
    f = correlation.to(torch.promote_types(correlation.dtype, torch.float32))
    s, u = torch.linalg.eigh(torch.nan_to_num(f, 0.0, 0.0, 0.0))
    return (u * BALANCES[balance](s, eps)) @ u.T + f.sum() * 0.0


@register("directpred")
class DirectPred(Method):
    """Understanding self-supervised learning dynamics without contrastive pairs (Tian et al., 2021).

    loss = Σ over ordered pairs of views a ≠ b of 2 − 2·cos(W f_a, sg[f̄_b]),  W = U diag(p) Uᵀ,  F = U diag(s) Uᵀ,
    F ← ρ F + (1 − ρ) mean f fᵀ,  p_j = √(s_j / max s) + ε          (eq. 18 and 19, scaled as in the authors' code)

    W is set after every `every`th step; in between it learns by gradient. BatchNorm statistics are each view's own. (On CUDA
    torch's eigenvalue solver waits for the device, once a setting.)
    """

    needs = Pair()
    defaults = Training(optimizer="sgd", lr=0.06, weight_decay=4e-4, schedule="constant", warmup=0.0, batch_size=128,
                        epochs=100, decay_norm_and_bias=True)
    small = {"momentum": 0.95, "last_norm": True, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 1e-4, "training.schedule": "cosine"}

    def __init__(self, backbone: nn.Module, *, width: int = 128, hidden: int = 512, momentum: float = 0.996, rho: float = 0.3,
                 eps: float = 0.01, every: int = 1, balance: str = "boost_scale", last_norm: bool = False):
        """width: of f. hidden: of the projector. momentum: the teacher's; 0 stops the gradient at the student's own f instead.
        balance: how p follows from s, a key of BALANCES. last_norm: BatchNorm without affine parameters on f."""
        super().__init__()
        if balance not in BALANCES:
            raise nearest(balance, BALANCES, what="balance")
        if every < 1:
            raise OptionError(f"method.every={every} sets no predictor: give 1 (after every step) or more.")
        self.eps, self.every, self.balance = eps, every, balance
        self.student = Embedder(backbone, nn.Sequential(
            nn.Linear(backbone.width, hidden, bias=False), BatchNorm(hidden, affine=False), nn.ReLU(inplace=True),
            nn.Linear(hidden, width), *([BatchNorm(width, affine=False)] if last_norm else [])))
        self.teacher = Teacher(self.student, momentum) if momentum else None
        self.predictor = nn.Linear(width, width, bias=False).requires_grad_(every > 1)
        self.correlation = Covariance(width, rho, from_first=True)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        projected = over(views, self.student)
        targets = over(views, self.teacher) if self.teacher else projected
        for f in projected:
            self.correlation.stage(f)
        predicted = over(projected, self.predictor)
        return sum(2 + 2 * negative_cosine(p, t) for p, t in ordered_pairs(predicted, targets))

    @torch.no_grad()
    def after_step(self) -> None:
        if self.clock.step % self.every == 0:
            self.predictor.weight.copy_(direct_predictor(self.correlation.value, eps=self.eps, balance=self.balance))
