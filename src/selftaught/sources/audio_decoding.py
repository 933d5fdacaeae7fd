"""From the bytes of a sound file to a canvas of samples at one rate in one channel, or a BadItem that says why not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from ..contracts import BadItem, OptionError
from .decoding import content_hash

SOUND, SILENT, CLIPPED = 0, 1, 2
SILENCE = 1e-4  # of full scale, 80 dB below it: a clip whose every sample is smaller is silent
_FULL, _RUN = 0.999, 3  # a clip is clipped where so many samples in a row reach so much of full scale
_MOST_SECONDS = 24 * 3600
_ENDLESS = 0x7FFFF000  # sizes from here on mark streams (0x7FFFFFFF, 0xFFFFFFFF, sox's 0x7FFFF024)


@dataclass(frozen=True)
class SoundHeader:
    """What a file says of itself: rate in samples a second, frames (samples of one channel), channels."""

    rate: int
    frames: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def soundfile() -> Any:
    """The module that reads sound files; an OptionError that says how to get it where it is missing."""
    try:
        import soundfile as module
    except (ImportError, OSError) as error:
        raise OptionError(f"Sound files are read by the package soundfile, which cannot be imported here ({error}): "
                          "pip install selftaught[audio].") from None
    return module


def looks_like_sound(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a format that is read: WAV, FLAC, Ogg, AIFF, MP3, AU or CAF."""
    riff = head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"
    aiff = head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")
    return riff or aiff or head[:4] in (b"fLaC", b"OggS", b".snd", b"caff") or head[:3] == b"ID3"


def read_sound_header(blob: bytes) -> SoundHeader:
    """Header of a sound file in memory. Raises BadItem."""
    with _bad_items(blob), soundfile().SoundFile(io.BytesIO(blob)) as file:
        return _checked(blob, file)


def decode_sound(blob: bytes, rate: int, samples: int) -> dict[str, np.ndarray]:
    """{"x": float32 [samples], "size": int64 [2], "hash": uint64}: the mean of the channels at `rate`, zero past its end.

    A longer file gives its middle, and no more of it is decoded. size: valid samples, and 0 (sound), 1 (silent) or 2 (clipped).
    Raises BadItem.
    """
    with _bad_items(blob):
        with soundfile().SoundFile(io.BytesIO(blob)) as file:
            header = _checked(blob, file)
            wanted = min(header.frames, -(-samples * header.rate // rate))
            file.seek((header.frames - wanted) // 2)
            x = file.read(wanted, dtype="float32", always_2d=True)  # [frames, channels]
        if len(x) < wanted:
            raise BadItem(f"truncated: {len(x)} of {wanted} samples can be decoded")
        if not np.isfinite(x).all():
            raise BadItem("holds NaN or infinite samples")
        canvas = np.zeros(samples, np.float32)
        mono = x.mean(1)
        state = condition(x) if condition(mono) != SILENT else SILENT  # channels may cancel each other out
        x = resampled(mono, header.rate, rate)[:samples]
        canvas[: len(x)] = x
    return {"x": canvas, "size": np.array([max(len(x), 1), state], np.int64), "hash": content_hash(blob)}


def condition(x: np.ndarray) -> int:
    """SOUND, SILENT or CLIPPED, of samples [n, ...] with 1 as full scale."""
    size = np.abs(x.reshape(len(x), -1)).max(1)
    if size.max() < SILENCE:
        return SILENT
    run = size >= _FULL
    for _ in range(_RUN - 1):
        run = run[1:] & run[:-1]
    return CLIPPED if run.any() else SOUND


def resampled(x: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Samples [n] at `rate` → float32 [⌈n · wanted / rate⌉] at `wanted`, band-limited: by soxr, else by scipy's polyphase filter."""
    if rate == wanted:
        return np.asarray(x, np.float32)
    length = -(-len(x) * wanted // rate)
    try:
        import soxr

        y = soxr.resample(np.asarray(x, np.float32), rate, wanted)
    except ImportError:
        from scipy.signal import resample_poly

        common = gcd(rate, wanted)
        y = resample_poly(np.asarray(x, np.float64), wanted // common, rate // common)
    y = y[:length].astype(np.float32)
    return np.pad(y, (0, length - len(y)))


@contextmanager
def _bad_items(blob: bytes) -> Iterator[None]:
    """Whatever the decoder says of a damaged file becomes a BadItem."""
    if not blob:
        raise BadItem("zero bytes")
    if not any(blob[:4096]) and not any(blob):
        raise BadItem("all bytes are zero")
    try:
        yield
    except (BadItem, OptionError):
        raise
    except Exception as error:  # libsndfile's own error, or whatever damaged numbers in a header lead to
        said = " ".join(str(error).split()).replace("<_io.BytesIO object at", "").partition(": ")
        raise BadItem(f"not readable as sound: {(said[2] or said[0])[:120].rstrip('.') or type(error).__name__}") from None


def _checked(blob: bytes, file: Any) -> SoundHeader:
    header = SoundHeader(int(file.samplerate), int(file.frames), int(file.channels))
    if header.rate < 1 or header.frames > _MOST_SECONDS * header.rate:
        raise BadItem(f"its header says {header.frames} samples at {header.rate} Hz")
    if header.frames < 1:
        raise BadItem("truncated: its last page is missing or cut" if blob[:4] == b"OggS" and not _ends(blob) else "holds no samples")
    if (stated := _stated_bytes(blob)) > len(blob) + 1:  # libsndfile would read what is there; the last byte may be padding
        raise BadItem(f"truncated: {len(blob)} bytes of {stated}")
    return header


def _ends(blob: bytes) -> bool:
    """Whether the last page of an Ogg stream is marked as its last (by 4 in its sixth byte) and is whole."""
    page = blob[blob.rfind(b"OggS"):]
    return len(page) > 26 and page[5] & 4 > 0 and len(page) >= 27 + page[26] + sum(page[27:27 + page[26]])


def _stated_bytes(blob: bytes) -> int:
    """How many bytes the header says that the file has; 0 where it does not say, as of a stream whose end its writer did not know."""
    start, stop, order, more = {
        b"RIFF": (4, 8, "little", 8), b"RIFX": (4, 8, "big", 8), b"FORM": (4, 8, "big", 8), b"RF64": (20, 28, "little", 8),
        b"riff": (16, 24, "little", 0), b".snd": (8, 12, "big", int.from_bytes(blob[4:8], "big")),
    }.get(blob[:4], (0, 0, "big", 0))
    size = int.from_bytes(blob[start:stop], order)
    return size + more if 0 < size and not (stop - start == 4 and size >= _ENDLESS) else 0
