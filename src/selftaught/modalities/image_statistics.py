"""What is measured of images before training: the values of black and white, mean and deviation a channel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, Source
from .base import unreadable

REACH = 10.0  # spans beyond black and white up to which real numbers are kept: what lies farther is a broken pixel
_TAILS = (0.1, 99.9)  # percentiles of real numbers that are black and white: a few hot pixels must not set the span
_PIXELS = 4096  # values of an image of real numbers, anywhere in it, that are looked at
_SLICE = 1 << 24  # values read at a time


def measure(source: Source, sample: int) -> tuple[dict[str, Any], int, int]:
    """(mean, std, low, high, clamp), channels and bit depth, from at most `sample` items. DataError if none is readable."""
    slices = _slices(source, sample)
    first = next(slices, None)
    if first is None:
        raise unreadable(source)
    whole = first.dtype.kind == "u"
    low, high, mean, std = (_of_integers if whole else _of_floats)(chain([first], slices))
    span = high - low if high > low else 1.0
    statistics = {"mean": ((mean - low) / span).tolist(), "std": np.maximum(std / span, 1 / 255).tolist(), "low": low,
                  "high": low + span, "clamp": whole}
    return statistics, len(mean), first.dtype.itemsize * 8


def _slices(source: Source, sample: int) -> Iterator[np.ndarray]:
    """Evenly spaced canvases [n, C, S, S], a few at a time; bad items are passed over."""
    chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round().astype(np.int64))
    each = max(1, min(256, _SLICE // (source.facts.shape[0] * max(source.facts.shape[1:]) ** 2)))
    for start in range(0, len(chosen), each):
        indices = chosen[start : start + each]
        if source.resident:
            yield source.take(indices)["x"]
            continue
        found = []
        for index in indices:
            try:
                found.append(source.read(int(index))["x"])
            except BadItem:
                continue  # the loader will quarantine it with its reason
        if found:
            yield np.stack(found)


def _of_integers(slices: Iterator[np.ndarray]) -> tuple[float, float, np.ndarray, np.ndarray]:
    """(black, white, mean, std). White is the largest number of as many bits as the brightest pixel has, at least 8: cameras and scanners
    of 10, 12 or 14 bits store two bytes, and against white at 65,535 their pictures would be black."""
    count, total, square, brightest = 0, 0.0, 0.0, 0
    for x in slices:
        values, brightest = x.astype(np.float64), max(brightest, int(x.max()))
        count += values[:, 0].size
        total, square = total + values.sum((0, 2, 3)), square + (values**2).sum((0, 2, 3))
    mean = total / count
    return 0.0, 2.0 ** max(8, brightest.bit_length()) - 1, mean, np.sqrt(np.maximum(square / count - mean**2, 0.0))


def _of_floats(slices: Iterator[np.ndarray]) -> tuple[float, float, np.ndarray, np.ndarray]:
    """(black, white, mean, std): 0 and 1 where nearly all values lie within them, else percentiles; mean and std of the values as `collate`
    gives them."""
    parts, rng = [], np.random.default_rng(0)
    for x in slices:
        flat = x.reshape(*x.shape[:2], -1)  # [n, C, pixels]
        if (few := max(1, _PIXELS // flat.shape[1])) < flat.shape[2]:
            flat = np.take_along_axis(flat, rng.integers(flat.shape[2], size=(len(flat), 1, few)), 2)
        parts.append(flat.swapaxes(0, 1).reshape(flat.shape[1], -1))
    values = np.concatenate(parts, 1).astype(np.float64)
    there = values[np.isfinite(values)]
    if not there.size:
        raise DataError("Images: none of the pixels looked at is a finite number; check how these images were written.")
    low, high = (float(v) for v in np.percentile(there, _TAILS))
    if low == high:  # nearly all of one value: what differs is what there is to see
        low, high = float(there.min()), float(there.max())
    if 0 <= low and high <= 1:
        low, high = 0.0, 1.0
    values = within_reach(values, low, high)
    return low, high, values.mean(1), values.std(1)


def within_reach(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Real numbers, missing ones as black, broken ones cut at ten spans beyond black and white."""
    reach = REACH * (high - low)
    return np.nan_to_num(values, nan=low, posinf=high, neginf=low).clip(low - reach, high + reach)
