"""Are two items of the same class: trials scored by cosine, the equal error rate, points of the trade-off (DET), the detection cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import DataError
from .arrays import as_features, check_pair, labelled_rows, to_numpy
from .intervals import widened, wilson
from .score import Interval, Score

COST = {"target": 0.01, "miss": 1.0, "false_alarm": 1.0}  # NIST's and VoxCeleb's usual detection cost
MANY = 10  # classes from which the interval is over them; below it is over items
DET_POINTS = 101
MOST_ITEMS = 4000  # of which pairs are listed: 8 million


@dataclass(frozen=True)
class Trade:
    """What each threshold costs, from accepting all to accepting none: `threshold`, `accepted` (share of the trials of two that are taken
    for one) and `rejected` (share of the trials of one that are not), [K + 1] each. A trial is accepted where its score reaches the
    threshold."""

    threshold: np.ndarray
    accepted: np.ndarray
    rejected: np.ndarray

    def equal(self) -> tuple[float, float]:
        """(equal error rate, threshold), linear between the two points where the errors cross."""
        rate, place, part = _crossing(self.accepted[None], self.rejected[None])
        ends = np.where(np.isfinite(self.threshold), self.threshold, self.threshold[np.isfinite(self.threshold)].max())
        at = int(place[0])
        return float(rate[0]), float(ends[at] + part[0] * (ends[at + 1] - ends[at]))

    def cost(self, *, target: float, miss: float, false_alarm: float) -> float:
        """Smallest detection cost over all thresholds, over that of the better of accepting all and none (minDCF)."""
        costs = miss * target * self.rejected + false_alarm * (1 - target) * self.accepted
        return float(costs.min() / min(miss * target, false_alarm * (1 - target)))

    def points(self, count: int = DET_POINTS) -> list[list[float]]:
        """At most `count` points [accepted, rejected] along the curve, evenly spaced in the places of its thresholds' ranks."""
        chosen = np.unique(np.linspace(0, len(self.threshold) - 1, count).round().astype(np.int64))
        return np.stack([self.accepted[chosen], self.rejected[chosen]], 1).tolist()


def trade(scores: Any, same: Any) -> Trade:
    """Errors of every threshold on `scores [T]`, `same` bool [T]. DataError unless both kinds of trial are there and scores finite."""
    scores, same = _checked(scores, same)
    order, ends = _ranks(scores)
    accepted, rejected = _errors(same[order], np.ones((1, len(scores))), ends)
    return Trade(np.append(scores[order][np.concatenate([[0], ends[:-1] + 1])], np.inf), accepted[0], rejected[0])


def equal_error_rate(scores: Any, same: Any, *, units: Any = None, resamples: int = 400, seed: int = 0, level: float = 0.95) -> Score:
    """The error at the threshold that errs as often on trials of two as on those of one; smaller is better, .5 is chance.

    scores: [T], larger = more alike. same: bool [T]. units: what was drawn independently, [T], or [T, 2] of both sides of a trial
    (items, speakers): the bootstrap draws these with replacement, a trial weighs the product of how often its sides were drawn (once
    where both are one unit; Poh, Martin & Bengio, 2007). None takes each trial for itself, which is too sure where trials share items.
    detail: threshold, min_dcf, det (points), trials of each kind.
    """
    start = time.perf_counter()
    scores, same = _checked(scores, same)
    curve = trade(scores, same)
    rate, threshold = curve.equal()
    low, high, count = _interval(scores, same, units, resamples, seed, level)
    high = max(high, wilson(0, count, level)[1]) if rate == 0.0 else high  # resamples of no error have none either
    interval = Interval(rate, low, high, count, f"percentile bootstrap over {'trials' if units is None else 'units'}")
    detail = {"threshold": threshold, "min_dcf": curve.cost(**COST), "det": curve.points(), "same": int(same.sum()),
              "different": int((~same).sum())}
    return Score.of("verification", interval, metric="eer", detail=detail, seconds=time.perf_counter() - start)


