"""SSAST: tell which hidden token is which, and what is in it, in one loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import Batch, Mask, NotApplicable, Single, Terms, Training, View, register
from ..networks import Embedder, Mlp
from ..networks.decoder import at_places, encode_masked, predicted_places
from ..networks.signal import PatchSignal
from ..objectives.identification import token_nce
from ..objectives.masked import masked_mean, signal_error
from .base import Method


@register("ssast")
class SSAST(Method):
    """Joint discriminative and generative masked patch modelling (Gong et al., 2022; with a backbone of state spaces, SSAMBA: Shams et
    al., 2024).

    loss = L_d + λ L_g,  L_d = −mean_i log e^{c_i·x_i} / Σ_j e^{c_i·x_j},  L_g = mean_i ‖r_i − x_i‖² / P          (eq. 1 to 3)

    i, j: the hidden tokens of one item. x_i: the P values of a token; c_i, r_i: what two heads of two layers make of the encoder's output
    there, a mask token in its place. Hidden are boxes of about `size` tokens a side until so many are (the authors draw 3 to 5; 400 of
    512 tokens). `accuracy`: how often c_i chooses x_i. `contrast` and `weight` (λ) may be 0.
    """

    grounded = True
    needs = Single(strength="weak", backbone=frozenset({"tokens", "mask_tokens"}), mask=Mask("span", (0.78, 0.78), size=4))
    defaults = Training(optimizer="adamw", lr=1e-4, scale_lr="off", weight_decay=5e-7, betas=(0.95, 0.999), warmup=0.5, batch_size=24,
                        epochs=10)
    small = {"masked": 0.5, "size": 2, "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, contrast: float = 1.0, weight: float = 10.0, mask: str = "span", masked: float = 0.78,
                 masks: int = 1, size: int = 4):
        """contrast: weight of L_d. weight: λ. mask, masked, masks, size: as of MAE."""
        super().__init__()
        self.contrast, self.weight = contrast, weight
        self.student, self.signal = Embedder(backbone), backbone.signal()
        if not isinstance(self.signal, PatchSignal):
            raise NotApplicable("The method ssast tells tokens by their values, which categories and single cells have too few of: "
                                "use simmim.")
        self.mask_token = nn.Parameter(torch.empty(backbone.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.classify, self.generate = (Mlp(backbone.width, backbone.width, self.signal.width, norm=False) for _ in range(2))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        places = predicted_places(view)
        hidden = at_places(encode_masked(self.student.backbone, view, self.mask_token).tokens, places)
        target = at_places(self.targets(view), places)
        each, right = token_nce(self.classify(hidden), target)
        contrast, error = masked_mean(each), masked_mean(signal_error(self.generate(hidden), target))
        return Terms(self.contrast * contrast + self.weight * error, contrast=contrast, error=error, accuracy=masked_mean(right))

    def targets(self, view: View) -> Tensor:
        """x [B, N, P]."""
        return self.signal(view.x, view.lengths)
