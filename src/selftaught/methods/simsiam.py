"""SimSiam: predict the other view's projection, and let no gradient reach it. Neither negatives nor a teacher."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Group, Pair, Training, View, register
from ..networks import Embedder, Mlp, ordered_pairs, over
from ..objectives import negative_cosine
from .base import Method


@register("simsiam")
class SimSiam(Method):
    """Exploring simple Siamese representation learning (Chen & He, 2021).

    loss = ½ D(p₁, sg[z₂]) + ½ D(p₂, sg[z₁]),  D = −cos,  z = f(x),  p = h(z)          (eq. 2 to 4)

    BatchNorm stands in every layer of the projector (without affine parameters in its last) and in the hidden one of the
    predictor h, which is a bottleneck and keeps its learning rate to the end. Weight decay reaches all parameters. BatchNorm
    statistics are each view's own.
    """

    needs = Pair()
    defaults = Training(optimizer="sgd", lr=0.05, weight_decay=1e-4, warmup=0.0, batch_size=512, epochs=100,
                        decay_norm_and_bias=True, groups={"predictor": Group(lr_constant=True)})
    small = {"hidden": 512, "width": 128, "bottleneck": 512, "layers": 2, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.weight_decay": 1e-4}  # the rate stays linear in the batch: a high one drives embeddings into few dimensions

    def __init__(self, backbone: nn.Module, *, width: int = 2048, hidden: int = 2048, bottleneck: int = 512, layers: int = 3):
        """width: of projections and predictions. hidden, layers: of the projector (2 layers on CIFAR). bottleneck: of
        the predictor."""
        super().__init__()
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width, layers=layers, last_norm=True))
        self.predictor = Mlp(width, bottleneck, width)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        projected = over(views, self.student)
        predicted = over(projected, self.predictor)
        return sum(negative_cosine(p, z) for p, z in ordered_pairs(predicted, projected)) / 2
