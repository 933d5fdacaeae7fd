"""Ctrl-C and SIGTERM: remembered, acted on between steps, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from ..contracts import SelftaughtError


class Interrupted(SelftaughtError):
    """The run was asked to stop; its state is saved. `code` is 130 for Ctrl-C and 143 for SIGTERM."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class Interruption:
    """While entered, the first signal only sets `signal` (2 or 15); a second one of the same kind acts at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.signal = number
        signal.signal(number, self._old[number])

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    @staticmethod
    def error(number: int, saved: Path | None, step: int) -> Interrupted:
        what = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        where = f"saved as {saved}; continue with --resume --out {saved.parents[1]}" if saved else "not saved, since the run has no folder"
        return Interrupted(f"Stopped by {what} after step {step}; the state is {where}.", 128 + number)
