"""Time series that lie in memory: [N, C, T] of one length, or [C, T_i] of many; missing values stay NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contracts import Column, DataError, Facts, Source, nearest
from .arrays import check_samples, lies_far
from .fingerprints import fingerprint_of
from .labels import encode_groups, encode_labels

SERIES_LAYOUTS = ("NT", "NCT", "NTC")


class SeriesArrays(Source):
    """Series of one length from an array, or of varying length from a list of arrays or from rows and their `ptr`.

    x: [N, C, T] ('NCT', the default), [N, T, C] ('NTC') or [N, T] ('NT', one channel); or a list of [C, T_i] ([T_i, C] under
    'NTC', [T_i] with one channel); or rows [sumT, C] with ptr int [N + 1], series i being rows ptr[i]:ptr[i + 1]. float32 comes
    out, float64 where it would round content away. Infinite values become missing, constant and empty channels are left out, both named
    in `facts.notes`. facts.columns names the channels that were kept, so that `align` can choose the same ones from another file.
    names: [N], of the files, where there are some.
    """

    modality = "series"
    resident = True

    def __init__(self, x: np.ndarray | Sequence[np.ndarray], *, y=None, group=None, ptr: np.ndarray | None = None,
                 layout: str | None = None, origin: str = "array", classes: list[str] | None = None, names: Sequence[str] | None = None,
                 least: int = 2):
        if layout is not None and layout not in SERIES_LAYOUTS:
            raise nearest(layout, SERIES_LAYOUTS, what="layout of series")
        self.origin, self._names, notes = origin, names, []
        if ptr is not None:
            self._whole, self._ptr = _rows(x, ptr, origin), np.asarray(ptr, dtype=np.int64)
        elif isinstance(x, np.ndarray):
            self._whole, self._ptr = _equal(x, layout, origin, notes), None
        else:
            self._whole, self._ptr = _ragged(x, layout, origin, notes)
        count = len(self._whole) if self._ptr is None else len(self._ptr) - 1
        check_samples(count, origin, "series", least)
        self._report(notes)
        kept = self._varying(notes, least)
        labels = None if y is None else encode_labels(y, samples=count, classes=classes)
        if labels is not None:
            self.labels, self.classes = labels.values, labels.classes
            notes += [labels.note] if labels.note else []
        self.groups = None if group is None else encode_groups(group, samples=count)
        lengths = None if self._ptr is None else np.diff(self._ptr)
        steps = self._whole.shape[2] if lengths is None else int(lengths.max())
        self.facts = Facts("series", count, (len(kept), steps), classes=len(self.classes) if self.classes else None,
                           lengths=None if lengths is None else (int(lengths.min()), steps), notes=tuple(notes))
        self._choose(kept)

    def read(self, index: int) -> dict[str, np.ndarray]:
        if self._ptr is None:
            return {"x": self._x[index]}
        return {"x": np.ascontiguousarray(self._x[self._ptr[index]:self._ptr[index + 1]].T)}

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """x: float32 or float64 [b, C, T], or an object array [b] of [C, T_i] where lengths vary."""
        if self._ptr is None:
            return {"x": self._x[indices]}
        x = np.empty(len(indices), dtype=object)
        for place, index in enumerate(indices):
            x[place] = self.read(index)["x"]
        return {"x": x}

    def name(self, index: int) -> str:
        return f"{self.origin}, series {index}" if self._names is None else self._names[index]

    def fingerprint(self) -> str:
        return fingerprint_of("series", self._x, self._ptr, [c.name for c in self.facts.columns])

    def align(self, columns: tuple[Column, ...]) -> SeriesArrays:
        """Takes the channels of a training source, constant here or not, in place, and says which others are not read; gives itself.
        DataError: one is missing, or none holds a value."""
        channels = self._whole.shape[1]
        kept = np.array([int(column.name.rsplit(" ", 1)[1]) for column in columns], dtype=np.int64)
        if len(kept) and kept.max() >= channels:
            raise DataError(f"{self.origin} has {channels} channels, but the encoder was trained on channel {kept.max()} too "
                            "(counted from 0): give it series with the same channels.")
        if len(kept):
            if unread := [c.name for c in self.facts.columns if c.name not in {column.name for column in columns}]:
                note = (f"{self.origin}: the encoder was trained without {', '.join(unread[:10])}"
                        f"{f' and {len(unread) - 10} more' if len(unread) > 10 else ''}: left out.")
                self.facts = self.facts.with_(notes=(*self.facts.notes, note))
            self._choose(kept)
        return self

    def _choose(self, kept: np.ndarray) -> None:
        if self._empty[kept].all():
            raise DataError(f"{self.origin}: no series holds a value in the channels {_listed(kept)}: check how the file was written.")
        self._x = self._whole if len(kept) == self._whole.shape[1] else self._whole[:, kept]
        self.facts = self.facts.with_(shape=(len(kept), self.facts.shape[1]),
                                      columns=tuple(Column(f"channel {c}", "numeric") for c in kept))

    def _report(self, notes: list[str]) -> None:
        """Notes on missing and infinite values; sets the latter to NaN."""
        x = self._whole
        over = (0, 2) if self._ptr is None else 0
        for what, bad in (("infinite (treated as missing)", np.isinf(x)), ("missing (NaN)", np.isnan(x))):
            counts = bad.sum(axis=over)
            named = [f"{counts[c]} in channel {c}, first in series {self._first(bad[:, c])}"
                     for c in np.flatnonzero(counts)[:5]]
            if named:
                more = int((counts > 0).sum()) - len(named)
                notes.append(f"{self.origin}: {int(counts.sum())} of {x.size} values are {what}: {'; '.join(named)}"
                             f"{f'; and in {more} more channels' if more > 0 else ''}.")
            if what.startswith("inf") and named:
                x = self._whole = np.where(bad, np.float32("nan"), x)

    def _varying(self, notes: list[str], least: int) -> np.ndarray:
        """The channels that are not empty or constant over all series, int64 [C']; notes on the others."""
        x, channels, over = self._whole, self._whole.shape[1], (0, 2) if self._ptr is None else 0
        with np.errstate(all="ignore"):
            low, high = np.fmin.reduce(x, axis=over), np.fmax.reduce(x, axis=over)
        empty, constant = np.isnan(low), low == high
        self._empty = empty
        for what, which in (("hold no value", empty), ("never change", constant)):
            if which.any():
                notes.append(f"{self.origin}: channels that {what} are left out: {_listed(np.flatnonzero(which))}.")
        kept = np.flatnonzero(~(empty | constant))
        if not len(kept) and least >= 2:
            raise DataError(f"{self.origin}: none of {channels} channels changes over all series, so there is nothing to "
                            "learn: check the file.")
        return kept if len(kept) else np.arange(channels)

    def _first(self, bad: np.ndarray) -> int:
        """The first series of a channel's truth values ([N, T] or [sumT]) that has one."""
        place = int(np.argmax(bad.reshape(-1)))
        return place // bad.shape[1] if self._ptr is None else int(np.searchsorted(self._ptr, place, side="right") - 1)


def _equal(x: np.ndarray, layout: str | None, origin: str, notes: list[str]) -> np.ndarray:
    """[N, C, T] from an array; says the layout aloud."""
    _numeric(x, origin)
    if x.ndim == 2 and layout in (None, "NT"):
        x, layout = x[:, None], "NT"
    if x.ndim != 3 or (layout is not None and len(layout) == 2 and x.shape[1] != 1):
        raise DataError(f"{origin} of shape {x.shape} has {x.ndim} dimensions: series are [N, C, T] or, with "
                        "layout=NTC, [N, T, C]; reshape it, or save several lengths as rows [sum of T, C] with `ptr`.")
    if layout == "NTC":
        x = x.transpose(0, 2, 1)
    notes.append(f"{origin}: read as {layout or 'NCT'}: {len(x)} series of {x.shape[1]} channels and {x.shape[2]} steps"
                 f"{'' if layout else '; if channels come last, pass layout=NTC'}.")
    if 0 in x.shape[1:]:
        raise DataError(f"{origin} of shape {x.shape} holds series without a step or a channel: check how it was written.")
    return _real(x, (0, 2))


def _rows(x: np.ndarray, ptr: np.ndarray, origin: str) -> np.ndarray:
    """[sumT, C] after checking that `ptr` cuts it into series of at least one step."""
    x, ptr = np.asarray(x), np.asarray(ptr)
    _numeric(x, origin)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or ptr.ndim != 1 or ptr.dtype.kind not in "iu" or len(ptr) < 2:
        raise DataError(f"{origin}: x of shape {x.shape} with ptr of shape {ptr.shape} is no set of series: x is [sum of T, "
                        "C] and ptr holds N + 1 integers.")
    steps = np.diff(ptr.astype(np.int64))
    if ptr[0] != 0 or ptr[-1] != len(x) or (steps < 0).any():
        raise DataError(f"{origin}: ptr must rise from 0 to {len(x)}, the number of rows of x; it goes from {ptr[0]} to "
                        f"{ptr[-1]}.")
    if (steps == 0).any():
        raise DataError(f"{origin}: series {int(np.argmax(steps == 0))} has no steps: leave it out.")
    return _real(x, (0,))


def _real(x: np.ndarray, over: tuple[int, ...]) -> np.ndarray:
    """The values as float32, or float64 where a channel that changes lies far from zero. over: all axes but that of the channels."""
    if x.dtype.itemsize > 2 and x.dtype != np.float32:
        x = np.ascontiguousarray(x, dtype=np.float64)
        low, high = (end.reduce(x, over, where=np.isfinite(x), initial=at) for end, at in ((np.minimum, np.inf), (np.maximum, -np.inf)))
        if ((low < high) & lies_far(low, high)).any():
            return x
    return np.ascontiguousarray(x, dtype=np.float32)


def _ragged(series: Sequence, layout: str | None, origin: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """(rows, ptr) from a list of [C, T_i] or [T_i, C] or [T_i]; ([N, C, T], None) where the lengths are equal."""
    series = [np.asarray(s) for s in series]
    for place, s in enumerate(series):
        _numeric(s, f"{origin}, series {place}")
    if not series:
        raise DataError(f"{origin} holds no series: give it at least two.")
    dims = {s.ndim for s in series}
    if dims == {1}:
        series, dims, layout = [s[None] for s in series], {2}, layout if layout == "NCT" else "NT"
    if dims != {2}:
        raise DataError(f"{origin} mixes arrays of {sorted(dims)} dimensions: every series is [C, T], the channels the same.")
    if len({s.shape for s in series}) == 1:
        return _equal(np.stack(series), None if layout == "NT" else layout, origin, notes), None
    first, last = {s.shape[0] for s in series}, {s.shape[1] for s in series}
    last_is_time = len(first) == 1 and layout != "NTC"
    if not last_is_time and (len(last) != 1 or layout == "NCT"):
        odd = next(i for i, s in enumerate(series) if s.shape != series[0].shape)
        raise DataError(f"{origin} is ragged in both axes: series 0 has shape {series[0].shape}, series {odd} "
                        f"{series[odd].shape}; all series need the same channels, [C, T] or with layout=NTC [T, C].")
    rows = [s.T if last_is_time else s for s in series]
    ptr = np.cumsum([0] + [len(r) for r in rows])
    notes.append(f"{origin}: read as [{'C, T' if last_is_time else 'T, C'}] each: {len(rows)} series of {rows[0].shape[1]} "
                 "channels.")
    return _rows(np.concatenate(rows), ptr, origin), ptr


def _numeric(x: np.ndarray, origin: str) -> None:
    if x.dtype.kind not in "buif":
        raise DataError(f"{origin} has dtype {x.dtype}: series are arrays of numbers (float, integer), missing values NaN.")


def _listed(places: np.ndarray) -> str:
    return ", ".join(map(str, places[:10])) + (f" and {len(places) - 10} more" if len(places) > 10 else "")
