"""What an encoder is worth when only few labels are there: drawn subsets of train, the same for every encoder compared."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..contracts import DataError, OptionError, nearest
from .arrays import Task, check_task, is_regression, labelled_rows, to_numpy
from .intervals import resample, scarce, t_quantile, wilson
from .knn import knn_outcome
from .linear import linear_outcome
from .metrics import Outcome
from .score import Interval, Score
from .splits import class_codes, group_codes, majority, stratified_order

Budget = float | int
_PROTOCOLS = {"knn": knn_outcome, "linear": linear_outcome}


def budget_count(budget: Budget, n: int) -> int:
    """Labels in a budget: a float in (0, 1] is a share of n (rounded up), an int ≥ 2 a count (cut to n)."""
    if isinstance(budget, bool) or not (0 < budget <= 1 if isinstance(budget, float) else budget >= 2):
        raise OptionError(f"budget {budget!r} must be a float in (0, 1], a share (1.0 is all), or an int from 2, a count of labels.")
    return math.ceil(budget * n - 1e-9) if isinstance(budget, float) else min(budget, n)


def budget_indices(y: Any, budget: Budget, draw: int = 0, seed: int = 0, groups: Any = None) -> np.ndarray:
    """int64, ascending: the rows whose labels are shown in draw number `draw`. A function of labels and numbers alone.

    Classes in proportion, at least one row of each (a budget below the number of classes is raised to it); float labels are
    drawn evenly at random, at least two. A smaller budget of the same draw is a part of a larger one. With groups whole groups are taken,
    in random order, until the budget is reached and every class was met. Unlabelled rows (−1, NaN) are never drawn.
    """
    y = to_numpy(y)
    labelled = np.flatnonzero(labelled_rows(y))
    if len(labelled) == 0:
        raise DataError("No row is labelled, so no budget of labels can be drawn: name a target.")
    codes = class_codes(y[labelled])
    count = max(budget_count(budget, len(labelled)), 2 if codes is None else codes.max() + 1)
    rng = np.random.default_rng([seed, draw])
    if groups is None:
        return np.sort(labelled[stratified_order(codes, len(labelled), rng)[:count]])
    return np.sort(labelled[_whole_groups(codes, to_numpy(groups)[labelled], count, rng)])


def budget_note(y: Any, budget: Budget, drawn: int, groups: Any = None) -> str:
    """Why `drawn` labels are shown where `budget` asks for another number of those in y; '' where it asks for this one."""
    y = to_numpy(y)
    total = int(labelled_rows(y).sum())
    if not isinstance(budget, float) and budget > total:
        return f"A budget of {budget} labels is cut to {drawn}: there are no more."
    if drawn == budget_count(budget, total):
        return ""
    asked = f"{100 * budget:g} % of {total} labels" if isinstance(budget, float) else f"A budget of {budget} labels"
    why = "groups are taken whole" if groups is not None else "no fewer can be fitted" if is_regression(y) else "one a class"
    return f"{asked} is raised to {drawn}: {why}."


def _whole_groups(codes: np.ndarray | None, groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    group, total = group_codes(groups, len(groups))
    codes = np.zeros(len(groups), dtype=np.int64) if codes is None else codes
    place = np.empty(total, dtype=np.int64)
    place[stratified_order(majority(codes, group, total), total, rng)] = np.arange(total)
    first = np.full(codes.max() + 1, total)  # the earliest group that shows each class
    np.minimum.at(first, codes, place[group])
    place[np.isin(place, first)] -= total  # those come before all others
    rows = np.argsort(place[group], kind="stable")
    ordered = place[group][rows]
    needed = np.unique(first).size
    groups_before = np.concatenate([[0], np.cumsum(np.diff(ordered) != 0)])
    return rows[(groups_before < needed) | (groups_before <= groups_before[min(count, len(rows)) - 1])]


def label_budgets(train_x: Any, train_y: Any, test_x: Any, test_y: Any, *, budgets: Sequence[Budget] = (0.01, 0.1, 1.0),
                  protocol: str | Sequence[str] = ("knn", "linear"), draws: int = 3, seed: int = 0, groups: Any = None,
                  test_groups: Any = None, **settings: Any) -> dict[str, dict[Budget, Score]]:  # fmt: skip
    """protocol → budget → Score, averaged over `draws` labelled subsets (one where the budget is all of train).

    The 95 % interval holds both what another draw of labels and another draw of test rows would change (`combined`). Rows
    are drawn by `budget_indices(train_y, budget, draw, seed, groups)`. detail: labels, draws, per_draw, and what the probe
    chose in each. settings: for the k-NN (k, temperature, weighted). Errors as of `check_task`.
    """
    protocols = [protocol] if isinstance(protocol, str) else list(protocol)
    for name in protocols:
        if name not in _PROTOCOLS:
            raise nearest(name, _PROTOCOLS, what="protocol")
    if draws < 1:
        raise OptionError(f"draws={draws} must be at least 1.")
    task = check_task(train_x, train_y, test_x, test_y, groups=groups, test_groups=test_groups)
    result: dict[str, dict[Budget, Score]] = {name: {} for name in protocols}
    for budget in budgets:
        drawn = [budget_indices(task.train_y, budget, d, seed, task.groups) for d in range(draws)]
        parts = [_shown(task, rows) for rows in (drawn[:1] if len(drawn[0]) == len(task.train_y) else drawn)]
        for name in protocols:
            start = time.perf_counter()
            options = settings if name == "knn" else {"seed": seed}
            outcomes = [_PROTOCOLS[name](part, **options) for part in parts]
            result[name][budget] = _averaged(name, budget, task, parts, outcomes, time.perf_counter() - start)
    return result


def _shown(task: Task, rows: np.ndarray) -> Task:
    """The task with only these rows of train."""
    groups = None if task.groups is None else task.groups[rows]
    x = task.train_x[torch.from_numpy(rows).to(task.train_x.device)]
    return Task(x, task.train_y[rows], task.test_x, task.test_y, task.classes, groups, task.test_groups, list(task.notes))


def _averaged(name: str, budget: Budget, task: Task, parts: list[Task], outcomes: list[Outcome], seconds: float) -> Score:
    first = outcomes[0]
    if len(outcomes) == 1:
        score = first.score(name, parts[0], seconds)
        score.detail |= {"budget": budget, "labels": len(parts[0].train_y), "draws": 1, "per_draw": [score.value]}
        return score
    interval, values = combined(outcomes, task.test_groups)
    balanced = [o.detail["balanced_accuracy"] for o in outcomes if "balanced_accuracy" in o.detail]
    chosen = [{k: o.detail[k] for k in ("k", "l2") if k in o.detail} for o in outcomes]
    detail = {"budget": budget, "labels": len(parts[0].train_y), "draws": len(outcomes), "per_draw": values, "chosen": chosen}
    detail |= {"balanced_accuracy": float(np.mean(balanced))} if balanced else {}
    detail |= {"notes": notes} if (notes := sorted({note for part in parts for note in part.notes})) else {}
    return Score.of(name, interval, metric=first.metric, detail=detail, seconds=seconds)


def combined(outcomes: Sequence[Outcome], test_groups: Any = None, *, level: float = 0.95) -> tuple[Interval, list[float]]:
    """Interval of the mean over draws, and the value of each draw.

    Variance: that between draws over their number, plus the bootstrap's over test rows (the same resamples for all draws);
    Student-t with Welch and Satterthwaite's degrees of freedom, so that few draws that differ give the wide interval they
    deserve. Cut to [0, 1] for accuracy, and where that is too near 0 or 1 for either to vary (`scarce`), at least as wide as Wilson's
    interval of the mean.
    """
    width, of_means = outcomes[0].values.shape[1:], outcomes[0].of_means
    columns = width[0] if width else 1
    stacked = np.concatenate([o.values.reshape(len(o.values), -1) for o in outcomes], 1)

    def each(means: np.ndarray) -> np.ndarray:  # [R, draws]
        parts = np.split(means, means.shape[1] // columns, axis=1)
        return np.stack([p.mean(1) if of_means is None else of_means(p) for p in parts], 1)

    values = each(stacked.mean(0)[None])[0]
    resampled, n = resample(stacked, lambda means: each(means).mean(1), groups=test_groups)
    value, r = float(values.mean()), len(values)
    between, over_test = float(values.var(ddof=1)) / r, float(np.nanvar(resampled)) * n / max(n - 1, 1)
    total = between + over_test
    freedom = total**2 / (between**2 / (r - 1) + over_test**2 / max(n - 1, 1)) if total > 0 else math.inf
    half = t_quantile(level, freedom) * math.sqrt(total) if n > 1 else math.nan
    low, high = value - half, value + half
    if of_means is None:
        low, high = max(0.0, low), min(1.0, high)
    method = "Student-t over draws and bootstrap over test rows"
    if of_means is None and scarce(value, len(stacked), test_groups):
        least, most = wilson(value * n, n, level)
        low, high, method = min(low, least), max(high, most), f"{method}, no narrower than Wilson"
    return Interval(value, low, high, n, method), values.tolist()
