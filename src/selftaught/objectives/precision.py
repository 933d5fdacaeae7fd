"""Keeps objectives in at least float32, whatever precision the networks ran in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _raise(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def full_precision(objective: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: half-precision arguments become float32, and autocast is off inside (it would halve every product)."""

    @functools.wraps(objective)
    def run(*values: Any, **options: Any) -> Any:
        values = tuple(map(_raise, values))
        tensor = next(v for v in (*values, *options.values()) if isinstance(v, Tensor))
        with torch.autocast(tensor.device.type, enabled=False):
            return objective(*values, **{name: _raise(v) for name, v in options.items()})

    return run
