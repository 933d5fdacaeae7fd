"""Counter-based random numbers: every draw is a pure hash of who asks for it, never of rank, worker or place in a batch.

The mixer is splitmix64 (Steele, Lea & Flood, 2014) on wrapping 64-bit integers, the same in torch and NumPy.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the contracts import in a blink: the command line reads them for its help
    import numpy as np
    import torch
    from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, elementwise on int64 (any shape)."""
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x = (x + (_GOLDEN & _MASK)) & _MASK
    x = ((x ^ (x >> 30)) * (_MIX1 & _MASK)) & _MASK
    x = ((x ^ (x >> 27)) * (_MIX2 & _MASK)) & _MASK
    return x ^ (x >> 31)


def _word(part: int | str) -> int:
    return zlib.crc32(part.encode()) if isinstance(part, str) else int(part) & _MASK


def hash_key(*parts: int | str) -> int:
    """One signed 64-bit key for a tuple of integers and words, equal to chaining `mix` over them."""
    key = 0
    for part in parts:
        key = _mix_int(key ^ _word(part))
    return key - (1 << 64) if key >> 63 else key


@dataclass(frozen=True)
class Draws:
    """Random numbers for the items of one batch: `keys` is int64 `[B]`, one a sample.

    Every method names its `purpose`; the same purpose gives the same numbers, another purpose independent ones.
    """

    keys: Tensor
    step_key: int = field(default=0)

    @classmethod
    def for_items(cls, seed: int, stream: str, epoch: Tensor, slot: Tensor, *, step: int = 0) -> Draws:
        """Draws of a batch: per item from (seed, stream, its epoch, its slot in epoch order), per step from (seed, step)."""
        keys = mix(mix(epoch.long() ^ hash_key(seed, stream)) ^ slot.long())
        return cls(keys, hash_key(seed, stream, "step", step))

    def to(self, device: torch.device | str) -> Draws:
        return Draws(self.keys.to(device, non_blocking=True), self.step_key)

    def split(self, purpose: str | int) -> Draws:
        """An independent family of draws, for a view or a part."""
        return Draws(mix(self.keys ^ hash_key(purpose)), hash_key(self.step_key, purpose))

    def __len__(self) -> int:
        return self.keys.shape[0]

    def bits(self, purpose: str, *size: int) -> Tensor:
        """int64 `[B, *size]`, uniform over all 64-bit values."""
        keys = mix(self.keys ^ hash_key(purpose))
        if not size:
            return mix(keys)
        import torch

        counter = torch.arange(math.prod(size), device=keys.device, dtype=torch.int64)
        return mix(keys[:, None] + counter * _GOLDEN).view(len(keys), *size)

    def uniform(self, purpose: str, *size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 `[B, *size]` in `[low, high)`; 24 random bits, as torch.rand has."""
        unit = _shift(self.bits(purpose, *size), 40).float() * (1.0 / (1 << 24))
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def normal(self, purpose: str, *size: int) -> Tensor:
        """Standard normal float32 `[B, *size]` by Box and Muller's transform."""
        radius = (-self.uniform(purpose + "/r", *size)).log1p().mul(-2.0).sqrt()
        return radius * self.uniform(purpose + "/a", *size).mul(2.0 * math.pi).cos()

    def happens(self, purpose: str, probability: float, *size: int) -> Tensor:
        """bool `[B, *size]`, true with `probability`."""
        return self.uniform(purpose, *size) < probability

    def integers(self, purpose: str, high: int | Tensor, *size: int) -> Tensor:
        """int64 `[B, *size]` in `[0, high)`; `high` may be a tensor that broadcasts."""
        if isinstance(high, int):
            return (self.uniform64(purpose, *size) * high).long().clamp_(max=high - 1)
        return (self.uniform64(purpose, *size) * high).long().minimum(high - 1)

    def uniform64(self, purpose: str, *size: int) -> Tensor:
        """float64 `[B, *size]` in [0, 1) with 53 random bits."""
        return _shift(self.bits(purpose, *size), 11).double() * (1.0 / (1 << 53))

    def permutation(self, purpose: str, n: int) -> Tensor:
        """int64 `[B, n]`: an independent permutation of `0..n-1` for every sample."""
        return self.bits(purpose, n).argsort(dim=1)

    def step_uniform(self, purpose: str) -> float:
        """One number in [0, 1) for the whole step, equal on all processes (how much a mask hides, say)."""
        return (hash_key(self.step_key, purpose) & ((1 << 53) - 1)) / (1 << 53)


def epoch_order(seed: int, stream: str, epoch: int, n: int) -> np.ndarray:
    """int64 `[n]`: the order in which epoch `epoch` visits the items, from a hash alone, the same on every process."""
    import torch

    keys = mix(torch.arange(n, dtype=torch.int64) ^ hash_key(seed, stream, "order", epoch))
    return torch.argsort(keys, stable=True).numpy()


def replacement(seed: int, stream: str, epoch: int, slot: int, attempt: int, n: int) -> int:
    """Index of the item that takes the slot of a bad one: a hash of (seed, stream, epoch, slot, attempt)."""
    return (hash_key(seed, stream, "refill", epoch, slot, attempt) & _MASK) % n
