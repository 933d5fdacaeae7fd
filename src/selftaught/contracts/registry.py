"""The one registry: (kind, name) → thing. Methods, backbones, modalities and recipes are found here by name; a method of one's own
also by the file or module that it is written in."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .errors import OptionError, nearest

REGISTRY: dict[tuple[str, str], Any] = {}
T = TypeVar("T")


def register(name: str, *, kind: str = "method") -> Callable[[T], T]:
    """Decorator: enters a class or function under `name`; a second entry of the same name is an error, a reload is not."""

    def enter(thing: T) -> T:
        old = REGISTRY.get((kind, name))
        if old is not None and getattr(old, "__qualname__", None) != getattr(thing, "__qualname__", None):
            raise ValueError(f"{kind} '{name}' is registered twice: {old!r} and {thing!r}")
        REGISTRY[kind, name] = thing
        if kind == "method":
            thing.name = name  # type: ignore[attr-defined]
        return thing

    return enter


def names(kind: str) -> list[str]:
    return sorted(n for k, n in REGISTRY if k == kind)


def find(kind: str, name: str) -> Any:
    """The thing of that kind and name; of a method also `FILE.py:NAME` or `MODULE:NAME`, NAME its class or the name that it registers,
    for which that file or module is imported. An unknown name is an OptionError that names the nearest known one."""
    if (kind, name) in REGISTRY:
        return REGISTRY[kind, name]
    if kind == "method" and (":" in name or name.endswith(".py")):
        return _written(name)
    raise nearest(name, names(kind), what=kind)


def anchored(name: Any) -> Any:
    """`FILE.py:NAME` with the whole path of the file, so that it is found from any folder; anything else as it is."""
    where, colon, what = name.rpartition(":") if isinstance(name, str) else ("", "", "")
    return f"{_whole(where)}:{what}" if colon and where.endswith(".py") else name


def _whole(file: str) -> Path:
    return Path(file).expanduser().resolve()


def _written(name: str) -> Any:
    """The method that `FILE.py:NAME` or `MODULE:NAME` names."""
    where, _, what = name.rpartition(":")
    if not where:
        raise OptionError(f"method={name} names no method: write FILE.py:NAME or MODULE:NAME, NAME its class or the name it registers.")
    module = _imported(where)
    entered = {n: thing for (kind, n), thing in REGISTRY.items()
               if kind == "method" and f"{thing.__module__}.".startswith(f"{module.__name__}.")}
    known = {**entered, **{n: thing for n, thing in vars(module).items() if _is_method(thing) and thing.__module__ == module.__name__}}
    thing = getattr(module, what, entered.get(what))
    if thing is None:
        raise nearest(what, known, what=f"method in {where} named") if known else OptionError(f"There is no method in {where}.")
    if not _is_method(thing):
        raise OptionError(f"{what} in {where} is no Method: name a class that extends selftaught.methods.Method.")
    return thing


def _is_method(thing: Any) -> bool:
    return isinstance(thing, type) and all(hasattr(thing, part) for part in ("needs", "defaults", "loss"))


def _imported(where: str) -> ModuleType:
    """The module of a file or of that name, imported once; what is beside the file, or in the working folder, it may import itself.
    OptionError where there is none, or where it fails."""
    file = _whole(where) if where.endswith(".py") else None
    if file is not None and not file.is_file():
        raise OptionError(f"There is no file {file} to take a method from: check the path.")
    folder = os.getcwd() if file is None else str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    name = where if file is None else f"{file.stem}_{zlib.crc32(str(file).encode()):08x}"
    try:
        if file is None or name in sys.modules:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        if file is not None:
            sys.modules.pop(name, None)
        elif isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise OptionError(f"There is no module {name} to take a method from: check its name, or name its file, FILE.py:NAME.") from None
        raise OptionError(f"{where} cannot be imported: {_told(error, str(file))}.") from error


def _told(error: BaseException, file: str) -> str:
    """Kind and first line of an error, with the last line of `file` that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else lines[-1] if lines else None
    said = error.msg if isinstance(error, SyntaxError) else str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}" + (f" in line {line}" if line else "") + (f": {said.rstrip('.')}" if said else "")
