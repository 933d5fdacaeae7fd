"""How evenly a batch uses its classes."""

from __future__ import annotations

import math

from torch import Tensor

from ..collectives import mean
from .precision import full_precision


@full_precision
def mean_entropy_gap(probabilities: Tensor) -> Tensor:
    """log K − H(p̄), p̄ the mean of the rows [N, K] over all processes: zero where all classes are used alike (MSN's me-max)."""
    average = mean(probabilities.mean(0))
    return math.log(len(average)) + (average * average.clamp_min(1e-30).log()).sum()
