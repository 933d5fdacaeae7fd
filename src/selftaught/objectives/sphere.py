"""Losses of directions on the unit sphere: predict one, or spread them apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank
from .comparison import refuse_few
from .precision import full_precision

BLOCK = 1 << 22
"""Cosines held at once while nearest neighbours are sought."""


@full_precision
def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """−mean cos(p, sg[z]) of raw [N, D] (Chen & He, 2021, eq. 1): no gradient reaches z. BYOL's loss is 2 + 2 of it."""
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()


@torch.no_grad()
def _nearest(z: Tensor, pool: Tensor) -> Tensor:
    """int64 [B]: index in the pool [N, D] of the nearest other item; row i of z is row `rank·B + i` of the pool."""
    place = torch.arange(len(z), device=z.device)[:, None] + rank() * len(z)
    rows = max(1, BLOCK // len(pool))
    blocks = range(0, len(z), rows)
    return torch.cat([(z[i : i + rows] @ pool.T).scatter_(1, place[i : i + rows], -torch.inf).argmax(1) for i in blocks])


@full_precision
def koleo(z: Tensor) -> Tensor:
    """−mean log(min_{j≠i} ‖z_i − z_j‖ + ε), the entropy estimate of Kozachenko and Leonenko (Sablayrolles et al., 2019).

    z: raw [N, D], N ≥ 2, put on the unit sphere; neighbours are sought over all processes; ε = 1e-8, as in DINOv2.
    """
    z = F.normalize(z, dim=1, eps=1e-8)
    pool = gather(z)
    refuse_few("koleo", len(pool))
    distance = F.pairwise_distance(z, pool[_nearest(z, pool)], eps=1e-8)
    return -torch.log(distance + 1e-8).mean()
