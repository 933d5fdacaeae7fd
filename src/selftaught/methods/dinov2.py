"""DINOv2: DINO on whole views, the same on hidden tokens, and items spread apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Group, Linear, Mask, MultiCrop, Need, Terms, Training, View, nearest, register
from ..networks import Centre, DinoHead, Embedder, Teacher, over
from ..networks.decoder import at_places, inside_tokens
from ..objectives import koleo, masked_mean, sinkhorn, swapped_prediction
from ..objectives.alignment import token_cross_entropy
from .base import Method, with_mask

CENTRINGS = ("sinkhorn", "softmax")


@register("dinov2")
class DINOv2(Method):
    """Learning robust visual features without supervision (Oquab et al., 2024).

    loss = mean over large views x and other views x′ of H(P_t(x), P_s(x′))                        (DINO, on what is pooled)
         + ibot · mean over large views and hidden tokens i of H(P̄_t(x)_i, P̄_s(x masked)_i)        (iBOT, on tokens)
         + koleo · Σ over large views of −mean log min_{j≠i} ‖z_i − z_j‖,  z the student's pooled features

    P_s: softmax at `temperature`. P_t: the teacher's, of the view whole, balanced over the batch by three rounds of Sinkhorn, or less
    a moving centre as in DINO (`centring=softmax`). P̄: with heads of their own. One of each item's two large views, drawn anew, has mask
    tokens for a part of it, and the other counts as zero, as in the authors' code, where half of all large views are drawn. ibot =
    koleo = 0 and centring=softmax are DINO. Padding takes part in the balancing of tokens, indifferent. The authors' rates by layer, drop
    path, last phase at a high resolution and distillation are left out; they clip backbone and heads apart, here one norm is of
    all. The kept encoder is the teacher's.
    """

    needs = MultiCrop(small=8, large_scale=(0.32, 1.0), small_scale=(0.05, 0.32), asymmetric=True,
                      backbone=frozenset({"tokens", "keep", "mask_tokens"}), mask=Mask("span", (0.1, 0.5), size=4))
    defaults = Training(optimizer="adamw", lr=2e-3, scale_lr="sqrt", final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), clip=3.0, warmup=10.0,
                        batch_size=1024, epochs=100, groups={"student.head.last": Group(frozen_epochs=1.0),
                                                             "student.patches.last": Group(frozen_epochs=1.0)})
    small = {"outputs": 256, "hidden": 512, "bottleneck": 128, "norm": True, "momentum": 0.95, "teacher_temperature": (0.04, 0.04),
             "crops": 2, "size": 2, "backbone.pool": "mean", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, outputs: int = 65536, hidden: int = 2048, bottleneck: int = 256, ibot: float = 1.0,
                 koleo: float = 0.1, centring: str = "sinkhorn", momentum: float = 0.992, temperature: float = 0.1,
                 teacher_temperature: tuple[float, float] = (0.04, 0.07), temperature_epochs: float = 30.0, centre_momentum: float = 0.9,
                 norm: bool = False, crops: int = 8, mask: str = "span", masked: tuple[float, float] = (0.1, 0.5), size: int = 4):
        """outputs, hidden, bottleneck, norm: of both heads, as of DINO, like the temperatures. ibot, koleo: weights. centring: sinkhorn or
        softmax. crops: small views. mask, masked, size: as of MAE, `masked` between two parts."""
        super().__init__()
        if centring not in CENTRINGS:
            raise nearest(centring, CENTRINGS, what="centring")
        self.ibot, self.koleo, self.centring, self.temperature = ibot, koleo, centring, temperature
        self.teacher_temperature = Linear(*teacher_temperature, epochs=temperature_epochs)
        self.student = Embedder(backbone, DinoHead(backbone.width, outputs, hidden=hidden, bottleneck=bottleneck, norm=norm))
        self.student.patches = DinoHead(backbone.width, outputs, hidden=hidden, bottleneck=bottleneck, norm=norm).requires_grad_(bool(ibot))
        self.mask_token = nn.Parameter(torch.zeros(backbone.width), requires_grad=bool(ibot))
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))
        self.centre, self.patch_centre = Centre(outputs, centre_momentum), Centre(outputs, centre_momentum)

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Need:
        need = with_mask(replace(cls.needs, small=options.get("crops", cls.needs.small)), options)
        return need if options.get("ibot", 1.0) else replace(need, mask=None)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        large = [v for v in views if v.role == "global"]
        chosen = self.draws(batch).integers("hidden view", len(large))  # [B]: which of the large views has mask tokens
        seen = [v if v.masks is None else v.with_(masks=v.masks & (chosen == k)[:, None]) for k, v in enumerate(views)]
        student, taught = over(seen, self.encode, joint=True), over(large, self.targets, joint=True)
        scores = self.teacher.module.head(torch.cat([t[:, 0] for t in taught]))
        targets = self.assigned(scores, self.centre).chunk(len(large))
        terms = {"dino": swapped_prediction([score for _, _, score in student], targets, temperature=self.temperature)}
        if self.ibot:
            tokens = [tokens for _, tokens, _ in student[: len(large)]], [t[:, 1:] for t in taught]
            terms["ibot"] = self.tokens_lost(large, chosen, *tokens) / len(large)
        if self.koleo:
            terms["koleo"] = sum(koleo(pooled) for pooled, _, _ in student[: len(large)])
        weights = {"dino": 1.0, "ibot": self.ibot, "koleo": self.koleo}
        return Terms(sum(weights[name] * term for name, term in terms.items()), **terms)

    def tokens_lost(self, large: list[View], chosen: Tensor, student: list[Tensor], taught: list[Tensor]) -> Tensor:
        """Mean over items of the entropies of the tokens that are hidden of the chosen view; student, taught: tokens [B, N, D] of each."""
        of_chosen = lambda each: torch.stack(each)[chosen, torch.arange(len(chosen), device=chosen.device)]  # noqa: E731
        places = of_chosen([v.applied["hidden"][0] for v in large])  # [B, T]
        scores = self.student.patches(at_places(of_chosen(student), places).flatten(0, 1))  # [B · T, K]
        target = self.teacher.module.patches(at_places(of_chosen(taught), places).flatten(0, 1))
        inside = [inside_tokens(v, self.student.backbone) for v in large]
        if inside[0] is None:
            target = self.assigned(target, self.patch_centre)
        else:
            padding = ~of_chosen(inside).gather(1, places).flatten()[:, None]
            target = self.assigned(target.masked_fill(padding, 0.0), self.patch_centre).masked_fill(padding, torch.nan)
        return masked_mean(token_cross_entropy(scores, target, temperature=self.temperature).view(places.shape))

    def encode(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """What is pooled [B, D], tokens [B, N, D], scores of what is pooled [B, K]."""
        masked = None if view.masks is None else view.masks[0]
        features = self.student.backbone(view.x, lengths=view.lengths, masked=masked, mask_token=self.mask_token)
        return features.pooled, features.tokens, self.student.head(features.pooled)

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """What the teacher makes of a view: what is pooled, then the tokens [B, 1 + N, D]."""
        features = self.teacher.backbone(view.x, lengths=view.lengths)
        return torch.cat([features.pooled[:, None], features.tokens], dim=1)

    @torch.no_grad()
    def assigned(self, scores: Tensor, centre: Centre) -> Tensor:
        """P_t of a teacher's scores [.., K]."""
        temperature = self.at(self.teacher_temperature)
        if self.centring == "sinkhorn":
            return sinkhorn(scores, iterations=3, epsilon=temperature)
        centre.stage(scores)
        return ((scores - centre.value) / temperature).softmax(-1)

    def kept(self) -> nn.Module:
        return self.teacher.backbone
