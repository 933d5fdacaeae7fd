"""SimMIM: mask tokens among the visible ones, and one linear map from the encoder to what they hide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import Batch, Mask, Single, Training, View, register
from ..networks import Embedder
from ..networks.decoder import at_places, encode_masked, predicted_places
from ..objectives.masked import masked_mean, signal_error
from .base import Method


@register("simmim")
class SimMIM(Method):
    """A simple framework for masked image modelling (Xie et al., 2022).

    loss = mean over items and hidden tokens p of ‖x̂_p − x_p‖₁ / P,  x̂ = W f(x with mask tokens at the hidden places)

    x_p: the P raw values of a token; codes of a table have the cross-entropy. The masks hide cells of two tokens a side, as with
    the paper's patches of 16 pixels. Like MAE's in all else.
    """

    grounded = True
    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep"}), mask=Mask("random", (0.6, 0.6), size=2))
    defaults = Training(optimizer="adamw", lr=1e-4, weight_decay=0.05, warmup=20.0, clip=5.0, batch_size=2048, epochs=800)
    small = {"normalised": True, "masked": 0.5, "size": 1, "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, error: str = "l1", normalised: bool = False, mask: str = "random",
                 masked: float = 0.6, masks: int = 1, size: int = 2):
        """error: l1, l2 or smooth_l1. normalised: the target, each token by itself. mask, masked, masks, size: as of MAE."""
        super().__init__()
        self.error, self.normalised = error, normalised
        self.student, self.signal = Embedder(backbone), backbone.signal()
        self.mask_token = nn.Parameter(torch.empty(backbone.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.head = nn.Linear(backbone.width, self.signal.width)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        (view,) = views
        places = predicted_places(view)
        encoded = encode_masked(self.student.backbone, view, self.mask_token)
        predicted, target = self.head(at_places(encoded.tokens, places)), at_places(self.targets(view), places)
        return masked_mean(signal_error(predicted, target, counts=self.signal.counts(places), kind=self.error))

    def targets(self, view: View) -> Tensor:
        """x [B, N, P]."""
        return self.signal(view.x, view.lengths, normalised=self.normalised)
