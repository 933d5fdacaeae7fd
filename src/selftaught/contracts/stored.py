"""The files of a run: written whole or not at all, read back, JSON and tensors, where one that is damaged ends in a sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .errors import SelftaughtError


def sync(path: Path) -> None:
    """Forces a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once: readers see the old text or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to write files into, which takes the place of `path` when all are on the disk; after an error `path` is as
    it was."""
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for part in temporary.iterdir():
            sync(part)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
