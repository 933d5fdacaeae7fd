"""I-JEPA: from one part of an item, what a teacher makes of several other parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Facts, Features, Linear, Mask, Need, Single, Terms, Training, View, register
from ..networks import Embedder, Teacher
from ..networks.decoder import Decoder, at_places, encode_visible, inside_tokens, predicted_places
from ..networks.signal import layer_average, target_spread
from ..objectives.masked import masked_mean, token_error
from .base import Method


@register("jepa")
class JEPA(Method):
    """Joint-embedding predictive architecture (I-JEPA; Assran et al., 2023).

    loss = mean over target blocks m, items and tokens t of the block of smooth L1(g(f(context), mask tokens of block m)_t, y_t)

    y: the last layer of a teacher that sees the whole item, each token normalised over its channels. context: one large block without
    the targets, the only part that f encodes. g: a narrow Transformer. The paper writes a squared error, its code has smooth L1. Its
    code trims contexts to the smallest of the batch; here all are as large as target blocks apart would leave. `target_spread`: as of
    data2vec. Short runs have two larger blocks, as four leave a grid of few tokens no context; a teacher that keeps up; and targets
    normalised over the item (`norm`), without what all its tokens share (how bright it is), which a token tells of any other, so that a
    short run learns little else. The kept encoder is the teacher's.
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep"}), mask=Mask("block", (0.15, 0.2), count=4, context=(0.85, 1.0)))
    defaults = Training(optimizer="adamw", lr=1.25e-4, final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), warmup=15.0, batch_size=2048,
                        epochs=600)
    small = {"width": 64, "depth": 2, "heads": 4, "momentum": 0.95, "norm": "instance", "masks": 2, "masked": (0.25, 0.35),
             "backbone.pool": "mean", "training.lr": 1e-3, "training.scale_lr": "sqrt", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 384, depth: int = 6, heads: int = 12, momentum: float = 0.996,
                 norm: str = "layer", error: str = "smooth_l1", beta: float = 1.0, mask: str = "block",
                 masked: tuple[float, float] = (0.15, 0.2), masks: int = 4, size: int = 1, context: tuple[float, float] = (0.85, 1.0)):
        """width, depth, heads: of g. momentum: the teacher's, at first. norm: of the targets, layer (a token over its channels), instance
        (a channel over the item) or none. error: smooth_l1 (quadratic up to beta), l2 or l1. mask, masked, masks, size: of the
        targets, as of MAE, `masked` between two parts. context: part of the item."""
        super().__init__()
        self.norm, self.error, self.beta = norm, error, beta
        self.student = Embedder(backbone)
        self.predictor = Decoder(backbone, facts.shape, backbone.width, width=width, depth=depth, heads=heads)
        self.teacher = Teacher(self.student, momentum=Linear(momentum, 1.0))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Need:
        need = super().needed(options)
        return replace(need, mask=replace(need.mask, context=tuple(options["context"]))) if "context" in options else need

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        targets, predicted = self.targets(view), self.predicted(encode_visible(self.student.backbone, view), view, batch)
        loss = masked_mean(token_error(predicted, at_places(targets, predicted_places(view)), kind=self.error, beta=self.beta))
        return Terms(loss, target_spread=target_spread(targets))

    def predicted(self, context: Features, view: View, batch: Batch) -> Tensor:
        """g of the context [M · B, T, D]."""
        return self.predictor(context, view, self.student.backbone.grid(view.x.shape))

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """y [B, N, D]."""
        backbone = self.teacher.backbone
        tokens = backbone(view.x, lengths=view.lengths).tokens
        return layer_average([tokens], inside_tokens(view, backbone), self.norm)

    def kept(self) -> nn.Module:
        return self.teacher.backbone
