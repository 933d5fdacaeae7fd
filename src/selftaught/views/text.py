"""Views of texts as token ids: spans, and words that are left out, hidden or moved; all texts of a batch at once.

A word is a run of tokens of which only the first begins one. Changes of single words follow Wei & Zou (2019, EDA: deletion) and
Lample et al. (2018: words move by less than a window); spans Giorgi et al. (2021, DeCLUTR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import TRANSFORM_WIDTH, Batch, Draws, OptionError, Patches, View
from .told_apart import ToldApart

LEAST = 4  # tokens of a span
APERTURE = (0.5, 1.0)  # part of a segment that stays to be seen


@dataclass(frozen=True)
class TextSpec:
    """What is done to a text; everything is off by default.

    crop: part of the text that a span covers, drawn between these (small_crop: of local views). delete, mask: part of the words
    that are left out, or hidden; each word alone, with a chance drawn between these. shuffle: places that a word may move, less
    than this many. augment: off (or none) leaves the text as it is: the network's dropout alone makes views differ (Gao et al.,
    2021, SimCSE).
    """

    crop: tuple[float, float] = (1.0, 1.0)
    small_crop: tuple[float, float] = (0.2, 0.5)
    delete: tuple[float, float] = (0.0, 0.0)
    mask: tuple[float, float] = (0.0, 0.0)
    shuffle: float = 0.0
    augment: bool = True

    def __post_init__(self) -> None:
        for name in ("crop", "small_crop", "delete", "mask"):
            low, high = getattr(self, name)
            if not (0 <= low <= high <= 1 and (high > 0 or "crop" not in name)):
                raise OptionError(f"text option '{name}' is a range of parts, lowest first, within 0..1, not {(low, high)}.")
        if self.shuffle < 0:
            raise OptionError(f"text option 'shuffle' is a number of words, not {self.shuffle}.")


@dataclass(frozen=True)
class TextSide:
    """One view to be made: what is done, the tokens of its x, its role. random: a longer text shows any part of it, else its start."""

    spec: TextSpec
    tokens: int
    role: str
    random: bool = True


class TextViews:
    """The views of a batch of texts: `maker(batch, draws)` → a View a side, x int64 [B, tokens], 0 behind the end.

    batch.x: int64 [B, canvas], lengths int64 [B]. begins: bool [vocabulary], ids that begin a word. hidden: the id that stands for
    a hidden word. applied: transform float [B, TRANSFORM_WIDTH], what was done (see `described`).
    """

    def __init__(self, sides: Sequence[TextSide], begins: Tensor, hidden: int):
        self.sides, self.begins, self.hidden = tuple(sides), begins, hidden

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        self.begins = self.begins.to(batch.x.device)
        return [self._view(batch.x, batch.lengths, side, draws.split(f"view {i}")) for i, side in enumerate(self.sides)]

    def _view(self, x: Tensor, given: Tensor, side: TextSide, draws: Draws) -> View:
        spec = side.spec if side.spec.augment else TextSpec()
        start, length = span(draws, given, spec.crop, side.tokens, random=side.random and side.spec.augment)
        x = cut(x, start, length, side.tokens)
        x, kept, changed = self._words(x, length, spec, draws)
        positions = torch.stack([start, start + length], 1) / given[:, None]
        return View(x, kept, positions=positions, role=side.role, applied={"transform": described(positions, changed)})

    def _words(self, x: Tensor, length: Tensor, spec: TextSpec, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """The ids with whole words left out, moved and hidden; how many are left, of at least one word; and [B, 2] the parts drawn."""
        changed = torch.stack([draws.uniform(f"{name} part", low=rate[0], high=rate[1])
                               for name, rate in (("delete", spec.delete), ("mask", spec.mask))], 1)
        if not (spec.delete[1] or spec.mask[1] or spec.shuffle):
            return x, length, changed
        tokens, (deleted, masked) = x.shape[1], changed.unbind(1)
        valid = torch.arange(tokens, device=x.device) < length[:, None]
        word = self.begins[x].cumsum(1)  # 0 where a span starts within a word
        of_word = lambda purpose: draws.uniform(purpose, tokens + 1).gather(1, word)  # noqa: E731
        chance = of_word("delete").masked_fill(~valid, 0.0)
        keep = valid & ((chance >= deleted[:, None]) | (chance == chance.amax(1, keepdim=True)))
        place = word + spec.shuffle * of_word("shuffle") if spec.shuffle else word.float()
        order = place.masked_fill(~keep, torch.inf).argsort(dim=1, stable=True)
        x = torch.where(of_word("mask") < masked[:, None], self.hidden, x)
        kept = keep.sum(1)
        x = x.gather(1, order)
        return x.masked_fill(torch.arange(tokens, device=x.device) >= kept[:, None], 0), kept, changed


def span(draws: Draws, given: Tensor, part: tuple[float, float], most: int, *, random: bool) -> tuple[Tensor, Tensor]:
    """(start, length) int64 [B] of a part of each text of `given` tokens, at most `most` of them: anywhere, or its beginning."""
    seen = given.clamp(max=most)
    if part[0] < 1:
        wanted = (draws.uniform("span", low=part[0], high=part[1]) * given).ceil().long()
        seen = wanted.maximum(seen.clamp(max=LEAST)).minimum(seen)
    start = draws.integers("start", given - seen + 1) if random else torch.zeros_like(given)
    return start, seen


def cut(x: Tensor, start: Tensor, length: Tensor, tokens: int) -> Tensor:
    """x [B, canvas] from `start`, `length` ids of it (int64 [B]) and zeros: [B, tokens]."""
    step = torch.arange(tokens, device=x.device)
    found = x.gather(1, (start[:, None] + step).clamp(max=x.shape[1] - 1))
    return found.masked_fill(step >= length[:, None], 0)


def described(positions: Tensor, changed: Tensor) -> Tensor:
    """float32 [B, TRANSFORM_WIDTH]: centre of the span and its length (−1 to 1 over the text), parts left out and hidden [B, 2]."""
    low, high = positions.unbind(1)
    told = torch.cat([torch.stack([low + high - 1, 2 * (high - low) - 1], 1), changed], 1)
    return F.pad(told, (0, TRANSFORM_WIDTH - told.shape[1]))


def turned(x: Tensor, length: Tensor, number: Tensor) -> Tensor:
    """x [B, T] in another order, by `number` (int64 [B]): 0 as it is, 1 its halves swapped (the order of sentences, Lan et al., 2020),
    2 backward, 3 both."""
    step = torch.arange(x.shape[1], device=x.device)
    last = length[:, None]
    place = torch.where((number[:, None] >= 2) & (step < last), last - 1 - step, step)
    swapped = (place + last // 2) % last.clamp(min=1)
    return x.gather(1, torch.where((number[:, None] % 2 == 1) & (step < last), swapped, place))


class TransformedTexts(ToldApart):
    """turn: four orders, see `turned`."""

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        return turned(view.x, view.lengths, number)


class PatchTexts(TextViews):
    """Maker for `Patches`: a window of the text as `side` consecutive cells, a view (a segment) of each in their order.

    A segment covers 1 − jitter of its cell, anywhere within it, all of an item alike if yoked; its words are changed by `spec` anew for
    every segment, and an aperture hides up to half of it.
    `turn` is that of `Transformed`. Texts have no colours. `whole`: a side that comes first.
    """

    def __init__(self, spec: TextSpec, need: Patches, begins: Tensor, hidden: int, window: int, *, whole: TextSide | None = None):
        super().__init__([] if whole is None else [whole], begins, hidden)
        self.spec, self.need, self.window = spec, need, window
        self.tokens = max(LEAST, round(window / need.side * (1 - need.jitter)))

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        whole, own, side = super().__call__(batch, draws), draws.split("patches"), self.need.side
        first, seen = span(own, batch.lengths, (1.0, 1.0), self.window, random=True)
        cell = seen / side
        length = (cell * (1 - self.need.jitter)).ceil().long().clamp(min=1, max=self.tokens)
        turn = torch.where(own.happens("turn?", self.need.turn), 1 + own.integers("turn", 3), 0)
        moved = own.uniform("place", 1 if self.need.yoked else side).expand(-1, side)
        segments = []
        for k in range(side):
            start = first + ((k + self.need.jitter * moved[:, k]) * cell).long()
            start = start.minimum(batch.lengths - length).clamp(min=0)
            segments.append(self._segment(batch, start, length, turn, own.split(k)))
        return whole + segments

    def _segment(self, batch: Batch, start: Tensor, length: Tensor, turn: Tensor, draws: Draws) -> View:
        x = turned(cut(batch.x, start, length, self.tokens), length, turn)
        extent = draws.uniform("aperture", low=APERTURE[0], high=APERTURE[1])
        extent = torch.where(draws.happens("aperture?", self.need.aperture), extent, 1.0)
        low = draws.uniform("aperture place") * (1 - extent)
        bounds = torch.stack([low, low + extent], 1)
        if self.need.aperture:
            place = (torch.arange(self.tokens, device=x.device) + 0.5) / length[:, None]
            shut = ((place < bounds[:, :1]) | (place >= bounds[:, 1:])) & (place < 1)
            x = torch.where(shut, self.hidden, x)
        positions = torch.stack([start, start + length], 1) / batch.lengths[:, None]
        x, length, _ = self._words(x, length, self.spec, draws)
        return View(x, length, positions=positions, applied={"turn": turn, "aperture": bounds}, role="local")
