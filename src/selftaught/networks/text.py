"""A Transformer over token ids, small by default: short texts on a processor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable, register
from .backbone import Backbone, valid_steps
from .signal import replace
from .transformer import Transformer, check_pool, pool, select
from .vit import Positions

PADDING = 0
"""The id behind the end of a text."""


class TokenSignal(nn.Module):
    """The id at each place: x int64 [B, T] → float [B, T, 1], NaN past the end; a category of `width` at every place."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.width = vocabulary

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, normalised: bool = False) -> Tensor:
        valid = x != PADDING if lengths is None else valid_steps(lengths, x.shape[1])
        return x.float().masked_fill(~valid, torch.nan)[..., None]

    def counts(self, places: Tensor) -> Tensor:
        """int64 like `places`: how many ids there may be."""
        return torch.full_like(places, self.width)


class TextTransformer(Backbone):
    """Ids int64 [B, T] → tokens [B, T, D] and pooled [B, D], the mean over the text (or the cls token), after Devlin et al. (2019),
    with pre-norm blocks: embedding + learned position, dropout on it and on what each block adds.

    Without `lengths` the padding (id 0) is taken for the end, as in an exported graph. keep: int64 [B, K] places; masked: bool
    [B, T], where `mask_token` [D] stands in place of the embedding.
    """

    abilities = frozenset({"tokens", "keep", "layers", "mask_tokens"})

    def __init__(self, length: int, vocabulary: int, *, width: int, depth: int, heads: int, ratio: float, pool: str, dropout: float):
        super().__init__()
        self.width, self.pool, self.vocabulary = width, check_pool(pool), vocabulary
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)
        self.positions = Positions((length,), width, "learned")
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(width, depth, heads, ratio)
        self.transformer.norm = nn.LayerNorm(width, eps=1e-6, bias=False)  # the head has one, and a mean would hand it on as it is
        for block in self.transformer.blocks:
            block.out = nn.Sequential(block.out, nn.Dropout(dropout))
            block.mlp.append(nn.Dropout(dropout))

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(number of places,) of an item or a batch of that shape."""
        return (shape[-1],)

    def signal(self) -> TokenSignal:
        """What its tokens show of a text, to be predicted where it is hidden."""
        return TokenSignal(self.vocabulary)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = (),
                masked: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        if lengths is None:
            lengths = (x != PADDING).sum(1)
        tokens = replace(self.embed(x), masked, mask_token)  # [B, T, D]
        tokens = self.dropout(tokens + self.positions((x.shape[1],), tokens).to(tokens.dtype))
        tokens, valid = select(tokens, valid_steps(lengths, x.shape[1]), keep)
        cls, tokens, outputs = self.transformer(tokens, valid, layers)
        return Features(pool(cls, tokens, valid, self.pool), tokens, outputs, valid.sum(1))


@register("text_transformer", kind="backbone")
def text_transformer(facts: Facts, *, width: int = 128, depth: int = 2, heads: int = 4, ratio: float = 2.0, pool: str = "mean",
                     dropout: float = 0.1) -> TextTransformer:
    """pool: mean or cls. dropout: also what tells two views of one text apart where they are not changed (views.augment=none)."""
    if facts.vocabulary is None:
        raise NotApplicable(f"The backbone 'text_transformer' needs token ids of texts, not {facts.modality} items: use vit_tiny or mlp.")
    return TextTransformer(facts.shape[-1], facts.vocabulary, width=width, depth=depth, heads=heads, ratio=ratio, pool=pool,
                           dropout=dropout)
