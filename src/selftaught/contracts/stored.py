"""The files of a run read back, JSON and tensors: one that is damaged ends in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .errors import SelftaughtError


def read_json(path: Path, *keys: str, mend: str) -> dict[str, Any]:
    """The object in a JSON file. A SelftaughtError, which ends with `mend`, where the file is cut, holds something else or lacks
    one of `keys`; FileNotFoundError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, mend) from None
    if not isinstance(found, dict):
        raise damaged(path, f"it holds a {type(found).__name__} in place of an object", mend)
    return _with(path, found, keys, mend)


def read_tensors(path: Path, *keys: str, mend: str) -> dict[str, Tensor]:
    """The tensors in a safetensors file. A SelftaughtError, which ends with `mend`, where it is cut, missing or lacks one of `keys`."""
    try:
        found = load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise damaged(path, error, mend) from None
    return _with(path, found, keys, mend)


def damaged(path: Path, why: object, mend: str) -> SelftaughtError:
    return SelftaughtError(f"{path} is damaged ({why}). {mend}")


def _with(path: Path, found: dict[str, Any], keys: tuple[str, ...], mend: str) -> dict[str, Any]:
    if lacking := [key for key in keys if key not in found]:
        raise damaged(path, f"it lacks {' and '.join(lacking)}", mend)
    return found
