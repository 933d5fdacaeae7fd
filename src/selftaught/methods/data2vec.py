"""data2vec, and data2vec 2.0: from a masked item, what a teacher's upper layers make of the whole one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Linear, Mask, Single, Terms, Training, View, register
from ..networks import Embedder, Teacher
from ..networks.decoder import Decoder, at_places, encode_masked, encode_visible, inside_tokens, predicted_places, rows
from ..networks.signal import ffn_outputs, layer_average, need_transformer, target_spread
from ..objectives.masked import masked_mean, token_error
from .base import Method


@register("data2vec")
class Data2Vec(Method):
    """A general framework for speech, vision and language (Baevski et al., 2022).

    loss = mean over items and hidden tokens t of smooth L1_β(W f(x masked)_t, y_t),  y_t = norm(1/K Σ norm(a_t^l) over the top K layers l)

    a^l: output of the FFN of layer l, before the residual, of a teacher that sees the whole item and follows the student. Inner norm:
    of a token over its channels (vision, text), or of a channel over the item (`instance`: speech); outer: of a token over its
    channels, as the authors' code for vision has it (which takes what the blocks give, and not their FFNs, of which the paper speaks). The
    defaults are ViT-B's, whose teacher has one momentum throughout; for speech and text it rises linearly (.999 to .9999). Without drop
    path. Masks are blocks or spans. `target_spread` is the deviation of the targets over the batch, which dies with the teacher. The kept
    encoder is the student's.
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep", "layers"}), mask=Mask("span", (0.6, 0.6), size=4))
    defaults = Training(optimizer="adamw", lr=2.5e-4, weight_decay=0.05, warmup=10.0, clip=3.0, batch_size=2048, epochs=800)
    small = {"momentum": (0.99, 0.999), "layers": 2, "norm": "instance", "masked": 0.5, "size": 2, "backbone.pool": "mean",
             "training.lr": 1e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, layers: int = 6, norm: str = "layer", beta: float = 2.0,
                 momentum: tuple[float, float] = (0.9998, 0.9998), mask: str = "span", masked: float = 0.6, masks: int = 1, size: int = 4):
        """layers: K (all, where there are fewer). norm: layer, instance or none. momentum: the teacher's, at first and at last. mask,
        masked, masks, size: as of MAE."""
        super().__init__()
        need_transformer(backbone)
        self.layers, self.norm, self.beta = layers, norm, beta
        self.student = Embedder(backbone)
        self.mask_token = nn.Parameter(torch.empty(backbone.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.head = nn.Linear(backbone.width, backbone.width)
        self.teacher = Teacher(self.student, momentum=Linear(*momentum))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        places, targets = predicted_places(view), self.targets(view)
        predicted = self.head(at_places(encode_masked(self.student.backbone, view, self.mask_token).tokens, places))
        loss = masked_mean(token_error(predicted, at_places(targets, places), kind="smooth_l1", beta=self.beta))
        return Terms(loss, target_spread=target_spread(targets))

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """y [B, N, D]."""
        backbone = self.teacher.backbone
        with ffn_outputs(backbone, self.layers) as outputs:
            backbone(view.x, lengths=view.lengths)
        y = layer_average([output[:, 1:] for output in outputs], inside_tokens(view, backbone), self.norm)
        return y if self.norm == "none" else F.layer_norm(y, y.shape[-1:])


@register("data2vec2")
class Data2Vec2(Data2Vec):
    """data2vec 2.0 (Baevski et al., 2023): many masks to one pass of the teacher, and the student encodes what is visible alone.

    loss = mean over masks, items and hidden tokens t of (g(f(visible), mask tokens)_t − y_t)² + λ (V f(visible).pooled − mean_t y_t)²

    Masks hide all but a few blocks. The authors' g is convolutional, here it is MAE's, of any tokens; their targets are normalised
    over the item (`instance`). Their λ of .01 weighs a sum over the 256 masked items of a device: 2.56 of the mean. The defaults are
    their images', but that the momentum rises throughout; theirs is done after a quarter of the run. Short runs have λ = .01: at 2.56
    the mean over an item is learned and little else (k-NN of generated images .36 after 300 steps, .50 so, .38 untrained).
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep", "layers"}), mask=Mask("islands", (0.8, 0.8), count=16, size=3))
    defaults = Training(optimizer="adamw", lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95), warmup=21.0, clip=4.0, batch_size=256,
                        epochs=160)
    small = {**Data2Vec.small, "width": 64, "depth": 2, "heads": 4, "masks": 4, "whole": 0.01}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 768, depth: int = 6, heads: int = 12, whole: float = 2.56,
                 layers: int = 10, norm: str = "instance", momentum: tuple[float, float] = (0.9998, 0.99999), mask: str = "islands",
                 masked: float = 0.8, masks: int = 16, size: int = 3):
        """width, depth, heads: of g. whole: λ. The others: as of data2vec."""
        super().__init__(backbone, layers=layers, norm=norm, momentum=momentum)
        self.whole = whole
        del self.mask_token
        self.head = nn.Linear(backbone.width, backbone.width)  # V
        self.decoder = Decoder(backbone, facts.shape, backbone.width, width=width, depth=depth, heads=heads)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        backbone, targets, encoded = self.student.backbone, self.targets(view), encode_visible(self.student.backbone, view)
        predicted = self.decoder(encoded, view, backbone.grid(view.x.shape))
        tokens = masked_mean(token_error(predicted, at_places(targets, predicted_places(view))))
        mean = targets.nanmean(1)
        whole = token_error(self.head(encoded.pooled), rows(mean, len(encoded.pooled) // len(mean))).mean()
        return Terms(tokens + self.whole * whole, tokens=tokens, whole=whole, target_spread=target_spread(targets))
