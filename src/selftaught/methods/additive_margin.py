"""SimCLR with an additive margin: the other view of an item must be more alike than all others, and by how much is said."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Pair, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives.margin import margin_info_nce, margin_nt_xent
from .base import Method


@register("simclr_am")
class AdditiveMargin(Method):
    """Additive margin in contrastive frameworks (Lepage & Dehak, 2024), for items whose views many others resemble (speakers).

    ℓ(i, j) = −log e^{(cos_ij − m)/τ} / (e^{(cos_ij − m)/τ} + Σ_{k≠i,j} e^{cos_ik/τ})

    symmetric: both views are anchors against the 2(N − 1) other views (SNT-Xent-AM), else the first against the second ones. m = 0 is
    NT-Xent. The authors have 1/τ = 30 and no projector for their best encoder (hidden=0), and views from disjoint segments of a clip;
    here they are the modality's.
    """

    needs = Pair()
    defaults = Training(optimizer="adamw", lr=1e-3, scale_lr="off", weight_decay=0.0, warmup=0.0, batch_size=256, epochs=100)
    small = {"hidden": 512, "width": 128, "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, width: int = 256, hidden: int = 0, temperature: float = 1 / 30, margin: float = 0.1,
                 symmetric: bool = True):
        """width, hidden: of the projector; hidden 0 for none. margin: m."""
        super().__init__()
        self.temperature, self.margin = temperature, margin
        self.objective = margin_nt_xent if symmetric else margin_info_nce
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, width) if hidden else None)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        a, b = over(views, self.student, joint=True)
        return self.objective(a, b, temperature=self.temperature, margin=self.margin)
