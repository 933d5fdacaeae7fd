"""UDI: a second class token that is taught what many places of an item say, not only what the item is."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Draws, Features, Group, Mask, MultiCrop, Terms, Training, View, register
from ..networks import Centre, Teacher, over
from ..networks.decoder import at_places, inside_tokens
from ..networks.transformer import Block, initialise
from ..objectives import swapped_prediction
from .dinov2 import DINOv2


@register("udi")
class UDI(DINOv2):
    """Unsqueeze [CLS] bottleneck to learn rich representations (Su & Ji, 2024).

    loss = ⅓ · mean over large views x and other views x′ of H(P_t(x), P_s(x′)) + H(M_t(x), M_s(x′))       (classes)
         + ⅓ · mean over large views and hidden tokens i of H(P̄_t(x)_i, P̄_s(x masked)_i)                    (tokens)
    M_t = softmax((α mean_{i ∈ S} g(x_i) + (1 − α) g(x) − c) / τ_t)

    P: of the class token, as in DINO. M: of a second one, whose target keeps several modes: S holds one random token of every window of
    the grid (stratified sampling), g(x_i) is what the teacher's head makes of it. One head serves classes and tokens. From the authors'
    code are the means, taken of scores, and the weights. Here, so that any backbone with tokens serves, the second class token joins the
    tokens in one block above the backbone (theirs is in the backbone, and such a block refines the tokens alone); tokens are
    compared under iBOT's masks (theirs with the same place in another view); and small views have the target of the whole large one
    (theirs of the part they share). Without drop path. Short runs have the mean of the tokens for the first class token, which learns
    little in them. The kept encoder is the teacher's backbone.
    """

    needs = MultiCrop(small=6, large_scale=(0.25, 1.0), small_scale=(0.05, 0.25), asymmetric=True,
                      backbone=frozenset({"tokens", "keep", "mask_tokens"}), mask=Mask("span", (0.1, 0.5), size=4))
    defaults = Training(optimizer="adamw", lr=5e-4, final_lr=1e-5, weight_decay=Cosine(0.04, 0.1), clip=3.0, clip_each=True,
                        warmup=10.0, batch_size=1024, epochs=300, groups={"student.head.last": Group(frozen_epochs=1.0)})
    small = {"outputs": 256, "hidden": 512, "bottleneck": 128, "norm": True, "momentum": 0.95, "teacher_temperature": (0.04, 0.04),
             "crops": 2, "size": 2, "window": 2, "heads": 4, "backbone.pool": "mean", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, outputs: int = 65536, hidden: int = 2048, bottleneck: int = 256, alpha: float = 0.5,
                 window: int = 3, heads: int = 6, momentum: float = 0.996, temperature: float = 0.1,
                 teacher_temperature: tuple[float, float] = (0.04, 0.07), temperature_epochs: float = 30.0, centre_momentum: float = 0.9,
                 norm: bool = False, crops: int = 6, mask: str = "span", masked: tuple[float, float] = (0.1, 0.5), size: int = 4):
        """alpha: α. window: tokens along the sides of a stratum. heads: of the block above the backbone. The others: as of DINOv2."""
        super().__init__(backbone, outputs=outputs, hidden=hidden, bottleneck=bottleneck, koleo=0.0, centring="softmax",
                         temperature=temperature, teacher_temperature=teacher_temperature, temperature_epochs=temperature_epochs,
                         centre_momentum=centre_momentum, norm=norm)
        self.alpha, self.window = alpha, window
        self.student.patches = self.student.head
        self.student.unsqueeze = Unsqueeze(backbone.width, heads)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))
        self.profile_centre = Centre(outputs, centre_momentum)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        large, draws = [v for v in views if v.role == "global"], self.draws(batch)
        chosen = draws.integers("hidden view", len(large))  # [B]: which of the large views has mask tokens
        seen = [v if v.masks is None else v.with_(masks=v.masks & (chosen == k)[:, None]) for k, v in enumerate(views)]
        student, taught = over(seen, self.encode, joint=True), over(large, self.targets, joint=True)
        scores = [self.teacher.module.head(t[:, 0]) for t in taught]
        profiles = [self.alpha * self.profile(view, t[:, 1:], draws.split(k)) + (1 - self.alpha) * score
                    for k, (view, t, score) in enumerate(zip(large, taught, scores))]
        targets, consolidated = (self.assigned(torch.cat(of), centre).chunk(len(large))
                                 for of, centre in ((scores, self.centre), (profiles, self.profile_centre)))
        terms = {"dino": swapped_prediction([score for _, score, _ in student], targets, temperature=self.temperature),
                 "unsqueezed": swapped_prediction([score for _, _, score in student], consolidated, temperature=self.temperature)}
        tokens = [tokens for tokens, _, _ in student[: len(large)]], [t[:, 1:] for t in taught]
        terms["tokens"] = self.tokens_lost(large, chosen, *tokens) / len(large)
        return Terms(sum(terms.values()) / 3, **terms)

    def encode(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, N, D], scores of the class token and of the second one [B, K]."""
        masked = None if view.masks is None else view.masks[0]
        features = self.student.backbone(view.x, lengths=view.lengths, masked=masked, mask_token=self.mask_token)
        second, tokens = self.student.unsqueeze(features)
        return tokens, self.student.head(features.pooled), self.student.head(second)

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """What the teacher makes of a view: the class token, then the tokens [B, 1 + N, D]."""
        features = self.teacher.backbone(view.x, lengths=view.lengths)
        return torch.cat([features.pooled[:, None], self.teacher.module.unsqueeze(features)[1]], dim=1)

    @torch.no_grad()
    def profile(self, view: View, tokens: Tensor, draws: Draws) -> Tensor:
        """Mean over S of the teacher's scores [B, K] of tokens [B, N, D]; of those within their item."""
        grid = self.student.backbone.grid(view.x.shape)
        inside = inside_tokens(view, self.student.backbone)
        places = stratified(draws.uniform("strata", math.prod(grid)), grid, self.window, inside)  # [B, S]
        scores = self.teacher.module.head(at_places(tokens, places).flatten(0, 1)).view(*places.shape, -1)
        if inside is None:
            return scores.mean(1)
        counted = inside.gather(1, places)[..., None].to(scores.dtype)
        return (scores * counted).sum(1) / counted.sum(1).clamp(min=1.0)