def verification(x: Any, y: Any, *, trials: int = 20000, resamples: int = 400, seed: int = 0) -> Score:
    """Equal error rate by cosine over pairs of rows of `x [N, D]`, at most `trials` of one class and as many of two (drawn by `seed`).

    Rows labelled −1 are left out. The interval is over classes, from ten on, else over items. DataError for bad arrays, and where no two
    rows share a class or all do.
    """
    x, y = as_features(x, "x").cpu().double().numpy(), to_numpy(y)
    check_pair(x, y, "x")
    x, y = (part[labelled_rows(y)] for part in (x, y))
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    a, b = trial_list(y, trials=trials, seed=seed)
    classes, codes = np.unique(y, return_inverse=True)
    units = codes if len(classes) >= MANY else np.arange(len(y))
    score = equal_error_rate((x[a] * x[b]).sum(1), y[a] == y[b], units=np.stack([units[a], units[b]], 1), resamples=resamples, seed=seed)
    score.detail["over"] = "classes" if len(classes) >= MANY else "items"
    return score


def trial_list(y: Any, *, trials: int = 20000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows (a < b), int64 [T] each: at most `trials` of one class, then at most as many of two, without repeats."""
    y, rng = to_numpy(y), np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(y))[:MOST_ITEMS])
    a, b = (rows[places] for places in np.triu_indices(len(rows), 1))
    same = y[a] == y[b]
    chosen = [np.sort(rng.permutation(places)[:trials]) for places in (np.flatnonzero(same), np.flatnonzero(~same))]
    if not len(chosen[0]) or not len(chosen[1]):
        raise DataError(f"{len(y)} rows of {len(np.unique(y))} classes make no trials of both kinds: give two classes, one with two rows.")
    pairs = np.concatenate(chosen)
    return a[pairs], b[pairs]


def _checked(scores: Any, same: Any) -> tuple[np.ndarray, np.ndarray]:
    scores, same = to_numpy(scores).astype(np.float64), to_numpy(same).astype(bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DataError(f"Trials have scores of shape {scores.shape} and answers of shape {same.shape}: give one of each a trial.")
    if not same.any() or same.all() or not np.isfinite(scores).all():
        raise DataError(f"An equal error rate needs trials of one and of two, with finite scores, but {int(same.sum())} of {len(same)} are "
                        f"of one and {int((~np.isfinite(scores)).sum())} scores are not finite.")
    return scores, same


def _ranks(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rising order of the scores, and the last place in it of each different one."""
    order = np.argsort(scores, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)


def _errors(same: np.ndarray, weights: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(accepted, rejected) [R, K + 1] for trials in rising order with weights [R, T]; `ends`: last places of the K different scores."""
    found = []
    for kind in (~same, same):
        below = (weights * kind).cumsum(1)[:, ends] / np.maximum((weights * kind).sum(1, keepdims=True), 1e-30)
        found.append(np.concatenate([np.zeros((len(weights), 1)), below], 1))
    return 1.0 - found[0], found[1]


def _crossing(accepted: np.ndarray, rejected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rate, place, part) [R]: where rejected − accepted, which rises from −1 to 1, is 0 between `place` and the next."""
    gap = rejected - accepted
    place = np.clip((gap >= 0).argmax(1) - 1, 0, None)[:, None]
    before, after = (np.take_along_axis(gap, place + step, 1) for step in (0, 1))
    part = np.where(after > before, -before / np.where(after > before, after - before, 1.0), 0.0).clip(0.0, 1.0)
    left, right = (np.take_along_axis(rejected, place + step, 1) for step in (0, 1))
    return (left + part * (right - left))[:, 0], place[:, 0], part[:, 0]


def _interval(scores: np.ndarray, same: np.ndarray, units: Any, resamples: int, seed: int, level: float) -> tuple[float, float, int]:
    """Ends of the interval, and the number of units."""
    units = np.arange(len(scores)) if units is None else to_numpy(units)
    if len(units) != len(scores) or units.ndim > 2:
        raise DataError(f"units have shape {units.shape}, but there are {len(scores)} trials: give [T] or [T, 2].")
    codes = np.unique(units, return_inverse=True)[1].reshape(len(scores), -1)
    count, rng = int(codes.max()) + 1, np.random.default_rng(seed)
    if count < 2:
        return math.nan, math.nan, count
    order, ends = _ranks(scores)
    codes, same, rates = codes[order], same[order], []
    alone = (codes == codes[:, :1]).all(1)
    step = max(1, 4_000_000 // len(scores))
    for first in range(0, resamples, step):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(step, resamples - first)).astype(np.float64)
        weights = np.where(alone, drawn[:, codes[:, 0]], drawn[:, codes].prod(2))
        rate = _crossing(*_errors(same, weights, ends))[0]
        there = ((weights * same).sum(1) > 0) & ((weights * ~same).sum(1) > 0)
        rates.append(rate[there])
    low, high = np.quantile(np.concatenate(rates), widened(level, count))
    return float(low), float(high), count
