"""Self-supervision with a kernel: the loss whose minimum is an eigenproblem, and that minimum in closed form.

Cabannes, Kiani, Balestriero, LeCun & Bietti (2023), 'The SSL Interplay'. In the space of a kernel with features φ, ψ = Θφ:

    L(ψ) = β E‖ψ(ξ) − ψ(ξ⁺)‖² + ‖E[ψψᵀ] − I‖²_F + λ‖Θ‖²          (ξ, ξ⁺: two augmentations of one sample)
    with Σ = E[φφᵀ], Σ⁺ = E[φ(ξ)φ(ξ⁺)ᵀ] and Θ = UᵀΣ^−½:   L = tr UᵀAU + ‖UᵀU − I‖²,  A = 2β(I − Σ^−½Σ⁺Σ^−½) + λΣ⁻¹

so the best k features are the k eigenvectors of A with the smallest eigenvalues a, scaled to √max(0, 1 − a/2). The first part of A is
what the augmentations say, the second the kernel's inductive bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .comparison import refuse_few
from .precision import full_precision

RANK = 1e-10
"""Directions of the kernel below this part of the largest are taken for rounding."""


@full_precision
def interplay_loss(psi: Tensor, other: Tensor, *, beta: float = 1.0) -> Tensor:
    """β E‖ψ(ξ) − ψ(ξ⁺)‖² + ‖E[ψψᵀ] − I‖²_F of positive pairs [N, K], moments over both sides together, not centred.

    With β = 1 it is the spectral contrastive loss (HaoChen et al., 2021) plus K.
    """
    refuse_few("interplay_loss", len(psi))
    both = torch.cat([psi, other])
    moment = both.T @ both / len(both)
    return beta * (psi - other).square().sum(1).mean() + (moment - torch.eye(moment.shape[0]).to(moment)).square().sum()


@dataclass(frozen=True)
class KernelFeatures:
    """The solution. coefficients [N, K]: eigenfunctions of unit second moment on the training points are k(x, points) @
    coefficients; scale [K]: what multiplies them in the minimum of the loss; values [K]: eigenvalues a of A, rising; loss: the
    minimum. basis [N, R]: whitened coordinates of the training points; spectrum [R]: eigenvalues of Σ in that basis."""

    coefficients: Tensor
    scale: Tensor
    values: Tensor
    loss: Tensor
    basis: Tensor
    spectrum: Tensor

    def __call__(self, gram: Tensor, *, scaled: bool = False) -> Tensor:
        """[Q, K] features of points whose kernel values with the training points are `gram` [Q, N]; scaled: ψ itself."""
        features = gram @ self.coefficients
        return features * self.scale if scaled else features


def _smoothed(basis: Tensor, views: int) -> Tensor:
    """Σ^−½Σ⁺Σ^−½ [R, R]: the points are [samples, views] in order, and a positive pair is any two augmentations of one sample."""
    means = basis.view(-1, views, basis.shape[1]).mean(1)
    return means.T @ means / len(means)


def kernel_ssl(gram: Tensor, *, views: int, width: int, beta: float = 1.0, ridge: float = 1e-3) -> KernelFeatures:
    """The minimum of L over functions of the kernel, for N = samples · `views` training points, a sample's augmentations in a row.

    gram: [N, N]. width: K ≤ rank of the Gram matrix. beta = 0 leaves the kernel's own principal components. ridge: λ.
    Computed in float64.
    """
    gram = gram.double()
    n = len(gram)
    spectrum, vectors = torch.linalg.eigh(gram / n)
    kept = spectrum > RANK * spectrum[-1]
    spectrum, vectors = spectrum[kept].flip(0), vectors[:, kept].flip(1)
    basis = vectors * n**0.5  # whitened: basisᵀ basis / n = I
    a = 2 * beta * (torch.eye(len(spectrum), dtype=gram.dtype) - _smoothed(basis, views)) + torch.diag(ridge / spectrum)
    values, turns = torch.linalg.eigh(a)
    values, turns = values[:width], turns[:, :width]
    scale = (1 - values / 2).clamp_min(0.0).sqrt()
    return KernelFeatures(vectors @ (turns / spectrum[:, None]) / n**0.5, scale, values, (1 - scale**4).sum(), basis, spectrum)


def exact_loss(found: KernelFeatures, theta: Tensor, *, views: int, beta: float, ridge: float) -> Tensor:
    """L of ψ = Θφ, Θᵀ = theta [R, K], over all training points and all positive pairs."""
    u = found.spectrum.sqrt()[:, None] * theta
    moment = u.T @ u
    disagreement = 2 * (moment.trace() - (u.T @ _smoothed(found.basis, views) @ u).trace())
    return beta * disagreement + (moment - torch.eye(len(moment)).to(moment)).square().sum() + ridge * theta.square().sum()
