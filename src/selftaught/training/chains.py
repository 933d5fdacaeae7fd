"""Chains of stages: named artifacts in, named artifacts out, skipped when nothing they depend on has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..contracts import OptionError
from ..contracts.stored import write_text


@dataclass
class Stage:
    """One step of a chain. run(artifacts, folder) → new artifacts: paths, numbers, names, and lists and dicts of these.

    needs: names of the artifacts it reads. settings: whatever else its result depends on (JSON).
    """

    name: str
    run: Callable[[dict[str, Any], Path], dict[str, Any]]
    needs: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def key(self, artifacts: dict[str, Any]) -> str:
        """Hash of everything the stage depends on; files and folders by their contents."""
        missing = [n for n in self.needs if n not in artifacts]
        if missing:
            raise OptionError(f"Stage '{self.name}' needs {', '.join(missing)}, which no earlier stage gives.")
        seen = {n: _content(artifacts[n]) for n in self.needs}
        return hashlib.sha256(_json([self.name, __version__, self.settings, seen]).encode()).hexdigest()[:24]


def chain(stages: Sequence[Stage], folder: str | Path, artifacts: dict[str, Any] | None = None, *,
          say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Runs the stages in order, each in `folder/NAME`; one whose inputs have the hashes of its last finished run, and whose files
    still lie where it left them, is skipped."""
    artifacts = dict(artifacts or {})
    for stage in stages:
        place = Path(folder) / stage.name
        note, key = place / "stage.json", stage.key(artifacts)
        done = json.loads(note.read_text()) if note.is_file() else {}
        if done.get("key") == key and all(Path(path).exists() for path in done.get("files", ())):
            say(f"{stage.name}: unchanged, skipped")
        else:
            place.mkdir(parents=True, exist_ok=True)
            note.unlink(missing_ok=True)
            gives = json.loads(_json(stage.run(artifacts, place)))  # as they will be read again when the stage is skipped
            done = {"key": key, "gives": gives, "files": [str(path) for path in _files(gives)]}
            write_text(note, json.dumps(done))
            say(f"{stage.name}: done")
        artifacts.update(done["gives"])
    return artifacts


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=lambda thing: thing.item() if hasattr(thing, "item") else os.fspath(thing))


def _file(value: Any) -> Path | None:
    """The file or folder that an artifact names, if there is one."""
    return Path(value) if isinstance(value, (str, os.PathLike)) and os.path.exists(value) else None


def _files(value: Any) -> Iterator[Path]:
    """All files and folders that an artifact names, at any depth."""
    if isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _files(part)
    elif path := _file(value):
        yield path


def _content(value: Any) -> Any:
    """An artifact with the hash of its contents in place of every file and folder that it names."""
    if isinstance(value, dict):
        return {str(k): _content(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_content(v) for v in value]
    path = _file(value)
    if path is None:
        return value
    digest = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(str(part.relative_to(path)).encode())
        with open(part, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
