"""Whitening a slice of a batch at a time, for W-MSE with more than two views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather
from ..contracts import Draws, OptionError
from .precision import full_precision


@full_precision
def whitened(x: Tensor, *, eps: float = 0.0) -> Tensor:
    """Each slice of x [..., N, D] with mean 0 and (unbiased) covariance I: the inverse Cholesky factor of (1 − ε) Cov + ε I."""
    n, d = x.shape[-2:]
    if n <= d:
        raise OptionError(f"Whitening {d} dimensions takes slices of more than {d} samples, and these have {n}: raise "
                          "batch_size and method.sub_batch, or lower method.width.")
    x = x - x.mean(-2, keepdim=True)
    covariance = (1 - eps) * (x.mT @ x) / (n - 1) + eps * torch.eye(d, dtype=x.dtype, device=x.device)
    factor, _ = torch.linalg.cholesky_ex(covariance)
    return torch.linalg.solve_triangular(factor, x.mT, upper=False).mT


def random_orders(samples: int, count: int, step: int, device: torch.device | str = "cpu") -> Tensor:
    """int64 [count, samples]: permutations drawn from the step alone, equal on every process."""
    return Draws(torch.arange(count, device=device)).split(step).permutation("slices", samples)


@full_precision
def sliced_whitening_mse(z: Tensor, *, sub_batch: int, iterations: int = 1, step: int = 0, normalise: bool = True,
                         eps: float = 0.0) -> Tensor:
    """W-MSE over all pairs of V views, whitened in slices (Ermolov et al., 2021, eq. 5 and section 3).

    z: raw [V, B, D]. `iterations` times the samples of all processes are put into an order drawn from `step` and cut into
    slices of `sub_batch` (at most all; a rest takes no part), and every view of a slice is whitened by itself. Returns the mean
    over iterations, pairs of views and samples of the squared distance: of unit rows (2 − 2·cos), or, without `normalise`, a
    dimension.
    """
    pool = gather(z.transpose(0, 1)).transpose(0, 1)  # [V, N, D]
    views, n, width = pool.shape
    size, total = min(sub_batch, n), 0.0
    for order in random_orders(n, iterations, step, z.device):
        places = order[: n // size * size].view(-1, size)
        white = whitened(pool[:, places], eps=eps)  # [V, slices, size, D]
        white = F.normalize(white, dim=-1) if normalise else white / width**0.5
        apart = views * white.square().sum(0) - white.sum(0).square()  # Σ over pairs of the squared differences
        total = total + apart.sum(-1).mean()
    return total / (iterations * (views * (views - 1) // 2))
