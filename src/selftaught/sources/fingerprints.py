"""Short hashes of arrays: of a whole source (has it changed?) and of each item (is it a duplicate?)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

_WHOLE = 4 << 20  # arrays up to this many bytes are hashed whole
_PIECES = 256  # longer ones: this many evenly spaced pieces …
_PIECE = 4096  # … of this many bytes


def fingerprint_of(*parts: Any) -> str:
    """16 hexadecimal digits for arrays (dtype, shape, contents; long ones by evenly spaced pieces) and plain values (repr)."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if not isinstance(part, np.ndarray):
            digest.update(repr(part).encode())
            continue
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        if part.nbytes <= _WHOLE or not part.flags.c_contiguous:
            rows = part if part.nbytes <= _WHOLE else part[:: max(1, len(part) // _PIECES)]
            digest.update(np.ascontiguousarray(rows).tobytes())
            continue
        flat = part.reshape(-1).view(np.uint8)
        for start in np.linspace(0, flat.size - _PIECE, _PIECES).astype(np.int64):
            digest.update(flat[start:start + _PIECE].tobytes())
    return digest.hexdigest()


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """uint64 [N] for an array [N, ...]: equal contents give equal hashes. Multilinear hashing on 64-bit words, vectorised."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    words = -(-flat.shape[1] // 8)
    if flat.shape[1] % 8:
        flat = np.pad(flat, ((0, 0), (0, words * 8 - flat.shape[1])))
    with np.errstate(over="ignore"):
        weights = _mix(np.arange(1, words + 1, dtype=np.uint64)) | np.uint64(1)
        mixed = flat.view(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * weights  # folds the high half in, else its low bits would never be reached
        return _mix(mixed.sum(axis=1, dtype=np.uint64) + np.uint64(words))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele, Lea & Flood, 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
