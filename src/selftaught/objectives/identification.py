"""Which of an item's hidden tokens is this: a prediction against the true values of all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import full_precision


@full_precision
def token_nce(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE among the hidden tokens of one item (Gong et al., 2022, eq. 1): (loss [B, T], whether the right one is chosen [B, T]).

    −log e^{c_i·x_i} / Σ_j e^{c_i·x_j}. predicted c: [B, T, D], target x: [B, T, D], raw, without temperature, as the authors' code has
    them. Tokens whose target is NaN are nobody's candidates, and NaN themselves in both.
    """
    there = ~target.isnan().any(-1)  # [B, T]
    scores = predicted @ target.nan_to_num(0.0).transpose(1, 2)  # [B, T of the prediction, T of the candidate]
    scores = scores.masked_fill(~there[:, None], torch.finfo(scores.dtype).min)
    loss = -scores.log_softmax(-1).diagonal(dim1=1, dim2=2)
    right = (scores.argmax(-1) == torch.arange(scores.shape[-1], device=scores.device)).to(loss.dtype)
    return loss.masked_fill(~there, torch.nan), right.masked_fill(~there, torch.nan)
