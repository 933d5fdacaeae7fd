"""Selftaught: give it data without labels; get an encoder, proof of how good it is, and the best use of the few labels you have."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
_API = {"pretrain", "evaluate", "compare_methods", "segment", "embed", "write_embeddings", "nearest_items", "write_report", "demo", "load",
        "open_source", "Run", "Encoder", "Table"}


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `import selftaught` and `--help` cost nothing."""
    import importlib

    if name in _API:
        return getattr(importlib.import_module(".api", __name__), name)
    if name in {"objectives", "testing", "networks", "methods", "views", "modalities", "sources", "evaluation", "training"}:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'selftaught' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
