"""Lines of results that take hours to gather: one JSON object each, under the version of the code that bears on it.

A run that was stopped goes on where it was: what has a line of the present version is not run again.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import selftaught

ROOT = Path(selftaught.__file__).parent
ENGINE = {"contracts", "collectives.py", "measures.py", "sources", "networks", "views", "modalities", "encoder.py", "evaluation",
          "training", "plan.py"}


def version(method: type | None, *further: Path) -> str:
    """Hash of the code that bears on a method's numbers: the engine's rooms, `further` files, and of methods/ and objectives/ the
    files that the method's own reach, so that a new method leaves the lines of the others valid."""
    files = {p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] in ENGINE} | {*further}
    waiting = [c.__module__ for c in (method.__mro__ if method else ()) if c.__module__ in sys.modules]
    seen: set[str] = set()
    while waiting:
        module = sys.modules[name := waiting.pop()]
        if name not in seen and name.startswith(("selftaught.methods.", "selftaught.objectives.")):
            seen.add(name)
            files.add(Path(inspect.getfile(module)))
            waiting += [v.__name__ if inspect.ismodule(v) else v.__module__ for v in vars(module).values()
                        if inspect.ismodule(v) and v.__name__ in sys.modules or getattr(v, "__module__", None) in sys.modules]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; one that was cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def append(line: dict[str, Any], path: Path) -> None:
    """One write under a lock: several processes may work at once, and none sees half a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(json.dumps(line, ensure_ascii=False) + "\n")
