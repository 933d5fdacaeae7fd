"""Views of time series: one resampling for all time geometry, then amplitude, frequency and masking; a draw for every sample.

Crop, time warp and permutation of segments are one map from output steps to places in the item, read by one linear gather.
Sources: Um et al. (2017) for jitter, scaling, magnitude and time warping; TS-TCC (Eldele et al., 2021) for the weak and the
strong side; TF-C (Zhang et al., 2022) for the removal of frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..contracts import Batch, Draws, OptionError, View

KNOTS = 5  # of the random curves of time and magnitude warping


@dataclass(frozen=True)
class SeriesSpec:
    """What is done to a series of standardised values; `*_p` is the probability a sample, everything is off by default.

    crop: fraction of the item that is kept, uniform in the range, resampled to fill the view (small_crop: the same for
    local views). warp: standard deviation of the log speed at five knots. segments: most pieces that are permuted. frequency:
    fraction of the frequencies removed, uniform in the range, the mean never. scale: standard deviation of a factor a channel
    around 1. magnitude: the same, as a smooth curve over time. jitter: standard deviation of the noise added to every value.
    flip_p: the sign of the whole item. mask: fraction of the item set to the mean in one window, uniform in the range.
    """

    crop_p: float = 0.0
    crop: tuple[float, float] = (0.5, 1.0)
    small_crop: tuple[float, float] = (0.1, 0.5)
    warp_p: float = 0.0
    warp: float = 0.3
    permute_p: float = 0.0
    segments: int = 4
    frequency_p: float = 0.0
    frequency: tuple[float, float] = (0.05, 0.2)
    scale_p: float = 0.0
    scale: float = 0.2
    magnitude_p: float = 0.0
    magnitude: float = 0.2
    jitter_p: float = 0.0
    jitter: float = 0.1
    flip_p: float = 0.0
    mask_p: float = 0.0
    mask: tuple[float, float] = (0.05, 0.2)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("_p") and not 0 <= value <= 1:
                raise OptionError(f"series option '{f.name}' is a probability, so it lies in 0..1, not at {value}.")
            if isinstance(value, tuple) and not 0 <= value[0] <= value[1] <= 1:
                raise OptionError(f"series option '{f.name}' is a range of fractions, lowest first, within 0..1, not {value}.")
        if self.segments < 2 or min(self.crop[0], self.small_crop[0]) <= 0:
            raise OptionError("series views need at least 2 segments to permute and crops of more than nothing.")

    @property
    def moves(self) -> bool:
        """Whether time is touched."""
        return bool(self.crop_p or self.warp_p or self.permute_p)

    @property
    def random(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self) if f.name.endswith("_p"))


@dataclass(frozen=True)
class SeriesSide:
    """One view to be made: what is done, the steps of its x, its role."""

    spec: SeriesSpec
    steps: int
    role: str


class SeriesViews:
    """The views of a batch of series: `maker(batch, draws)` → a View a side.

    batch.x: float [B, C, canvas], NaN or infinite = missing, lengths int64 [B] where they vary. mean, std: a number a channel.
    window: steps that the network sees of an item; a longer item shows a window of them, at random, in the middle where the
    spec has no randomness. A view's x is float32 [B, C, steps], missing values at the mean (0), exactly 0 past its length. A crop
    fills the view where lengths are equal. Where they vary it gets a length anywhere between its own and its item's, drawn a view:
    were it always its item's, the length would tell which views belong together.
    """

    def __init__(self, sides: Sequence[SeriesSide], mean: Sequence[float], std: Sequence[float], window: int):
        self.sides, self.window = tuple(sides), window
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None]
        self.std = torch.tensor(std, dtype=torch.float32)[:, None]

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        x = self._standardised(batch)
        return [self._view(x, batch.lengths, side, draws.split(f"view {i}")) for i, side in enumerate(self.sides)]

    def _standardised(self, batch: Batch) -> Tensor:
        """float32 [B, C, canvas]: missing values at the mean, zero past the end."""
        x = batch.x
        if self.mean.device != x.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        x = x.float()
        x = torch.where(x.isfinite(), (x - self.mean) / self.std, 0.0)
        if batch.lengths is not None:
            x = x.masked_fill(~inside(batch.lengths, x.shape[-1]), 0.0)
        return x

    def _view(self, x: Tensor, lengths: Tensor | None, side: SeriesSide, draws: Draws) -> View:
        spec, applied = side.spec, {}
        given = torch.full_like(draws.keys, x.shape[-1]) if lengths is None else lengths
        seen = given.clamp(max=self.window)  # steps of the item that an uncropped view shows
        start, width = cropped(spec, draws, given, seen)
        shown = seen.float() if lengths is None else width + (seen - width) * draws.uniform("stretch")
        scaled = shown if side.steps == self.window else shown.double() * side.steps / self.window  # float32 rounds long windows up
        length = scaled.ceil().long().maximum(seen.clamp(max=min(4, side.steps)))
        positions = torch.stack([start, start + width], 1) / given[:, None]
        place = start[:, None] + view_time(spec, draws, length, side.steps, applied) * (width / length)[:, None] - 0.5
        past = None if lengths is None else ~inside(length, side.steps)
        if spec.moves or not x.shape[-1] == self.window == side.steps:
            x = resample(x, place, given)
            x = x if past is None else x.masked_fill(past, 0.0)
        x = change_values(x, length, spec, draws, applied)
        x = x if past is None else x.masked_fill(past, 0.0)
        return View(x, None if lengths is None else length, positions=positions, applied=applied, role=side.role)


def inside(lengths: Tensor, steps: int) -> Tensor:
    """bool [B, 1, steps]: True before the end of each item."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None])[:, None]


