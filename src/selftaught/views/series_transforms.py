"""Views of series for pretexts: directions and signs to be told apart, segments in their order, transformations that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import TRANSFORM_WIDTH, Batch, Draws, Patches, View
from .series import SeriesSide, SeriesSpec, SeriesViews, change_values, inside, resample
from .told_apart import ToldApart

LEAST_SEGMENT = 8  # steps
APERTURE = (0.5, 1.0)  # part of a segment that stays visible


class TransformedSeries(ToldApart):
    """turn: forward, backward, negated, and both; classes 0 to 3."""

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        return turned(view.x, view.lengths, number)


def turned(x: Tensor, lengths: Tensor | None, number: Tensor) -> Tensor:
    """x [B, C, T], by `number` (int64 [B]): 0 as it is, 1 backward (within its length), 2 negated, 3 both."""
    step = torch.arange(x.shape[-1], device=x.device)
    length = torch.full_like(number, x.shape[-1]) if lengths is None else lengths
    back = length[:, None] - 1 - step
    source = torch.where((number[:, None] % 2 == 1) & (back >= 0), back, step)
    x = x.gather(2, source[:, None].expand_as(x))
    return torch.where((number >= 2)[:, None, None], -x, x)


class PatchSeries(SeriesViews):
    """Maker for `Patches`: a window of the item as `side` consecutive cells, a view (a segment) of each in their order.

    A segment covers 1 − jitter of its cell and lies anywhere within it, all segments of an item alike if yoked; values are
    changed by `spec` anew for every segment. An aperture shows half to all of a segment, the rest is the mean. `turn` is that
    of `Transformed`: backward, negated or both. Series have no colours: `blur_chroma` changes nothing. `whole`: a side that
    comes first. applied: aperture [B, 2] (what is seen, in the segment's [0, 1]) and turn.
    """

    def __init__(self, spec: SeriesSpec, need: Patches, mean: Sequence[float], std: Sequence[float], window: int, *,
                 whole: SeriesSide | None = None):
        super().__init__([] if whole is None else [whole], mean, std, window)
        self.spec, self.need = spec, need
        self.steps = min(window, max(LEAST_SEGMENT, round(window / need.side * (1 - need.jitter) / 4) * 4))

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        whole, x, own = super().__call__(batch, draws), self._standardised(batch), draws.split("patches")
        given = torch.full_like(draws.keys, x.shape[-1]) if batch.lengths is None else batch.lengths
        seen = given.clamp(max=self.window)
        first = (own.uniform("window") * (given - seen + 1)).floor().minimum((given - seen).float())
        length = (seen * self.steps / self.window).ceil().long().clamp(min=min(4, self.steps))
        turn = torch.where(own.happens("turn?", self.need.turn), 1 + own.integers("turn", 3), 0)
        moved = own.uniform("place", 1 if self.need.yoked else self.need.side).expand(-1, self.need.side)
        segments = []
        for k in range(self.need.side):
            start = first + (k + self.need.jitter * moved[:, k]) * seen / self.need.side
            stop = start + (1 - self.need.jitter) * seen / self.need.side
            segments.append(self._segment(x, given, start, stop, length, turn, own.split(k), batch.lengths is not None))
        return whole + segments

    def _segment(self, x: Tensor, given: Tensor, start: Tensor, stop: Tensor, length: Tensor, turn: Tensor, draws: Draws,
                 varied: bool) -> View:
        time = torch.arange(self.steps, device=x.device) + 0.5
        x = resample(x, start[:, None] + time * ((stop - start) / length)[:, None] - 0.5, given)
        applied = {"turn": turn, "aperture": aperture(draws, self.need.aperture)}
        x = turned(change_values(x, length, self.spec, draws, applied), length if varied else None, turn)
        if self.need.aperture:
            low, high = (applied["aperture"] * length[:, None])[:, :, None].unbind(1)
            x = x.masked_fill(((time < low) | (time >= high))[:, None], 0.0)
        if varied:
            x = x.masked_fill(~inside(length, self.steps), 0.0)
        positions = torch.stack([start, stop], 1) / given[:, None]
        return View(x, length if varied else None, positions=positions, applied=applied, role="local")


def aperture(draws: Draws, probability: float) -> Tensor:
    """float32 [B, 2]: the part that is seen, half to all, anywhere; all of it where none happens."""
    extent = torch.where(draws.happens("aperture?", probability), draws.uniform("aperture", low=APERTURE[0], high=APERTURE[1]), 1.0)
    start = draws.uniform("aperture place") * (1 - extent)
    return torch.stack([start, start + extent], 1)


class KnownSeries:
    """Maker for `Pair(known=True)`: the views of `views`, each with `applied["transform"]`."""

    def __init__(self, views: SeriesViews):
        self.views = views

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        views = self.views(batch, draws)
        return [view.with_(applied=view.applied | {"transform": described(view, side.spec)})
                for view, side in zip(views, self.views.sides, strict=True)]


def described(view: View, spec: SeriesSpec) -> Tensor:
    """float32 [B, TRANSFORM_WIDTH] of what was drawn: centre of the crop (−1 to 1 over the item), log of its length (−1 the least
    that may be drawn, 1 all), mean scale over the channels (in parts of its deviation, halved), sign (1 negated), and how the log
    speed rises from knot to knot (likewise); zeros for what the spec does not do."""
    low, high = view.positions.unbind(1)
    length = 1 - 2 * (high - low).clamp(min=1e-6).log() / min(math.log(spec.crop[0]), -1e-3)
    found, none = view.applied, torch.zeros_like(low)
    scale = (found["scale"].mean((1, 2)) - 1) / (2 * max(spec.scale, 1e-3)) if "scale" in found else none
    sign = found["flip"].flatten(1)[:, 0].to(low.dtype) if "flip" in found else none
    rises = found["warp"].diff(dim=1) / (2 * max(spec.warp, 1e-3)) if "warp" in found else none[:, None]
    told = torch.cat([torch.stack([low + high - 1, length, scale, sign], 1), rises], 1)
    return F.pad(told, (0, TRANSFORM_WIDTH - told.shape[1]))
