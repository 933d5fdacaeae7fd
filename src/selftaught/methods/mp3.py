"""MP3: tell where every token belongs from what all of them show, when none is told its place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..contracts import Batch, Facts, Mask, NotApplicable, OptionError, Single, Terms, Training, View, register
from ..networks import Embedder
from ..networks.context import attending_to
from ..networks.decoder import inside_tokens
from ..networks.signal import need_transformer
from ..objectives import masked_mean
from ..objectives.alignment import place_cross_entropy
from .base import Method


@register("mp3")
class MP3(Method):
    """Position prediction as an effective pretraining strategy (Zhai et al., 2022).

    loss = mean over items and tokens t of −log softmax(W f(x)_t)[place of t],  f without position embeddings

    All tokens ask, but of each item only a random part, the visible, are keys and values, in every block: the fewer, the harder the
    puzzle. f's positions are a learned table that stays at zero here; fine-tuning trains it, which puts positions back in. What has
    no order cannot be told. `accuracy`: of the places. The paper's soft targets for speech are left out; its rates are MAE's here.
    """

    grounded = True
    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep", "layers"}), mask=Mask("random", (0.75, 0.75)))
    defaults = Training(optimizer="adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup=40.0, batch_size=4096, epochs=800)
    small = {"masked": 0.5, "backbone.positions": "learned", "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, facts: Facts, mask: str = "random", masked: float = 0.75, size: int = 1):
        """mask, masked, size: as of MAE, of what is no key and no value."""
        super().__init__()
        positions = getattr(backbone, "positions", None)
        if positions is None or not getattr(backbone, "ordered", True):
            raise NotApplicable("The method mp3 tells where tokens belong, and those of this backbone have no order: use mae or simmim.")
        need_transformer(backbone)
        if positions.table is None:
            raise OptionError("method=mp3 takes the positions away and lets fine-tuning learn them: give backbone.positions=learned.")
        nn.init.zeros_(positions.table.requires_grad_(False))
        self.grid = backbone.grid(facts.shape)
        self.student, self.head = Embedder(backbone), nn.Linear(backbone.width, math.prod(self.grid))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        backbone, places, places_told = self.student.backbone, self.places(view), self.targets(view)
        seen = torch.arange(places.shape[1], device=places.device) < view.applied["keep"].shape[2]
        with attending_to(backbone, seen.expand_as(places)):
            logits = self.head(backbone(view.x, lengths=view.lengths, keep=places).tokens)
        inside = inside_tokens(view, backbone)
        inside = None if inside is None else inside.gather(1, places)
        right = (logits.argmax(-1) == places_told).to(logits.dtype)
        accuracy = masked_mean(right if inside is None else right.masked_fill(~inside, torch.nan))
        return Terms(masked_mean(place_cross_entropy(logits, places_told, inside)), accuracy=accuracy)

    @staticmethod
    def places(view: View) -> Tensor:
        """int64 [B, N]: the set of an item's tokens in some order, those that may be attended to first."""
        return torch.cat([view.applied["keep"][0], view.applied["hidden"][0]], dim=1)

    def targets(self, view: View) -> Tensor:
        """int64 [B, N]: where each of them belongs, numbered on the grid of a whole item, which may be longer than the view's."""
        places = self.places(view)
        number = torch.zeros((), dtype=torch.int64, device=places.device)
        for own, whole in zip(self.student.backbone.grid(view.x.shape), self.grid, strict=True):
            number = number[..., None] * whole + torch.arange(own, device=places.device)
        return number.flatten()[places]
