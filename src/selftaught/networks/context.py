"""Attention that is kept to some of the tokens of a Transformer backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def attending_to(backbone: nn.Module, seen: Tensor) -> Iterator[None]:
    """Within it the tokens of a Transformer backbone attend to those that are `seen` (bool [B, N], of N tokens) and to the cls token
    alone: all ask, but only these are keys and values (Zhai et al., 2022)."""
    keys = F.pad(seen, (1, 0), value=True)[:, None, None]  # [B, 1, 1, 1 + N]

    def narrowed(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, visible = inputs
        return x, keys if visible is None else visible & keys

    handles = [block.register_forward_pre_hook(narrowed) for block in backbone.transformer.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
