"""Masks on a backbone's grid of tokens: which of them are hidden, as many for every sample of a step; all samples at once.

A kind of mask is a function that gives every token a score, and the lowest are hidden: their number is exact by construction,
and the kept places are a rectangle. Another kind (spans, tubes, several blocks) is one more function in `KINDS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..contracts import Batch, Draws, Mask, OptionError, View, nearest

ASPECT = 1.5
"""How much longer than another a side of a block may be drawn, each taken relative to its axis of the grid."""


class Masked:
    """Views of `views`, all but local ones with masks: `View.masks` bool [M, B, N], True = hidden, and `applied["keep"]` int64
    [M, B, K], the places of the others in rising order, as a backbone's `keep` takes them.

    grid: shape of a batch → tokens along each axis, the backbone's. An item that is shorter than the batch hides that part of
    its own tokens, and so much of its padding that K is the same for all; what is kept of the padding the backbone sees by the
    lengths. At least one token stays.
    """

    def __init__(self, views: Callable[[Batch, Draws], list[View]], mask: Mask, grid: Callable[[Sequence[int]], tuple[int, ...]]):
        if mask.kind not in KINDS:
            raise nearest(mask.kind, KINDS, what="kind of mask")
        if not 0 <= mask.ratio[0] <= mask.ratio[1] < 1 or mask.count < 1:
            raise OptionError(f"A mask hides a part within 0..1, lowest first and never all, at least once; not {mask}.")
        self.views, self.mask, self.grid = views, mask, grid
        self._tokens: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        low, high = self.mask.ratio
        ratio = low + (high - low) * draws.step_uniform("masked part")
        return [view if view.role == "local" else self._mask(view, ratio, draws.split(f"mask of view {i}"))
                for i, view in enumerate(self.views(batch, draws))]

    def _mask(self, view: View, ratio: float, draws: Draws) -> View:
        grid, lengths = self.grid(view.x.shape), None
        if view.lengths is not None:
            lengths = self._tokens_of(view.x)[view.lengths]
        masks = [hidden_tokens(draws.split(f"mask {m}"), grid, ratio, kind=self.mask.kind, lengths=lengths)
                 for m in range(self.mask.count)]
        masks = torch.stack(masks)
        kept = masks.shape[-1] - hidden_count(masks.shape[-1], ratio)
        keep = masks.to(torch.uint8).argsort(dim=-1, stable=True)[..., :kept]
        return view.with_(masks=masks, applied={**view.applied, "keep": keep})

    def _tokens_of(self, x: Tensor) -> Tensor:
        """int64 [T + 1]: how many tokens along the last axis so many steps give."""
        shape = tuple(x.shape[1:])
        if shape not in self._tokens:
            self._tokens[shape] = torch.tensor([self.grid((*shape[:-1], steps))[-1] for steps in range(shape[-1] + 1)])
        self._tokens[shape] = self._tokens[shape].to(x.device)
        return self._tokens[shape]


def hidden_count(tokens: int, ratio: float) -> int:
    """How many of so many tokens are hidden: all but ⌊(1 − ratio) · tokens⌋, as the codes of MAE and MSN have it, and never all."""
    return min(tokens - math.floor(tokens * (1.0 - ratio) + 1e-6), max(tokens - 1, 0))


def hidden_tokens(draws: Draws, grid: tuple[int, ...], ratio: float, *, kind: str = "random", lengths: Tensor | None = None) -> Tensor:
    """bool [B, N], N the product of `grid`: True = hidden, `hidden_count(N, ratio)` of them in every row.

    lengths: int64 [B], tokens along the last axis that lie within each item; then every item hides its own share of these.
    """
    count, tokens = hidden_count(math.prod(grid), ratio), math.prod(grid)
    places = torch.stack(torch.meshgrid(*(torch.arange(n, device=draws.keys.device) for n in grid), indexing="ij"), -1).view(tokens, -1)
    extent = torch.tensor(grid, device=draws.keys.device).float().repeat(len(draws), 1)  # [B, axes]
    if lengths is None:
        return _ranks(KINDS[kind](draws, places, extent, ratio)) < count
    extent[:, -1] = lengths.float()
    inside = places[:, -1] < lengths[:, None]  # [B, N]
    own = inside.sum(1, keepdim=True)
    ranks = _ranks(KINDS[kind](draws, places, extent, ratio).masked_fill(~inside, torch.inf))  # those outside come last
    share = own - (own * (1.0 - ratio) + 1e-6).floor().long()
    share = share.minimum(own - 1).clamp(max=count).maximum(count - (tokens - own))
    return (ranks < share) | ((ranks >= own) & (ranks < own + count - share))


def _ranks(scores: Tensor) -> Tensor:
    """int64 [B, N]: place of each score in the rising order of its row."""
    return scores.argsort(dim=1, stable=True).argsort(dim=1)


def random_scores(draws: Draws, places: Tensor, extent: Tensor, ratio: float) -> Tensor:
    """Any tokens, independently (MAE, MSN)."""
    return draws.uniform("tokens", len(places))


def block_scores(draws: Draws, places: Tensor, extent: Tensor, ratio: float) -> Tensor:
    """The tokens of one box within the grid, of random place and aspect (BEiT, I-JEPA): the distance from its centre, in its sides.

    A count that is no product of two sides leaves a ragged edge, where the nearest come first.
    """
    axes = extent.shape[1]
    stretch = draws.uniform("aspect", axes, low=-0.5 * math.log(ASPECT), high=0.5 * math.log(ASPECT))
    sides = extent * ratio ** (1 / axes) * (stretch - stretch.mean(1, keepdim=True)).exp()
    sides = sides.round().minimum(extent).clamp(min=1.0)  # [B, axes]
    centre = sides / 2 + (draws.uniform("place", axes) * (extent - sides + 1)).floor()
    distance = (places + 0.5 - centre[:, None]).abs() / sides[:, None]  # [B, N, axes]
    return distance.amax(-1) + 1e-3 * distance.sum(-1)


KINDS: dict[str, Callable[[Draws, Tensor, Tensor, float], Tensor]] = {"random": random_scores, "block": block_scores}
"""Kind → scores [B, N] of the tokens at `places` [N, axes] for items of `extent` [B, axes] tokens, of which `ratio` is hidden."""
