"""Data sets that come with the package: real handwriting that is hard to read, waveforms, and two small tables."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..contracts import Draws, hash_key, nearest

_SEED = 20  # of every draw below
_ORIGINALS = 1297  # digits that training items come from; the other 500 are for testing
_ITEMS = {"train": 6000, "test": 1500}
_CANVAS = 20
_SIDE = 13.0  # pixels a digit of 8 x 8 is drawn at, before stretching
_SHIFT, _ANGLE, _STRETCH, _NOISE = 3.5, 25.0, 1.25, 0.12  # pixels, degrees, factor, standard deviation (0 to 1)
_CONTRAST = (0.6, 1.0)


def embedded_names() -> list[str]:
    """The names that `load_embedded` knows."""
    return [*_LOADERS]


def load_embedded(name: str) -> dict[str, Any]:
    """{"modality": image, series or table, "x", "y": int64 [N], "classes": names, "columns": names of a table's columns or None}.

    moved-digits/train (also moved-digits), moved-digits/test: uint8 [6000, 1, 20, 20] and [1500, 1, 20, 20] with "group", int64 [N],
    the original of each item; waves/train (also waves), waves/test: float32 [N, 3, 96]; breast-cancer, wine: float32 [N, F].
    Always the same numbers. Raises OptionError naming the nearest name.
    """
    if name not in _LOADERS:
        raise nearest(name, _LOADERS, what="embedded data set")
    return _LOADERS[name]()


@lru_cache(maxsize=2)
def _moved_digits(split: str) -> dict[str, Any]:
    """scikit-learn's digits (E. Alpaydin & C. Kaynak, UCI 80), moved, turned, stretched and noised on a larger canvas."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.argsort(_hashes("originals", len(digits.images)), kind="stable")
    originals = order[:_ORIGINALS] if split == "train" else order[_ORIGINALS:]
    count = _ITEMS[split]
    chosen = originals[np.arange(count) % len(originals)]
    images = torch.from_numpy(digits.images[chosen] / 16.0).float()[:, None]  # [N, 1, 8, 8]
    draws = Draws.for_items(_SEED, f"moved-digits/{split}", torch.zeros(count, dtype=torch.int64), torch.arange(count))
    moved = _warp(images, draws)
    low, high = _CONTRAST
    moved = moved * draws.uniform("contrast", low=low, high=high)[:, None, None, None]
    moved = moved + _NOISE * draws.normal("noise", _CANVAS * _CANVAS).view(-1, 1, _CANVAS, _CANVAS)
    x = (moved.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return {"modality": "image", "x": x, "y": digits.target[chosen].astype(np.int64), "classes": [str(d) for d in range(10)],
            "columns": None, "group": chosen.astype(np.int64)}


def _hashes(purpose: str, count: int) -> np.ndarray:
    keys = torch.full((1,), hash_key(_SEED, purpose), dtype=torch.int64)
    return Draws(keys).bits(purpose, count)[0].numpy()


def _warp(images: Tensor, draws: Draws) -> Tensor:
    """[N, 1, 8, 8] → [N, 1, 20, 20]: every image drawn once, through the inverse of its affine map."""
    angle = draws.uniform("angle", low=-_ANGLE, high=_ANGLE) * (math.pi / 180)
    stretch = _STRETCH ** draws.uniform("stretch", 2, low=-1.0, high=1.0)  # [N, 2] along the digit's own x and y
    shift = draws.uniform("shift", 2, low=-_SHIFT, high=_SHIFT) / (_CANVAS / 2)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)  # [N, 2, 2], canvas → digit
    inverse = turn / (stretch * (_SIDE / _CANVAS))[:, :, None]
    theta = torch.cat([inverse, -(inverse @ shift[:, :, None])], dim=2)
    grid = functional.affine_grid(theta, [len(images), 1, _CANVAS, _CANVAS], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


_WAVES = ("sine", "square", "sawtooth", "chirp", "bursts", "beats")
_STEPS, _CHANNELS = 96, 3


@lru_cache(maxsize=2)
def _waves(split: str) -> dict[str, Any]:
    """Generated: six shapes of oscillation on three channels. What does not tell them apart differs from item to item: speed, phase,
    lag between channels, gain of each channel, offset, drift and noise. 1,200 to train on, 600 to test on."""
    count = {"train": 1200, "test": 600}[split]
    draws = Draws.for_items(_SEED, f"waves/{split}", torch.zeros(count, dtype=torch.int64), torch.arange(count))
    time = torch.linspace(0, 1, _STEPS)[None, None]  # [1, 1, T]
    kind = torch.arange(count) % len(_WAVES)
    speed = draws.uniform("speed", low=3.0, high=6.0)[:, None, None]
    lag = draws.uniform("lag", low=0.05, high=0.25)[:, None, None] * torch.arange(_CHANNELS)[None, :, None]
    phase = speed * time + draws.uniform("phase")[:, None, None] + lag  # [N, C, T] turns
    shapes = torch.stack([
        torch.sin(2 * math.pi * phase),
        torch.sign(torch.sin(2 * math.pi * phase)),
        2 * phase.frac() - 1,
        torch.sin(2 * math.pi * (phase + speed * time.square())),
        torch.sin(6 * math.pi * phase) * (torch.sin(math.pi * phase) > 0.3),
        torch.sin(2 * math.pi * phase) * torch.sin(2 * math.pi * 0.8 * phase),
    ])  # [6, N, C, T]
    x = shapes[kind, torch.arange(count)]
    gain = draws.uniform("gain", _CHANNELS, low=0.5, high=2.0)[:, :, None]
    offset = draws.normal("offset", _CHANNELS)[:, :, None]
    drift = draws.normal("drift", _CHANNELS)[:, :, None] * time
    noise = 0.5 * draws.normal("noise", _CHANNELS * _STEPS).view(count, _CHANNELS, _STEPS)
    return {"modality": "series", "x": (x * gain + offset + drift + noise).numpy(), "y": kind.numpy(), "classes": list(_WAVES),
            "columns": None}


def _table(name: str) -> dict[str, Any]:
    """scikit-learn's Wisconsin breast cancer (UCI 17) or wine (UCI 109) table."""
    from sklearn import datasets

    table = datasets.load_breast_cancer() if name == "breast-cancer" else datasets.load_wine()
    return {"modality": "table", "x": table.data.astype(np.float32), "y": table.target.astype(np.int64),
            "classes": [str(c) for c in table.target_names], "columns": [str(c) for c in table.feature_names]}


_LOADERS = {
    "moved-digits": lambda: _moved_digits("train"), "moved-digits/train": lambda: _moved_digits("train"),
    "moved-digits/test": lambda: _moved_digits("test"),
    "waves": lambda: _waves("train"), "waves/train": lambda: _waves("train"), "waves/test": lambda: _waves("test"),
    "breast-cancer": lambda: _table("breast-cancer"), "wine": lambda: _table("wine"),
}
