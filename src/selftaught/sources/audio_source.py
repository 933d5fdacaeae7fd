"""What all sources of sound have in common: facts from some headers, and canvases of samples at one rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from ..contracts import BadItem, DataError, Facts
from .audio_decoding import SoundHeader, decode_sound, read_sound_header
from .canvases import CanvasSource, check_count
from .listing import AUDIO_SUFFIXES

RATE = 16_000  # samples a second beyond which nothing is read unless someone asks: the rate of speech and of the field's models
_SAMPLE = 256  # headers looked at


class AudioSource(CanvasSource):
    """Base: a subclass gives `blob(index)`, the bytes of a sound file, and calls `settle` when it knows how many there are.

    Items: {"x": float32 [S], one channel at one rate, "size": int64 [2] valid samples and condition (see `decode_sound`), "hash":
    uint64 of the stored bytes}. facts.shape is (1, longest) and facts.lengths (shortest, longest), in samples at `rate`, of the
    files that were looked at. rate: that of most files, at most 16,000. seconds: float64 [n] durations of the files looked at.
    """

    modality = "audio"
    what, suffixes = "sound file", AUDIO_SUFFIXES

    def __init__(self, origin: str):
        super().__init__(origin)
        self.own_rate, self.rate, self._samples, self.seconds = RATE, RATE, RATE, np.zeros(0)

    def settle(self, count: int, *, notes: Iterable[str] = (), least: int = 2) -> None:
        """Looks at evenly spaced headers and fills `facts`. Raises DataError where there are fewer than `least` files or none of
        the sample can be read."""
        check_count(count, self.origin, least, self.what)
        headers, reasons = self._headers(count)
        if not headers:
            raise DataError(f"None of {len(reasons)} sound files looked at in {self.origin} can be read ({self.name(reasons[0][0])}: "
                            f"{reasons[0][1]}): check that these files are sound.")
        rates = Counter(h.rate for h in headers)
        self.own_rate = self.rate = min(rates.most_common(1)[0][0], RATE)
        self.seconds = np.array([h.seconds for h in headers])
        longest, shortest = (max(1, int(np.ceil(s * self.rate))) for s in (self.seconds.max(), self.seconds.min()))
        self._samples = min(longest, 4 * self.rate)
        self.facts = Facts("audio", count, (1, longest), lengths=(shortest, longest) if shortest < longest else None,
                           classes=len(self.classes) if self.classes else None, notes=(*notes, *_mixed(headers, rates, self.rate)))

    @property
    def canvas(self) -> tuple[tuple[int], str]:
        return (self._samples,), "float32"

    def set_canvas(self, canvas: tuple[int, int]) -> None:
        """(rate, samples): what every item is resampled to, and how many samples of it are kept."""
        rate, samples = (int(v) for v in canvas)
        if rate < 1 or samples < 1:
            raise ValueError(f"a canvas of sound has a rate and a length of at least 1, not {canvas}")
        if (rate, samples) != (self.rate, self._samples):
            self.rate, self._samples, self._decoded = rate, samples, None

    def decode(self, blob: bytes) -> dict[str, np.ndarray]:
        return decode_sound(blob, self.rate, self._samples)

    def _headers(self, count: int) -> tuple[list[SoundHeader], list[tuple[int, str]]]:
        headers, reasons = [], []
        for index in np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)).tolist():
            try:
                headers.append(read_sound_header(self.blob(index)))
            except BadItem as bad:
                reasons.append((index, bad.reason))
        return headers, reasons


def _mixed(headers: list[SoundHeader], rates: Counter, rate: int) -> list[str]:
    """Notes on what is converted."""
    notes = []
    if len(rates) > 1 or rate not in rates:
        listed = ", ".join(f"{r:,} Hz ({n})" for r, n in rates.most_common(4))
        notes.append(f"Of {len(headers)} sound files looked at the rates are {listed}: all are resampled to {rate:,} Hz.")
    several = sum(h.channels > 1 for h in headers)
    if several:
        notes.append(f"{several} of {len(headers)} sound files looked at have several channels: their mean is read.")
    return notes
