"""Small generated sets for checks of learning: what the views vary dominates, and the class is all that stays."""

from __future__ import annotations

from typing import Any

import numpy as np

KINDS = ("image", "series", "table", "text", "audio")


def generated(modality: str, samples: int = 512, *, seed: int = 0, classes: int = 12) -> tuple[Any, np.ndarray]:
    """(data for `open_source`, labels int64 [samples]). What the views vary (place, brightness, phase, size, noise, single cells)
    dominates; the class is all that stays."""
    rng = np.random.default_rng([seed, KINDS.index(modality)])
    y = np.arange(samples) % classes
    return {"image": _images, "series": _series, "table": _table, "text": _texts, "audio": _sounds}[modality](rng, y), y


def _images(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, 12, 12]: the class's 8 × 8 pattern at any brightness and contrast, in noise."""
    patterns = np.kron(np.random.default_rng(7).random((64, 4, 4)) < 0.5, np.ones((2, 2)))
    x = np.pad(patterns[y], ((0, 0), (2, 2), (2, 2)))
    n = len(y)
    x = rng.uniform(0.1, 0.5, (n, 1, 1)) + rng.uniform(0.15, 0.5, (n, 1, 1)) * x + rng.normal(0, 0.12, x.shape)
    return (x.clip(0, 1) * 255).astype(np.uint8)[:, None]


def _series(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """float32 [N, 2, 64]: the class's mixture of five harmonics in two channels, at any phase and size, in noise."""
    n, t = len(y), np.arange(64) / 64
    weights = np.random.default_rng(7).dirichlet(np.full(5, 0.5), (64, 2))
    waves = np.sin(2 * np.pi * np.arange(2, 12, 2)[:, None] * (t + rng.uniform(0, 1, (n, 1, 1, 1))))
    x = (weights[y][..., None] * waves).sum(2) * rng.uniform(0.6, 1.6, (n, 1, 1))
    return (x + rng.normal(0, 0.5, x.shape)).astype(np.float32)


def _table(rng: np.random.Generator, y: np.ndarray) -> Any:
    """16 numeric and 2 categorical columns that follow the class together, each faintly, beside 16 that do not."""
    import pyarrow as pa

    n, fixed = len(y), np.random.default_rng(7)
    useful = fixed.normal(0, 0.5, (64, 16))[y] + rng.normal(0, 0.8, (n, 16))
    columns = {f"u{i}": useful[:, i] for i in range(16)} | {f"v{i}": rng.normal(0, 1, n) for i in range(16)}
    letters = np.array(list("abcdef"))
    for i in range(2):
        own = fixed.integers(0, 6, 64)[y]
        columns[f"c{i}"] = letters[np.where(rng.random(n) < 0.4, rng.integers(0, 6, n), own)]
    return pa.table(columns)


def _texts(rng: np.random.Generator, y: np.ndarray) -> list[str]:
    """16 to 40 words, of which a third are of the class's topic (a few of 48 words) and the others any of 240, in any order."""
    fixed = np.random.default_rng(7)
    syllables = np.array([a + b for a in "bdfgklmnprstvz" for b in "aeiou"])
    words = np.unique(["".join(w) for w in syllables[fixed.integers(0, len(syllables), (400, 3))]])
    words = fixed.permutation(words)[:288]
    topics = fixed.dirichlet(np.full(48, 0.1), 64).cumsum(1)
    texts = []
    for topic in topics[y]:
        n = rng.integers(16, 41)
        own = np.searchsorted(topic, rng.random(n)).clip(max=47)
        texts.append(" ".join(words[np.where(rng.random(n) < 0.33, own, rng.integers(48, 288, n))]))
    return texts


def _sounds(rng: np.random.Generator, y: np.ndarray) -> dict[str, Any]:
    """A quarter to 0.4 seconds at 4 kHz: the class's mixture of eight tones at any pitch near it, loudness and decay, in noise of any
    colour."""
    n, rate = len(y), 4000
    weights = np.random.default_rng(7).dirichlet(np.full(8, 0.4), 64)[y]
    tones = np.geomspace(150, 1700, 8) * rng.uniform(0.96, 1.04, (n, 1))
    t = np.arange(int(0.4 * rate)) / rate
    x = (np.sqrt(weights)[..., None] * np.sin(2 * np.pi * (tones[..., None] * t + rng.uniform(0, 1, (n, 8, 1))))).sum(1)
    x *= np.exp(-t * rng.uniform(0, 6, (n, 1)))
    hertz = np.fft.rfftfreq(len(t), 1 / rate).clip(20)
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=x.shape)) * hertz ** -rng.uniform(0, 1, (n, 1)), len(t))
    x += noise / noise.std(1, keepdims=True) * x.std(1, keepdims=True) * 10 ** (-rng.uniform(-3, 12, (n, 1)) / 20)
    x *= 10 ** (-rng.uniform(0, 20, (n, 1)) / 20) / np.abs(x).max(1, keepdims=True)
    lengths = (rng.uniform(0.25, 0.4, n) * rate).astype(np.int64)
    return {"x": [clip[:length].astype(np.float32) for clip, length in zip(x, lengths)], "rate": rate}
