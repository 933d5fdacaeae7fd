"""Errors of sets of points: Chamfer's distance, in which every point finds the nearest of the other set."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import full_precision


@full_precision
def chamfer(predicted: Tensor, target: Tensor) -> Tensor:
    """predicted [..., K, D], target [..., L, D] → [...]: Σ_q min_p ‖p − q‖² / L + Σ_p min_q ‖p − q‖² / K (Fan et al., 2017; squared
    distances and means, as in the code of Point-MAE).

    Points of the target that are NaN are not there; NaN where none is."""
    there = ~target.isnan().any(-1)
    known = torch.where(there[..., None], target, 0.0)
    distance = (predicted[..., :, None, :] - known[..., None, :, :]).square().sum(-1)  # [..., K, L]
    count = there.sum(-1)
    to_target = distance.masked_fill(~there[..., None, :], torch.inf).amin(-1).mean(-1)
    to_predicted = (distance.amin(-2) * there).sum(-1) / count.clamp(min=1)
    return torch.where(count > 0, torch.where(count > 0, to_target, 0.0) + to_predicted, torch.nan)


@full_precision
def unsigned_error(predicted: Tensor, target: Tensor) -> Tensor:
    """predicted, target [..., D] → [...]: the smaller of the mean squared errors against target and −target, for axes without a sign
    (a surface normal from the covariance of its points); NaN where the target is."""
    known = target.nan_to_num(0.0)
    error = torch.minimum((predicted - known).square().mean(-1), (predicted + known).square().mean(-1))
    return error.masked_fill(target.isnan().any(-1), torch.nan)
