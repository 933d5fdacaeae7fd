"""Sound: clips at one rate → log-mel spectrograms on the device (or waveforms), views for each need, a 2-D backbone, a picture."""

from __future__ import annotations

import math
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
    View,
    nearest,
    register,
)
from ..views.audio import AudioSide, AudioSpec, AudioViews
from ..views.audio_transforms import KnownAudio, PatchAudio, TransformedAudio
from ..views.logmel import HOP, LogMel
from ..views.options import with_options
from ..views.series import inside
from .base import Modality, Preprocessing, ViewMaker, innermost, unreadable
from .series import SeriesModality, lengths_of, varies

CLEAN = AudioSpec()
WEAK = AudioSpec(crop_p=1.0, crop=(0.8, 1.0), gain_p=0.5)
STRONG = AudioSpec(crop_p=1.0, band_p=1.0, gain_p=0.8, noise_p=0.5, time_mask_p=0.5, band_mask_p=0.5)
WAVES = {"crop": (0.8, 1.0), "small_crop": (0.4, 0.5), "warp_p": 0.0}  # of series' views; wider crops and warps would shift the pitch
WINDOW, CANVAS = 2.0, 4  # seconds that the network sees unless asked for more; windows of a clip that travel to the device
_SLICE = 128  # clips read at a time while the statistics are taken
_MAGMA = np.array([(0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100), (251, 135, 97), (254, 194, 135),
                   (252, 253, 191)], np.float64)  # nine of matplotlib's colours of that name


