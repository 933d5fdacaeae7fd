"""DeepCluster: classify items as the clusters of their own features, found anew before every epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Single, Training, View, register
from ..networks import Embedder, LinearHead
from .base import Method
from .clusters import Clusters, even_order


@register("deepcluster")
class DeepCluster(Method):
    """Deep clustering for unsupervised learning (Caron et al., 2018).

    min over C, y of Σ_n ‖f(x_n) − C y_n‖²,  then  min over θ, W of mean_n CE(W f_θ(x_n), y_n),  in turn          (eq. 2 and 1)

    Before every epoch (`reassign`: every so many) all features are whitened on their first 256 principal components, brought to
    unit length and clustered by 20 rounds of k-means, in which empty clusters split others; then W is drawn anew. An epoch
    visits every cluster equally often. There are `clusters` of them, ten times the classes of ImageNet, but at most one for
    ten items. The authors give W an optimiser of its own without momentum; here it shares the network's, which forgets W with it.
    """

    needs = Single(strength="strong")
    defaults = Training(optimizer="sgd", lr=0.05, weight_decay=1e-5, decay_norm_and_bias=True, schedule="constant", batch_size=256,
                        epochs=200)
    small = {"clusters": 100, "components": 32, "reassign": 8, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, facts: Facts, clusters: int = 10000, reassign: int = 1, components: int = 256):
        """reassign: epochs between two clusterings. components: of the features that are clustered."""
        super().__init__()
        self.reassign, self.components = reassign, components
        self.clusters = Clusters(facts.samples, min(clusters, max(2, facts.samples // 10)))
        self.student = Embedder(backbone, LinearHead(backbone.width, self.clusters.k))

    def between_epochs(self, passes: Any) -> Iterable[nn.Parameter]:
        epoch = self.clock.epoch
        if epoch % self.reassign:
            return ()
        self.clusters.fit(passes, epoch, components=self.components)
        head, generator = self.student.head, torch.Generator().manual_seed(self.clusters.draw(epoch))
        head.weight.copy_(0.01 * torch.randn(head.weight.shape, generator=generator, dtype=torch.float64))
        head.bias.zero_()
        return head.parameters()

    def order(self, epoch: int, order: np.ndarray) -> np.ndarray:
        return even_order(self.clusters.labels.cpu().numpy(), order)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        return F.cross_entropy(self.student(views[0]), self.clusters.labels[batch.index])
