"""The run folder: one lock, run.yaml, metrics that are cut back on resume, and where everything else lies."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

from ..contracts import OptionError, SelftaughtError
from .checkpoint import checkpoints, write_text


class RunFolder:
    """Paths and files of one run. `open()` takes the lock and holds it until `close()`; a killed process frees it.

    run.yaml (JSON, which is YAML), metrics.jsonl, quarantine.jsonl, checkpoints/, encoder/, report.html.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.encoder = self.path / "encoder"
        self.quarantine = self.path / "quarantine.jsonl"
        self.report = self.path / "report.html"
        self._metrics = self.path / "metrics.jsonl"
        self._lock: IO[str] | None = None
        self._stream: IO[str] | None = None

    def exists(self) -> bool:
        return (self.path / "run.yaml").is_file()

    def open(self, *, resume: bool) -> None:
        """Creates or takes over the folder. An existing run without `resume`, or one in use, is refused."""
        if self.path.exists() and not self.path.is_dir():
            raise OptionError(f"{self.path} is a file; --out needs a folder.")
        if self.exists() and not resume:
            raise OptionError(f"{self.path} already holds a run. Continue it with --resume, or choose another folder with --out.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a+")
        except OSError as error:
            raise SelftaughtError(f"Cannot write to {self.path}: {error.strerror}. Choose another folder with --out.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise SelftaughtError(f"Another process is training in {self.path}; wait for it or choose another folder.") from None

    def close(self) -> None:
        for handle in (self._stream, self._lock):
            if handle is not None:
                handle.close()
        self._stream = self._lock = None

    def write_decisions(self, decisions: dict[str, Any]) -> None:
        """run.yaml: every decision, and by whom."""
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in decisions.items())
        write_text(self.path / "run.yaml", "{\n" + lines + "\n}\n")

    def decisions(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / "run.yaml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise OptionError(f"{self.path} is not a run: it has no run.yaml.") from None
        except ValueError as error:
            raise SelftaughtError(f"{self.path / 'run.yaml'} cannot be read ({error}); it was edited or damaged.") from None

    def latest(self) -> tuple[int, Path] | None:
        found = checkpoints(self.checkpoints)
        return found[-1] if found else None

    def cut_metrics(self, step: int) -> None:
        """Drops the lines of steps after `step` (written after the checkpoint that is resumed) and half-written ones."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def log(self, lines: list[dict[str, Any]]) -> None:
        if self._stream is None:
            self._stream = open(self._metrics, "a", encoding="utf-8")
        try:
            self._stream.write("".join(json.dumps(line) + "\n" for line in lines))
            self._stream.flush()
        except OSError as error:
            raise SelftaughtError(f"Could not write to {self._metrics} ({error.strerror}). Free some space and resume.") from error

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl."""
        found = []
        if self._metrics.is_file():
            for line in self._metrics.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    break
        return found

    def discard(self) -> None:
        """Removes the folder (a test's, or a run that never started)."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, name: str, text: str) -> Path:
        write_text(self.path / name, text)
        return self.path / name

    def size(self) -> int:
        """Bytes on disk."""
        return sum(os.path.getsize(p) for p in self.path.rglob("*") if p.is_file())
