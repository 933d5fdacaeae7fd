"""The cache of arms: a run is known by all that its numbers depend on, and is not repeated while none of that changes."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .proof import Arm, Proof

RUNNERS = ("arm_cache.py", "arms.py", "proof.py")  # of the systems' files those that every arm's numbers depend on
LIBRARIES = ("torch", "numpy", "scikit-learn")  # whose versions may move a number


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
    """Name of a run in the cache: its configuration with the sources of all that is the systems' own, code, libraries, data and seed."""
    own, libraries = owners(proof, arm), {name: version(name) for name in LIBRARIES}
    data = [fingerprint(k) for k in (arm.data, *arm.also)]
    return hashed([arm.configuration(), [*map(source_of, own)], reached([*own, *functions_of(arm)]), code, libraries, data, seed])


def owners(proof: Proof, arm: Arm) -> list[Callable | None]:
    """The `prepare` that registers each private name of an arm (a method, a backbone): that of the proof whose id begins the name, so
    that an arm of two proofs is one run."""
    from .catalogue import find_proof

    words = (str(word) for word in (arm.method, *arm.options.values()))
    ids = sorted({found[1] for word in words if (found := re.match(r"(s\d{3})_", word))})
    return [(proof if id == proof.id.lower() else find_proof(id)).prepare for id in ids]


def functions_of(arm: Arm) -> list[Callable | None]:
    """An arm's measures, and the loaders of its data."""
    return [*arm.measures, *(DATA.get(k.partition("-")[0]) for k in (arm.data, *arm.also))]


def reached(functions: Iterable[Callable | None]) -> dict[str, str]:
    """Name → source (of numbers and words, and tables of them, the value) of what `functions` use, directly or not, of the systems'
    files; those of `RUNNERS` are part of the code's version."""
    room, found, waiting = __package__, {}, [f for f in functions if f]
    while waiting:
        function = waiting.pop()
        for name, thing in _used(function):
            thing = inspect.unwrap(thing) if callable(thing) else thing  # what a cache remembers
            if _plain(thing):
                found[f"{function.__module__}.{name}"] = repr(thing)
            elif (inspect.isfunction(thing) or inspect.isclass(thing)) and (thing.__module__ or "").startswith(room):
                key = f"{thing.__module__}.{thing.__qualname__}"
                if key not in found and f"{thing.__module__.rpartition('.')[2]}.py" not in RUNNERS:
                    found[key] = source_of(thing)
                    waiting.append(thing)
    return found


def _plain(thing: Any) -> bool:
    if isinstance(thing, Mapping):
        return all(_plain(key) and _plain(value) for key, value in thing.items())
    return isinstance(thing, (int, float, str, type(None))) or isinstance(thing, (tuple, list)) and all(map(_plain, thing))


def _used(thing: Any) -> Iterable[tuple[str, Any]]:
    """(name, value) of what a function or class names: globals of its module, what it imports from other systems or takes from their
    modules, and the values that a factory closed it over."""
    known, code = vars(sys.modules[thing.__module__]), getattr(thing, "__code__", None)
    cells = zip(code.co_freevars, thing.__closure__ or ()) if code else ()
    found = [(f"{thing.__qualname__}, {name} = {cell.cell_contents!r}", cell.cell_contents) for name, cell in cells]
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(thing)))))
    except SyntaxError:  # a lambda in the middle of a call: its line is in the configuration, what it names is read off its code
        return [*found, *((name, known[name]) for name in _names(code) if name in known)]
    found += [(name, known[name]) for name in sorted({node.id for node in nodes if isinstance(node, ast.Name)} & known.keys())]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            there = import_module(f".{node.module}", __package__)
            found += [(a.name, getattr(there, a.name)) for a in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _room(module := known.get(node.value.id)):
            found.append((f"{node.value.id}.{node.attr}", getattr(module, node.attr)))
    return found


def _names(code: Any) -> set[str]:
    """Every global that a code object names, its inner functions' too."""
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if hasattr(inner, "co_names")))


def _room(thing: Any) -> bool:
    """Whether it is a module of the systems."""
    return isinstance(thing, ModuleType) and thing.__name__.startswith(__package__)