def cropped(spec: SeriesSpec, draws: Draws, given: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """float32 [B] each, in steps of the item: where the part that a view shows begins, and how long it is. given, seen: int64 [B],
    steps that the item has, and that an uncropped view shows of it."""
    width, start = seen.float(), (given - seen).float()
    start = (draws.uniform("start") * (start + 1)).floor().minimum(start) if spec.random else (start / 2).floor()
    if spec.crop_p:
        happens = draws.happens("crop?", spec.crop_p)
        kept = torch.where(happens, draws.uniform("crop", low=spec.crop[0], high=spec.crop[1]) * width, width)
        start = torch.where(happens, draws.uniform("crop start") * (given - kept), start)
        width = kept
    return start, width


def view_time(spec: SeriesSpec, draws: Draws, length: Tensor, steps: int, applied: dict[str, Tensor]) -> Tensor:
    """float32 [B, steps]: when, in steps of a view of `length` (int64 [B]), each of its steps reads: warp ∘ permutation."""
    step = torch.arange(steps, device=length.device).expand(len(length), steps)
    if spec.permute_p:
        step = permuted_steps(draws.split("permute"), length, steps, probability=spec.permute_p, most=spec.segments)
        applied["permutation"] = step
    time = step + 0.5  # the middle of an output step, in output steps
    if spec.warp_p:
        speed = spec.warp * draws.normal("warp", KNOTS)
        happens = draws.happens("warp?", spec.warp_p)
        warped = warped_time((time / length[:, None]).clamp(max=1.0), speed) * length[:, None]
        time = torch.where(happens[:, None], warped, time)
        applied["warp"] = speed * happens[:, None]
    return time


def permuted_steps(draws: Draws, length: Tensor, steps: int, *, probability: float, most: int) -> Tensor:
    """int64 [B, steps]: the step that each step shows, 2 to `most` segments with random cuts in random order (or all in place).

    Within `length` it is a permutation, each segment in its own order; what lies behind means nothing.
    """
    pieces = torch.where(draws.happens("happens", probability), 2 + draws.integers("pieces", most - 1), 1)
    cuts = 1 + (draws.uniform("cuts", most - 1) * (length[:, None] - 1)).long()  # 1 … length − 1
    unused = torch.arange(most - 1, device=length.device) >= pieces[:, None] - 1
    cuts = torch.where(unused, length[:, None], cuts).sort(1).values
    start = torch.cat([torch.zeros_like(cuts[:, :1]), cuts], 1)
    size = torch.cat([cuts, length[:, None]], 1) - start  # [B, most], empty where unused
    order = draws.permutation("order", most)
    start, size = start.gather(1, order), size.gather(1, order)
    end = size.cumsum(1)
    step = torch.arange(steps, device=length.device).expand(len(length), steps).contiguous()
    piece = torch.searchsorted(end, step, right=True).clamp(max=most - 1)
    return (start + size - end).gather(1, piece) + step


def warped_time(time: Tensor, log_speed: Tensor) -> Tensor:
    """A smooth increasing map of [0, 1] onto itself, a sample: the integral of the speed, exp(log_speed) linear between knots.

    time: [B, T] in [0, 1]. log_speed: [B, K] at K evenly spaced knots.
    """
    speed = log_speed.exp()
    rise = speed.diff(dim=1)
    area = torch.cat([torch.zeros_like(speed[:, :1]), (speed[:, 1:] - rise / 2).cumsum(1)], 1)
    knots = speed.shape[1] - 1
    at = time * knots
    k = at.long().clamp(0, knots - 1)
    part = at - k
    done = area.gather(1, k) + part * (speed.gather(1, k) + rise.gather(1, k) * part / 2)
    return done / area[:, -1:]


def resample(x: Tensor, place: Tensor, length: Tensor) -> Tensor:
    """x [B, C, S] read at the steps `place` [B, T], linear between neighbours, never outside [0, length − 1]: [B, C, T]."""
    place = torch.minimum(place.clamp(min=0.0), (length[:, None] - 1).clamp(min=0).to(place.dtype))
    low = place.long()
    high = torch.minimum(low + 1, (length[:, None] - 1).clamp(min=0))
    wide = lambda index: index[:, None].expand(-1, x.shape[1], -1)  # noqa: E731
    left = x.gather(2, wide(low))
    return left + (x.gather(2, wide(high)) - left) * (place - low)[:, None]


def change_values(x: Tensor, length: Tensor, spec: SeriesSpec, draws: Draws, applied: dict[str, Tensor]) -> Tensor:
    """Frequencies removed, then scaling, magnitude warping, jitter, sign and the masked window, as far as the spec has them."""
    channels, steps = x.shape[1:]
    if spec.frequency_p:
        applied["frequencies"] = removed = removed_frequencies(draws.split("frequency"), steps, spec)
        x = without_frequencies(x, removed)
    if spec.scale_p:
        happens = draws.happens("scale?", spec.scale_p, 1, 1)
        applied["scale"] = factor = 1 + spec.scale * draws.normal("scale", channels, 1) * happens
        x = x * factor
    if spec.magnitude_p:
        happens = draws.happens("magnitude?", spec.magnitude_p, 1, 1)
        applied["magnitude"] = knots = 1 + spec.magnitude * draws.normal("magnitude", channels, KNOTS) * happens
        x = x * torch.nn.functional.interpolate(knots, steps, mode="linear", align_corners=True)
    if spec.jitter_p:
        applied["jitter"] = sigma = spec.jitter * draws.happens("jitter?", spec.jitter_p, 1, 1)
        x = x + sigma * white_noise(draws, channels, steps)
    if spec.flip_p:
        applied["flip"] = flip = draws.happens("flip", spec.flip_p, 1, 1)
        x = torch.where(flip, -x, x)
    if spec.mask_p:
        applied["mask"] = bounds = masked_window(draws.split("mask"), length, spec)
        step = torch.arange(steps, device=x.device)
        x = x.masked_fill(((step >= bounds[:, :1]) & (step < bounds[:, 1:]))[:, None], 0.0)
    return x


def white_noise(draws: Draws, channels: int, steps: int) -> Tensor:
    """Standard normal float32 [B, C, T]; both values of Box and Muller's transform from one 64-bit draw (5× `draws.normal`)."""
    bits = draws.bits("jitter", (channels * steps + 1) // 2)
    unit, turn = ((part & 0xFFFFFF).float() * (1.0 / (1 << 24)) for part in (bits >> 40, bits))
    radius = torch.sqrt(-2.0 * torch.log1p(-unit))
    noise = torch.cat([radius * torch.cos(2 * torch.pi * turn), radius * torch.sin(2 * torch.pi * turn)], 1)
    return noise[:, : channels * steps].unflatten(1, (channels, steps))


def removed_frequencies(draws: Draws, steps: int, spec: SeriesSpec) -> Tensor:
    """bool [B, 1, steps // 2 + 1]: exactly round(fraction · frequencies) of each sample's rfft bins, never bin 0 (the mean)."""
    bins = steps // 2
    fraction = draws.uniform("fraction", low=spec.frequency[0], high=spec.frequency[1])
    count = torch.where(draws.happens("happens", spec.frequency_p), (fraction * bins).round().long(), 0)
    chosen = draws.permutation("bins", bins) < count[:, None]
    return torch.nn.functional.pad(chosen, (1, 0))[:, None]


def without_frequencies(x: Tensor, removed: Tensor) -> Tensor:
    """x [B, C, T] without the rfft bins marked in `removed` [B, 1, T // 2 + 1]; of a padded item those of the padded signal."""
    return torch.fft.irfft(torch.fft.rfft(x).masked_fill(removed, 0), n=x.shape[-1])


def masked_window(draws: Draws, length: Tensor, spec: SeriesSpec) -> Tensor:
    """int64 [B, 2]: first and last + 1 step of the window that is masked; empty where nothing is."""
    fraction = draws.uniform("fraction", low=spec.mask[0], high=spec.mask[1])
    width = torch.where(draws.happens("happens", spec.mask_p), (fraction * length).round().long(), 0)
    start = draws.integers("start", length - width + 1)
    return torch.stack([start, start + width], 1)
