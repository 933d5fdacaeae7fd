"""LOOK: supervised pretraining that asks only the nearest neighbours of an item to share its label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, Pair, Training, View, register
from ..networks import Embedder, Mlp, Queue, Teacher
from ..objectives import leave_one_out
from .base import Method
from .supcon import need_classes


@register("look")
class LOOK(Method):
    """Leave-one-out k-nearest neighbours (Feng et al., 2022): a class may lie in many places, if each is its own.

    loss = −log Σ_{j∈N_k(i), y_j=y_i} exp(z_i·z_j/τ) / Σ_{j∈N_k(i)} exp(z_i·z_j/τ)

    z_i: the student's projection of one view. N_k: its k nearest among the teacher's projections of other items, those in the
    queue and those of the batch, which are seen in the other view; earlier projections of i itself are left out. The nearest
    of i's own label always counts among them. The queue starts empty; BatchNorm statistics are each view's own. The paper's
    sizes and rate could not be checked against its code: here they are MoCo v2's, with 200 neighbours, τ = .1 and no decay of norms and
    biases.
    """

    needs = Pair()
    defaults = Training(optimizer="sgd", lr=0.03, weight_decay=1e-4, warmup=0.0, batch_size=256, epochs=200)
    small = {"hidden": 512, "queue": 2048, "neighbours": 50, "momentum": 0.95, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.warmup": 10.0}
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 128, hidden: int | None = None, queue: int = 65536,
                 neighbours: int = 200, momentum: float = 0.999, temperature: float = 0.1):
        """width: of z. hidden: of the projector, None for the backbone's width. neighbours: k."""
        super().__init__()
        need_classes(facts, self.name)
        self.neighbours, self.temperature = neighbours, temperature
        self.student = Embedder(backbone, Mlp(backbone.width, hidden or backbone.width, width, norm=False))
        self.teacher = Teacher(self.student, momentum)
        self.queue, self.tags = Queue(queue, width), Queue(queue, 2, random=False)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        keys = F.normalize(self.teacher(views[1]), dim=1)
        tags = torch.stack([batch.index, batch.y], 1)
        stored = self.tags.rows().long() - 1  # place and label, from 1 on in the queue: where it is still empty, none
        self.queue.stage(keys)
        self.tags.stage(tags + 1)
        return leave_one_out(self.student(views[0]), keys, tags, self.queue.rows(), stored, neighbours=self.neighbours,
                             temperature=self.temperature)
