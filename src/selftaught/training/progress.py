"""A progress bar: one line with step, loss, speed, data wait and time left; plain lines where the output is not a terminal."""

from __future__ import annotations

import sys
import time
from typing import IO


def duration(seconds: float) -> str:
    """`75` → `1m15s`."""
    seconds = int(round(seconds))
    hours, minutes, seconds = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


class Progress:
    """Redraws at most four times a second on a terminal; elsewhere prints a line at every tenth of the run."""

    def __init__(self, steps: int, *, start: int = 0, stream: IO[str] | None = None, shown: bool = True):
        self.steps, self.start, self.shown = steps, start, shown
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.began = self.drawn = time.perf_counter()
        self.tenth = start * 10 // max(steps, 1)

    def update(self, step: int, *, loss: float, samples: int, wait: float, bad: int = 0) -> None:
        """After `step` steps: the loss, samples seen since `start`, fraction of time spent waiting for data, bad items so far."""
        if not self.shown:
            return
        now = time.perf_counter()
        tenth = step * 10 // max(self.steps, 1)
        if (self.terminal and now - self.drawn < 0.25 and step < self.steps) or (not self.terminal and tenth == self.tenth):
            return
        self.drawn, self.tenth = now, tenth
        spent = max(now - self.began, 1e-9)
        left = spent / max(step - self.start, 1) * (self.steps - step)
        text = (f"step {step}/{self.steps}  loss {loss:.4f}  {samples / spent:,.0f} samples/s  data wait {wait:.0%}  "
                f"{duration(left)} left" + (f"  {bad} bad items" if bad else ""))
        if self.terminal:
            filled = 24 * step // max(self.steps, 1)
            self.stream.write(f"\r\x1b[2K[{'█' * filled}{'·' * (24 - filled)}] {text}")
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        if self.shown and self.terminal:
            self.stream.write("\n")
            self.stream.flush()
