"""PAL: self-supervision on a graph of relations, which an oracle's answers (or labels) add to."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..contracts import Batch, Facts, OptionError, Pair, Training, View, register
from ..networks import Embedder, Mlp, over
from ..networks.answers import Answers
from ..objectives import graph_nt_xent, graph_spectral, graph_vicreg, relations
from .base import Method


@register("pal")
class PAL(Method):
    """Positive active learning (Cabannes et al., 2023): a loss of pairs of views as a function of a graph G of who is alike.

    G_ij = 1 where views i and j are of the same item, or of items that are known to be alike;
    loss = graph_nt_xent(z, G) (eq. 4), graph_vicreg(z, G) (eq. 3) or graph_spectral(z, G)          with z = g(f(x))

    What is known are the labels `y`: items of one y ≥ 0 are alike, of −1 nothing is known. All −1 is self-supervision (SimCLR,
    VICReg), all labelled is supervision, numbers of groups that an oracle's answers have joined are in between. `together` items
    that are alike are visited side by side, so that a relation that few have meets in a batch; the order follows what earlier
    epochs saw.
    """

    needs = Pair()
    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, batch_size=4096, epochs=100)
    small = {"hidden": 512, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts, objective: str = "nt_xent", width: int = 128, hidden: int | None = None,
                 temperature: float = 0.1, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0, together: int = 4):
        """objective: nt_xent, vicreg or spectral. width, hidden: of the projector g. together: 1 leaves the order as it is."""
        super().__init__()
        losses = {"nt_xent": partial(graph_nt_xent, temperature=temperature), "spectral": graph_spectral,
                  "vicreg": partial(graph_vicreg, invariance=invariance, variance=variance, covariance=covariance)}
        if objective not in losses:
            raise OptionError(f"objective='{objective}' of the method pal is not known: use {', '.join(losses)}.")
        self.objective, self.together = losses[objective], together
        self.student = Embedder(backbone, Mlp(backbone.width, hidden or backbone.width, width))
        self.answers = Answers(facts.samples)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        y = batch.y.long()
        self.answers.stage(batch.index, y)
        z = torch.cat(over(views, self.student, joint=True))
        return self.objective(z, relations(batch.index.repeat(len(views)), y.repeat(len(views))))

    def between_epochs(self, passes: object) -> None:
        self.answers.settle()

    def order(self, epoch: int, order: np.ndarray) -> np.ndarray:
        return side_by_side(order, self.answers.settled.cpu().numpy(), self.together)


def side_by_side(order: np.ndarray, group: np.ndarray, together: int) -> np.ndarray:
    """`order` (int64 [N]) with up to `together` items of one group ≥ 0 drawn to the place of the first of them."""
    groups = group[order]
    known = np.flatnonzero(groups >= 0)
    by_group = known[np.argsort(groups[known], kind="stable")]  # places, group after group, each in the given order
    sizes = np.unique(groups[known], return_counts=True)[1]
    within = np.arange(len(by_group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    lead = np.arange(len(by_group)) - within % together
    key = np.arange(len(order))
    key[by_group] = by_group[lead]
    return order[np.argsort(key, kind="stable")]
