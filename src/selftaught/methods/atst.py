"""ATST: a teacher whose clip, or whose frames, a student predicts from another view, with earlier items mixed in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Draws, Facts, Mask, NotApplicable, Pair, Single, Training, View, register
from ..networks import Embedder, Mlp, Queue, Teacher, ordered_pairs
from ..networks.decoder import at_places, encode_masked, inside_tokens, predicted_places
from ..networks.signal import PatchSignal
from ..objectives.masked import masked_mean
from .base import Method
from .byol import BYOL


class Mixer(nn.Module):
    """x ← (1 − a) x + a m, with m one of the last `size` items seen and a uniform in 0 to `most`, drawn for every item.

    BYOL-A's mixing (Niizumi et al., 2021) adds powers of spectrograms, this one values as they are, whatever they are. Before an item
    was seen m is zero.
    """

    def __init__(self, backbone: nn.Module, shape: tuple[int, ...], size: int, most: float):
        super().__init__()
        if not isinstance(backbone.signal(), PatchSignal):
            raise NotApplicable("ATST mixes the values of items, and the tokens of this backbone are no patches of values: use byol or "
                                "data2vec.")
        self.shape, self.most, self.memory = shape, most, Queue(size, math.prod(shape), random=False)

    def forward(self, view: View, draws: Draws) -> View:
        x, steps = view.x, view.x.shape[-1]
        place = draws.integers("which", self.memory.filled.clamp(min=1))
        other = self.memory.rows()[place].view(-1, *self.shape).to(x.dtype)
        other = F.pad(other, (0, steps - self.shape[-1]))  # cut, where these items are shorter
        part = draws.uniform("part", high=self.most).view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
        self.memory.stage(F.pad(x, (0, self.shape[-1] - steps)).flatten(1))
        return view.with_(x=torch.lerp(x, other, part))


@register("atst_clip")
class ATSTClip(BYOL):
    """Audio teacher–student Transformer, clip level (Li, Shao & Li, 2023): BYOL on a Transformer, items mixed with earlier ones.

    loss = mean over ordered pairs of views a ≠ b of 2 − 2·cos(q(g(f(a))), sg[ḡ(f̄(b))]), views: two segments of an item, each changed
    its own way and with up to `mixed` of one of `memory` earlier items in it

    Defaults are the authors' for a small encoder. f gives what is pooled, in the paper the class token. The kept encoder is the teacher's.
    """

    needs = Pair(backbone=frozenset({"tokens", "mask_tokens"}))
    defaults = Training(optimizer="adamw", lr=5e-4, final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), warmup=10.0, batch_size=1536, epochs=300)
    small = {**BYOL.small, "memory": 256, "backbone.pool": "mean", "training.lr": 2e-3, "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 256, hidden: int = 4096, momentum: float = 0.99,
                 mixed: float = 0.4, memory: int = 2048):
        """width, hidden, momentum: as of byol. mixed: most of another item. memory: earlier items to draw it from."""
        super().__init__(backbone, width=width, hidden=hidden, momentum=momentum)
        self.mixer = Mixer(backbone, facts.shape, memory, mixed)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        draws = self.draws(batch)
        return super().loss([self.mixer(view, draws.split(k)) for k, view in enumerate(views)], batch) / 2

    def kept(self) -> nn.Module:
        return self.teacher.backbone


@register("atst_frame")
class ATSTFrame(Method):
    """Audio teacher–student Transformer, frame level (Li, Shao & Li, 2023).

    loss = mean over both ways round (v, v′), items and hidden tokens t of 2 − 2·cos(q(g(f(ṽ)))_t, sg[ḡ(f̄(v′))_t])

    v, v′: the same stretch of an item, as it is and changed, token for token the same; ṽ: v with mask tokens in spans of `size` that cover
    `masked` of it, the same of both. The teacher sees v′ whole. Tokens are the backbone's: patches as high as a spectrogram are frames.
    The change is that up to `mixed` of one of `memory` earlier items is in it; the authors also stretch the frequency axis, which not
    every modality has. Padding takes part in the heads' BatchNorm. Defaults are the authors' for a small encoder. The kept encoder is
    the teacher's.
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "mask_tokens"}), mask=Mask("span", (0.65, 0.65), size=5))
    defaults = Training(optimizer="adamw", lr=4e-4, final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), warmup=10.0, batch_size=1024, epochs=300)
    small = {**ATSTClip.small, "masked": 0.5, "size": 2}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 256, hidden: int = 4096, momentum: float = 0.997,
                 mixed: float = 0.4, memory: int = 2048, mask: str = "span", masked: float = 0.65, masks: int = 1, size: int = 5):
        """width, hidden, momentum: as of byol. mixed, memory: as of atst_clip. mask, masked, masks, size: as of MAE."""
        super().__init__()
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width))
        self.predictor = Mlp(width, hidden, width)
        self.mask_token = nn.Parameter(torch.empty(backbone.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))
        self.mixer = Mixer(backbone, facts.shape, memory, mixed)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        (view,) = views
        pair = [view, self.mixer(view, self.draws(batch))]
        predicted, targets = [self.predictions(v) for v in pair], [self.targets(v) for v in pair]
        return sum(masked_mean(self.distance(p, t, view)) for p, t in ordered_pairs(predicted, targets)) / 2

    def predictions(self, view: View) -> Tensor:
        """q(g(f(ṽ))) [M · B, T, width] at the hidden tokens."""
        tokens = encode_masked(self.student.backbone, view, self.mask_token).tokens
        return each(lambda x: self.predictor(self.student.head(x)), at_places(tokens, predicted_places(view)))

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """ḡ(f̄(v)) [M · B, T, width] at the hidden tokens."""
        tokens = self.teacher.backbone(view.x, lengths=view.lengths).tokens
        return each(self.teacher.module.head, at_places(tokens, predicted_places(view)))

    def distance(self, predicted: Tensor, target: Tensor, view: View) -> Tensor:
        """2 − 2·cos [M · B, T], NaN where a token lies past the end of its item."""
        apart = 2 - 2 * F.cosine_similarity(predicted, target, dim=-1)
        inside = inside_tokens(view, self.student.backbone)
        if inside is None:
            return apart
        return apart.masked_fill(~at_places(inside[..., None], predicted_places(view))[..., 0], torch.nan)

    def kept(self) -> nn.Module:
        return self.teacher.backbone


def each(head: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """A head of rows on every token: [B, T, D] → [B, T, width]."""
    return head(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
