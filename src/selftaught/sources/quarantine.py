"""The items that could not be read, each once, with the reason: in memory and in a JSONL file that survives a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Quarantine:
    """Records {"index", "name", "reason", "stream"} of bad items. With a path it appends one line an item, in one write, and takes
    up what an earlier process of the run left there (a line cut off by a kill is dropped)."""

    def __init__(self, path: str | Path | None = None):
        self.path = None if path is None else Path(path)
        self.entries: list[dict] = []
        self._known: set[tuple[str, int]] = set()
        if self.path is not None and self.path.exists():
            self._take_up()

    @property
    def count(self) -> int:
        return len(self.entries)

    def indices(self, stream: str = "train") -> set[int]:
        """Places of the stream's bad items in its source."""
        return {index for known, index in self._known if known == stream}

    def record(self, index: int, name: str, reason: str, stream: str = "train") -> bool:
        """Keeps a bad item; False where it was known."""
        entry = {"index": int(index), "name": name, "reason": reason, "stream": stream}
        if not self._keep(entry):
            return False
        if self.path is not None:
            line = (json.dumps(entry, ensure_ascii=True) + "\n").encode()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        return True

    def _keep(self, entry: dict) -> bool:
        key = (entry["stream"], entry["index"])
        if key in self._known:
            return False
        self._known.add(key)
        self.entries.append(entry)
        return True

    def _take_up(self) -> None:
        text = self.path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(self.path, whole)
        for line in text[:whole].splitlines():
            try:
                self._keep({"stream": "train", **json.loads(line)})
            except (ValueError, KeyError, TypeError):  # a line that a full disk cut short: its item is recorded again when met
                continue
