"""MSN: from what is left of an item, tell to which prototypes a teacher assigns the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Group, Linear, Mask, MultiCrop, Need, Terms, Training, View, register
from ..networks import DinoHead, Embedder, Teacher, over
from ..objectives import cross_entropy_soft, sinkhorn
from ..objectives.entropy import mean_entropy_gap
from .base import Method


@register("msn")
class MSN(Method):
    """Masked Siamese networks (Assran et al., 2022).

    loss = mean over anchors m of H(p⁺, p_m) − λ H(p̄),  p_m = softmax(z_m·q/τ),  p⁺ = softmax(z⁺·q/τ⁺),  τ⁺ = τ/4          (eq. 1)

    z⁺: the teacher's, of one large view, whole. z_m: the student's, of another large view, a part of whose tokens is hidden and
    not encoded, and of `focal` small ones, whole. q: unit prototypes, learned by the student's side alone. p̄: mean of p_m over
    anchors; its entropy is given as the gap to log K. As in the authors' recipe three rounds of Sinkhorn balance p⁺ over the
    batch, and entropy minimisation has no weight. They stop their schedules at 80 %, here these run to their ends; they clip
    without the prototypes, here with them. The kept encoder is the teacher's. BatchNorm statistics of the projector are joint over the
    views of one size.
    """

    needs = MultiCrop(small=10, large_scale=(0.3, 1.0), small_scale=(0.05, 0.3), backbone=frozenset({"tokens", "keep"}),
                      mask=Mask("random", (0.15, 0.15)))
    defaults = Training(optimizer="adamw", lr=2.5e-4, final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), clip=3.0, warmup=15.0,
                        batch_size=1024, epochs=800, groups={"prototypes": Group(weight_decay=0.0)})
    small = {"hidden": 512, "width": 128, "prototypes": 128, "focal": 2, "momentum": 0.95, "training.lr": 1e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, width: int = 256, hidden: int = 2048, prototypes: int = 1024, temperature: float = 0.1,
                 sharpening: float = 0.25, entropy: float = 1.0, balanced: bool = True, momentum: float = 0.996, masked: float = 0.15,
                 focal: int = 10):
        """width: of z. hidden: of the projector, three layers. prototypes: K. temperature: τ. sharpening: τ⁺/τ. entropy: λ.
        balanced: Sinkhorn. momentum: the teacher's, at first. masked: part hidden (.15 for small, .7 for large networks)."""
        super().__init__()
        self.temperature, self.sharpening, self.entropy, self.balanced = temperature, sharpening, entropy, balanced
        head = DinoHead(backbone.width, prototypes, hidden=hidden, bottleneck=width, norm=True)
        head.mlp[0].bias = head.mlp[3].bias = None  # BatchNorm, which follows, would take them away
        self.student, self.prototypes = Embedder(backbone, head.mlp), head.last
        self.teacher = Teacher(self.student, momentum=Linear(momentum, 1.0))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Need:
        part = options.get("masked", cls.needs.mask.ratio[0])
        return replace(cls.needs, small=options.get("focal", cls.needs.small), mask=replace(cls.needs.mask, ratio=(part, part)))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        target, *anchors = views
        scores = [self.score(z) for z in over(anchors, self.visible, joint=True)]
        assigned = self.assign(self.score(self.teacher(target)))
        prediction = torch.stack([cross_entropy_soft(s, assigned, temperature=self.temperature) for s in scores]).mean()
        gap = mean_entropy_gap((torch.cat(scores) / self.temperature).softmax(1))
        return Terms(prediction + self.entropy * gap, prediction=prediction, entropy_gap=gap)

    def visible(self, view: View) -> Tensor:
        """z [B, width] of what is not hidden."""
        keep = None if view.masks is None else view.applied["keep"][0]
        return self.student.head(self.student.backbone(view.x, lengths=view.lengths, keep=keep).pooled)

    def score(self, z: Tensor) -> Tensor:
        """Cosines [B, K] with the prototypes."""
        return self.prototypes(nn.functional.normalize(z, dim=1))

    @torch.no_grad()
    def assign(self, scores: Tensor) -> Tensor:
        """p⁺ [B, K]."""
        sharp = (scores / (self.temperature * self.sharpening)).log_softmax(1)
        return sinkhorn(sharp, iterations=3, epsilon=1.0) if self.balanced else sharp.exp()

    def kept(self) -> nn.Module:
        return self.teacher.backbone
