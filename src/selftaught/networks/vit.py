"""Vision Transformers on series, images and volumes: any patch, any input size, any subset of the tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, OptionError, register
from .backbone import CONVOLUTIONS, Backbone, mask_steps, shorten, spatial_axes, valid_steps
from .signal import PatchSignal, replace
from .transformer import Transformer, check_pool, pool, select

INTERPOLATIONS = {2: "bicubic", 3: "trilinear"}


def sincos(coordinates: Tensor, width: int) -> Tensor:
    """[N, axes] places → [N, width]: sines and cosines of geometric wavelengths, an equal share of the width for each axis
    (Vaswani et al., 2017; the remainder stays zero)."""
    axes = coordinates.shape[1]
    each = width // (2 * axes)
    speed = 10000.0 ** (-torch.arange(each, device=coordinates.device, dtype=coordinates.dtype) / each)
    angles = coordinates[:, :, None] * speed  # [N, axes, each]
    waves = torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
    return F.pad(waves, (0, width - waves.shape[1]))


class Positions(nn.Module):
    """Position embeddings [1, N, D] for a grid of any size.

    Images and volumes: places are scaled to the grid the network was built for, so that a smaller crop of the whole spans the
    whole (sincos exactly, learned by interpolation). Series: places are step numbers, so that the length of the batch does
    not matter; learned ones are interpolated only for series longer than the network was built for.
    """

    def __init__(self, grid: tuple[int, ...], width: int, kind: str):
        super().__init__()
        if kind not in ("sincos", "learned"):
            raise OptionError(f"positions='{kind}' is not known: use sincos or learned.")
        self.grid, self.width = grid, width
        self.table = nn.Parameter(torch.empty(1, width, *grid)) if kind == "learned" else None
        if self.table is not None:
            nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: tuple[int, ...], like: Tensor) -> Tensor:
        if self.table is None:
            return sincos(self._places(grid, like), self.width)[None]
        table = self.table
        if len(grid) == 1 and grid[0] <= self.grid[0]:
            table = table[..., : grid[0]]
        elif grid != self.grid:
            table = F.interpolate(table, size=grid, mode=INTERPOLATIONS.get(len(grid), "linear"), align_corners=False)
        return table.flatten(2).transpose(1, 2)

    def _places(self, grid: tuple[int, ...], like: Tensor) -> Tensor:
        exact = torch.promote_types(like.dtype, torch.float32)
        lines = [torch.arange(count, device=like.device, dtype=exact) for count in grid]
        if len(grid) > 1:
            lines = [(line + 0.5) * (base / count) - 0.5 for line, base, count in zip(lines, self.grid, grid)]
        return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, -2)


class VisionTransformer(Backbone):
    """Dosovitskiy et al., 2021: [B, C, ...] → tokens [B, N, D] (without cls) and pooled [B, D] (the cls token, or their mean).

    N is the product of `grid(shape)`; an item that the patch does not divide is padded with zeros. keep: int64 [B, K], places
    in the flattened grid. lengths: valid steps along the last axis; Features.lengths counts the (kept) tokens
    within them, of a spectrogram the first of every row of the grid. masked: bool [B, N], where
    `mask_token` [D] stands in place of what the item shows there (at its position).
    """

    abilities = frozenset({"tokens", "keep", "layers", "mask_tokens"})

    def __init__(self, shape: tuple[int, ...], patch: int | Sequence[int], *, width: int, depth: int, heads: int,
                 ratio: float = 4.0, positions: str = "sincos", pool: str = "cls"):
        super().__init__()
        channels, *sides = shape
        self.width, self.channels, self.pool = width, channels, check_pool(pool)
        self.patch = (patch,) * len(sides) if isinstance(patch, int) else tuple(patch)
        if len(self.patch) != len(sides) or min(self.patch) < 1:
            raise OptionError(f"patch={patch} does not fit items of shape {tuple(shape)}: give one number, or {len(sides)}.")
        if any(p > side for p, side in zip(self.patch, sides)):
            raise OptionError(f"patch={patch} is longer than items of shape {tuple(shape)}: choose a smaller one.")
        self.embed = CONVOLUTIONS[len(sides)](channels, width, self.patch, self.patch)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1))
        nn.init.zeros_(self.embed.bias)
        self.positions = Positions(self.grid(shape), width, positions)
        self.transformer = Transformer(width, depth, heads, ratio)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Tokens along each axis of an item (or a batch) of that shape; only the last axes count."""
        return tuple(-(-side // patch) for side, patch in zip(shape[-len(self.patch):], self.patch))

    def signal(self) -> PatchSignal:
        """What its tokens show of an item, to be predicted where it is hidden."""
        return PatchSignal(self.channels, self.patch)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = (),
                masked: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        grid = self.grid(x.shape)
        x = mask_steps(x, lengths)
        missing = [count * patch - side for count, patch, side in zip(grid, self.patch, x.shape[2:])]
        if any(missing):
            x = F.pad(x, [part for rest in reversed(missing) for part in (0, rest)])
        tokens = replace(self.embed(x).flatten(2).transpose(1, 2), masked, mask_token)  # [B, N, D]
        tokens = tokens + self.positions(grid, tokens).to(tokens.dtype)
        valid = None if lengths is None else valid_steps(shorten(lengths, self.patch[-1]), grid[-1]).repeat(1, math.prod(grid[:-1]))
        tokens, valid = select(tokens, valid, keep)
        cls, tokens, outputs = self.transformer(tokens, valid, layers)
        return Features(pool(cls, tokens, valid, self.pool), tokens, outputs, None if valid is None else valid.sum(1))


def default_patch(sides: Sequence[int]) -> int:
    """Images: 4 up to 32 pixels, 8 up to 96, else 16. Series: the power of two that gives about 64 tokens. Volumes: 4 up to 16,
    8 up to 64, else 16."""
    side = min(sides)
    if len(sides) == 1:
        return 2 ** max(0, round(math.log2(max(side, 1) / 64)))
    small, medium = (32, 96) if len(sides) == 2 else (16, 64)
    return 4 if side <= small else 8 if side <= medium else 16


def _vit(name: str, facts: Facts, patch: int | Sequence[int] | None, **options: object) -> VisionTransformer:
    spatial_axes(facts, name)
    return VisionTransformer(facts.shape, patch or default_patch(facts.shape[1:]), **options)


@register("vit_tiny", kind="backbone")
def vit_tiny(facts: Facts, *, patch: int | Sequence[int] | None = None, width: int = 192, depth: int = 12, heads: int = 3,
             ratio: float = 4.0, positions: str = "sincos", pool: str = "cls") -> VisionTransformer:
    """patch: pixels or steps a token (None: from the resolution). positions: sincos or learned. pool: cls or mean."""
    return _vit("vit_tiny", facts, patch, width=width, depth=depth, heads=heads, ratio=ratio, positions=positions, pool=pool)


@register("vit_small", kind="backbone")
def vit_small(facts: Facts, *, patch: int | Sequence[int] | None = None, width: int = 384, depth: int = 12, heads: int = 6,
              ratio: float = 4.0, positions: str = "sincos", pool: str = "cls") -> VisionTransformer:
    """Options: as of vit_tiny."""
    return _vit("vit_small", facts, patch, width=width, depth=depth, heads=heads, ratio=ratio, positions=positions, pool=pool)


@register("vit_base", kind="backbone")
def vit_base(facts: Facts, *, patch: int | Sequence[int] | None = None, width: int = 768, depth: int = 12, heads: int = 12,
             ratio: float = 4.0, positions: str = "sincos", pool: str = "cls") -> VisionTransformer:
    """Options: as of vit_tiny."""
    return _vit("vit_base", facts, patch, width=width, depth=depth, heads=heads, ratio=ratio, positions=positions, pool=pool)
