"""Intervals: bootstrap over test items or groups, Student-t over seeds, Bonett and Wright for a rank correlation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..contracts import DataError
from .arrays import to_numpy
from .score import Interval

OfMeans = Callable[[np.ndarray], np.ndarray]
"""Maps the column means `[R, M]` of R resamples to a metric `[R]`: accuracy, R², balanced accuracy are functions of means."""


def t_quantile(level: float, df: float) -> float:
    """Half-width of Student's t in standard errors, e.g. 2.776 for level 0.95 and 4 degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, df))


def _by_group(values: np.ndarray, groups: Any) -> np.ndarray:
    """Sums and counts of every group `[G, M + 1]`: resampling these rows resamples whole groups."""
    _, codes = np.unique(to_numpy(groups), return_inverse=True)
    counted = np.concatenate([values, np.ones((len(values), 1))], 1)
    return np.stack([np.bincount(codes, column) for column in counted.T], 1)


def resample(values: Any, metric: OfMeans | None = None, *, resamples: int = 1000, seed: int = 0,
             groups: Any = None) -> tuple[np.ndarray, int]:  # fmt: skip
    """`[resamples]` bootstrap values of a function of the means of `values [N]` or `[N, M]`, and the count of units drawn.

    Draws rows with replacement (whole groups where `groups [N]` is given; a group weighs as many rows as it has). Equal rows
    are drawn together by one multinomial, the same law at a fraction of the cost: all there is to do for right and wrong.
    """
    rows = to_numpy(values).astype(np.float64).reshape(len(values), -1)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], 1) if groups is None else _by_group(rows, groups)
    n = len(rows)
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    rng, sums = np.random.default_rng(seed), np.empty((resamples, rows.shape[1]))
    step = max(1, 4_000_000 // len(unique))  # ≤ 32 MB of counts at a time
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        if 2 * len(unique) < n:
            drawn = rng.multinomial(n, counts / n, size=size)
        else:
            flat = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
            drawn, unique = np.bincount(flat.ravel(), minlength=size * n).reshape(size, n), rows
        sums[start : start + size] = drawn @ unique
    means = sums[:, :-1] / sums[:, -1:]
    return (means.mean(1) if metric is None else metric(means)), n


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion; never of zero width."""
    z, p = t_quantile(level, math.inf), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def scarce(value: float, rows: int, groups: Any = None) -> bool:
    """Whether resamples of a proportion vary too little: it has under ten successes or failures in its rows, under one in groups."""
    return round(min(value, 1.0 - value) * rows, 6) < (10 if groups is None else 1)


def bootstrap(values: Any, metric: OfMeans | None = None, *, resamples: int = 1000, seed: int = 0, groups: Any = None,
              level: float = 0.95) -> Interval:  # fmt: skip
    """Percentile bootstrap interval of the mean of `values [N]` (bools or floats), or of `metric` of its column means.

    The percentiles are widened for small samples as Hesterberg (2015) says: Student's t instead of the normal, and √(n/(n−1)).
    A proportion with under ten successes or failures (in groups: with none) gets Wilson's interval: resamples of it do not vary
    enough. One unit alone gives NaN ends. Raises DataError when there is nothing or a value is not finite.
    """
    array = to_numpy(values).astype(np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise DataError("An interval needs at least one value, all of them finite: look at the scores it is asked for.")
    means = array.reshape(len(array), -1).mean(0)[None]
    value = float((means.mean(1) if metric is None else metric(means))[0])
    proportion = metric is None and array.ndim == 1 and np.isin(array, (0.0, 1.0)).all() and scarce(value, len(array), groups)
    if proportion and groups is None:
        return Interval(value, *wilson(array.sum(), len(array), level), len(array), "Wilson")
    draws, n = resample(array, metric, resamples=resamples, seed=seed, groups=groups)
    if n < 2:
        return Interval(value, math.nan, math.nan, n, "none: a single unit")
    if proportion:
        return Interval(value, *wilson(value * n, n, level), n, "Wilson over groups")
    low, high = np.nanquantile(draws, widened(level, n))
    return Interval(value, float(low), float(high), n, "percentile bootstrap" + (" over groups" if groups is not None else ""))


def widened(level: float, n: int) -> tuple[float, float]:
    """The two quantile levels of Hesterberg's expanded percentile interval for n units."""
    from scipy.stats import norm

    tail = float(norm.cdf(-math.sqrt(n / (n - 1)) * t_quantile(level, n - 1)))
    return tail, 1.0 - tail


@dataclass(frozen=True)
class Difference:
    """Mean of paired per-seed differences a − b with its Student-t interval."""

    mean: float
    low: float
    high: float
    n: int
    per_seed: tuple[float, ...]

    def exceeds(self, margin: float = 0.0) -> bool:
        """The whole interval lies above `margin` (0: a is better; −0.01: a is not worse by more than 0.01)."""
        return self.low > margin

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0.0 or self.high < 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"per_seed": list(self.per_seed)}


def _paired(a: Any, b: Any, least: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = to_numpy(a).astype(np.float64), to_numpy(b).astype(np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(f"{what} pairs values, but got shapes {a.shape} and {b.shape}: give both sides the same seeds.")
    if len(a) < least or not np.isfinite(a - b).all():
        raise DataError(f"{what} needs at least {least} finite pairs, got {len(a)}: run more seeds or drop failed ones.")
    return a, b


def paired_difference(a: Any, b: Any, *, level: float = 0.95) -> Difference:
    """Student-t interval of the mean of a − b, `a` and `b` [seeds] of the same seeds in the same order."""
    a, b = _paired(a, b, 2, "A paired difference")
    d = a - b
    half = t_quantile(level, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return Difference(float(d.mean()), float(d.mean() - half), float(d.mean() + half), len(d), tuple(map(float, d)))


def spearman(a: Any, b: Any, *, level: float = 0.95) -> Interval:
    """Spearman's rank correlation with the interval of Bonett & Wright (2000): Fisher's z, variance (1 + r²/2)/(n − 3).

    Under four pairs the interval is [−1, 1]. A perfect correlation is taken as half a swap of neighbours away from perfect.
    NaN when one side is constant.
    """
    from scipy.stats import rankdata

    a, b = _paired(a, b, 3, "A rank correlation")
    n = len(a)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(math.nan, -1.0, 1.0, n, "none: one side is constant")
    r = float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    if n < 4:
        return Interval(r, -1.0, 1.0, n, "none: under four pairs")
    bound = 1.0 - 6.0 / (n**3 - n)
    z = math.atanh(min(max(r, -bound), bound))
    half = t_quantile(level, math.inf) * math.sqrt((1.0 + r * r / 2.0) / (n - 3))
    low, high = math.tanh(z - half), math.tanh(z + half)
    return Interval(r, min(low, r), max(high, r), n, "Bonett & Wright")
