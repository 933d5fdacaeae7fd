"""Backbones for table rows: an MLP (also over any flattened item) and a Transformer over the columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable, OptionError, register
from .backbone import Backbone, mask_steps
from .batchnorm import BatchNorm
from .signal import ColumnSignal, replace
from .transformer import Transformer, check_pool, pool, select


def column_kinds(facts: Facts) -> tuple[int, list[int]]:
    """How many numeric columns come first (dates and booleans count), and the number of categories of each one after them."""
    if not facts.columns:
        return math.prod(facts.shape), []
    categories = [len(column.categories) for column in facts.columns if column.kind == "categorical"]
    return len(facts.columns) - len(categories), categories


class Codes(nn.Module):
    """Categorical columns as integers: [B, Fc] floats, −1 (or unknown, or NaN) = missing → int64 in [0, k], k = missing, plus
    the offset of the column, so that all columns share one range of `total` values."""

    def __init__(self, categories: Sequence[int]):
        super().__init__()
        counts = torch.tensor(categories, dtype=torch.int64)
        self.total = int((counts + 1).sum())
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("offsets", (counts + 1).cumsum(0) - counts - 1, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        codes = torch.nan_to_num(codes, nan=-1.0).long()
        return torch.where((codes < 0) | (codes >= self.counts), self.counts, codes) + self.offsets


class TableStem(nn.Module):
    """Rows [B, F] → [B, width]: numbers with NaN as 0, their indicators of NaN, categories one-hot (missing is one more)."""

    def __init__(self, facts: Facts):
        super().__init__()
        self.numeric, categories = column_kinds(facts)
        self.codes = Codes(categories)
        self.width = 2 * self.numeric + self.codes.total

    def forward(self, x: Tensor) -> Tensor:
        numbers, codes = x[:, : self.numeric], x[:, self.numeric:]
        missing = torch.isnan(numbers)
        hot = x.new_zeros(x.shape[0], self.codes.total).scatter_(1, self.codes(codes), 1.0)
        return torch.cat([numbers.masked_fill(missing, 0.0), missing.to(x.dtype), hot], dim=1)


class Flatten(nn.Module):
    """Items of one shape as rows: [B, ...] → [B, width]. Series beyond their lengths, and up to the longest, are zeros."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape, self.width = tuple(shape), math.prod(shape)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.shape) == 2 and x.shape[1] == self.shape[0] and x.shape[2] < self.shape[1]:
            x = F.pad(x, (0, self.shape[1] - x.shape[2]))
        if tuple(x.shape[1:]) != self.shape:
            raise OptionError(f"The backbone 'mlp' was built for items of shape {self.shape} and got {tuple(x.shape[1:])}: it "
                              "cannot take other sizes (multi-crop, say); use a convnet or a vit.")
        return x.flatten(1)


class FlatMlp(Backbone):
    """Linear maps with BatchNorm and ReLU: rows [B, F], or items [B, ...] flattened → pooled [B, hidden[-1]]."""

    def __init__(self, stem: nn.Module, hidden: Sequence[int], norm: bool):
        super().__init__()
        self.stem = stem
        self.width = hidden[-1]
        parts: list[nn.Module] = []
        for before, after in zip([stem.width, *hidden], hidden):
            parts += [nn.Linear(before, after, bias=not norm), *([BatchNorm(after)] if norm else []), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        return Features(self.layers(self.stem(mask_steps(x, lengths))))


class TableTransformer(Backbone):
    """A token a column (Gorishniy et al., 2021, FT-Transformer): number · weight + bias, or a category's embedding; a missing
    number has a token of its own. Rows [B, F] → tokens [B, F, D], pooled [B, D]. masked: bool [B, F], where `mask_token` [D] stands
    in place of the value."""

    abilities = frozenset({"tokens", "keep", "layers", "mask_tokens"})
    ordered = False  # its tokens are a set: that two are neighbours means nothing

    def __init__(self, facts: Facts, *, width: int, depth: int, heads: int, ratio: float, pool: str):
        super().__init__()
        self.width, self.pool = width, check_pool(pool)
        self.numeric, categories = column_kinds(facts)
        self.columns, self.counts = self.numeric + len(categories), tuple(categories)
        self.weight = nn.Parameter(torch.empty(self.numeric, width))
        self.missing = nn.Parameter(torch.empty(self.numeric, width))
        self.bias = nn.Parameter(torch.empty(self.columns, width))
        self.codes = Codes(categories)
        self.categories = nn.Embedding(self.codes.total, width)
        bound = width**-0.5
        for table in (self.weight, self.missing, self.bias, self.categories.weight):
            nn.init.uniform_(table, -bound, bound)
        self.transformer = Transformer(width, depth, heads, ratio)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(number of columns,)"""
        return (self.columns,)

    def signal(self) -> ColumnSignal:
        """What its tokens show of a row, to be predicted where it is hidden."""
        return ColumnSignal(self.numeric, self.counts)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = (),
                masked: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        numbers, codes = x[:, : self.numeric, None], x[:, self.numeric:]
        absent = torch.isnan(numbers)
        numeric = torch.where(absent, self.missing, numbers.masked_fill(absent, 0.0) * self.weight)  # [B, Fn, D]
        tokens = torch.cat([numeric, self.categories(self.codes(codes))], dim=1)
        tokens = replace(tokens, masked, mask_token) + self.bias
        tokens, _ = select(tokens, None, keep)
        cls, tokens, outputs = self.transformer(tokens, None, layers)
        return Features(pool(cls, tokens, None, self.pool), tokens, outputs)


@register("mlp", kind="backbone")
def mlp(facts: Facts, *, hidden: Sequence[int] = (256, 256), norm: bool = True) -> FlatMlp:
    """hidden: widths of the layers, the last is the encoder's. norm: BatchNorm after each."""
    stem = TableStem(facts) if facts.modality == "table" else Flatten(facts.shape)
    return FlatMlp(stem, tuple(hidden), norm)


@register("table_transformer", kind="backbone")
def table_transformer(facts: Facts, *, width: int = 192, depth: int = 3, heads: int = 8, ratio: float = 2.0,
                      pool: str = "cls") -> TableTransformer:
    """pool: cls or mean (of the columns' tokens)."""
    if facts.modality != "table":
        raise NotApplicable(f"The backbone 'table_transformer' needs the columns of a table, not {facts.modality} items: use "
                            "vit_tiny.")
    return TableTransformer(facts, width=width, depth=depth, heads=heads, ratio=ratio, pool=pool)
