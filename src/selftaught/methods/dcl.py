"""DCL: SimCLR without the positive in the denominator, so that small batches suffice."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Training, View, register
from ..networks import over
from ..objectives import decoupled_contrastive, decoupled_contrastive_weighted
from .simclr import SimCLR


@register("dcl")
class DCL(SimCLR):
    """Decoupled contrastive learning (Yeh et al., 2022): SimCLR's networks and views, another denominator.

    ℓ(i, j) = −w sim(z_i, z_j)/τ + log Σ_{k≠i, k≠j} exp(sim(z_i, z_k)/τ)          (eq. 6: w = 1, DCL)
    w = 2 − exp(sim(z_i, z_j)/σ) / E_i exp(sim(z_i, z_j)/σ)                       (eq. 7: `weighted`, DCLW)

    Without the positive below the fraction line its gradient no longer fades as it is found, which is what holds SimCLR back
    in small batches. Trained as SimCLR is, at a batch of 256.
    """

    defaults = Training(optimizer="lars", lr=0.3, weight_decay=1e-6, batch_size=256, epochs=200)

    def __init__(self, backbone: nn.Module, *, width: int = 128, hidden: int | None = None, temperature: float = 0.1,
                 weighted: bool = False, sigma: float = 0.5):
        """width, hidden, temperature: as SimCLR's. weighted: DCLW, with σ = `sigma`."""
        super().__init__(backbone, width=width, hidden=hidden, temperature=temperature)
        self.weighted, self.sigma = weighted, sigma

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        a, b = over(views, self.student, joint=True)
        if self.weighted:
            return decoupled_contrastive_weighted(a, b, temperature=self.temperature, sigma=self.sigma)
        return decoupled_contrastive(a, b, temperature=self.temperature)
