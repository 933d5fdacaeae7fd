"""Small generated sets for checks of learning: what the views vary dominates, and the class is all that stays."""

from __future__ import annotations

from typing import Any

import numpy as np

KINDS = ("image", "series", "table", "text", "audio", "video", "volume", "points")


def generated(modality: str, samples: int = 512, *, seed: int = 0, classes: int = 12) -> tuple[Any, np.ndarray]:
    """(data for `open_source`, labels int64 [samples]). What the views vary (place, brightness, phase, size, noise, single cells)
    dominates; the class is all that stays."""
    rng = np.random.default_rng([seed, KINDS.index(modality)])
    y = np.arange(samples) % classes
    makers = {"image": _images, "series": _series, "table": _table, "text": _texts, "audio": _sounds, "video": _clips, "volume": _volumes,
              "points": _clouds}
    return makers[modality](rng, y), y


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


def _clips(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """uint8 [N, 8, 12, 12]: one of four 6 × 6 patterns of the class drifts in one of three ways (not at all, across, along), once around
    in eight frames either way from any place, at any brightness and contrast, in noise."""
    n, time, size = len(y), np.arange(8), 12
    patterns = np.zeros((4, size, size))
    patterns[:, :6, :6] = np.kron(np.random.default_rng(9).random((4, 3, 3)) < 0.5, np.ones((2, 2)))
    pattern, motion = y % 12 % 4, y % 12 // 4
    way = rng.choice((-1.5, 1.5), n)[:, None] * time
    row, column = ((rng.integers(0, size, n)[:, None] + way * (motion == kind)[:, None]).astype(np.int64) for kind in (1, 2))
    i, j = ((np.arange(size) - place[..., None]) % size for place in (row, column))
    x = patterns[pattern[:, None, None, None], i[..., None], j[..., None, :]]
    x = rng.uniform(0.1, 0.4, (n, 1, 1, 1)) + rng.uniform(0.2, 0.5, (n, 1, 1, 1)) * x + rng.normal(0, 0.08, x.shape)
    return (x.clip(0, 1) * 255).astype(np.uint8)


def _volumes(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """float32 [N, 10, 10, 10]: the class's 8³ pattern at any brightness and contrast, in noise."""
    patterns = np.kron(np.random.default_rng(9).random((64, 4, 4, 4)) < 0.5, np.ones((2, 2, 2)))
    x = np.pad(patterns[y], ((0, 0), (1, 1), (1, 1), (1, 1)))
    n = len(y)
    x = rng.uniform(-1, 1, (n, 1, 1, 1)) + rng.uniform(0.3, 1.0, (n, 1, 1, 1)) * x + rng.normal(0, 0.25, x.shape)
    return x.astype(np.float32)


def _clouds(rng: np.random.Generator, y: np.ndarray) -> Any:
    """96 to 128 points on a ball whose radius follows the class's eight bumps, turned about its axis, stretched, in noise: a source, as
    arrays of numbers do not say that they are points."""
    from .points import PointsArrays

    n, points = len(y), 128
    fixed = np.random.default_rng(7)
    bumps, heights = fixed.normal(size=(64, 8, 3)), fixed.uniform(-0.6, 1.2, (64, 8))
    bumps /= np.linalg.norm(bumps, axis=2, keepdims=True)
    way = rng.normal(size=(n, points, 3))
    way /= np.linalg.norm(way, axis=2, keepdims=True)
    radius = 1 + (heights[y][:, None] * np.exp(8 * (way @ bumps[y].transpose(0, 2, 1) - 1))).sum(2)
    x = way * radius[..., None] * rng.uniform(0.85, 1.18, (n, 1, 3)) + rng.normal(0, 0.04, way.shape)
    angle = rng.uniform(0, 2 * np.pi, (n, 1))
    x[..., 0], x[..., 1] = (np.cos(angle) * x[..., 0] - np.sin(angle) * x[..., 1], np.sin(angle) * x[..., 0] + np.cos(angle) * x[..., 1])
    x *= rng.uniform(0.5, 2, (n, 1, 1))
    return PointsArrays([cloud[:count].astype(np.float32) for cloud, count in zip(x, rng.integers(96, points + 1, n))])
