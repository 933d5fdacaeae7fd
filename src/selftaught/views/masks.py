"""Masks on a backbone's grid of tokens: which of them are hidden, as many for every sample of a step; all samples at once.

A kind of mask is a function that gives every token a score, and the lowest are hidden: their number is exact by construction,
and the kept places are a rectangle. Another kind is one more function in `KINDS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Batch, Draws, Mask, OptionError, View, nearest

ASPECT = 1.5
"""How much longer than another a side of a block may be drawn, each taken relative to its axis of the grid."""
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class Masked:
    """Views of `views`, all but local ones with masks: `View.masks` bool [M, B, N], True = hidden, and in `applied`, as places in
    rising order, `hidden` int64 [M, B, H] and `keep` int64 [M, B, K], the others (as a backbone's `keep` takes them), or
    [1, B, K], the context that all masks leave, where the mask asks for one. Where lengths vary `tokens` int64 [B] counts those
    that lie within each item.

    grid: shape of a batch → tokens along each axis, the backbone's. An item that is shorter than the batch hides that part of
    its own tokens, and so much of its padding that K is the same for all; what is kept of the padding the backbone sees by the
    lengths. At least one token stays.
    """

    def __init__(self, views: Callable[[Batch, Draws], list[View]], mask: Mask, grid: Callable[[Sequence[int]], tuple[int, ...]]):
        if mask.kind not in KINDS:
            raise nearest(mask.kind, KINDS, what="kind of mask")
        low, high = mask.ratio
        least, most = mask.context or (1.0, 1.0)
        for name, value, fits, expected in (
                ("masked", low if low == high else mask.ratio, 0 <= low <= high < 1, "a part from 0 on, below 1, of two the lower first"),
                ("context", mask.context, 0 < least <= most <= 1, "two parts above 0 and up to 1, the lower first"),
                ("masks", mask.count, mask.count >= 1, "at least 1"), ("size", mask.size, mask.size >= 1, "at least 1")):
            if not fits:
                raise OptionError(f"{name}={value} of a mask does not fit: expected {expected}.")
        self.views, self.mask, self.grid = views, mask, grid
        self._tokens: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        ratio = _between(self.mask.ratio, draws.step_uniform("masked part"))
        part = None if self.mask.context is None else _between(self.mask.context, draws.step_uniform("context"))
        return [view if view.role == "local" else self._mask(view, ratio, part, draws.split(f"mask of view {i}"))
                for i, view in enumerate(self.views(batch, draws))]

    def _mask(self, view: View, ratio: float, part: float | None, draws: Draws) -> View:
        grid, lengths, applied = self.grid(view.x.shape), None, dict(view.applied)
        if view.lengths is not None:
            applied["tokens"] = lengths = self._tokens_of(view.x)[view.lengths]
        masks = torch.stack([
            hidden_tokens(draws.split(f"mask {m}"), grid, ratio, kind=self.mask.kind, lengths=lengths, size=self.mask.size)
            for m in range(self.mask.count)])
        hidden = hidden_count(masks.shape[-1], ratio)
        applied["keep"], applied["hidden"] = _split(masks, masks.shape[-1] - hidden)
        if part is not None:
            context = context_tokens(draws.split("context"), masks, grid, part, hidden, lengths)
            applied["keep"] = _split(~context[None], context_count(masks.shape[-1], len(masks), hidden, part))[0]
        return view.with_(masks=masks, applied=applied)

    def _tokens_of(self, x: Tensor) -> Tensor:
        """int64 [T + 1]: how many tokens along the last axis so many steps give."""
        shape = tuple(x.shape[1:])
        if shape not in self._tokens:
            self._tokens[shape] = torch.tensor([self.grid((*shape[:-1], steps))[-1] for steps in range(shape[-1] + 1)])
        self._tokens[shape] = self._tokens[shape].to(x.device)
        return self._tokens[shape]


def _between(ends: tuple[float, float], u: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * u


def hidden_count(tokens: int, ratio: float) -> int:
    """How many of so many tokens are hidden: all but ⌊(1 − ratio) · tokens⌋, as the codes of MAE and MSN have it, and never all."""
    return min(tokens - math.floor(tokens * (1.0 - ratio) + 1e-6), max(tokens - 1, 0))


def hidden_tokens(draws: Draws, grid: tuple[int, ...], ratio: float, *, kind: str = "random", lengths: Tensor | None = None,
                  size: int = 1) -> Tensor:
    """bool [B, N], N the product of `grid`: True = hidden, `hidden_count(N, ratio)` of them in every row.

    lengths: int64 [B], tokens along the last axis that lie within each item; then every item hides its own share of these.
    size: see Mask.
    """
    count, extent = hidden_count(math.prod(grid), ratio), _extent(draws, grid, lengths)
    inside = None if lengths is None else _places(grid, extent)[:, -1] < lengths[:, None]  # [B, N]
    own = None if lengths is None else inside.sum(1, keepdim=True)
    share = None if lengths is None else (own - (own * (1.0 - ratio) + 1e-6).floor().long()).minimum(own - 1)
    return _lowest(KINDS[kind](draws, grid, extent, ratio, size), count, inside, share)


def context_count(tokens: int, masks: int, hidden: int, part: float) -> int:
    """How many tokens the context has: `part` of what so many masks leave if no two of them meet, and at least one."""
    return max(int(part * (tokens - masks * hidden)), 1)


def context_tokens(draws: Draws, masks: Tensor, grid: tuple[int, ...], part: float, hidden: int, lengths: Tensor | None) -> Tensor:
    """bool [B, N]: tokens that none of `masks` [M, B, N] hides, those nearest to a box of `part` of the grid (I-JEPA's context); in every
    row that part of what the masks, each of `hidden` tokens, would leave if no two of them met, and at least one.

    Where the masks of a small grid leave less than one, it is one that fewest of them hide. Shorter items give their own share."""
    count, extent = context_count(math.prod(grid), len(masks), hidden, part), _extent(draws, grid, lengths)
    scores = block_scores(draws, grid, extent, part, 1)
    scores = scores / (1.0 + scores.amax(1, keepdim=True)) + masks.sum(0)  # [B, N]: below 1 where no mask hides
    if lengths is None:
        return _lowest(scores, count, None, None)
    inside = _places(grid, extent)[:, -1] < lengths[:, None]
    own = inside.sum(1, keepdim=True)
    left = own - len(masks) * (masks[0] & inside).sum(1, keepdim=True)
    return _lowest(scores, count, inside, (part * left).long().clamp(min=1))


def _lowest(scores: Tensor, count: int, inside: Tensor | None, share: Tensor | None) -> Tensor:
    """bool [B, N]: the tokens of the `count` lowest scores [B, N]; or of items with padding the `share` [B, 1] lowest of those that lie
    `inside` [B, N], and for the rest of the count padding. The share gives way where there is too little padding, or too much."""
    if inside is None:
        return _ranks(scores) < count
    own = inside.sum(1, keepdim=True)
    ranks = _ranks(scores.masked_fill(~inside, torch.inf))  # those outside come last
    share = share.clamp(max=count).maximum(count - (scores.shape[1] - own))
    return (ranks < share) | ((ranks >= own) & (ranks < own + count - share))


def _extent(draws: Draws, grid: tuple[int, ...], lengths: Tensor | None) -> Tensor:
    """float32 [B, axes]: tokens of each item along each axis."""
    extent = torch.stack([draws.keys.new_full((len(draws),), side) for side in grid], 1).float()
    if lengths is not None:
        extent[:, -1] = lengths.float()
    return extent


def _split(masks: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Places in rising order that are not hidden [..., kept], and those that are."""
    order = masks.to(torch.uint8).argsort(dim=-1, stable=True)
    return order.split([kept, masks.shape[-1] - kept], dim=-1)


def _ranks(scores: Tensor) -> Tensor:
    """int64 [B, N]: place of each score in the rising order of its row."""
    return scores.argsort(dim=1, stable=True).argsort(dim=1)


def _places(grid: tuple[int, ...], like: Tensor) -> Tensor:
    """int64 [N, axes]: coordinates of every token."""
    return torch.stack(torch.meshgrid(*(torch.arange(n, device=like.device) for n in grid), indexing="ij"), -1).view(-1, len(grid))


# ---- kinds: (draws, grid, extent [B, axes] of each item in tokens, ratio, size) → scores [B, N], the lowest are hidden ------------


def _sides(grid: tuple[int, ...], size: int) -> list[int]:
    """Tokens along each axis of a box: one as large as the grid would be the same in every item."""
    return [min(size, max(n // 2, 1)) for n in grid]


def random_scores(draws: Draws, grid: tuple[int, ...], extent: Tensor, ratio: float, size: int) -> Tensor:
    """Any tokens, independently (MAE, MSN), or any cells of `size` tokens a side (SimMIM; at most half of an axis), of which the last may
    be cut."""
    if size == 1:
        return draws.uniform("tokens", math.prod(grid))
    sides = _sides(grid, size)
    cells = [-(-n // side) for n, side in zip(grid, sides)]
    place = 0
    for axis, side, n in zip(_places(grid, extent).T, sides, cells):
        place = place * n + axis // side
    return draws.uniform("tokens", math.prod(cells))[:, place]


def block_scores(draws: Draws, grid: tuple[int, ...], extent: Tensor, ratio: float, size: int) -> Tensor:
    """The tokens of one box within the grid, of random place and aspect (I-JEPA): the distance from its centre, in its sides.

    A count that is no product of two sides leaves a ragged edge, where the nearest come first.
    """
    axes = extent.shape[1]
    stretch = draws.uniform("aspect", axes, low=-0.5 * math.log(ASPECT), high=0.5 * math.log(ASPECT))
    sides = extent * ratio ** (1 / axes) * (stretch - stretch.mean(1, keepdim=True)).exp()
    sides = sides.round().minimum(extent).clamp(min=1.0)  # [B, axes]
    centre = sides / 2 + (draws.uniform("place", axes) * (extent - sides + 1)).floor()
    distance = (_places(grid, extent) + 0.5 - centre[:, None]).abs() / sides[:, None]  # [B, N, axes]
    return distance.amax(-1) + 1e-3 * distance.sum(-1)


def span_scores(draws: Draws, grid: tuple[int, ...], extent: Tensor, ratio: float, size: int) -> Tensor:
    """Boxes of `size` tokens a side (at most half of an axis) from random starts, one after another until enough is hidden, the last
    cut; they may overlap (wav2vec 2.0 and data2vec on series, BEiT's blocks). Tokens of the edge are hidden as often as others."""
    sides = _sides(grid, size)
    starts = [n + side - 1 for n, side in zip(grid, sides)]
    turn = draws.uniform("starts", math.prod(starts)).view(-1, 1, *starts)  # when the box of each start has its turn
    return -POOLS[len(grid)](-turn, sides, stride=1).flatten(1)


def island_scores(draws: Draws, grid: tuple[int, ...], extent: Tensor, ratio: float, size: int) -> Tensor:
    """All but such boxes: what stays lies together, in few places (data2vec 2.0's inverse blocks)."""
    return -span_scores(draws, grid, extent, ratio, size)


def tube_scores(draws: Draws, grid: tuple[int, ...], extent: Tensor, ratio: float, size: int) -> Tensor:
    """Places that are hidden at all steps of the first of three axes, time (VideoMAE), the last of them perhaps cut; of fewer
    axes none is time, and tokens are hidden at random."""
    if len(grid) < 3:
        return random_scores(draws, grid, extent, ratio, size)
    return random_scores(draws, grid[1:], extent[:, 1:], ratio, size).repeat(1, grid[0])


KINDS: dict[str, Callable[[Draws, tuple[int, ...], Tensor, float, int], Tensor]] = {
    "random": random_scores, "block": block_scores, "span": span_scores, "islands": island_scores, "tube": tube_scores}