class AudioModality(Modality):
    """Items are float32 [samples] of one channel at one rate, with how many of them are valid.

    The network sees log-mel spectrograms `facts.shape` = (1, mels, frames of 10 ms), standardised by one mean and one deviation, or
    waveforms (1, samples). Lengths of views are in frames (in samples)."""

    name = "audio"
    default_backbone = "convnet"
    opens_with = {"modality": "audio"}  # clips in memory do not say that they are sound
    inputs = {"form": "logmel", "rate": 0, "mels": 64}
    """form: logmel or waveform. rate: samples a second (0: most files' own, at most 16,000). mels: bands."""

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 2048, **options: Any) -> Preprocessing:
        """Settles rate, window and canvas, then reads evenly spaced clips for mean and deviation and counts the silent and clipped.

        resolution: frames (of waveforms samples) that the network sees; else those of 95 in 100 clips, at most 2 seconds. Longer
        clips show windows in training and their middle in evaluation. options: `inputs`.
        """
        chosen = _checked(self.settings(options))
        base = innermost(source)
        rate, seconds = chosen["rate"] or base.own_rate, base.seconds
        logmel = LogMel(rate, chosen["mels"])
        hop = logmel.hop if chosen["form"] == "logmel" else 1
        if resolution is None:
            frames = -(-min(float(np.quantile(seconds, 0.95)), WINDOW) * rate // logmel.hop)
            resolution = int(max(8, -(-frames // 4) * 4)) * logmel.hop // hop
        elif resolution * hop < 4 * logmel.hop:
            raise OptionError(f"resolution={resolution} is too short: of sound it is the frames of {HOP * 1000:.0f} ms (of waveforms the "
                              "samples) that the network sees; give at least 4 frames.")
        shortest, longest = (math.ceil(s * rate / hop) for s in (seconds.min(), seconds.max()))
        canvas = max(resolution, min(longest, CANVAS * resolution)) * hop
        source.set_canvas((rate, canvas))
        shape = (1, chosen["mels"], resolution) if hop > 1 else (1, resolution)
        lengths = (max(1, shortest), resolution) if shortest < resolution else None
        statistics, notes = measure(source, sample, logmel, chosen["form"])
        facts = source.facts.with_(shape=shape, lengths=lengths, notes=(*source.facts.notes, *notes))
        reasons = [f"rate {rate:,} Hz: {'asked for' if chosen['rate'] else 'that of most files' if rate < 16_000 else 'enough for speech'}",
                   f"window of {resolution * hop / rate:.2f} s: clips last {seconds.min():.2f} to {seconds.max():.2f} s"]
        varied = math.ceil(seconds.min() * rate) < canvas
        return Preprocessing(self.name, facts, {**chosen, "rate": rate, "canvas": int(canvas), "varied": varied, **statistics,
                                                "reasons": reasons})

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """Has the source resample to the rate of training and keep as many samples."""
        source.set_canvas((preprocessing.statistics["rate"], preprocessing.statistics["canvas"]))

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x: float32 [B, canvas], 0 past the end; size: int64 [B, 2]; hash; lengths int64 [B] in samples unless all of the data fills the
        canvas (see `lengths_of`)."""
        if isinstance(items, list):
            items = {k: np.stack([item[k] for item in items]) for k in items[0]}
        fields = {k: torch.from_numpy(np.ascontiguousarray(v.view(np.int64) if v.dtype == np.uint64 else v)) for k, v in items.items()}
        return fields, lengths_of(items["size"][:, 0].copy(), fields["x"].shape[1], preprocessing)

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """Clean: the clip (its middle window). Single: weak (crop of at least .8, gain) or strong. Pair: strong twice.

        Pair(asymmetric): weak and strong. MultiCrop: crops of .6 to all of the clip in the whole window, crops of a quarter to .6
        (`small_crop`) in half of it; the need's own scales are areas of images and not used. Transformed: a weak view as it is, backward,
        upside down and both. Patches: cells of frequency and time, weakly changed. Options are fields of AudioSpec (of SeriesSpec for
        waveforms, whose views are those of series) and hold for every view but the clean one.
        """
        if need.fields != ("x",):
            raise NotApplicable(f"audio: the fields {', '.join(need.fields)} were asked for, but a clip has one field, x.")
        statistics, window = preprocessing.statistics, preprocessing.facts.shape[-1]
        if statistics["form"] == "waveform":
            return Waveforms(need, preprocessing, options)
        made = LogMel(statistics["rate"], statistics["mels"]), statistics["mean"], statistics["std"], window, varies(preprocessing)
        change = lambda spec: with_options(spec, options, what="audio view")  # noqa: E731
        if isinstance(need, Patches):
            whole = AudioSide(change(STRONG), window, "global") if need.whole else None
            return PatchAudio(change(replace(WEAK, crop_p=0.0)), need, *made, whole=whole)
        views = AudioViews(_sides(need, change(WEAK), change(STRONG), window), *made)
        if isinstance(need, Transformed):
            return TransformedAudio(views, need)
        return KnownAudio(views) if isinstance(need, Pair) and need.known else views

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """Mean and standard deviation over time of every band of the log-mel spectrogram, [B, 2 · mels]."""
        logmel = LogMel(preprocessing.statistics["rate"], preprocessing.statistics["mels"])
        x = logmel(batch.x)
        length = logmel.frames(batch.x.new_full((len(batch),), batch.x.shape[1]).long() if batch.lengths is None else batch.lengths)
        valid = inside(length, x.shape[-1])
        mean = (x * valid).sum(2) / length[:, None]
        spread = ((x - mean[:, :, None]).square() * valid).sum(2) / length[:, None]
        return torch.cat([mean, spread.sqrt()], 1)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """The spectrogram in colours, time to the right, high frequencies above; dark where it is 50 dB under the clip's loudest."""
        from PIL import Image

        logmel = LogMel(preprocessing.statistics["rate"], preprocessing.statistics["mels"])
        x = logmel(torch.from_numpy(np.asarray(item["x"][None, : int(item["size"][0])], np.float32)))[0].numpy()
        x = (1 + (x - x.max()) / (5 * math.log(10))).clip(0, 1)[::-1] * (len(_MAGMA) - 1)
        below = np.floor(x).astype(np.int64).clip(max=len(_MAGMA) - 2)
        colours = _MAGMA[below] + (x - below)[..., None] * (_MAGMA[below + 1] - _MAGMA[below])
        return np.asarray(Image.fromarray(colours.round().astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR))


class Waveforms:
    """Maker of views of waveforms: those of series, of a clip as a series of one channel."""

    def __init__(self, need: Need, preprocessing: Preprocessing, options: dict[str, Any]):
        statistics = {"mean": [preprocessing.statistics["mean"]], "std": [preprocessing.statistics["std"]]}
        self.views = SeriesModality().views(need, Preprocessing("series", preprocessing.facts, statistics), **{**WAVES, **options})

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        return self.views(replace(batch, fields={**batch.fields, "x": batch.x[:, None]}), draws)


def _sides(need: Need, weak: AudioSpec, strong: AudioSpec, window: int) -> list[AudioSide]:
    """The views of a need. NotApplicable for one that sound cannot supply."""
    if isinstance(need, Clean):
        return [AudioSide(CLEAN, window, "clean")]
    if isinstance(need, Single):
        return [AudioSide(weak if need.strength == "weak" else strong, window, need.strength)]
    if isinstance(need, Pair):
        pair = [AudioSide(weak, window, "weak"), AudioSide(strong, window, "strong")]
        return [pair[k % 2] if need.asymmetric else AudioSide(strong, window, "global") for k in range(need.count)]
    if isinstance(need, MultiCrop):
        short = min(window, max(8, window // 8 * 4))
        small = AudioSide(replace(strong, crop=strong.small_crop, crop_p=1.0), short, "local")
        return [AudioSide(strong, window, "global")] * need.large + [small] * need.small
    if isinstance(need, Transformed) and need.kind == "turn":
        return [AudioSide(weak, window, "weak")]
    raise NotApplicable(f"audio: {need.what} ({type(need).__name__}{f' {need.kind}' if isinstance(need, Transformed) else ''}) cannot be "
                        "supplied: a clip has no colours, and its axes, time and frequency, do not turn into one another.")


def _checked(chosen: dict[str, Any]) -> dict[str, Any]:
    if chosen["form"] not in ("logmel", "waveform"):
        raise nearest(chosen["form"], ("logmel", "waveform"), what="form of audio input")
    if not 4 <= chosen["mels"] <= 512 or chosen["rate"] and not 500 <= chosen["rate"] <= 192_000:
        raise OptionError(f"Sound needs 4 to 512 mel bands and 500 to 192,000 samples a second, not mels={chosen['mels']}, "
                          f"rate={chosen['rate']}.")
    return chosen


def _slices(source: Source, sample: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(index [n], x [n, S], size [n, 2]) of evenly spaced clips, a few at a time; bad ones are passed over."""
    chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round().astype(np.int64))
    for start in range(0, len(chosen), _SLICE):
        index, found = chosen[start : start + _SLICE], []
        if source.resident:
            items = source.take(index)
            yield index, items["x"], items["size"]
            continue
        for i in index:
            try:
                found.append((i, source.read(int(i))))
            except BadItem:
                continue  # the loader will quarantine it with its reason
        if found:
            yield np.array([i for i, _ in found]), *(np.stack([item[k] for _, item in found]) for k in ("x", "size"))


def measure(source: Source, sample: int, logmel: LogMel, form: str) -> tuple[dict[str, Any], list[str]]:
    """(mean, std, looked_at, silent, clipped) of at most `sample` clips, and notes. Silent clips do not count in mean and std."""
    count, total, square, looked, kinds = 0, 0.0, 0.0, 0, {1: [], 2: []}
    for index, x, size in _slices(source, sample):
        looked += len(index)
        for kind, places in kinds.items():
            places += index[size[:, 1] == kind].tolist()
        sound = torch.from_numpy(size[:, 1] != 1)
        values, length = torch.from_numpy(x)[sound], torch.from_numpy(size[:, 0])[sound]
        if form == "logmel":
            values, length = logmel(values), logmel.frames(length)
        valid = inside(length, values.shape[-1])  # [n, 1, steps]
        values = values.double().masked_select(valid if values.ndim == 3 else valid[:, 0])
        count, total, square = count + values.numel(), total + float(values.sum()), square + float(values.square().sum())
    if not looked:
        raise unreadable(source)
    if not count:
        raise DataError(f"Of {looked} sound files looked at in {getattr(source, 'origin', 'the data')} none can be read and is not silent: "
                        "there is nothing to learn from; check the recordings.")
    mean = total / count
    said = {1: "silent (80 dB or more below full scale throughout)", 2: "clipped (at full scale for several samples on end)"}
    notes = [f"{len(places)} of {looked} clips looked at are {said[kind]} ({source.name(places[0])} first)."
             for kind, places in kinds.items() if places]
    std = math.sqrt(max(square / count - mean**2, 0.0))
    return {"mean": mean if form == "logmel" else 0.0, "std": max(std, 1e-6), "looked_at": looked, "silent": len(kinds[1]),
            "clipped": len(kinds[2])}, notes


register("audio", kind="modality")(AudioModality())
