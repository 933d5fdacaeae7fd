"""SwAV: from one view, predict to which prototypes a balanced assignment gives another view of the same item."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Group, MultiCrop, Training, View, register
from ..networks import Embedder, Mlp, Prototypes, Queue, over
from ..objectives import sinkhorn, swapped_prediction
from .base import Method


@register("swav")
class SwAV(Method):
    """Swapping assignments between views (Caron et al., 2020).

    loss = mean over global views t and other views s of −Σ_k q_t^(k) log softmax_k(z_sᵀ c_k / τ)          (eq. 1 and 2)

    z: unit projections. c: unit prototypes, put back on the sphere after every step and frozen for the first epoch (313 steps
    of 4,096). q: Sinkhorn's assignment of the batch, `iterations` times balanced with entropy ε. For batches of fewer than a
    thousand or so, `queue=3840` lets earlier projections take part in q from epoch `queue_epoch` on, once the queue is full.
    The authors' rate ends at a thousandth of its peak, here at 0. BatchNorm statistics are joint: in the backbone over the
    views of one size, in the projector over all.
    """

    needs = MultiCrop()
    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, decay_norm_and_bias=True, batch_size=4096, epochs=800,
                        groups={"prototypes": Group(frozen_epochs=1.0)})
    small = {"hidden": 512, "prototypes": 100, "epsilon": 0.02, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt",
             "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 128, hidden: int = 2048, prototypes: int = 3000,
                 temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3, queue: int = 0, queue_epoch: int = 15):
        """width: of z. hidden: of the projector. queue: earlier projections kept for each global view, 0 for none."""
        super().__init__()
        self.temperature, self.epsilon, self.iterations, self.queue_epoch = temperature, epsilon, iterations, queue_epoch
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width))
        self.prototypes = Prototypes(width, prototypes)
        self.queues = nn.ModuleList(Queue(queue, width) for _ in range(self.needs.large if queue else 0))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        pooled = over(views, lambda v: self.student.backbone(v.x, lengths=v.lengths).pooled, joint=True)
        embeddings = over(pooled, lambda p: F.normalize(self.student.head(p), dim=1), joint=True)
        scores = over(embeddings, self.prototypes)
        places = [i for i, view in enumerate(views) if view.role == "global"]
        targets = [self.assign(scores[i], embeddings[i], place) for place, i in enumerate(places)]
        return swapped_prediction(scores, targets, temperature=self.temperature)

    @torch.no_grad()
    def assign(self, scores: Tensor, embeddings: Tensor, place: int) -> Tensor:
        """Assignments [B, K] of the global view in that place, balanced over batch and queue, which the batch then joins."""
        memory = full = None
        if self.queues and self.clock.epoch >= self.queue_epoch:
            queue = self.queues[place]
            memory, full = self.prototypes(queue.rows()), queue.filled >= len(queue.rows())
            queue.stage(embeddings)
        return sinkhorn(scores, iterations=self.iterations, epsilon=self.epsilon, memory=memory, memory_mass=full)

    def after_step(self) -> None:
        self.prototypes.normalise()
