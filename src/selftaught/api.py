"""The public face: what `import selftaught` offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .encoder import Encoder
from .protocols import Table, evaluate
from .sources import open_source
from .stages import Run, pretrain

__all__ = ["Encoder", "Run", "Table", "embed", "evaluate", "load", "open_source", "pretrain"]


def load(path: str | Path, *, backbone: nn.Module | None = None) -> Encoder:
    """The encoder in a run folder or in a folder that `Encoder.save` wrote; `backbone` where it was a module of your own."""
    return Encoder.load(path, backbone=backbone)


def embed(run: str | Path | Run | Encoder, data: Any, **options: Any) -> np.ndarray:
    """float32 [N, D]: the embeddings of `data`; options go to `open_source` (target, group, layout)."""
    encoder = run if isinstance(run, Encoder) else run.encoder if isinstance(run, Run) else load(run)
    return encoder.embed(encoder.open(data, **options))