class Unsqueeze(nn.Module):
    """A second class token that asks all tokens, which look at one another, in one block: Features → ([B, D], tokens [B, N, D])."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.token = nn.Parameter(torch.empty(width))
        self.block, self.norm = Block(width, heads, 4.0), nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.token, std=0.02)
        initialise(self)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        tokens = features.tokens
        first = torch.stack([self.token.to(tokens.dtype).expand(len(tokens), -1), features.pooled], dim=1)
        visible = None
        if features.lengths is not None:  # what lies outside an item comes out of a backbone as zeros
            visible = nn.functional.pad((tokens != 0).any(-1), (2, 0), value=True)[:, None, None]
        x = self.norm(self.block(torch.cat([first, tokens], dim=1), visible))
        return x[:, 0], x[:, 2:]


def stratified(u: Tensor, grid: tuple[int, ...], window: int, inside: Tensor | None = None) -> Tensor:
    """int64 [B, S]: one place of every window of `window` tokens a side (fewer at the edge), that of the lowest u [B, N] in 0..1; where
    a window reaches out of an item, one that lies `inside` [B, N] as long as there is any."""
    places = windows(tuple(grid), window, u.device).expand(len(u), -1, -1)  # [B, S, most]
    u = u if inside is None else u + ~inside
    return places.gather(2, u[:, places[0]].argmin(2, keepdim=True))[..., 0]


@lru_cache(maxsize=16)
def windows(grid: tuple[int, ...], window: int, device: torch.device) -> Tensor:
    """int64 [S, most]: the places in each window of the grid, the first again where there are fewer."""
    lines = [[range(start, min(start + window, count)) for start in range(0, count, window)] for count in grid]
    strides = [math.prod(grid[axis + 1:]) for axis in range(len(grid))]
    found = [[sum(place * stride for place, stride in zip(token, strides)) for token in itertools.product(*box)]
             for box in itertools.product(*lines)]
    most = max(map(len, found))
    return torch.tensor([places + places[:1] * (most - len(places)) for places in found], device=device)
