"""G-SimCLR: SimCLR whose batches hold items of different pseudo classes, so that negatives are truly different."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..contracts import Facts, OptionError, register
from .clusters import Clusters, dealt_order
from .simclr import SimCLR


@register("g_simclr")
class GuidedSimCLR(SimCLR):
    """Guided SimCLR (Chakraborty et al., 2020): SimCLR's loss on batches in which no two items share a pseudo class.

    The paper's pseudo classes are k-means clusters, as many as a batch has items, of the latents of a denoising autoencoder that
    was trained before: `labels` names a .npy file of them, int64 [N] (`systems/s072.py` makes them). Without it they are
    clusters of the encoder's own features, found anew before every epoch. The authors sort items by their rank within their
    cluster, and where the clusters are of different sizes the last batches repeat them; here the clusters are dealt in
    turn: a batch of at most `clusters` items never has two of one, a larger one as few as can be. For that an epoch leaves out
    items of large clusters and repeats some of small ones.
    """

    def __init__(self, backbone: nn.Module, *, facts: Facts, clusters: int = 64, labels: str = "", width: int = 128,
                 hidden: int | None = None, temperature: float = 0.1):
        """clusters: where no file is named, at most one for two items. width, hidden, temperature: as of SimCLR."""
        super().__init__(backbone, width=width, hidden=hidden, temperature=temperature)
        self.clusters = Clusters(facts.samples, min(clusters, facts.samples // 2))
        self.given = bool(labels)
        if self.given:
            self.guide(np.load(labels, allow_pickle=False))

    def guide(self, labels: np.ndarray) -> None:
        """Takes pseudo classes, int64 [N], instead of finding its own."""
        wanted = tuple(self.clusters.labels.shape)
        if labels.shape != wanted or labels.dtype.kind not in "iu":
            raise OptionError(f"g_simclr: pseudo classes must be whole numbers of shape {wanted}, one an item, not {labels.dtype} of "
                              f"shape {labels.shape}.")
        self.given = True
        self.clusters.labels.copy_(torch.from_numpy(labels.astype(np.int64)))

    def between_epochs(self, passes: Any) -> None:
        if not self.given:
            self.clusters.fit(passes, self.clock.epoch)

    def order(self, epoch: int, order: np.ndarray) -> np.ndarray:
        return dealt_order(self.clusters.labels.cpu().numpy(), order)
