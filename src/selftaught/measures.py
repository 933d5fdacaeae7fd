"""How good a cloud of embeddings looks without labels: rank, spread, alignment, uniformity. Pure functions on tensors.

Every function takes rows `z [N, D]` of any float type, computes in at least float32 (spectra in float64 where the device has
it: a Gram matrix squares the condition number) and returns a tensor without dimensions. Nothing here waits for the host,
except that CUDA's own eigenvalue solver does so once. Rows that are not finite make the result NaN, never an exception.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _at_least_float32(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def _gram(z: Tensor, block: int = 4096) -> Tensor:
    """`z zᵀ` or `zᵀ z` in float64, whichever is smaller; the latter in blocks of rows: no float64 copy of z is made."""
    dtype = _exact(z.device)
    if len(z) <= z.shape[1]:
        z = z.to(dtype)
        return z @ z.T
    total = torch.zeros(z.shape[1], z.shape[1], dtype=dtype, device=z.device)
    for part in z.split(block):
        part = part.to(dtype)
        total.addmm_(part.T, part)
    return total


def _eigenvalues(gram: Tensor) -> Tensor:
    """Descending, clipped at zero; all NaN where the matrix is not finite (the solver itself would raise)."""
    poison = gram.sum() * 0.0
    return torch.linalg.eigvalsh(torch.nan_to_num(gram, 0.0, 0.0, 0.0)).flip(0).clamp_min(0.0) + poison


@torch.no_grad()
def singular_values(z: Tensor) -> Tensor:
    """`[min(N, D)]` singular values of z, descending, through the smaller Gram matrix (exact to 1e-8 of the largest)."""
    return _eigenvalues(_gram(z)).sqrt()


@torch.no_grad()
def covariance_spectrum(z: Tensor) -> Tensor:
    """`[min(N, D)]` eigenvalues of the covariance of the rows (divided by N), descending."""
    return _eigenvalues(_gram(_at_least_float32(z) - _at_least_float32(z).mean(0))) / len(z)


def entropy_rank(weights: Tensor, eps: float = 0.0) -> Tensor:
    """exp(−Σ p log p) with p = weights / Σ weights + eps: how many of the weights (≥ 0) count; all zero gives 0."""
    total = weights.sum()
    p = weights / total.clamp_min(torch.finfo(weights.dtype).tiny) + eps
    rank = torch.exp(-torch.special.xlogy(p, p).sum())
    return torch.where(total == 0, torch.zeros_like(rank), rank)


def effective_rank(z: Tensor) -> Tensor:
    """exp of the entropy of the singular values divided by their sum (Roy & Vetterli, 2007): 1 … min(N, D); 0 for all zeros.

    The rows are not centred: a constant with a little noise on it is collapsed and reads as 1.
    """
    return entropy_rank(singular_values(z))


def rank_me(z: Tensor, eps: float = 1e-7) -> Tensor:
    """RankMe (Garrido et al., 2023, eq. 1–2): exp(−Σ p_k log p_k), p_k = σ_k / ‖σ‖₁ + eps over min(N, D) singular values."""
    return entropy_rank(singular_values(z), eps)


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Standard deviation of the unit rows, mean over dimensions, times √D: 1 isotropic, 0 collapsed (Chen & He, 2021)."""
    unit = F.normalize(_at_least_float32(z), dim=1)
    return unit.std(0, correction=0).mean() * z.shape[1] ** 0.5


def alignment(a: Tensor, b: Tensor, *, alpha: float = 2) -> Tensor:
    """mean ‖a_i − b_i‖^alpha of the unit rows of positive pairs `a, b [N, D]` (Wang & Isola, 2020): 0 best, 4 opposite."""
    difference = F.normalize(_at_least_float32(a), dim=1) - F.normalize(_at_least_float32(b), dim=1)
    return difference.pow(2).sum(1).pow(alpha / 2).mean()


def uniformity(z: Tensor, *, t: float = 2, block: int = 2048) -> Tensor:
    """log mean over pairs i < j of exp(−t ‖z_i − z_j‖²) of the unit rows (Wang & Isola, 2020): lower is more uniform.

    Streams over blocks of pairs: memory is block², not N². One row has no pair and gives NaN.
    """
    unit = F.normalize(_at_least_float32(z), dim=1)
    n, parts = len(z), []
    for i in range(0, n, block):
        for j in range(i, n, block):
            exponent = (unit[i : i + block] @ unit[j : j + block].T - 1.0) * (2.0 * t)
            if i == j:
                exponent = exponent.masked_fill(torch.ones_like(exponent).tril_().bool(), -torch.inf)
            parts.append(exponent.flatten().logsumexp(0))
    return torch.stack(parts).logsumexp(0) - (math.log(n * (n - 1) / 2) if n > 1 else math.nan)


def power_law_exponent(spectrum: Tensor, *, first: int = 11, last: int = 100) -> Tensor:
    """α of λ_j ∝ j^−α by least squares on log λ_j over log j for j = first … last (counted from 1), weighted by 1/j.

    The weights give every octave the same say; weights and range as Agrawal et al. (2022) took them from Stringer et al.
    (2019). A shorter spectrum moves the range: last ≤ its length − 1, first ≤ last // 4 + 1. Eigenvalues under 1e-13 of the
    largest are rounding and left out.
    """
    last = max(min(last, len(spectrum) - 1), 1)
    first = min(first, last // 4 + 1)
    values = spectrum[first - 1 : last]
    index = torch.arange(first, last + 1, dtype=spectrum.dtype, device=spectrum.device)
    real = values > 1e-13 * spectrum[0]
    weight = real / index
    x, y = index.log(), torch.where(real, values, torch.ones_like(values)).log()
    x = x - (weight * x).sum() / weight.sum()
    return -(weight * x * y).sum() / (weight * x * x).sum() + spectrum.sum() * 0.0


def alpha_req(z: Tensor, *, first: int = 11, last: int = 100) -> Tensor:
    """α-ReQ (Agrawal et al., 2022): `power_law_exponent` of the eigenvalues of the covariance; near 1 is best."""
    return power_law_exponent(covariance_spectrum(z), first=first, last=last)


@torch.no_grad()
def lidar(z: Tensor, *, delta: float = 1e-4, eps: float = 1e-7) -> Tensor:
    """LiDAR (Thilak et al., 2024): entropy rank of Σ_w^−½ Σ_b Σ_w^−½ for `z [N, views, D]`, every item a class of its views.

    Σ_b: covariance of the item means; Σ_w: mean covariance of views about their item's mean, plus delta·I; both divided by
    their counts. Its eigenvalues come from the Cholesky factor of Σ_w, which has the same ones as the symmetric root.
    """
    z = z.to(_exact(z.device))
    means = z.mean(1)  # [N, D]
    within = (z - means[:, None]).flatten(0, 1)  # [N·views, D]
    sigma_w = within.T @ within / len(within)
    sigma_w.diagonal().add_(delta)
    factor, _ = torch.linalg.cholesky_ex(sigma_w)
    whitened = torch.linalg.solve_triangular(factor, (means - means.mean(0)).T, upper=False).T  # [N, D]
    eigenvalues = _eigenvalues(_gram(whitened)) / len(z)
    return entropy_rank(F.pad(eigenvalues, (0, z.shape[2] - len(eigenvalues))), eps)
