"""Encoding what a mask leaves of a view, and a light Transformer that predicts the rest from it, of any tokens.

A view with M masks of B items is M · B rows here, mask after mask; what masks have in common (a context) is encoded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Features, View
from .transformer import Block, initialise
from .vit import Positions


def encode_visible(backbone: nn.Module, view: View) -> Features:
    """Features of the tokens at `view.applied["keep"]` [M, B, K] alone, M · B rows."""
    keep = view.applied["keep"]
    return backbone(rows(view.x, len(keep)), lengths=rows(view.lengths, len(keep)), keep=keep.flatten(0, 1))


def encode_masked(backbone: nn.Module, view: View, mask_token: Tensor) -> Features:
    """Features of all tokens, `mask_token` [D] in place of the hidden ones, M · B rows."""
    count = len(view.masks)
    return backbone(rows(view.x, count), lengths=rows(view.lengths, count), masked=view.masks.flatten(0, 1), mask_token=mask_token)


def predicted_places(view: View) -> Tensor:
    """int64 [M · B, T]: places that are to be predicted: the hidden ones; where nothing is hidden, all."""
    hidden = view.applied["hidden"]
    return (hidden if hidden.shape[-1] else view.applied["keep"]).flatten(0, 1)


def at_places(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens [B, N, D] at places [M · B, T] → [M · B, T, D]; or [1, N, D] the same for all rows."""
    tokens = tokens.expand(len(places), -1, -1) if len(tokens) == 1 else rows(tokens, len(places) // len(tokens))
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def inside_tokens(view: View, backbone: nn.Module) -> Tensor | None:
    """bool [B, N]: which of a backbone's tokens of a view lie within their item; None where all do."""
    return valid_tokens(view, backbone.grid(view.x.shape), getattr(backbone, "places", None))


def valid_tokens(view: View, grid: tuple[int, ...], places: Any) -> Tensor | None:
    """The same by what is known of them: the items' lengths, along the last axis of the grid, or `places` that are found in the items
    and say which there are (a cloud's occupied cells)."""
    found = getattr(places, "inside", None)
    if found is not None:
        return found(view.x, view.lengths)
    if view.lengths is None:
        return None
    steps = torch.arange(grid[-1], device=view.lengths.device) < view.applied["tokens"][:, None]
    return steps.repeat(1, math.prod(grid[:-1]))


def rows(x: Tensor | None, count: int) -> Tensor | None:
    """[B, ...] → [count · B, ...], all items again and again."""
    return x if x is None or count == 1 else x.repeat(count, *[1] * (x.ndim - 1))


class Decoder(nn.Module):
    """From the tokens that were encoded, one that was pooled and mask tokens at the places to be predicted (He et al., 2022): pre-norm
    blocks, a linear map out. `decoder(features, view, grid)`: [M · B, T, out] at `predicted_places(view)`.

    backbone, shape: whose tokens, of items of which shape. Positions: sines and cosines on its grid, or learned where its tokens are no
    grid (`ordered` is False), or made of where each item's own tokens lie, where the backbone says so (`places(x, lengths)` [B, N, axes]:
    the groups of a point cloud). The encoder's cls token or mean goes along as a token, so that what is pooled is trained.
    """

    def __init__(self, backbone: nn.Module, shape: Sequence[int], out: int, *, width: int, depth: int, heads: int, ratio: float = 4.0):
        super().__init__()
        self.enter, self.leave = nn.Linear(backbone.width, width), nn.Linear(width, out)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.places = getattr(backbone, "places", None)
        if self.places is None:
            self.positions = Positions(backbone.grid(shape), width, "sincos" if getattr(backbone, "ordered", True) else "learned")
        else:
            self.positions = nn.Sequential(nn.Linear(self.places.axes, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.normal_(self.mask_token, std=0.02)
        initialise(self)

    def forward(self, features: Features, view: View, grid: tuple[int, ...]) -> Tensor:
        keep, hidden = view.applied["keep"].flatten(0, 1), view.applied["hidden"].flatten(0, 1)
        times = len(hidden) // len(keep)  # masks to each set of kept tokens
        pooled, tokens = rows(self.enter(features.pooled), times), rows(self.enter(features.tokens), times)
        where = (grid, tokens) if self.places is None else (self.places(view.x, view.lengths),)
        positions = self.positions(*where).to(tokens.dtype)  # [1 or B, N, width]
        places = torch.cat([rows(keep, times), hidden], dim=1)
        blanks = self.mask_token.to(tokens.dtype).expand(*hidden.shape, -1)
        x = torch.cat([tokens, blanks], dim=1) + at_places(positions, places)
        x, visible = torch.cat([pooled[:, None], x], dim=1), self._visible(view, places, grid)
        for block in self.blocks:
            x = block(x, visible)
        return self.leave(self.norm(x[:, -predicted_places(view).shape[1]:]))

    def _visible(self, view: View, places: Tensor, grid: tuple[int, ...]) -> Tensor | None:
        """bool [M · B, 1, 1, 1 + K + H]: what may be attended to, where not all tokens are: no padding."""
        inside = valid_tokens(view, grid, self.places)
        if inside is None:
            return None
        return nn.functional.pad(rows(inside, len(places) // len(inside)).gather(1, places), (1, 0), value=True)[:, None, None]
