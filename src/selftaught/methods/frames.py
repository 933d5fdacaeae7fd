"""Frame projections: tell apart items by three representations of each, made without any augmentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Clean, Facts, Terms, Training, View, register
from ..networks import Embedder, Frames, Mlp
from ..objectives import nt_xent
from .base import Method


class Projectors(nn.Module):
    """A projector a space: their embeddings side by side [B, 3 · width] → their projections side by side."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.parts = nn.ModuleList(Mlp(width, hidden, out) for _ in range(3))

    def forward(self, joint: Tensor) -> Tensor:
        return torch.cat([part(x) for part, x in zip(self.parts, joint.chunk(3, 1))], 1)


@register("frames")
class FrameProjections(Method):
    """Learning without augmenting (Demirel & Holz, 2025): a series against its Fourier and its frame coefficients.

    The views are its values x, its coordinates Fx in the orthonormal Fourier basis, and its coefficients Gx in an overcomplete
    Gabor frame, each with an encoder of its own.

    loss = ½ Σ over pairs of spaces of nt_xent(z_s, z_t) + ‖m_F(h_x) − h_Fx‖₁ + ‖m_G(h_x) − h_Gx‖₁ (means), h frozen in both

    The kept encoder gives [h_x, m_F(h_x), m_G(h_x)]: one encoder runs, the mappers bring in the geometry of the others
    (`joint='all'`: [h_x, h_Fx, h_Gx]). Settled from the paper's code where its text leaves it open: all three pairs, negatives
    within and across the two spaces, τ = .15, L1 for the mappers. Otherwise than there: the mappers learn beside the encoders,
    not after them, and are MLPs, not convolutions over the places of an embedding; predictors between the projections, whose
    weight there is 1/batch, are left out; the wavelet frame is tight; encoders of Fx and Gx suit any length.
    """

    needs = Clean()
    modalities = ("series",)
    defaults = Training(optimizer="adamw", lr=1e-3, scale_lr="off", weight_decay=1e-6, warmup=0.0, batch_size=1024, epochs=256)
    small = {"training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 128, hidden: int | None = None, temperature: float = 0.15,
                 joint: str = "mapped", bands: int = 16):
        """width, hidden: of the projectors (None: the backbone's). joint: 'mapped' or 'all'. bands: of the frame."""
        super().__init__()
        self.temperature = temperature
        spaces = backbone if isinstance(backbone, Frames) else Frames(backbone, facts, joint=joint, bands=bands)
        self.student = Embedder(spaces, Projectors(spaces.part, hidden or spaces.part, width))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        spaces = self.student.backbone
        h = self.paired(spaces.spaces(views[0].x, views[0].lengths))
        z = self.student.head(torch.cat(h, 1)).chunk(3, 1)
        contrast = sum(nt_xent(z[s], z[t], temperature=self.temperature) for s, t in ((0, 1), (0, 2), (1, 2))) / 2
        mapping = sum(F.l1_loss(m, target.detach()) for m, target in zip(spaces.mapped(h[0].detach()), h[1:]))
        return Terms(contrast + mapping, contrast=contrast, mapping=mapping)

    def paired(self, spaces: list[Tensor]) -> list[Tensor]:
        """The embeddings that are taken to be of the same item: row by row."""
        return spaces
