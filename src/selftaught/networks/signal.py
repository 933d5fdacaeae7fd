"""What hidden tokens are to be predicted: the raw input of each token, as it is or normalised, or a teacher's layers.

Targets are [B, N, P] on the tokens of a backbone, NaN = nothing to predict there (padding, and what a table
lacks; views fill in what a series lacks, and that counts as its values).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import NotApplicable
from .backbone import valid_steps


def replace(tokens: Tensor, masked: Tensor | None, mask_token: Tensor | None) -> Tensor:
    """Tokens [B, N, D] with `mask_token` [D] where `masked` bool [B, N]."""
    return tokens if masked is None else torch.where(masked[..., None], mask_token.to(tokens.dtype), tokens)


LEAST = 4
"""Values of a token from which on it can be normalised by itself: one would be 0, two a sign."""


class PatchSignal(nn.Module):
    """The values of each patch of a grid of one to three axes: x [B, C, ...] → [B, N, C · patch], channels first in a patch.

    normalised: each patch by its own mean and (unbiased) deviation (He et al., 2022: ε = 1e-6 in the variance), unless it has fewer than
    `LEAST` values, of which next to nothing would be left. `width` is what has to be predicted for a token.
    """

    def __init__(self, channels: int, patch: Sequence[int]):
        super().__init__()
        self.patch, self.width = tuple(patch), channels * math.prod(patch)

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, normalised: bool = False) -> Tensor:
        if lengths is not None:
            x = x.masked_fill(~valid_steps(lengths, x.shape[-1]).view(len(x), *[1] * (x.ndim - 2), -1), torch.nan)
        rest = [-side % patch for side, patch in zip(x.shape[2:], self.patch)]
        if any(rest):
            x = F.pad(x, [part for missing in reversed(rest) for part in (0, missing)], value=torch.nan)
        for axis, patch in enumerate(self.patch):  # [B, C, n1, p1, n2, p2, ...]
            x = x.unflatten(2 + 2 * axis, (-1, patch))
        axes = len(self.patch)
        x = x.permute(0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)).flatten(1 + axes).flatten(1, axes)
        return normalise_tokens(x) if normalised and self.width >= LEAST else x

    def counts(self, places: Tensor) -> None:
        """None: nothing here is a category."""
        return None


class ColumnSignal(nn.Module):
    """The cell of each column: x [B, F] → [B, F, 1], numbers (already standardised by the table's views), then codes.

    A number takes the first of the `width` values predicted for a token, a code a logit for each of its column's categories.
    """

    def __init__(self, numeric: int, categories: Sequence[int]):
        super().__init__()
        self.width = max([1, *categories])
        self.register_buffer("sizes", torch.tensor([0] * numeric + list(categories)), persistent=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, normalised: bool = False) -> Tensor:
        unknown = (self.sizes > 0) & ~((x >= 0) & (x < self.sizes))  # a code that is missing
        return x.masked_fill(unknown, torch.nan)[..., None]

    def counts(self, places: Tensor) -> Tensor:
        """int64 like `places`: categories of the columns there, 0 = a number."""
        return self.sizes[places]


def normalise_tokens(x: Tensor, eps: float = 1e-6) -> Tensor:
    """[B, N, P], each token centred and divided by the deviation of its values (unbiased), those that are NaN left out."""
    there = ~x.isnan()
    count = there.sum(-1, keepdim=True).clamp(min=1)
    centred = x - x.nan_to_num(0.0).sum(-1, keepdim=True) / count
    variance = centred.nan_to_num(0.0).square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance + eps).sqrt()


# ---- a teacher's layers ------------------------------------------------------------------------------------------------------


def need_transformer(backbone: nn.Module) -> None:
    """NotApplicable for a backbone that is not made of blocks of attention and FFN."""
    if any(not hasattr(block, "mlp") for block in backbone.transformer.blocks):
        raise NotApplicable(f"The blocks of the backbone {type(backbone).__name__} have no FFN to take outputs of: use a Transformer.")


@contextmanager
def ffn_outputs(backbone: nn.Module, top: int) -> Iterator[list[Tensor]]:
    """A list that each forward of a Transformer backbone fills with what the FFNs of its last `top` blocks add, [B, 1 + N, D] each."""
    found: list[Tensor] = []
    handles = [block.mlp.register_forward_hook(lambda module, inputs, output: found.append(output))
               for block in backbone.transformer.blocks[-top:]]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def layer_average(layers: Sequence[Tensor], valid: Tensor | None, norm: str) -> Tensor:
    """Mean of layers [B, N, D], each first normalised: 'layer' (a token over its channels), 'instance' (a channel over the item's valid
    tokens [B, N]) or 'none'; NaN where a token is not valid."""
    if norm == "layer":
        layers = [F.layer_norm(layer, layer.shape[-1:]) for layer in layers]
    elif norm == "instance":
        layers = [_instance_norm(layer, valid) for layer in layers]
    return blank(torch.stack(list(layers)).mean(0), valid)


def _instance_norm(x: Tensor, valid: Tensor | None, eps: float = 1e-5) -> Tensor:
    weight = x.new_ones(x.shape[:2]) if valid is None else valid.to(x.dtype)
    weight = (weight / weight.sum(1, keepdim=True).clamp(min=1.0))[..., None]
    centred = x - (weight * x).sum(1, keepdim=True)
    return centred / ((weight * centred.square()).sum(1, keepdim=True) + eps).sqrt()


def blank(tokens: Tensor, valid: Tensor | None) -> Tensor:
    """NaN in the tokens [B, N, D] that are not valid [B, N]."""
    return tokens if valid is None else tokens.masked_fill(~valid[..., None], torch.nan)


def target_spread(targets: Tensor) -> Tensor:
    """Deviation over the batch of the targets [B, N, D] at a place, averaged over places and D: it dies where a teacher collapses."""
    apart = targets - targets.nanmean(0)
    return apart.square().nanmean(0).sqrt().nanmean()
