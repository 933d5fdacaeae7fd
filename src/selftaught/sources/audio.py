"""Sound: files in folders and lists, in archives, and clips that lie in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts import DataError, Facts, OptionError, Source
from .archives import Archive
from .arrays import check_samples
from .asked import Asked
from .audio_decoding import condition, resampled
from .audio_source import RATE, AudioSource
from .files import Files
from .fingerprints import fingerprint_of, hash_rows
from .items import to_numpy
from .labels import encode_groups, encode_labels
from .parquet_images import BytesParquet

_SHORT = 8  # samples up to which all "clips" are taken for the frames of one

__all__ = ["AudioArchive", "AudioArrays", "AudioFiles", "AudioParquet", "open_clips"]


class AudioFiles(Files, AudioSource):
    """The sound files below a folder (wav, flac, ogg, aiff, mp3 and what else soundfile reads), or those of a list of paths."""


class AudioArchive(Archive, AudioSource):
    """The sound files in an archive."""


class AudioParquet(BytesParquet, AudioSource):
    """Sound files as bytes in a column of Parquet."""

    named = ("audio", "sound", "speech", "wav", "recording")


class AudioArrays(Source):
    """Clips that lie in memory: [N, T] or [N, channels, T], or a list of [T_i] or [channels, T_i], all at `rate` samples a second.

    A clip of more channels than samples is read as [T, channels], as soundfile gives it; a single one is a list of one. Integers are
    read as parts of their full scale. Items and facts as those of `AudioSource`. Raises DataError for what is no sound, OptionError
    where the rate is not said.
    """

    modality = "audio"
    resident = True

    def __init__(self, x: np.ndarray | Sequence[np.ndarray], *, rate: Any, y: Any = None, group: Any = None, origin: str = "array",
                 classes: list[str] | None = None, least: int = 2):
        if np.size(rate) != 1 or np.asarray(rate).dtype.kind not in "iuf" or not 1 <= float(np.asarray(rate).reshape(-1)[0]) < 1e7:
            raise OptionError(f"{origin}: clips in memory need their rate in samples a second: give a dict of x and rate=16000, say.")
        check_samples(len(x), origin, "clips", least)
        self.origin, self._given = origin, int(np.asarray(rate).reshape(-1)[0])
        self._clips = [_mono(clip, f"{origin}, clip {i}") for i, clip in enumerate(x)]
        lengths = np.array([len(clip) for clip in self._clips])
        if lengths.max() <= _SHORT:
            raise DataError(f"{origin} holds no clip of {len(lengths):,} that is longer than {lengths.max()} samples: an array [N, T] is a "
                            "clip a row; a list with one clip is [clip].")
        self.seconds = lengths / self._given
        self.own_rate = self.rate = min(self._given, RATE)
        labels = None if y is None else encode_labels(np.asarray(y), samples=len(lengths), classes=classes)
        self.labels, self.classes = (labels.values, labels.classes) if labels else (None, None)
        self.groups = None if group is None else encode_groups(group, samples=len(lengths))
        self.facts = Facts("audio", len(lengths), (1, int(lengths.max())), classes=len(self.classes) if self.classes else None,
                           lengths=(int(lengths.min()), int(lengths.max())) if lengths.min() < lengths.max() else None)
        self._lay(self.rate, -(-int(lengths.max()) * self.rate // self._given))

    def set_canvas(self, canvas: tuple[int, int]) -> None:
        """(rate, samples): what every clip is resampled to, and how many samples of its middle are kept."""
        if (self.rate, self._x.shape[1]) != tuple(canvas):
            self._lay(*(int(v) for v in canvas))

    def _lay(self, rate: int, samples: int) -> None:
        self.rate, self._x = rate, np.zeros((len(self._clips), samples), np.float32)
        self._size = np.ones((len(self._clips), 2), np.int64)
        for row, clip in enumerate(self._clips):
            wanted = min(len(clip), -(-samples * self._given // rate))
            start = (len(clip) - wanted) // 2
            x = resampled(clip[start:start + wanted], self._given, rate)[:samples]
            self._x[row, :len(x)] = x
            self._size[row] = len(x), condition(clip[start:start + wanted])

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        x = self._x[indices]
        return {"x": x, "size": self._size[indices], "hash": hash_rows(x)}

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {name: field[0] for name, field in self.take(np.array([int(index)])).items()}

    def name(self, index: int) -> str:
        return f"{self.origin}, clip {index}"

    def fingerprint(self) -> str:
        return fingerprint_of("audio", self._given, *self._clips[:: max(1, len(self._clips) // 256)], len(self._clips))


def open_clips(data: Any, asked: Asked, *, origin: str = "dict") -> AudioArrays:
    """A source for {"x": clips, "rate": samples a second} and perhaps y, group, classes; the mapping may be an .npz file's. With ptr
    [N + 1], x is samples [sum of T] or [sum of T, channels], clip i being x[ptr[i]:ptr[i + 1]]."""
    if not isinstance(data, Mapping) or "x" not in data:
        raise OptionError(f"Sound in memory is a dict with x (clips) and rate (samples a second), not a {type(data).__name__}: without "
                          "its rate it cannot be read.")
    asked.no_columns(origin, "name the arrays y and group")
    given = {name: data[name] for name in ("y", "group") if name in data}
    if "classes" in data:
        given["classes"] = [str(c) for c in np.asarray(data["classes"]).reshape(-1)]
    x = to_numpy(data["x"])
    x = _cut(np.asarray(x), np.asarray(data["ptr"]), origin) if "ptr" in data else x
    return AudioArrays(x, rate=data["rate"] if "rate" in data else None, origin=origin, least=asked.least, **given)


def _cut(x: np.ndarray, ptr: np.ndarray, origin: str) -> list[np.ndarray]:
    """Clips [channels, T_i] or [T_i]."""
    if ptr.ndim != 1 or ptr.dtype.kind not in "iu" or len(ptr) < 2 or ptr[0] != 0 or ptr[-1] != len(x) or (ptr[1:] <= ptr[:-1]).any():
        raise DataError(f"{origin}: ptr must be N + 1 integers that rise from 0 to {len(x)}, the number of samples in x.")
    return [x[start:end].T for start, end in zip(ptr[:-1], ptr[1:])]


def _mono(clip: Any, where: str) -> np.ndarray:
    """float32 [T] from [T], [channels, T] or, where that would be fewer samples than channels, [T, channels] as soundfile gives it; floats
    or integers."""
    clip = np.asarray(clip)
    if clip.ndim not in (1, 2) or clip.dtype.kind not in "fiu" or not clip.size:
        raise DataError(f"{where}: an array of {clip.dtype} of shape {clip.shape} is no sound: give numbers [T] or [channels, T].")
    if clip.dtype.kind in "iu":
        middle = 0.0 if clip.dtype.kind == "i" else 2.0 ** (8 * clip.dtype.itemsize - 1)
        clip = (clip - middle) / 2.0 ** (8 * clip.dtype.itemsize - 1)
    if clip.ndim == 2:
        clip = clip.mean(0 if clip.shape[0] <= clip.shape[1] else 1, dtype=np.float32)
    clip = clip.astype(np.float32)
    if not np.isfinite(clip).all():
        raise DataError(f"{where} holds NaN or infinite samples: mend it or leave it out.")
    return clip
