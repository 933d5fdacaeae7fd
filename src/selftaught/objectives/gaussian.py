"""SIGReg: how far embeddings are from a standard normal, seen along random directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import mean, world_size
from ..contracts import Draws
from .comparison import refuse_few
from .precision import full_precision


def random_directions(width: int, count: int, step: int, like: Tensor) -> Tensor:
    """[width, count] unit columns, drawn from the step alone: equal on every process and device (that of `like`)."""
    draws = Draws(torch.arange(width, device=like.device)).split(step)
    lines = draws.normal("directions", count).to(torch.promote_types(like.dtype, torch.float32))
    return F.normalize(lines, dim=0)


@full_precision
def epps_pulley(x: Tensor, *, points: int = 17, limit: float = 3.0) -> Tensor:
    """N ∫ |φ̂(t) − e^{−t²/2}|² e^{−t²/2} dt over −limit … limit: is each column of x [N, K] standard normal? [K], least 0.

    φ̂: the empirical characteristic function of the N samples of all processes (Epps & Pulley, 1983). Trapezoidal rule on
    `points` nodes of the half line, the other half by symmetry, as the code of LeJEPA has it.
    """
    t = torch.linspace(0.0, limit, points, dtype=x.dtype, device=x.device)
    weights = torch.full_like(t, 2 * limit / (points - 1))
    weights[0] = weights[-1] = limit / (points - 1)
    normal = torch.exp(-t.square() / 2)
    angles = x[..., None] * t  # [N, K, points]
    real, imaginary = mean(angles.cos().mean(0)), mean(angles.sin().mean(0))
    return ((real - normal).square() + imaginary.square()) @ (weights * normal) * (len(x) * world_size())


@full_precision
def sigreg(z: Tensor, directions: Tensor, *, points: int = 17, limit: float = 3.0) -> Tensor:
    """Sketched isotropic Gaussian regularisation (Balestriero & LeCun, 2025, alg. 1): mean Epps–Pulley statistic of z [N, D]
    along the unit columns of directions [D, K]; N ≥ 2 over all processes."""
    refuse_few("sigreg", len(z) * world_size())
    return epps_pulley(z @ directions.to(z.dtype), points=points, limit=limit).mean()
