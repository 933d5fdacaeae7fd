"""What sits on a backbone: projectors, predictors, prototypes, DINO's head, and the Embedder that joins both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import View
from .batchnorm import BatchNorm


class Embedder(nn.Module):
    """head(backbone(view).pooled): View or tensor [B, ...] → [B, D]. Without a head, the pooled features themselves."""

    def __init__(self, backbone: nn.Module, head: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Identity() if head is None else head

    def forward(self, view: View | Tensor) -> Tensor:
        x, lengths = (view.x, view.lengths) if isinstance(view, View) else (view, None)
        return self.head(self.backbone(x, lengths=lengths).pooled)


class Mlp(nn.Sequential):
    """`layers` linear maps [B, in] → [B, out] with BatchNorm (unless `norm=False`) and ReLU between them.

    last_norm: BatchNorm without affine parameters on the output too (SimSiam's projector). A linear map that BatchNorm
    follows has no bias, since BatchNorm would take it away.
    """

    def __init__(self, width: int, hidden: int, out: int, *, layers: int = 2, norm: bool = True, last_norm: bool = False,
                 last_bias: bool = True):
        widths = [width] + [hidden] * (layers - 1)
        parts: list[nn.Module] = []
        for before, after in zip(widths, widths[1:]):
            parts += [nn.Linear(before, after, bias=not norm), *([BatchNorm(after)] if norm else []), nn.ReLU(inplace=True)]
        parts.append(nn.Linear(widths[-1], out, bias=last_bias and not last_norm))
        if last_norm:
            parts.append(BatchNorm(out, affine=False))
        super().__init__(*parts)
        self.width = out


class UnitLinear(nn.Module):
    """[B, in] → [B, out] by rows of length one: a weight-normed linear map whose gain is fixed to 1, without bias."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.weight = nn.Linear(width, out, bias=False).weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.normalize(self.weight, dim=1))


class Prototypes(nn.Module):
    """Scores of [B, width] against `count` prototypes: [B, count] (SwAV). `normalise()` puts them back on the unit sphere."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.weight = nn.Linear(width, count, bias=False).weight
        self.normalise()

    @torch.no_grad()
    def normalise(self) -> None:
        self.weight.copy_(F.normalize(self.weight, dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class DinoHead(nn.Module):
    """DINO's head (Caron et al., 2021): an MLP with GELU to a bottleneck, unit length, then `last`, a weight-normed linear map.

    [B, in] → [B, out]. Weights of the MLP: normal of deviation .02, truncated. `norm`: BatchNorm in the MLP (for ConvNets).
    """

    def __init__(self, width: int, out: int, *, hidden: int = 2048, bottleneck: int = 256, layers: int = 3, norm: bool = False):
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(layers - 1):
            parts += [nn.Linear(hidden if i else width, hidden), *([BatchNorm(hidden)] if norm else []), nn.GELU()]
        self.mlp = nn.Sequential(*parts, nn.Linear(hidden if layers > 1 else width, bottleneck))
        for part in self.mlp:
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        self.last = UnitLinear(bottleneck, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.normalize(self.mlp(x), dim=-1))


class LinearHead(nn.Linear):
    """A linear classifier or regressor [B, width] → [B, out], started near zero (deviation .01)."""

    def __init__(self, width: int, out: int):
        super().__init__(width, out)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)
