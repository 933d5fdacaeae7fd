"""MoCo, versions 2 and 3: contrast against keys that a slowly moving encoder has made."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Pair, Training, View, register
from ..networks import Embedder, Mlp, Queue, Teacher, ordered_pairs, over
from ..networks.backbone import CONVOLUTIONS
from ..networks.batchnorm import view_groups
from ..objectives import info_nce
from .base import Method


@register("moco_v2")
class MoCoV2(Method):
    """Momentum contrast with an MLP head (He et al., 2020; Chen et al., 2020b): a queue makes the negatives many.

    ℓ_q = −log exp(q·k₊/τ) / (exp(q·k₊/τ) + Σ_queue exp(q·k/τ)),  θ_k ← m θ_k + (1 − m) θ_q          (eq. 1 and 2)

    Batch statistics: a key that shares them with its query can be told from the queue by them alone. The authors hide them by
    shuffling keys between devices, so that a key and its query are normalised in different company; on one device that does
    nothing. Here the batch is divided into `groups` on any number of devices, queries one way and keys crosswise, each group
    with statistics of its own: eight groups of 32 for the authors' batch of 256 on eight devices. Two processes equal one
    where each has a multiple of groups² samples. No warm-up, as theirs.
    """

    needs = Pair()
    defaults = Training(optimizer="sgd", lr=0.03, weight_decay=1e-4, decay_norm_and_bias=True, warmup=0.0, batch_size=256, epochs=200)
    small = {"hidden": 512, "queue": 512, "groups": 4, "momentum": 0.99, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.warmup": 10.0}

    def __init__(self, backbone: nn.Module, *, width: int = 128, hidden: int | None = None, queue: int = 65536,
                 momentum: float = 0.999, temperature: float = 0.2, groups: int = 8):
        """width: of q and k. hidden: of the head, None for the backbone's width. groups: of batch statistics, 1 for the batch's."""
        super().__init__()
        self.temperature, self.groups = temperature, groups
        self.student = Embedder(backbone, Mlp(backbone.width, hidden or backbone.width, width, norm=False))
        self.teacher = Teacher(self.student, momentum)
        self.queue = Queue(queue, width)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        query = in_groups(views[0], self.student, self.groups)
        key = F.normalize(in_groups(views[1], self.teacher, self.groups, crosswise=True), dim=1)
        self.queue.stage(key)
        return info_nce(query, key, self.queue.rows(), temperature=self.temperature)


def in_groups(view: View, network: Any, groups: int, *, crosswise: bool = False) -> Tensor:
    """network(view), the BatchNorms within it keeping statistics of their own for each of `groups` groups of samples.

    Sample i is in group i mod groups, or crosswise in (i + i // groups) mod groups: of any one group's samples, groups² in a
    row are spread evenly over the other way's. As many groups as divide the batch and have two samples each.
    """
    samples = len(view.x)
    groups = math.gcd(samples, groups)
    groups = next((g for g in range(groups, 1, -1) if groups % g == 0 and samples >= 2 * g), 1)
    place = torch.arange(samples, device=view.x.device)
    order = ((place + crosswise * (place // groups)) % groups).argsort(stable=True)
    lengths = None if view.lengths is None else view.lengths[order]
    with view_groups((samples // groups,) * groups):
        outputs = network(view.with_(x=view.x[order], lengths=lengths))
    return outputs[order.argsort()]


@register("moco_v3")
class MoCoV3(Method):
    """Momentum contrast without a queue (Chen, Xie & He, 2021): large batches, a predictor, both views as queries.

    loss = ctr(q₁, k₂) + ctr(q₂, k₁),  ctr(q, k) = −2τ log exp(q·k₊/τ) / Σ_batch exp(q·k/τ)          (algorithm 1)

    q: predictor and projector of the student; k: projector of the teacher, whose momentum rises to 1 along a cosine. BatchNorm
    statistics are each view's own. The defaults are ResNet-50's for 300 epochs. A token backbone gets a projector of three
    layers, a predictor that ends in BatchNorm, and, where it cuts its input into patches, their projection stays as it was
    drawn (`frozen_patches`: without it training is unstable); the authors train it with optimizer=adamw, lr=1.5e-4,
    weight_decay=0.1, warmup=40, temperature=0.2.
    """

    needs = Pair(asymmetric=True)
    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, batch_size=4096, epochs=300)
    small = {"hidden": 512, "width": 128, "momentum": 0.95, "temperature": 0.2, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 256, hidden: int = 4096, momentum: float = 0.99,
                 temperature: float = 1.0, frozen_patches: bool = True):
        """width: of q and k. hidden: of projector and predictor. momentum: the teacher's, at first."""
        super().__init__()
        self.temperature = temperature
        tokens = "tokens" in getattr(backbone, "abilities", ())
        patches = getattr(backbone, "embed", None)
        if tokens and frozen_patches and isinstance(patches, tuple(CONVOLUTIONS.values())):
            patches.requires_grad_(False)
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, layers=3 if tokens else 2, last_norm=True))
        self.predictor = Mlp(width, hidden, width, last_norm=tokens, last_bias=False)
        self.teacher = Teacher(self.student, Cosine(momentum, 1.0))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        return self.contrast(over(views, lambda v: self.predictor(self.student(v))), views)

    def contrast(self, queries: list[Tensor], views: list[View]) -> Tensor:
        """The symmetric contrastive loss of the views' queries against their keys."""
        pairs = ordered_pairs(queries, over(views, self.teacher))
        return 2 * self.temperature * sum(info_nce(q, k, temperature=self.temperature) for q, k in pairs)
