"""Time series: standardised channels, padded to one length; views for each need, a 1-D backbone, a line plot as the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import (
    BadItem,
    Batch,
    Clean,
    DataError,
    Draws,
    MultiCrop,
    Need,
    NotApplicable,
    OptionError,
    Pair,
    Patches,
    Single,
    Source,
    Transformed,
    register,
)
from ..views.options import with_options
from ..views.series import SeriesSide, SeriesSpec, SeriesViews
from ..views.series_transforms import KnownSeries, PatchSeries, TransformedSeries
from .base import Modality, Preprocessing, ViewMaker

CLEAN = SeriesSpec()
WEAK = SeriesSpec(scale_p=0.8, scale=0.1, jitter_p=0.8, jitter=0.05)
# Gentle on purpose. SimCLR's 5-NN accuracy, three seeds, on JapaneseVowels / GunPoint (random initialisation .946 / .838):
# crop and warp .934 / .862; with scaling and jitter as here .945 / .804; with frequency and window masking too .933 / .687.
STRONG = SeriesSpec(crop_p=0.8, warp_p=0.3, scale_p=0.5, scale=0.1, jitter_p=0.5, jitter=0.05)
PERMUTED = SeriesSpec(permute_p=0.5, jitter_p=0.8, jitter=0.05)
CANVAS = 8  # windows of an item that travel to the device where items are longer than the window

PALETTE = (
    (31, 92, 170), (214, 96, 32), (34, 139, 92), (160, 58, 134), (190, 158, 20), (66, 160, 200), (120, 84, 60), (110, 110, 120),
)


def sampled(source: Source, sample: int) -> Iterator[dict[str, np.ndarray]]:
    """Evenly spaced items of a source, at most `sample`, bad ones passed over; a resident source is read in one `take`."""
    index = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round().astype(np.int64))
    if source.resident:
        fields = source.take(index)
        yield from ({name: values[i] for name, values in fields.items()} for i in range(len(index)))
        return
    for i in index:
        try:
            yield source.read(int(i))
        except BadItem:
            continue


class SeriesModality(Modality):
    """Items are float32 [C, T], NaN = missing. The network sees `facts.shape` = (C, T).

    T is the longest item, or the resolution where one is given and items are longer; then training shows random windows of them
    and evaluation the middle one."""

    name = "series"
    default_backbone = "convnet"

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 2048) -> Preprocessing:
        """Mean and standard deviation a channel over the finite values; steps the network sees and steps that travel to it."""
        facts = source.facts
        channels, longest = facts.shape[0], facts.lengths[1] if facts.lengths else facts.shape[1]
        if resolution is not None and resolution < 4:
            raise OptionError(f"resolution={resolution} is too short: of series it is the window's steps, at least 4.")
        steps = longest if resolution is None else min(resolution, longest)
        shortest = min(facts.lengths[0], steps) if facts.lengths else steps
        mean, std, fine = _channel_statistics(sampled(source, sample), channels)
        offset = {}
        if fine:  # too far from zero for the float32 of the views: series are centred before they go there
            offset, mean = {"offset": mean.tolist()}, np.zeros_like(mean)
        canvas = int(min(longest, CANVAS * steps))
        varied = facts.lengths is not None and facts.lengths[0] < canvas
        return Preprocessing(
            self.name,
            facts.with_(shape=(channels, steps), lengths=(shortest, steps) if shortest < steps else None),
            {"mean": mean.tolist(), "std": std.tolist(), "canvas": canvas, "varied": varied, **offset},
        )

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x float32 [B, C, canvas] with NaN = missing and 0 past the end; lengths int64 [B] unless all of the data fills the canvas
        (see `lengths_of`). Items longer than the canvas lose both ends."""
        canvas, channels = preprocessing.statistics["canvas"], preprocessing.facts.shape[0]
        series = items["x"] if isinstance(items, dict) else [item["x"] for item in items]
        for item in [series] if isinstance(series, np.ndarray) and series.dtype != object else series:
            if item.shape[-2] != channels:
                raise DataError(f"These series have {item.shape[-2]} channels where the encoder was made for {channels}: "
                                "give the same channels in the same order, or another layout.")
        series = _centred(series, preprocessing.statistics.get("offset"))
        if isinstance(series, np.ndarray) and series.dtype != object and series.shape[2] == canvas:
            x = np.ascontiguousarray(series, np.float32)
            return {"x": torch.from_numpy(x)}, lengths_of(np.full(len(x), canvas), canvas, preprocessing)
        x = np.zeros((len(series), channels, canvas), np.float32)
        lengths = np.empty(len(series), np.int64)
        for row, item in enumerate(series):
            cut = max(item.shape[1] - canvas, 0) // 2
            lengths[row] = min(item.shape[1], canvas)
            x[row, :, : lengths[row]] = item[:, cut : cut + canvas]
        return {"x": torch.from_numpy(x)}, lengths_of(lengths, canvas, preprocessing)

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """Clean: the item (its middle window). Single: weak (scaling, jitter) or strong. Pair: strong twice.

        Pair(asymmetric): as in TS-TCC weak, and permuted with jitter. MultiCrop: crops of half to all of the item at full
        length, crops of a tenth to half (`small_crop`) at about half the length; the need's own scales are areas of images and
        not used. Transformed: a weak view forward, backward, negated and both. Patches: consecutive segments, weakly changed.
        Options are fields of SeriesSpec and hold for every view but the clean one.
        """
        if need.fields != ("x",):
            raise NotApplicable(f"series: the fields {', '.join(need.fields)} were asked for, but a series has one field, x.")
        window, mean, std = preprocessing.facts.shape[1], preprocessing.statistics["mean"], preprocessing.statistics["std"]
        change = lambda spec: with_options(spec, options, what="series view")  # noqa: E731
        strong = change(STRONG)
        if isinstance(need, Clean):
            sides = [SeriesSide(CLEAN, window, "clean")]
        elif isinstance(need, Single):
            sides = [SeriesSide(change(WEAK) if need.strength == "weak" else strong, window, need.strength)]
        elif isinstance(need, Pair) and need.asymmetric:
            sides = [SeriesSide(change(WEAK), window, "weak"), SeriesSide(change(PERMUTED), window, "strong")]
            sides = [sides[k % 2] for k in range(need.count)]
        elif isinstance(need, Pair):
            sides = [SeriesSide(strong, window, "global")] * need.count
        elif isinstance(need, MultiCrop):
            small = replace(strong, crop=strong.small_crop, crop_p=1.0)
            short = min(window, max(8, window // 8 * 4))
            sides = [SeriesSide(strong, window, "global")] * need.large + [SeriesSide(small, short, "local")] * need.small
        elif isinstance(need, Transformed) and need.kind == "turn":
            sides = [SeriesSide(change(WEAK), window, "weak")]
        elif isinstance(need, Patches):
            whole = SeriesSide(strong, window, "global") if need.whole else None
            return PatchSeries(change(WEAK), need, mean, std, window, whole=whole)
        else:
            raise NotApplicable(f"series: {need.what} ({type(need).__name__}) cannot be supplied: a series is a run of values "
                                "in time, and no view of that kind is defined for it.")
        views = SeriesViews(sides, mean, std, window)
        if isinstance(need, Transformed):
            return TransformedSeries(views, need)
        return KnownSeries(views) if isinstance(need, Pair) and need.known else views

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        return self.views(Clean(), preprocessing)(batch, Draws(batch.index))[0].x.flatten(1)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """A line a channel over a grey line at the mean, gaps where values are missing."""
        from PIL import Image, ImageDraw

        mean, std = (np.asarray(preprocessing.statistics[k])[:, None] for k in ("mean", "std"))
        x = (np.asarray(_centred(item["x"], preprocessing.statistics.get("offset")), np.float64) - mean) / std
        x[~np.isfinite(x)] = np.nan
        x = x[:, :: max(x.shape[1] // (8 * side), 1)]
        reach = max(1.0, float(np.nanmax(np.abs(x))) if np.isfinite(x).any() else 1.0) * 1.05
        fine = 3 * side  # drawn three times too large, then reduced: smooth lines
        image = Image.new("RGB", (fine, fine), (255, 255, 255))
        pen = ImageDraw.Draw(image)
        pen.line([(0, fine / 2), (fine, fine / 2)], fill=(205, 205, 205), width=3)
        across = (np.arange(x.shape[1]) + 0.5) / x.shape[1] * fine
        for channel, values in enumerate(x):
            down = fine / 2 * (1 - values / reach)
            for run in np.split(np.arange(len(values)), np.flatnonzero(np.isnan(values))):
                points = [(float(across[t]), float(down[t])) for t in run if not np.isnan(values[t])]
                if len(points) > 1:
                    pen.line(points, fill=PALETTE[channel % len(PALETTE)], width=4, joint="curve")
        return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def lengths_of(lengths: np.ndarray, canvas: int, preprocessing: Preprocessing) -> Tensor | None:
    """The lengths of a batch, int64 [B], or None where it fills the canvas, as all of the training data did. Views of items that vary
    follow a law of their own, so the data set decides, not the batch: else an item's views would change with its neighbours."""
    return torch.from_numpy(lengths) if varies(preprocessing) or (lengths < canvas).any() else None


def varies(preprocessing: Preprocessing) -> bool:
    """Whether some items of the training data do not fill the canvas."""
    return preprocessing.statistics.get("varied", preprocessing.facts.lengths is not None)  # older encoders do not say


def _centred(series: np.ndarray | list[np.ndarray], offset: list[float] | None) -> np.ndarray | list[np.ndarray]:
    """Series [..., C, T], or many that differ in length, less an offset a channel where there is one."""
    if offset is None:
        return series
    if isinstance(series, list) or series.dtype == object:
        return [item - np.array(offset)[:, None] for item in series]
    return series - np.array(offset)[:, None]


def _channel_statistics(items: Iterator[dict[str, np.ndarray]], channels: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Mean and standard deviation a channel of all finite values, merged by item (Chan et al., 1979); std 1 where constant. And whether
    the items are float64, as a source gives them where float32 would round content away."""
    count, mean, squares, fine = np.zeros(channels), np.zeros(channels), np.zeros(channels), False
    for item in items:
        fine = np.asarray(item["x"]).dtype == np.float64
        x = np.asarray(item["x"], np.float64)
        there = np.isfinite(x)
        n = there.sum(1)
        own = np.where(there, x, 0).sum(1) / np.maximum(n, 1)
        both = np.maximum(count + n, 1)
        squares += np.where(there, (x - own[:, None]) ** 2, 0).sum(1) + (own - mean) ** 2 * count * n / both
        mean += (own - mean) * n / both
        count += n
    if not count.any():
        raise DataError("No value of the sampled series is a finite number: check the file, its layout and its missing values.")
    std = np.sqrt(squares / np.maximum(count, 1))
    return mean, np.where(std > 1e-12 * np.maximum(np.abs(mean), 1e-300), std, 1.0), fine


register("series", kind="modality")(SeriesModality())
