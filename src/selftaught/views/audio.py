"""Views of sound as log-mel spectrograms: crop and band resized, gain, noise, masks; a draw for every sample.

Sources: COLA (Saeed et al., 2021) for two segments of a clip; BYOL-A (Niizumi et al., 2021) for crops resized in time and frequency
and for faders; SpecAugment (Park et al., 2019) for the masked bands of time and frequency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..contracts import Batch, Draws, OptionError, View
from .logmel import LogMel
from .series import SeriesSpec, inside, masked_window, resample

_DECIBEL = math.log(10.0) / 10.0  # natural logarithm of a power, a decibel


@dataclass(frozen=True)
class AudioSpec:
    """What is done to a spectrogram; `*_p` is the probability a sample, everything is off by default.

    crop: part of the clip that is kept, uniform in the range (small_crop: the same for local views). Where all clips are of one
    length it is resized to that. Where they are not, it keeps its own length at a tempo from `tempo`: were it resized to that of its
    clip, the length would tell which views belong together. band: part of the mel axis that is kept, anywhere, resized to all of it.
    gain: decibels up or down at the start and at the end, linear between (a fader). snr: decibels of the clip over noise of random
    colour, white to brown. time_mask, band_mask: part of the frames and of the bands set to the mean in one run, uniform in the range.
    """

    crop_p: float = 0.0
    crop: tuple[float, float] = (0.6, 1.0)
    small_crop: tuple[float, float] = (0.25, 0.6)
    tempo: tuple[float, float] = (0.85, 1.15)
    band_p: float = 0.0
    band: tuple[float, float] = (0.8, 1.0)
    gain_p: float = 0.0
    gain: float = 6.0
    noise_p: float = 0.0
    snr: tuple[float, float] = (10.0, 30.0)
    time_mask_p: float = 0.0
    time_mask: tuple[float, float] = (0.05, 0.2)
    band_mask_p: float = 0.0
    band_mask: tuple[float, float] = (0.05, 0.2)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("_p") and not 0 <= value <= 1:
                raise OptionError(f"audio option '{f.name}' is a probability, so it lies in 0..1, not at {value}.")
            low, high = {"snr": (-100, 100), "tempo": (0.5, 2)}.get(f.name, (0, 1))
            if isinstance(value, tuple) and not low <= value[0] <= value[1] <= high:
                raise OptionError(f"audio option '{f.name}' is a range, lowest first, within {low}..{high}, not {value}.")
        if min(self.crop[0], self.small_crop[0], self.band[0]) <= 0:
            raise OptionError("audio views need crops and bands of more than nothing.")

    @property
    def random(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self) if f.name.endswith("_p"))


@dataclass(frozen=True)
class AudioSide:
    """One view to be made: what is done, the frames of its x, its role."""

    spec: AudioSpec
    frames: int
    role: str


class AudioViews:
    """The views of a batch of clips: `maker(batch, draws)` → a View a side, x float32 [B, 1, mels, frames].

    batch.x: float [B, samples], lengths int64 [B] in samples where they vary. mean, std: of the log-mel spectrograms. window: frames
    that the network sees of a clip; a longer one shows a window of them, at random, in the middle where the spec has no randomness.
    varied: whether clips of the data differ in length (see AudioSpec); where not, a shorter one among them fills its random views too.
    x is exactly 0, the mean, past its length (in frames). The spectrogram of a batch is made once for all views.
    """

    def __init__(self, sides: Sequence[AudioSide], logmel: LogMel, mean: float, std: float, window: int, varied: bool = True):
        self.sides, self.logmel, self.mean, self.std, self.window, self.varied = tuple(sides), logmel, mean, std, window, varied

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        x, lengths = self.spectrogram(batch)
        return [self.view(x, lengths, side, draws.split(f"view {i}")) for i, side in enumerate(self.sides)]

    def spectrogram(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """float32 [B, mels, T], not yet normalised, and the lengths in frames."""
        return self.logmel(batch.x), None if batch.lengths is None else self.logmel.frames(batch.lengths)

    def view(self, x: Tensor, lengths: Tensor | None, side: AudioSide, draws: Draws) -> View:
        spec, applied = side.spec, {}
        given = torch.full_like(draws.keys, x.shape[-1]) if lengths is None else lengths
        seen = given.clamp(max=self.window)
        varied = lengths is not None and (self.varied or not spec.random)
        start, kept, length = cropped(spec, draws, given, seen, side.frames, applied, varied)
        if spec.crop_p or not x.shape[-1] == self.window == side.frames:
            time = torch.arange(side.frames, device=x.device) + 0.5
            x = resample(x, start[:, None] + time * (kept / length)[:, None] - 0.5, given)
        positions = torch.stack([start, start + kept], 1) / given[:, None]
        return View(self.finished(x, length, spec, draws, applied, varied), length if varied else None, positions=positions,
                    applied=applied, role=side.role)

    def finished(self, x: Tensor, length: Tensor, spec: AudioSpec, draws: Draws, applied: dict[str, Tensor], varied: bool) -> Tensor:
        """Log-mel [B, mels, T] after the crop → [B, 1, mels, T]: band, gain, noise, then normalised, masked, zero past the end."""
        if spec.band_p:
            x = resized_band(x, spec, draws, applied)
        if spec.gain_p:
            x = x + fader(x.shape[-1], length, spec, draws, applied)
        if spec.noise_p:
            x = noisy(x, length, spec, self.logmel, draws, applied)
        x = (x - self.mean) / self.std
        x = masked(x, length, spec, draws, applied)
        return (x.masked_fill(~inside(length, x.shape[-1]), 0.0) if varied else x)[:, None]


def cropped(spec: AudioSpec, draws: Draws, given: Tensor, seen: Tensor, frames: int, applied: dict[str, Tensor], varied: bool
            ) -> tuple[Tensor, Tensor, Tensor]:
    """(start, frames kept) float32 [B] of the part of each clip that is shown, and int64 [B] the frames it is shown in.

    given, seen: int64 [B], frames of the clip and of what an uncropped view shows of it."""
    happens = draws.happens("crop?", spec.crop_p)
    kept = torch.where(happens, draws.uniform("crop", low=spec.crop[0], high=spec.crop[1]) * seen, seen.float())
    start = (draws.uniform("start") if spec.random else 0.5) * (given - kept)
    start = torch.where(happens, start, start.floor())
    if not varied:
        return start, kept, torch.full_like(given, frames)
    tempo = torch.where(happens, draws.uniform("tempo", low=spec.tempo[0], high=spec.tempo[1]), 1.0)
    applied["tempo"] = tempo
    length = (kept / tempo).round().long().clamp(min=min(4, frames), max=frames)
    return start, torch.minimum(kept, length * tempo), length


def resized_band(x: Tensor, spec: AudioSpec, draws: Draws, applied: dict[str, Tensor]) -> Tensor:
    """A part of the mel axis, anywhere, stretched over all of it: pitch and formants move a little."""
    mels = x.shape[1]
    kept = torch.where(draws.happens("band?", spec.band_p), draws.uniform("band", low=spec.band[0], high=spec.band[1]), 1.0)
    low = draws.uniform("band place") * (1 - kept)
    applied["band"] = torch.stack([low, low + kept], 1)
    place = low[:, None] * mels + (torch.arange(mels, device=x.device) + 0.5) * kept[:, None] - 0.5
    return resample(x.transpose(1, 2), place, torch.full_like(draws.keys, mels)).transpose(1, 2)


def fader(frames: int, length: Tensor, spec: AudioSpec, draws: Draws, applied: dict[str, Tensor]) -> Tensor:
    """[B, 1, T] to be added to log powers: a gain at the start, one at the end, linear in decibels between them."""
    ends = spec.gain * draws.uniform("gain", 2, low=-1.0, high=1.0) * draws.happens("gain?", spec.gain_p, 1)  # [B, 2] in decibels
    applied["gain"] = ends
    part = (torch.arange(frames, device=length.device) / length[:, None]).clamp(max=1.0)
    return ((ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * part) * _DECIBEL)[:, None]


def noisy(x: Tensor, length: Tensor, spec: AudioSpec, logmel: LogMel, draws: Draws, applied: dict[str, Tensor]) -> Tensor:
    """log(exp(x) + noise): powers add. The noise has the spectrum 1 / f^colour, colour uniform in 0 (white) … 2 (brown), and powers
    that vary from frame to frame as those of one frequency of Gaussian noise do, exponentially."""
    valid = inside(length, x.shape[-1])
    level = (x.exp() * valid).sum((1, 2)) / (length * x.shape[1])  # mean power of the clip
    snr = draws.uniform("snr", low=spec.snr[0], high=spec.snr[1])
    happens = draws.happens("noise?", spec.noise_p)
    applied["snr"] = torch.where(happens, snr, torch.inf)
    colour = draws.uniform("colour", high=2.0)[:, None]
    hertz = torch.linspace(0, logmel.rate / 2, logmel.filters.shape[1], device=x.device).clamp(min=logmel.rate / logmel.fft)
    band = (hertz / hertz[-1]).pow(-colour) @ logmel.filters.T  # [B, mels]
    band = band / band.mean(1, keepdim=True)
    power = -torch.log1p(-draws.uniform("noise", *x.shape[1:]))
    scale = level * torch.exp(-snr * _DECIBEL) * happens
    return torch.log(x.exp() + scale[:, None, None] * band[:, :, None] * power)


def masked(x: Tensor, length: Tensor, spec: AudioSpec, draws: Draws, applied: dict[str, Tensor]) -> Tensor:
    """One run of frames and one of bands at the mean, 0."""
    bands = torch.full_like(length, x.shape[1])
    for name, axis, extent in (("time_mask", 2, length), ("band_mask", 1, bands)):
        if probability := getattr(spec, f"{name}_p"):
            what = SeriesSpec(mask_p=probability, mask=getattr(spec, name))
            applied[name] = bounds = masked_window(draws.split(name), extent, what)
            step = torch.arange(x.shape[axis], device=x.device)
            hidden = (step >= bounds[:, :1]) & (step < bounds[:, 1:])
            x = x.masked_fill(hidden[:, None] if axis == 2 else hidden[:, :, None], 0.0)
    return x
