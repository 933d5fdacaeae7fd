"""The run folder: one lock, run.yaml, metrics that are cut back on resume, and where everything else lies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from pathlib import Path
from typing import IO, Any

from ..contracts import OptionError, SelftaughtError
from ..contracts.stored import read_json, write_text
from .checkpoint import checkpoints

_RESTORE = "Restore it, or start anew with another --out."


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
        self.summary = self.path / "summary.json"
        self._metrics = self.path / "metrics.jsonl"
        self.fresh = False  # whether this process began it
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
        self.fresh = not self.exists()

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
            return read_json(self.path / "run.yaml", "decisions", "fingerprint", "init", mend=_RESTORE)
        except FileNotFoundError:
            raise OptionError(f"{self.path} is not a run: it has no run.yaml.") from None

    def preprocessing(self) -> dict[str, Any]:
        try:
            return read_json(self.path / "preprocessing.json", "modality", "facts", "statistics", mend=_RESTORE)
        except FileNotFoundError:
            raise SelftaughtError(f"{self.path} cannot be continued: its preprocessing.json is missing. {_RESTORE}") from None

    def latest(self) -> tuple[int, Path] | None:
        found = checkpoints(self.checkpoints)
        return found[-1] if found else None

    def cut_metrics(self, step: int) -> None:
        """Drops the lines of steps after `step` (written after the checkpoint that is resumed) and half-written ones."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self._metrics, _written(kept))

    def log(self, lines: list[dict[str, Any]]) -> None:
        if self._stream is None:
            self._stream = open(self._metrics, "a", encoding="utf-8")
        try:
            self._stream.write(_written(lines))
            self._stream.flush()
        except OSError as error:
            raise SelftaughtError(f"Could not write to {self._metrics} ({error.strerror}). Free some space and resume.") from error

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl; NaN where a number was not finite."""
        found = []
        if self._metrics.is_file():
            for line in self._metrics.read_text(encoding="utf-8").splitlines():
                try:
                    found.append({k: math.nan if v is None else v for k, v in json.loads(line).items()})
                except ValueError:
                    break
        return found

    def discard(self) -> None:
        """Removes what this process wrote if its run never took a step, and the folder where nothing else lies in it: a start that
        failed leaves the name free."""
        if not self.fresh or self.latest() or self.metrics() or self.quarantine.exists():
            return
        self.close()
        for name in ("run.yaml", "preprocessing.json", "metrics.jsonl", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        for place in (self.checkpoints, self.path):
            with contextlib.suppress(OSError):  # there is none, or something of the user's lies in it
                place.rmdir()

    def write(self, name: str, text: str) -> Path:
        write_text(self.path / name, text)
        return self.path / name

    def size(self) -> int:
        """Bytes on disk."""
        return sum(os.path.getsize(p) for p in self.path.rglob("*") if p.is_file())


def _written(lines: list[dict[str, Any]]) -> str:
    """A line of JSON each, which knows null, but neither NaN nor infinity."""
    plain = ({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()} for line in lines)
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in plain)
