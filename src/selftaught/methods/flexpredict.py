"""FlexPredict: I-JEPA that is told only roughly where the tokens lie that it is to predict."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from ..contracts import Batch, Facts, Features, View, register
from .jepa import JEPA


@register("flexpredict")
class FlexPredict(JEPA):
    """Predicting masked tokens in stochastic locations (Bar et al., 2023; StoP, 2024).

    As I-JEPA, but the predictor's mask token of place j is  m_j = A n_j + ψ_j + m,  n_j ~ N(0, σ² I)

    ψ_j: position of the place. A: the very matrix that brings the tokens s_i of the context in, as A s_i + b, so that it cannot shrink
    the noise without losing the context. σ = 0 is I-JEPA. The authors' code gives σ (their .25) as a deviation and leaves m to b; its rate
    falls from 8e-4 to 1e-4, here as I-JEPA's.
    """

    def __init__(self, backbone: nn.Module, *, facts: Facts, sigma: float = 0.25, width: int = 384, depth: int = 6, heads: int = 12,
                 momentum: float = 0.996, norm: str = "layer", error: str = "smooth_l1", mask: str = "block",
                 masked: tuple[float, float] = (0.15, 0.2), masks: int = 4, size: int = 1, context: tuple[float, float] = (0.85, 1.0)):
        """sigma: σ. The others: as of I-JEPA."""
        super().__init__(backbone, facts=facts, width=width, depth=depth, heads=heads, momentum=momentum, norm=norm, error=error)
        self.sigma = sigma

    def predicted(self, context: Features, view: View, batch: Batch) -> Tensor:
        mask_tokens = self.predictor.mask_token + self.noise(view, batch).to(context.tokens) @ self.predictor.enter.weight.T
        grid = self.student.backbone.grid(view.x.shape)
        return functional_call(self.predictor, {"mask_token": mask_tokens}, (context, view, grid))

    def noise(self, view: View, batch: Batch) -> Tensor:
        """n [M · B, T, D], drawn for every mask, item and hidden token."""
        masks, _, hidden = view.applied["hidden"].shape
        drawn = self.draws(batch).normal("places", masks, hidden, self.student.backbone.width)  # [B, M, T, D]
        return self.sigma * drawn.transpose(0, 1).flatten(0, 1)
