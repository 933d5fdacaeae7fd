"""Values that change over training, as small frozen callables of the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Where training stands: optimiser steps done and planned, epoch (from 0) and epochs, steps an epoch; and the run's seed, for what a
    method draws by itself."""

    step: int = 0
    steps: int = 1
    epoch: int = 0
    epochs: int = 1
    steps_per_epoch: int = 1
    seed: int = 0

    @property
    def moment(self) -> int:
        """A number of its own for every step of every seed, for what is drawn once a step."""
        return (self.seed << 40) + self.step

    @property
    def progress(self) -> float:
        """0 at the first step, 1 after the last."""
        return min(self.step / max(self.steps, 1), 1.0)


class Schedule:
    """Base: `schedule(clock)` gives a float. Plain numbers count as constant (`value_at`)."""

    def __call__(self, clock: Clock) -> float:
        raise NotImplementedError(f"{type(self).__name__} does not say how its value follows from the clock")


@dataclass(frozen=True)
class Constant(Schedule):
    value: float

    def __call__(self, clock: Clock) -> float:
        return self.value


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `start` to `end` over the whole run."""

    start: float
    end: float

    def __call__(self, clock: Clock) -> float:
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * clock.progress))


@dataclass(frozen=True)
class Linear(Schedule):
    """From `start` to `end` over the first `epochs` epochs (whole run when None), then constant."""

    start: float
    end: float
    epochs: float | None = None

    def __call__(self, clock: Clock) -> float:
        span = clock.steps if self.epochs is None else self.epochs * clock.steps_per_epoch
        return self.start + (self.end - self.start) * min(clock.step / max(span, 1), 1.0)


@dataclass(frozen=True)
class WarmupCosine(Schedule):
    """Linear from `start` to `peak` over the first `warmup` of the steps (a fraction), then half a cosine to `end`."""

    peak: float
    end: float = 0.0
    warmup: float = 0.05
    start: float = 0.0

    def __call__(self, clock: Clock) -> float:
        ramp = self.warmup * clock.steps
        if clock.step < ramp:
            return self.start + (self.peak - self.start) * (clock.step + 1) / (ramp + 1)
        rest = (clock.step - ramp) / max(clock.steps - ramp, 1)
        return self.end + (self.peak - self.end) * 0.5 * (1.0 + math.cos(math.pi * min(rest, 1.0)))


@dataclass(frozen=True)
class Infinite(Schedule):
    """Warm-up, cosine cool-down to a constant, hold, then exponential annealing at the very end (never needs to know its length
    until it is to stop). Fractions are of the planned steps; source: Ibrahim et al., 2024, the 'infinite' schedule."""

    peak: float
    constant: float
    end: float
    warmup: float = 0.02
    cooldown: float = 0.3
    anneal: float = 0.1

    def __call__(self, clock: Clock) -> float:
        p = clock.progress
        if p < self.warmup:
            return self.peak * (clock.step + 1) / (self.warmup * clock.steps + 1)
        if p < self.cooldown:
            part = (p - self.warmup) / (self.cooldown - self.warmup)
            return self.constant + (self.peak - self.constant) * 0.5 * (1.0 + math.cos(math.pi * part))
        if p < 1.0 - self.anneal:
            return self.constant
        part = (p - (1.0 - self.anneal)) / self.anneal
        return self.constant * (self.end / self.constant) ** part


def value_at(schedule: Schedule | float, clock: Clock) -> float:
    """The value of a schedule or of a plain number."""
    return schedule(clock) if isinstance(schedule, Schedule) else float(schedule)
