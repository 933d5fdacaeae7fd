"""LUT: MAE whose visible tokens also learn what the whole of another view is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Facts, Features, Mask, Pair, Terms, Training, View, register
from ..networks import Embedder, Mlp, Teacher, ordered_pairs, over
from ..networks.decoder import encode_visible
from ..objectives import negative_cosine
from .mae import MAE


@register("lut")
class LUT(MAE):
    """Learning with unmasked tokens drives stronger vision learners (Kim et al., 2024).

    loss = MAE's of the first view + w · mean over ordered pairs of views a ≠ b of 2 − 2·cos(q(h(f(visible of a))), sg[h̄(f̄(b))])

    f̄, h̄: a teacher that sees the view whole. What is projected is the mean of the tokens. The authors' first view is plain, and
    the two show disjoint places; here both are changed alike and their masks are independent. The kept encoder is the student's.
    """

    needs = Pair(backbone=frozenset({"tokens", "keep"}), mask=Mask("random", (0.75, 0.75)))
    defaults = Training(optimizer="adamw", lr=6e-4, scale_lr="sqrt", weight_decay=0.05, betas=(0.9, 0.95), warmup=40.0, batch_size=4096,
                        epochs=1600)
    small = {**MAE.small, "hidden": 256, "momentum": 0.95}

    def __init__(self, backbone: nn.Module, *, facts: Facts, context: float = 0.25, hidden: int = 4096, momentum: float = 0.996,
                 width: int = 512, depth: int = 8, heads: int = 16, normalised: bool = True, mask: str = "random", masked: float = 0.75,
                 size: int = 1):
        """context: w. hidden: of h and q. momentum: the teacher's, at first. The others: as of MAE."""
        super().__init__(backbone, facts=facts, width=width, depth=depth, heads=heads, normalised=normalised)
        self.context = context
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, backbone.width, last_bias=False))
        self.predictor = Mlp(backbone.width, hidden, backbone.width, last_bias=False)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        encoded = [encode_visible(self.student.backbone, view) for view in views]
        reconstruction = self.reconstruction(views[0], encoded[0])
        asked, taught = [self.predictor(self.student.head(mean_token(f))) for f in encoded], over(views, self.taught)
        context = torch.stack([2 + 2 * negative_cosine(p, t) for p, t in ordered_pairs(asked, taught)]).mean()
        return Terms(reconstruction + self.context * context, reconstruction=reconstruction, context=context)

    @torch.no_grad()
    def taught(self, view: View) -> Tensor:
        """h̄(f̄(view)) [B, D]."""
        return self.teacher.module.head(mean_token(self.teacher.backbone(view.x, lengths=view.lengths)))


def mean_token(features: Features) -> Tensor:
    """[B, D], of the tokens within their item."""
    if features.lengths is None:
        return features.tokens.mean(1)
    return features.tokens.sum(1) / features.lengths.clamp(min=1)[:, None].to(features.tokens.dtype)
