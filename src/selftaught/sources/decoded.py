"""The memory of decoded items: one array for all canvases, filled as they are first read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

_MOST = 4 << 30


class Decoded:
    """x: [N, *canvas]; size: int64 [N, sizes]; hash: uint64 [N]; holds: bool [N], which items are there. Memory is taken as it fills."""

    def __init__(self, count: int, shape: tuple[int, ...], dtype: str, sizes: int = 2):
        self.fields = {"x": np.empty((count, *shape), dtype=dtype), "size": np.empty((count, sizes), dtype=np.int64),
                       "hash": np.empty(count, dtype=np.uint64)}
        self.holds = np.zeros(count, dtype=bool)

    @staticmethod
    def bytes_for(count: int, shape: tuple[int, ...], dtype: str) -> int:
        return count * (int(np.prod(shape)) * np.dtype(dtype).itemsize + 25)

    def store(self, indices: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Keeps rows (field → [b, ...]) as the items at `indices` (int64 [b])."""
        for name, field in self.fields.items():
            field[indices] = rows[name]
        self.holds[indices] = True

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: field[indices] for name, field in self.fields.items()}

    def item(self, index: int) -> dict[str, np.ndarray]:
        return {name: field[index].copy() for name, field in self.fields.items()}


def memory_limit() -> int:
    """Bytes that decoded items may take in this process: a quarter of the free memory, shared with the other local processes."""
    return min(_free() // 4, _MOST) // max(int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1), 1)


def _free() -> int:
    """Free memory in bytes, of the control group where that is less; 0 where the system does not say."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 0
    try:
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free  # no control group, or one without a limit ('max')
    return max(free, 0)
