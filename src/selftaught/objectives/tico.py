"""TiCo: agree between the views, and stay out of the directions that embeddings have filled so far."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..collectives import mean
from .precision import full_precision


@full_precision
def tico(query: Tensor, key: Tensor, covariance: Tensor, *, beta: float, rho: float) -> Tensor:
    """−mean z·z′ + ρ · mean zᵀ C z of unit rows, C = β · C₋₁ + (1 − β) · mean z zᵀ (Zhu et al., 2022, eq. 1 and 2).

    query (z), key (z′): raw [N, D]. covariance: C₋₁ [D, D], a constant, equal on all processes. The gradient flows through z
    and through the present batch's part of C; the batch is that of all processes.
    """
    z, target = F.normalize(query, dim=1), F.normalize(key, dim=1)
    c = beta * covariance + (1 - beta) * mean(z.T @ z / len(z))
    return ((rho * (z @ c) - target) * z).sum(1).mean()
