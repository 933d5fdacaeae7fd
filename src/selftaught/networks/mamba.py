"""A bidirectional Mamba over patch tokens: state spaces in place of attention, so that its cost grows with the number of tokens alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, register
from .backbone import spatial_axes
from .scan import selective_scan
from .transformer import Transformer, hide
from .vit import VisionTransformer, default_patch

SLOWEST, FASTEST = 1e-3, 1e-1  # steps Δ at the start: states that last for a thousand tokens down to ten


class Direction(nn.Module):
    """One way along the tokens [B, N, E]: a short causal convolution, then the selective scan, whose step and whose ways in and out of the
    state follow from the token (Gu & Dao, 2023). Tokens that are not `valid` [B, N] have the step 0, and zeros to convolve."""

    def __init__(self, width: int, state: int, reach: int, rank: int):
        super().__init__()
        self.reach, self.sizes = reach, (rank, state, state)
        self.near = nn.Conv1d(width, width, reach, groups=width)
        self.select, self.step = nn.Linear(width, sum(self.sizes), bias=False), nn.Linear(rank, width)
        self.rate = nn.Parameter(torch.arange(1, state + 1).float().log().repeat(width))  # log −A; a vector, as vectors carry no decay
        self.skip = nn.Parameter(torch.ones(width))
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Steps between `SLOWEST` and `FASTEST`, evenly in their logarithms, whatever the token."""
        nn.init.uniform_(self.step.weight, -self.sizes[0] ** -0.5, self.sizes[0] ** -0.5)
        step = torch.empty_like(self.step.bias).uniform_(math.log(SLOWEST), math.log(FASTEST)).exp_()
        self.step.bias.copy_(step + (-torch.expm1(-step)).log())  # its softplus is the step

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x = F.silu(self.near(F.pad(x.transpose(1, 2), (self.reach - 1, 0))).transpose(1, 2))
        rank, enter, leave = self.select(x).split(self.sizes, dim=-1)
        step = hide(F.softplus(self.step(rank)), valid)
        return selective_scan(x, step, -self.rate.exp().view(x.shape[-1], -1), enter, leave) + self.skip * x


class MambaBlock(nn.Module):
    """x + W [(forward scan + backward scan) / 2 ∘ silu(z)]: [B, N, D] → [B, N, D] (Vim; Zhu et al., 2024, here with LayerNorm)."""

    def __init__(self, width: int, state: int, expand: float, reach: int):
        super().__init__()
        inner, rank = int(expand * width), math.ceil(width / 16)
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.enter, self.leave = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.onward, self.homeward = Direction(inner, state, reach, rank), Direction(inner, state, reach, rank)

    def forward(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        x, gate = self.enter(self.norm(tokens)).chunk(2, dim=-1)
        x = hide(x, valid)
        back = self.homeward(x.flip(1), None if valid is None else valid.flip(1)).flip(1)
        return tokens + self.leave((self.onward(x, valid) + back) * F.silu(gate) / 2)


class MambaStack(Transformer):
    """A cls token amid the tokens, `depth` blocks, a last LayerNorm; takes and gives what `Transformer` does.

    What is not valid is moved behind the rest for the scans, so that an item's tokens are neighbours however it is padded.
    """

    def __init__(self, width: int, depth: int, state: int, expand: float, reach: int):
        super().__init__(width, 0, 1, 1.0)
        self.blocks = nn.ModuleList(MambaBlock(width, state, expand, reach) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-5)
        for block in self.blocks:  # what the blocks add together is as large as what one would (Gu & Dao, after GPT-2)
            block.leave.weight.data.div_(math.sqrt(depth))

    def forward(self, tokens: Tensor, valid: Tensor | None, layers: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        wanted, order = self._numbers(layers), self._order(tokens, valid)
        back, outputs = order.argsort(1), {}
        x = _at(torch.cat([self.cls.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1), order)
        seen = None if valid is None else F.pad(valid, (1, 0), value=True).gather(1, order)
        for number, block in enumerate(self.blocks):
            x = block(x, seen)
            if number in wanted:
                outputs[number] = hide(_at(x, back)[:, 1:], valid)
        x = _at(self.norm(x), back)
        return x[:, 0], hide(x[:, 1:], valid), [outputs[number] for number in wanted] or None

    @staticmethod
    def _order(tokens: Tensor, valid: Tensor | None) -> Tensor:
        """int64 [B, 1 + N] of (cls, tokens): the valid ones with cls in their middle, then the rest."""
        seen = torch.ones_like(tokens[..., 0], dtype=torch.bool) if valid is None else valid
        place = seen.cumsum(1)  # 1, 2, … of the valid ones
        key = torch.where(seen, 2 * place, 2 * seen.shape[1] + 2)
        return torch.cat([2 * (place[:, -1:] // 2) + 1, key], dim=1).argsort(dim=1, stable=True)


def _at(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


class Mamba(VisionTransformer):
    """Patch tokens as the Vision Transformer's, all that is said there included, with Mamba blocks in place of its own. Two of them
    have about the parameters of one Transformer block."""

    def __init__(self, shape: tuple[int, ...], patch: int | Sequence[int], *, width: int, depth: int, state: int, expand: float, reach: int,
                 positions: str, pool: str):
        super().__init__(shape, patch, width=width, depth=0, heads=1, positions=positions, pool=pool)
        self.transformer = MambaStack(width, depth, state, expand, reach)


@register("mamba", kind="backbone")
def mamba(facts: Facts, *, patch: int | Sequence[int] | None = None, width: int = 192, depth: int = 24, state: int = 16,
          expand: float = 2.0, reach: int = 4, positions: str = "sincos", pool: str = "mean") -> Mamba:
    """state: numbers of memory a channel. expand: channels of the scan to those of a token. reach: tokens of the convolution.
    The others: as of vit_tiny, to which it is a twin."""
    spatial_axes(facts, "mamba")
    return Mamba(facts.shape, patch or default_patch(facts.shape[1:]), width=width, depth=depth, state=state, expand=expand, reach=reach,
                 positions=positions, pool=pool)
