"""A dilated convolutional network over time, as TS2Vec has it: every step of a series keeps a token that sees far around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable, OptionError, register
from .backbone import Backbone, average, mask_steps, valid_steps

POOLS = ("max", "mean")


class DilatedBlock(nn.Module):
    """x + conv(gelu(conv(gelu(x)))), both of three steps `dilation` apart; a 1 × 1 convolution on the side where widths differ."""

    def __init__(self, before: int, after: int, dilation: int):
        super().__init__()
        self.first = nn.Conv1d(before, after, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(after, after, 3, padding=dilation, dilation=dilation)
        self.side = nn.Identity() if before == after else nn.Conv1d(before, after, 1)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        hidden = mask_steps(self.first(F.gelu(x)), lengths)
        return mask_steps(self.side(x) + self.second(F.gelu(hidden)), lengths)


class Dilated(Backbone):
    """The encoder of TS2Vec (Yue et al., 2022): [B, C, T] → tokens [B, T, width], pooled [B, width] their largest values (or mean).

    A linear map a step, then `depth` residual blocks of `hidden` channels whose dilation doubles from 1, and one of `width`.
    No normalisation, so that a batch of any size will do. Nothing past an item's end is seen.
    """

    abilities = frozenset({"tokens"})

    def __init__(self, channels: int, hidden: int, width: int, depth: int, pool: str):
        super().__init__()
        if pool not in POOLS:
            raise OptionError(f"pool={pool!r} is not known: {' or '.join(POOLS)}.")
        self.width, self.pool = width, pool
        self.stem = nn.Conv1d(channels, hidden, 1)
        self.blocks = nn.ModuleList(DilatedBlock(hidden, width if i == depth else hidden, 2**i) for i in range(depth + 1))

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(number of steps,)"""
        return (shape[-1],)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        x = mask_steps(self.stem(mask_steps(x, lengths)), lengths)
        for block in self.blocks:
            x = block(x, lengths)  # [B, D, T]
        if self.pool == "mean":
            return Features(average(x, lengths), x.transpose(1, 2), lengths=lengths)
        seen = x if lengths is None else x.masked_fill(~valid_steps(lengths, x.shape[2])[:, None], -math.inf)
        return Features(seen.amax(2), x.transpose(1, 2), lengths=lengths)


@register("dilated", kind="backbone")
def dilated(facts: Facts, *, hidden: int = 64, width: int = 320, depth: int | None = None, pool: str = "max") -> Dilated:
    """hidden, width: channels of the blocks and of the last one. depth: None takes so many blocks that a step sees the whole
    series, at most the paper's 10. pool: max or mean."""
    if len(facts.shape) != 2:
        raise NotApplicable(f"The backbone 'dilated' runs over time and needs items [C, T], not {facts.modality} items of shape "
                            f"{tuple(facts.shape)}: use '{'mlp' if facts.modality == 'table' else 'convnet'}'.")
    enough = math.ceil(math.log2((facts.shape[1] + 1) / 2)) - 1  # `depth` + 1 blocks reach 2 · (2^(depth + 1) − 1) steps to each side
    return Dilated(facts.shape[0], hidden, width, min(10, max(1, enough)) if depth is None else depth, pool)
