"""Losses on the statistics of a batch: agree between the views, and let every dimension say something of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather
from .comparison import refuse_few
from .precision import full_precision


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


def _off_diagonal_energy(a: Tensor, b: Tensor) -> Tensor:
    """Σ_{i≠j} (aᵀb)²_ij of a, b [N, D]; through the N × N Gram matrices where they are much smaller than D × D."""
    n, d = a.shape
    if 2 * n <= d:  # ‖aᵀb‖² = ⟨aaᵀ, bbᵀ⟩
        return ((a @ a.T) * (b @ b.T)).sum() - (a * b).sum(0).square().sum()
    return (a.T @ b).flatten()[1:].view(d - 1, d + 1)[:, :-1].square().sum()


@full_precision
def barlow_twins(a: Tensor, b: Tensor, *, off_diagonal_weight: float) -> Tensor:
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², C the cross-correlation of the views (Zbontar et al., 2021, eq. 1 and 2).

    a, b: raw [N, D], standardised over the batch as BatchNorm does (biased variance, ε = 1e-5). The authors' λ is 0.0051.
    """

    def standardised(x: Tensor) -> Tensor:
        x = _centred(gather(x))
        return x * torch.rsqrt(x.square().mean(0) + 1e-5)

    a, b = standardised(a), standardised(b)
    n = len(a)
    refuse_few("barlow_twins", n)
    on_diagonal = ((a * b).sum(0) / n - 1).square().sum()
    return on_diagonal + off_diagonal_weight * _off_diagonal_energy(a, b) / n**2


@full_precision
def vicreg_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance and covariance of VICReg, unweighted, from raw a, b [N, D]: see `vicreg`."""
    invariance = F.mse_loss(a, b)
    a, b = _centred(gather(a)), _centred(gather(b))
    n, d = a.shape
    refuse_few("vicreg", n)

    def hinge(x: Tensor) -> Tensor:
        return F.relu(1 - torch.sqrt(x.square().sum(0) / (n - 1) + 1e-4)).mean()

    variance = (hinge(a) + hinge(b)) / 2
    covariance = (_off_diagonal_energy(a, a) + _off_diagonal_energy(b, b)) / ((n - 1) ** 2 * d)
    return invariance, variance, covariance


def vicreg(a: Tensor, b: Tensor, *, invariance: float, variance: float, covariance: float) -> Tensor:
    """λ s(Z, Z′) + μ [v(Z) + v(Z′)] + ν [c(Z) + c(Z′)] (Bardes et al., 2022, eq. 6), with the authors' reductions.

    a, b: raw [N, D]. s: mean squared error over all elements. v: mean over dimensions of max(0, 1 − √(Var + 1e-4)), unbiased
    variance, *averaged* over the views. c: Σ_{i≠j} Cov²_ij / D, unbiased, summed over the views. The authors' weights are
    25, 25, 1.
    """
    s, v, c = vicreg_terms(a, b)
    return invariance * s + variance * v + covariance * c


@full_precision
def whitening_mse(a: Tensor, b: Tensor) -> Tensor:
    """W-MSE (Ermolov et al., 2021, eq. 5): 2 − 2·cos between whitened views.

    a, b: raw [N, D] with N > D over all processes (else ValueError). Each view is whitened by itself over the whole batch,
    with the inverse Cholesky factor of its unbiased covariance (the authors' ε = 0).
    """

    def whitened(x: Tensor) -> Tensor:
        x = _centred(gather(x))
        n, d = x.shape
        if n <= d:
            raise ValueError(f"whitening_mse needs more samples than dimensions, but was given {n} samples of {d} dimensions")
        factor, _ = torch.linalg.cholesky_ex(x.T @ x / (n - 1))
        return torch.linalg.solve_triangular(factor, x.T, upper=False).T

    return 2 - 2 * F.cosine_similarity(whitened(a), whitened(b), dim=1, eps=1e-12).mean()
