"""POA: one run for networks of many sizes: at every step a part of the student, drawn anew, learns what the whole does."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Group, Linear, MultiCrop, Need, OptionError, Terms, Training, View, register
from ..networks import DinoHead, Embedder, Teacher, over
from ..networks.elastic import Elastic, channels
from ..objectives import cross_entropy_soft, koleo, sinkhorn, swapped_prediction
from .base import Method


class Heads(nn.ModuleList):
    """Several heads of one input [B, D]: their outputs side by side, [B, ΣK]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self], dim=1)


@register("poa")
class POA(Method):
    """Pre-training once for models of all sizes (Zhang et al., 2024).

    loss = mean over heads of λ H(P_t(x), P(x′)) + (1 − λ) [H(P_t(x), P̃(x′)) + H(sg P(x), P̃(x))] + koleo · L_koleo      (eq. 6 to 10)

    P: the student's softmax, P̃: that of a part of it, of fewer heads and blocks (networks/elastic.py), by the same weights and heads.
    H with P_t is the mean over large views x and other views x′; H with P that over the large views plus that over the small ones. L_koleo
    is DINOv2's, the mean of the student and its part. P_t is balanced by three rounds of Sinkhorn; each head has as many prototypes as
    `outputs` says. Sizes are drawn a step, small ones up to `preference`² times as often; the authors go through a shuffled list of
    them, take the first channels and not ones that lie evenly, and add DINOv2's prediction of hidden tokens and rates by layer, which
    are left out. The kept encoder is the teacher's; `sub_network` cuts any size out of it.
    """

    needs = MultiCrop(small=8, large_scale=(0.32, 1.0), small_scale=(0.05, 0.32), asymmetric=True, backbone=frozenset({"tokens"}))
    defaults = Training(optimizer="adamw", lr=2e-3, scale_lr="sqrt", final_lr=2e-5, weight_decay=Cosine(0.04, 0.4), clip=1.5, warmup=10.0,
                        batch_size=1600, epochs=346, groups={f"student.head.{k}.last": Group(frozen_epochs=1.0) for k in range(4)})
    small = {"outputs": (32, 64, 128, 256), "hidden": 256, "bottleneck": 64, "norm": True, "momentum": 0.95,
             "teacher_temperature": (0.04, 0.04), "crops": 2, "backbone.pool": "mean", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, outputs: tuple[int, int, int, int] = (8192, 16384, 32768, 65536), hidden: int = 2048,
                 bottleneck: int = 256, intact: float = 0.8, koleo: float = 0.1, least_width: float = 0.375, least_depth: float = 0.5,
                 preference: float = 3.0, momentum: float = 0.992, temperature: float = 0.1,
                 teacher_temperature: tuple[float, float] = (0.04, 0.07), temperature_epochs: float = 30.0, norm: bool = False,
                 crops: int = 8):
        """outputs: prototypes of each head. hidden, bottleneck, norm: of the heads, as of DINO, like the temperatures. intact: λ; 1 leaves
        the part out. koleo: weight. least_width, least_depth: part of the heads, and blocks, that the smallest has. crops: small views."""
        super().__init__()
        self.outputs, self.intact, self.koleo, self.temperature = list(outputs), intact, koleo, temperature
        self.teacher_temperature = Linear(*teacher_temperature, epochs=temperature_epochs)
        self.elastic = Elastic(backbone)
        blocks = backbone.transformer.blocks
        self.sizes = sizes(blocks[0].heads, len(blocks), least_width, least_depth, preference)
        heads = Heads(DinoHead(backbone.width, k, hidden=hidden, bottleneck=bottleneck, norm=norm) for k in outputs)
        self.student = Embedder(backbone, heads)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 0.9999))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Need:
        return replace(cls.needs, small=options.get("crops", cls.needs.small))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        large, size = [v for v in views if v.role == "global"], self.drawn_size(batch)
        whole = over(views, self.encode, joint=True)
        part = over(views, lambda v: self.encode(v, size), joint=True) if self.intact < 1 else whole
        taught = torch.cat(over(large, self.teacher, joint=True))
        terms = [self.distilled([s for _, s in whole], [s for _, s in part], taught, len(large), head) for head in range(len(self.outputs))]
        named = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        total = self.intact * named["intact"] + (1 - self.intact) * (named["elastic"] + named["same_view"])
        if self.koleo:
            named["koleo"] = sum(koleo(pooled) for found in (whole, part) for pooled, _ in found[: len(large)]) / 2
            total = total + self.koleo * named["koleo"]
        return Terms(total, **named)

    def distilled(self, whole: list[Tensor], part: list[Tensor], taught: Tensor, large: int, head: int) -> dict[str, Tensor]:
        """The three entropies of one head. whole, part: scores [B, ΣK] of every view; taught: of the large ones, one after another."""
        whole, part = ([scores.split(self.outputs, dim=1)[head] for scores in found] for found in (whole, part))
        scores = taught.split(self.outputs, dim=1)[head]
        targets, t = sinkhorn(scores, iterations=3, epsilon=self.at(self.teacher_temperature)).chunk(large), self.temperature
        same = [cross_entropy_soft(p, (w.detach() / t).softmax(1), temperature=t) for w, p in zip(whole, part, strict=True)]
        return {"intact": swapped_prediction(whole, targets, temperature=t), "elastic": swapped_prediction(part, targets, temperature=t),
                "same_view": sum(torch.stack(some).mean() for some in (same[:large], same[large:]) if some)}

    def encode(self, view: View, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """What the student, or its part of a size, pools of a view, and the heads' scores of it. A part's heads have its channels alone,
        times D / D̃: zeros stand for the others."""
        backbone = self.student.backbone
        if size is None:
            pooled = backbone(view.x, lengths=view.lengths).pooled
            return pooled, self.student.head(pooled)
        pooled = self.elastic(size, view.x, lengths=view.lengths).pooled
        kept = channels(backbone.width, pooled.shape[1], pooled.device)
        wide = pooled.new_zeros(len(pooled), backbone.width).index_copy(1, kept, pooled * (backbone.width / pooled.shape[1]))
        return pooled, self.student.head(wide)

    def drawn_size(self, batch: Batch) -> tuple[int, int]:
        """(heads, blocks) of this step's part, the same on all processes."""
        found, weights = zip(*self.sizes.items())
        bounds = list(accumulate(weights))
        place = self.draws(batch).step_uniform("size") * bounds[-1]
        return found[min(bisect(bounds, place), len(found) - 1)]

    def kept(self) -> nn.Module:
        return self.teacher.backbone


def sizes(heads: int, depth: int, least_width: float, least_depth: float, preference: float) -> dict[tuple[int, int], int]:
    """(heads, blocks) of every part but the whole → how often it is drawn: the product, rounded, of two numbers that fall evenly from
    `preference` for the least width, and depth, to 1 for the whole."""
    def falling(whole: int, part: float) -> list[tuple[int, float]]:
        least = max(1, math.ceil(part * whole - 1e-9))
        return [(n, preference + (1 - preference) * (n - least) / max(whole - least, 1)) for n in range(least, whole + 1)]

    found = {(w, d): max(round(a * b), 1) for w, a in falling(heads, least_width) for d, b in falling(depth, least_depth)}
    found.pop((heads, depth), None)
    if not found:
        raise OptionError(f"A network of {heads} heads and {depth} blocks has no smaller part with least_width={least_width} and "
                          f"least_depth={least_depth}: lower these.")
    return found
