"""NPID: every item is a class, and its weights in the classifier are what the network last said of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Single, Terms, Training, View, register
from ..networks import Bank, BatchNorm, Embedder, Partition
from ..objectives import noise_contrastive
from .base import Method


class BankMethod(Method):
    """What NPID and PIRL share: a bank with a row an item, noise-contrastive estimation against it, and Z of the first step."""

    def __init__(self, items: int, width: int, negatives: int, temperature: float, momentum: float):
        super().__init__()
        self.negatives, self.temperature = negatives, temperature
        self.bank, self.partition = Bank(items, width, momentum), Partition(items)

    def estimate(self, z: Tensor, batch: Batch, term: str = "noise") -> Tensor:
        """The noise-contrastive loss of unit z [B, D]: the items' own rows against others, drawn by a hash of slot and term."""
        noise = self.draws(batch).integers(term, self.bank.items, self.negatives)  # [B, m]
        scores = self.bank.scores(z, torch.cat([batch.index[:, None], noise], 1)) / self.temperature  # [B, 1 + m]
        return noise_contrastive(scores[:, 0], scores[:, 1:], self.partition.value(scores), self.bank.items)


def bank_head(width: int, out: int, norm: bool) -> nn.Module:
    """A linear map [B, width] → [B, out], with BatchNorm (without parameters) after it if `norm`."""
    return nn.Sequential(nn.Linear(width, out, bias=False), BatchNorm(out, affine=False)) if norm else nn.Linear(width, out)


@register("npid")
class NPID(BankMethod):
    """Non-parametric instance discrimination (Wu et al., 2018): one view of an item against a bank of all items.

    J = −log h(i, v) − Σ_{j=1..m} log(1 − h(j, v)) + λ‖v − f_i‖²          (eq. 7 and 9)
    h = P/(P + m/n),  P(i|v) = exp(v·f_i/τ)/Z,  Z = n/m Σ exp(v·f_j/τ) over the first step          (eq. 5, 6 and 8)

    f: rows of the bank, f_i ← normalise(μ f_i + (1 − μ) v). λ is `proximal`: the authors' code leaves it out, since their μ = 0.5
    holds the rows back in its place, and so does the default here. Their rate falls by steps to a thousandth, here along a cosine.
    `norm` ends the head in BatchNorm, which theirs does not: at the rates of short runs all outputs drift together, faster than
    the bank follows, and only this holds their mean in place.
    """

    needs = Single(strength="strong")
    defaults = Training(optimizer="sgd", lr=0.03, weight_decay=1e-4, decay_norm_and_bias=True, warmup=0.0, batch_size=256, epochs=200)
    small = {"negatives": 1024, "norm": True, "temperature": 0.2, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.warmup": 10.0}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 128, negatives: int = 4096, temperature: float = 0.07,
                 bank_momentum: float = 0.5, proximal: float = 0.0, norm: bool = False):
        """width: of v. negatives: m, drawn anew for every item and step. bank_momentum: μ."""
        super().__init__(facts.samples, width, negatives, temperature, bank_momentum)
        self.proximal = proximal
        self.student = Embedder(backbone, bank_head(backbone.width, width, norm))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        z = F.normalize(self.student(views[0]), dim=1)
        estimate = self.estimate(z, batch)
        moved = (z - self.bank.rows(batch.index)).square().sum(1).mean()
        self.bank.stage(batch.index, z)
        return Terms(estimate + self.proximal * moved, estimate=estimate, moved=moved)
