"""What every backbone is, and what several kinds of them share: masks of series, kinds of convolution, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Backbone(nn.Module):
    """[B, ...] → Features. A subclass sets `width` (of the pooled features) and names its `abilities`.

    abilities: 'tokens' (Features.tokens, each with its place on a grid; a map's places without a grid are no ability), 'keep'
    (encodes a subset of the tokens), 'layers' (outputs of blocks). Token
    backbones also have `grid(shape)`, the numbers of tokens along the axes of an item of that shape; `ordered` is False where its
    tokens are a set, and `places(x, lengths)` [B, N, axes] says where they lie where that differs from item to item.
    """

    width: int
    abilities: ClassVar[frozenset[str]] = frozenset()

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        """x: [B, ...] float. lengths: int64 [B], valid steps of a series. keep: int64 [B, K], places of the tokens to encode.
        layers: numbers of the blocks whose outputs [B, N, D] are wanted."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it encodes")

    def signal(self) -> Any:
        """What its tokens show of an item, as networks/signal.py has it. NotApplicable where nobody knows."""
        raise NotApplicable(f"What the tokens of the backbone {type(self).__name__} show of an item is not known, so it cannot be "
                            "predicted or overwritten: use a token backbone such as vit_tiny.")

    def refuse(self, keep: Tensor | None, layers: Sequence[int]) -> None:
        """Says so where a subset of tokens or the outputs of blocks are asked of a backbone that has none."""
        if keep is not None or len(layers):
            asked = "encode a subset of tokens" if keep is not None else "give the outputs of its blocks"
            raise NotApplicable(f"The backbone {type(self).__name__} cannot {asked}: use a token backbone such as vit_tiny.")


def spatial_axes(facts: Facts, name: str) -> int:
    """1, 2 or 3: how many axes an item has besides its channels; NotApplicable where there is nothing to slide along."""
    axes = len(facts.shape) - 1
    if facts.modality == "table" or axes not in CONVOLUTIONS:
        other = " or 'table_transformer'" if facts.modality == "table" else ""
        raise NotApplicable(f"The backbone '{name}' needs items with channels and one to three axes, but a {facts.modality} "
                            f"item has shape {tuple(facts.shape)}: use 'mlp'{other}.")
    return axes


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """bool [B, steps]: True where a step lies within its item."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def mask_steps(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[B, C, T], [B, T] or [B, C, M, T] with zeros beyond the lengths (also where there was NaN), of which the last axis is the one;
    anything without lengths as it is."""
    if lengths is None:
        return x
    return x.masked_fill(~valid_steps(lengths, x.shape[-1]).view(x.shape[0], *[1] * (x.ndim - 2), -1), 0)


def shorten(lengths: Tensor | None, stride: int) -> Tensor | None:
    """Lengths after a layer of that stride, padded so that it gives ⌈T / stride⌉ steps."""
    return lengths if lengths is None or stride == 1 else (lengths + stride - 1) // stride


def average(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[B, C, ...] → [B, C]: the mean over all places, with lengths only over the valid steps (the others are zero)."""
    if lengths is None:
        return x.flatten(2).mean(2) if x.ndim != 4 else x.mean((2, 3))
    return x.flatten(2).sum(2) / (lengths.clamp(min=1) * x[0, 0, ..., 0].numel())[:, None].to(x.dtype)


def places(x: Tensor) -> Tensor:
    """[B, C, ...] → [B, N, C], a token a place of the map; a view, which costs nothing."""
    return x.flatten(2).transpose(1, 2)


def he_init(module: nn.Module) -> None:
    """Normal weights of variance 2 / fan-out for every convolution (He et al., 2015)."""
    for part in module.modules():
        if isinstance(part, tuple(CONVOLUTIONS.values())):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
