"""Predicting what an encoder would make of hidden tokens by asking those that it saw, and decoding such latents among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Features, OptionError, View
from .decoder import at_places, predicted_places, rows, valid_tokens
from .transformer import Block, attend, initialise
from .vit import Positions


class CrossBlock(nn.Module):
    """x + attention(norm(x + p) over norm(c + q)), then x + mlp(norm(x)): queries x [B, T, D] at positions p, context c [B, S, D] at
    positions q, which only tell the keys where they are."""

    def __init__(self, width: int, heads: int, ratio: float):
        super().__init__()
        if width % heads:
            raise OptionError(f"A regressor of width {width}, the encoder's, cannot have {heads} heads: choose a number that divides it.")
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, int(width * ratio)), nn.GELU(), nn.Linear(int(width * ratio), width))

    def forward(self, x: Tensor, p: Tensor, context: Tensor, q: Tensor, visible: Tensor | None = None) -> Tensor:
        """visible: bool [B, 1, 1, S], which of the context may be attended to."""
        parts = self.query(self.norm1(x + p)), self.key(self.norm2(context + q)), self.value(self.norm2(context))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = attend(query, key, value, visible)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm3(x))


class Regressor(nn.Module):
    """CAE's latent contextual regressor (Chen et al., 2023): mask tokens at the hidden places ask the visible tokens and, from block to
    block, one another. `regressor(features, view, grid)`: latents [M · B, T, D] at `predicted_places(view)`.

    backbone, shape: whose tokens, of items of which shape.
    """

    def __init__(self, backbone: nn.Module, shape: Sequence[int], *, depth: int, heads: int, ratio: float = 4.0):
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(backbone.width))
        self.positions, self.places = token_positions(backbone, shape), getattr(backbone, "places", None)
        self.blocks = nn.ModuleList(CrossBlock(backbone.width, heads, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(backbone.width, eps=1e-6)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        initialise(self)

    def forward(self, features: Features, view: View, grid: tuple[int, ...]) -> Tensor:
        places, keep = predicted_places(view), view.applied["keep"].flatten(0, 1)
        times = len(places) // len(keep)  # masks to each set of kept tokens
        keep, tokens = rows(keep, times), rows(features.tokens, times)
        positions = self.positions(grid, tokens).to(tokens.dtype)
        p, q = at_places(positions, places), at_places(positions, torch.cat([keep, places], 1))
        x, visible = self.mask_token.to(tokens.dtype).expand_as(p), visible_places(view, torch.cat([keep, places], 1), grid, self.places)
        for block in self.blocks:
            x = block(x, p, torch.cat([tokens, x], 1), q, visible)
        return self.norm(x)


class LatentDecoder(nn.Module):
    """From latents [M · B, T, D] at `predicted_places(view)`, and nothing else, to what is there: [M · B, T, out]; pre-norm blocks that are
    told the positions anew each, then a linear map."""

    def __init__(self, backbone: nn.Module, shape: Sequence[int], out: int, *, depth: int, heads: int, ratio: float = 4.0):
        super().__init__()
        self.positions, self.places = token_positions(backbone, shape), getattr(backbone, "places", None)
        self.blocks = nn.ModuleList(Block(backbone.width, heads, ratio) for _ in range(depth))
        self.norm, self.leave = nn.LayerNorm(backbone.width, eps=1e-6), nn.Linear(backbone.width, out)
        initialise(self)

    def forward(self, latents: Tensor, view: View, grid: tuple[int, ...]) -> Tensor:
        places = predicted_places(view)
        p, visible = at_places(self.positions(grid, latents).to(latents.dtype), places), visible_places(view, places, grid, self.places)
        for block in self.blocks:
            latents = block(latents + p, visible)
        return self.leave(self.norm(latents))


def token_positions(backbone: nn.Module, shape: Sequence[int]) -> Positions:
    """Of a backbone's tokens at its own width: sines and cosines on its grid, learned where its tokens are no grid."""
    return Positions(backbone.grid(shape), backbone.width, "sincos" if getattr(backbone, "ordered", True) else "learned")


def visible_places(view: View, places: Tensor, grid: tuple[int, ...], found: Any = None) -> Tensor | None:
    """bool [M · B, 1, 1, T]: which of the tokens at `places` [M · B, T] lie within their item, as `valid_tokens` has it; None where all
    do. An item none of whose tokens there do may look at the first, as attention to nothing is not a number."""
    inside = valid_tokens(view, grid, found)
    if inside is None:
        return None
    visible = rows(inside, len(places) // len(inside)).gather(1, places)
    first = torch.arange(places.shape[1], device=places.device) == 0
    return (visible | (first & ~visible.any(1, keepdim=True)))[:, None, None]
