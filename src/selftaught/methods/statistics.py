"""Motion and appearance statistics: tell what can be measured in an item without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import STATISTICS, Batch, Measured, Terms, Training, View, register
from ..networks import Embedder
from .base import Method


@register("statistics")
class MeasuredStatistics(Method):
    """Predicting motion and appearance statistics (Wang et al., 2019).

    loss = λ_m mean (ŷ_m − y_m)² + λ_a mean (ŷ_a − y_a)²,  (ŷ_m, ŷ_a) = W f(x)

    y_m and y_a are measured in the view x itself: which block moves most, and which way, and when; which block's colours change
    most and least, and which they are. What is measured, the modality says. λ_m, λ_a: `motion`, `appearance`; their defaults are
    ours, as the authors' code trains the numbers of motion alone; one of them 0 leaves the other alone. The statistics lie within
    −1 to 1, where the authors regress the numbers of blocks, bins and frames themselves, so that here no partition counts for more
    than another. Their rate falls in steps, here along a cosine; twice the rate for biases is left out.
    """

    grounded = True
    needs = Measured()
    defaults = Training(optimizer="sgd", lr=1e-3, scale_lr="off", momentum=0.9, weight_decay=5e-3, warmup=0.0, batch_size=30, epochs=18)
    small = {"training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, motion: float = 1.0, appearance: float = 0.1):
        super().__init__()
        self.weights = {"motion": motion, "appearance": appearance}
        self.student = Embedder(backbone, nn.Linear(backbone.width, sum(STATISTICS.values())))

    def targets(self, view: View) -> Tensor:
        """[B, 27]: what was measured, of motion first."""
        return torch.cat([view.applied[kind] for kind in STATISTICS], 1)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        error = (self.student(view) - self.targets(view)).square().mean(0)
        terms = {kind: part.mean() for kind, part in zip(STATISTICS, error.split(tuple(STATISTICS.values())))}
        return Terms(sum(self.weights[kind] * term for kind, term in terms.items()), **terms)
