"""Views of sound for pretexts: directions to be told apart, patches of time and frequency in their places, known transformations."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import TRANSFORM_WIDTH, Batch, Draws, Patches, View
from .audio import AudioSide, AudioSpec, AudioViews
from .logmel import LogMel
from .series import resample
from .series_transforms import aperture, turned
from .told_apart import ToldApart

LEAST_PATCH = 8  # frames, or bands


class TransformedAudio(ToldApart):
    """turn: as it is, backward, upside down in frequency, and both; classes 0 to 3."""

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        return flipped(view.x, view.lengths, number)


def flipped(x: Tensor, lengths: Tensor | None, number: Tensor) -> Tensor:
    """x [B, 1, M, T], by `number` (int64 [B]): 0 as it is, 1 backward (within its length), 2 upside down, 3 both."""
    x = turned(x[:, 0], lengths, number % 2)
    return torch.where((number >= 2)[:, None, None], x.flip(1), x)[:, None]


class PatchAudio(AudioViews):
    """Maker for `Patches`: the clip as side × side cells of frequency and time, a view (a patch) of each, all times of the lowest
    frequencies first.

    A patch covers 1 − jitter of its cell along both axes and lies anywhere within it, all patches of a clip alike if yoked; values are
    changed by `spec` anew for each. An aperture shows half to all of a patch's time, the rest is the mean. `turn` is that of
    `Transformed`. Sound has no colours: `blur_chroma` changes nothing. `whole`: a side that comes first. applied: aperture [B, 2], turn.
    """

    def __init__(self, spec: AudioSpec, need: Patches, logmel: LogMel, mean: float, std: float, window: int, varied: bool = True, *,
                 whole: AudioSide | None = None):
        super().__init__([] if whole is None else [whole], logmel, mean, std, window, varied)
        self.spec, self.need = replace(spec, crop_p=0.0), need
        self.bands, self.frames = (min(extent, max(LEAST_PATCH, round(extent / need.side * (1 - need.jitter) / 4) * 4))
                                   for extent in (logmel.mels, window))

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        (x, lengths), own, need = self.spectrogram(batch), draws.split("patches"), self.need
        found = [self.view(x, lengths, side, draws.split(f"view {i}")) for i, side in enumerate(self.sides)]
        given = torch.full_like(draws.keys, x.shape[-1]) if lengths is None else lengths
        seen = given.clamp(max=self.window)
        first = (own.uniform("window") * (given - seen + 1)).floor().minimum((given - seen).float())
        turn = torch.where(own.happens("turn?", need.turn), 1 + own.integers("turn", 3), 0)
        cells = need.side**2
        moved = need.jitter * own.uniform("place", 1 if need.yoked else cells, 2).expand(-1, cells, -1)
        for cell in range(cells):
            row, column = divmod(cell, need.side)
            start = first + (column + moved[:, cell, 1]) * seen / need.side
            stop = start + (1 - need.jitter) * seen / need.side
            low = (row + moved[:, cell, 0]) * x.shape[1] / need.side
            found.append(self._patch(x, given, start, stop, low, turn, own.split(cell), lengths is not None))
        return found

    def _patch(self, x: Tensor, given: Tensor, start: Tensor, stop: Tensor, low: Tensor, turn: Tensor, draws: Draws, varied: bool) -> View:
        length = (given.clamp(max=self.window) * self.frames / self.window).ceil().long().clamp(min=min(4, self.frames))
        time, band = (torch.arange(n, device=x.device) + 0.5 for n in (self.frames, self.bands))
        tall = (1 - self.need.jitter) * x.shape[1] / self.need.side
        x = resample(x, start[:, None] + time * ((stop - start) / length)[:, None] - 0.5, given)
        applied = {"turn": turn, "aperture": aperture(draws, self.need.aperture)}
        x = self.finished(x, length, self.spec, draws, applied, varied)[:, 0]
        x = resample(x.transpose(1, 2), low[:, None] + band * (tall / self.bands) - 0.5, torch.full_like(turn, x.shape[1])).transpose(1, 2)
        x = flipped(x[:, None], length if varied else None, turn)
        if self.need.aperture:
            dark, light = (applied["aperture"] * length[:, None])[:, :, None].unbind(1)
            x = x.masked_fill(((time < dark) | (time >= light))[:, None, None], 0.0)
        positions = torch.stack([start, stop], 1) / given[:, None]
        return View(x, length if varied else None, positions=positions, applied=applied, role="local")


class KnownAudio:
    """Maker for `Pair(known=True)`: the views of `views`, each with `applied["transform"]`."""

    def __init__(self, views: AudioViews):
        self.views = views

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        return [view.with_(applied=view.applied | {"transform": described(view, side.spec)})
                for view, side in zip(self.views(batch, draws), self.views.sides, strict=True)]


def described(view: View, spec: AudioSpec) -> Tensor:
    """float32 [B, TRANSFORM_WIDTH], each about −1 to 1: centre of the crop, log of its length (−1 the least that may be drawn, 1 all),
    centre and log width of the band likewise, gain at start and end in parts of the largest, log tempo; zeros for what is not done."""

    def told(bounds: Tensor, least: float) -> list[Tensor]:
        low, high = bounds.unbind(1)
        return [low + high - 1, 1 - 2 * (high - low).clamp(min=1e-6).log() / min(math.log(least), -1e-3)]

    found = told(view.positions, spec.crop[0])
    none = torch.zeros_like(found[0])
    found += told(view.applied["band"], spec.band[0]) if "band" in view.applied else [none, none]
    found += list((view.applied["gain"] / max(spec.gain, 1e-3)).unbind(1)) if "gain" in view.applied else [none, none]
    found += [view.applied["tempo"].log() / max(math.log(spec.tempo[1]), 1e-3)] if "tempo" in view.applied else []
    return F.pad(torch.stack(found, 1), (0, TRANSFORM_WIDTH - len(found)))
