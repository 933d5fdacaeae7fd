"""Keeps freed memory within the process while it trains on a processor.

A step frees and asks for gigabytes. By default glibc hands every large block back to the kernel, which zeroes each page of the
next one: a fourteenth of a ResNet-18's step (`benchmarks/simclr_resnet18.py`). Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # malloc.h
DEFAULT_MMAP_MAX, LARGEST_THRESHOLD = 65536, 32 << 20  # where glibc's own adaptation ends


@contextmanager
def steady_heap(enabled: bool = True) -> Iterator[None]:
    """Within it, blocks of any size are kept when freed and used again; at its end the unused ones go back to the kernel."""
    libc = _glibc() if enabled else None
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
