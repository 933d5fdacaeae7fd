"""Information maximisation and contrast together: statistics of the projections, negatives among the representations."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, OptionError, Pair, Terms, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import barlow_twins, info_nce, vicreg
from .base import Method


@register("infomax_contrast")
class InfomaxContrast(Method):
    """Label-efficient self-supervised speaker verification (Lepage & Dehak, 2022), on any items.

    loss = α InfoNCE(y, y′) + β I(z, z′),  y = f(x), z = g(y),  I: VICReg's λ s + μ v + ν c, or Barlow Twins' loss

    α = 0 is information maximisation alone, β = 0 contrast alone. Weights, τ and the projector of three layers are those of the authors'
    code (I is a tenth of the loss; VICReg's terms 1, 1 and 0.04).
    """

    needs = Pair()
    defaults = Training(optimizer="adamw", lr=1e-3, scale_lr="off", weight_decay=1e-4, warmup=0.0, batch_size=256, epochs=100)
    small = {"hidden": 512, "width": 512, "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, width: int = 2048, hidden: int = 2048, information: str = "vicreg", contrast: float = 1.0,
                 weight: float = 0.1, temperature: float = 0.07, invariance: float = 1.0, variance: float = 1.0, covariance: float = 0.04,
                 off_diagonal_weight: float = 0.05):
        """information: vicreg or barlow_twins. contrast: α. weight: β. invariance, variance, covariance: of VICReg;
        off_diagonal_weight: of Barlow Twins."""
        super().__init__()
        known = {"vicreg": lambda a, b: vicreg(a, b, invariance=invariance, variance=variance, covariance=covariance),
                 "barlow_twins": lambda a, b: barlow_twins(a, b, off_diagonal_weight=off_diagonal_weight)}
        if information not in known:
            raise OptionError(f"information='{information}' of the method infomax_contrast is not known: use {', '.join(known)}.")
        self.information, self.contrast, self.weight, self.temperature = known[information], contrast, weight, temperature
        self.student = Embedder(backbone)
        self.projector = Mlp(backbone.width, hidden, width, layers=3)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (y, z), (other_y, other_z) = over(views, self.both)
        contrast = info_nce(y, other_y, temperature=self.temperature)
        information = self.information(z, other_z)
        return Terms(self.contrast * contrast + self.weight * information, contrast=contrast, information=information)

    def both(self, view: View) -> tuple[Tensor, Tensor]:
        """(y, z) of a view."""
        y = self.student(view)
        return y, self.projector(y)
