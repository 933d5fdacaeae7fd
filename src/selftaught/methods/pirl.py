"""PIRL: an item and its shuffled patches shall be told from all others by one and the same bank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Patches, Terms, Training, View, register
from ..networks import Embedder, over
from .npid import BankMethod, bank_head


@register("pirl")
class PIRL(BankMethod):
    """Pretext-invariant representations, jigsaw (Misra & van der Maaten, 2020).

    loss = λ L(m_I, g(v_It)) + (1 − λ) L(m_I, f(v_I))          (eq. 5)

    f projects the whole item's features; g projects each patch's, joins them in a random order and projects those. L: noise-
    contrastive estimation against the bank's rows m, which follow f(v_I); as the authors' code has it, Wu et al.'s with a
    partition constant from the first step, and negatives of its own for each term. BatchNorm statistics are joint over the
    patches, apart from those of the whole items.
    """

    needs = Patches(side=3, whole=True)
    defaults = Training(optimizer="sgd", lr=0.03, weight_decay=1e-4, warmup=0.0, final_lr=1.2e-4, batch_size=1024, epochs=800)
    small = {"negatives": 1024, "norm": True, "temperature": 0.2, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.warmup": 10.0}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 128, negatives: int = 32000, temperature: float = 0.07,
                 bank_momentum: float = 0.5, patches: float = 0.5, norm: bool = False):
        """width: of f, g and the bank. negatives: a term, drawn anew for every item and step. patches: λ. norm: f and g end in
        BatchNorm (see NPID)."""
        super().__init__(facts.samples, width, negatives, temperature, bank_momentum)
        self.patches = patches
        self.places = self.needs.side**facts.axes
        self.student = Embedder(backbone, bank_head(backbone.width, width, norm))  # f
        self.patch = nn.Linear(backbone.width, width)
        self.puzzle = bank_head(self.places * width, width, norm)  # g: first patch, then puzzle

    def loss(self, views: list[View], batch: Batch) -> Terms:
        whole, parts = views[0], views[1:]
        z = F.normalize(self.student(whole), dim=1)
        features = over(parts, lambda v: self.patch(self.student.backbone(v.x, lengths=v.lengths).pooled), joint=True)
        shuffled = self.shuffle(torch.stack(features, 1), batch)  # [B, places, width]
        transformed = F.normalize(self.puzzle(shuffled.flatten(1)), dim=1)
        of_patches, of_whole = self.estimate(transformed, batch, "patches"), self.estimate(z, batch, "whole")
        self.bank.stage(batch.index, z)
        return Terms(self.patches * of_patches + (1 - self.patches) * of_whole, of_patches=of_patches, of_whole=of_whole)

    def shuffle(self, parts: Tensor, batch: Batch) -> Tensor:
        """[B, places, width] with the places of every item in an order of its own, from a hash of its slot."""
        order = self.draws(batch).permutation("order", self.places)
        return parts.gather(1, order[:, :, None].expand_as(parts))
