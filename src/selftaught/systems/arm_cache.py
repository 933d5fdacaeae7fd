"""The cache of arms: a run is known by all that its numbers depend on, and is not repeated while none of that changes."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .proof import Arm, Proof

RUNNERS = ("arm_cache.py", "arms.py", "proof.py")  # of the systems' files those that every arm's numbers depend on


class Loaders(dict):
    """First part of a data key → loader(rest) of a proof's own data; two proofs cannot mean different data by one key."""

    def __setitem__(self, key: str, loader: Callable[[str], tuple[Any, Any]]) -> None:
        if source_of(self.get(key, loader)) != source_of(loader):
            raise ValueError(f"the data key '{key}' is taken by another proof: choose another")
        super().__setitem__(key, loader)


DATA: dict[str, Callable[[str], tuple[Any, Any]]] = Loaders()


def source_of(function: Callable | None) -> str | None:
    """Source without what surrounds its lines, so that moving a function does not change what it says."""
    return "\n".join(line.strip() for line in inspect.getsource(function).split("\n") if line.strip()) if function else None


def hashed(thing: Any) -> str:
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()[:16]


def cache_dir() -> Path:
    """Where finished arms lie: $SELFTAUGHT_CACHE, else ~/.cache/selftaught/arms."""
    return Path(os.environ.get("SELFTAUGHT_CACHE") or Path.home() / ".cache" / "selftaught" / "arms")


@lru_cache
def code_version() -> str:
    """Hash of every Python file that may touch a number, rather too many than too few: all but the command line and the systems.
    What a system adds to an arm (ablations, measures, data) enters its key by source, so that a new one spares the runs of others."""
    root = Path(__file__).resolve().parent.parent
    files = [p for p in root.rglob("*.py") if p.name in RUNNERS or p.relative_to(root).parts[0] not in ("systems", "cli.py")]
    return hashed(sorted((p.relative_to(root).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files))


def arm_key(proof: Proof, arm: Arm, seed: int, *, fingerprint: Callable[[str], str], code: str) -> str:
    """Name of a run in the cache: its configuration with the sources of all that is the proof's own, code, data and seed."""
    names = (arm.method, arm.options.get("backbone"))
    own = proof.prepare if any(str(n).startswith(proof.id.lower() + "_") for n in names) else None
    keys = (arm.data, *arm.also)
    functions = (own, *arm.measures, *(DATA.get(k.partition("-")[0]) for k in keys))
    return hashed([arm.configuration(), source_of(own), reached(functions), code, [fingerprint(k) for k in keys], seed])


def reached(functions: Iterable[Callable | None]) -> dict[str, str]:
    """Name → source (of a number or a word its value) of what `functions` use, directly or not, of the systems' files; those of
    `RUNNERS` are part of the code's version."""
    room, found, waiting = __package__, {}, [f for f in functions if f]
    while waiting:
        function = waiting.pop()
        for name, thing in _used(function):
            if _plain(thing):
                found[f"{function.__module__}.{name}"] = repr(thing)
            elif (inspect.isfunction(thing) or inspect.isclass(thing)) and (thing.__module__ or "").startswith(room):
                key = f"{thing.__module__}.{thing.__qualname__}"
                if key not in found and f"{thing.__module__.rpartition('.')[2]}.py" not in RUNNERS:
                    found[key] = source_of(thing)
                    waiting.append(thing)
    return found


def _plain(thing: Any) -> bool:
    return isinstance(thing, (int, float, str)) or isinstance(thing, tuple) and all(map(_plain, thing))


def _used(thing: Any) -> Iterable[tuple[str, Any]]:
    """(name, value) of the globals of its module, and of what it imports from other systems, that a function or class names."""
    module = sys.modules[thing.__module__]
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(thing)))))
    except SyntaxError:  # a lambda in the middle of a call: its line is in the configuration, what it names is read off its code
        return [(n, vars(module)[n]) for n in thing.__code__.co_names if n in vars(module)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    found = [(name, vars(module)[name]) for name in sorted(names & vars(module).keys())]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            there = import_module(f".{node.module}", __package__)
            found += [(a.name, getattr(there, a.name)) for a in node.names]
    return found
