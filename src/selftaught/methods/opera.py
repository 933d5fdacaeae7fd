"""OPERA: self-supervision of the instance proxy, labels for a class proxy above it."""

from __future__ import annotations

from torch import nn

from ..contracts import Batch, Facts, Terms, Training, View, register
from ..networks import Mlp, over
from ..objectives import cross_entropy_labelled
from .moco import MoCoV3
from .supcon import need_classes


@register("opera")
class OPERA(MoCoV3):
    """Omni-supervised representation learning with hierarchical supervisions (Wang et al., 2022).

    loss = ½ [ctr(q₁, k₂) + ctr(q₂, k₁)] + ½ [CE(h(q₁), y) + CE(h(q₂), y)]

    q, k, ctr: MoCo v3's, on the instance level. h: an MLP from the instance proxy q to the class level, so that what the labels
    ask for does not press the instances of a class into one place. Unlabelled items take part in the first half only. Weights
    and sizes as in the authors' code; `instance` and `classes` weigh the halves.
    """

    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, batch_size=1024, epochs=150)
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 256, hidden: int = 4096, momentum: float = 0.99,
                 temperature: float = 1.0, frozen_patches: bool = True, instance: float = 0.5, classes: float = 0.5):
        """instance, classes: weights of the two levels; the rest as of MoCo v3."""
        super().__init__(backbone, width=width, hidden=hidden, momentum=momentum, temperature=temperature,
                         frozen_patches=frozen_patches)
        need_classes(facts, self.name)
        self.instance, self.classes = instance, classes
        self.classifier = Mlp(width, width, facts.classes, last_bias=False)  # h

    def loss(self, views: list[View], batch: Batch) -> Terms:
        queries = over(views, lambda v: self.predictor(self.student(v)))
        instance = self.contrast(queries, views)
        classes = sum(cross_entropy_labelled(logits, batch.y) for logits in over(queries, self.classifier))
        return Terms(self.instance * instance + self.classes * classes, instance=instance, classes=classes)
