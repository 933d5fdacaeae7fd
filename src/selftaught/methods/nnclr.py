"""NNCLR: the positive of a view is its nearest neighbour among what was seen lately."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Pair, Training, View, register
from ..networks import Embedder, Mlp, Queue, ordered_pairs, over
from ..objectives import info_nce, nearest
from .base import Method


@register("nnclr")
class NNCLR(Method):
    """Nearest-neighbour contrastive learning (Dwibedi et al., 2021).

    loss = mean over ordered pairs of views a ≠ b of −log exp(NN(z_a, Q)·p_b/τ) / Σ_k exp(NN(z_a, Q)·p_b,k/τ)          (eq. 4)

    z: unit projections. p: unit predictions from them; k runs over the batch. NN: the row of the queue Q nearest to z, without
    gradient. Q takes the first view's z, and starts with random directions. BatchNorm statistics are each view's own. `small`
    has a queue that outlives an epoch of a small set, where an item's own earlier z is often the nearest.
    """

    needs = Pair()
    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, batch_size=4096, epochs=1000)
    small = {"hidden": 512, "width": 128, "predictor_hidden": 512, "queue": 4096, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 256, hidden: int = 2048, predictor_hidden: int = 4096,
                 queue: int = 98304, temperature: float = 0.1):
        """width: of z and p. hidden: of the projector, three layers. queue: rows of Q."""
        super().__init__()
        self.temperature = temperature
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, layers=3, last_norm=True))
        self.predictor = Mlp(width, predictor_hidden, width)
        self.queue = Queue(queue, width)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        z = over(views, self.student)
        neighbours = [nearest(v, self.queue.rows()) for v in z]
        self.queue.stage(F.normalize(z[0], dim=1))
        pairs = ordered_pairs(neighbours, over(z, self.predictor))
        return sum(info_nce(n, p, temperature=self.temperature) for n, p in pairs) / 2
