"""One measured number with its interval, its sample count, its cost and how it came about."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval (95 % unless said). n: independent units; method: how the ends were found."""

    value: float
    low: float
    high: float
    n: int
    method: str = "percentile bootstrap"

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


@dataclass
class Score:
    """`value` of `metric` by the protocol `name`, with its 95 % interval [low, high] over `n` test items, in `seconds`.

    detail: chosen hyper-parameters, further metrics (balanced accuracy, AUC, per class …) and notes a reader should know.
    Larger is better for every metric but `uniformity` and `alignment`.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    metric: str = "accuracy"
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, name: str, interval: Interval, *, metric: str, detail: dict[str, Any], seconds: float) -> Score:
        """A score from an interval, keeping the way the interval was found in the detail."""
        detail = {**detail, "interval": interval.method}
        return cls(name, interval.value, interval.low, interval.high, interval.n, metric, detail, seconds)

    def to_json(self) -> dict[str, Any]:
        """Plain Python values; what is not finite becomes None, as JSON has no NaN."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Score:
        return cls(**{k: math.nan if v is None and k in ("value", "low", "high") else v for k, v in data.items()})

    def __str__(self) -> str:
        return f"{self.name} {self.metric} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
