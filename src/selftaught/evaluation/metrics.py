"""From predictions to a score: accuracy, balanced accuracy, AUC, R², with intervals over test items or test groups."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import Task
from .intervals import OfMeans, bootstrap, t_quantile, widened
from .score import Interval, Score


@dataclass
class Outcome:
    """What a protocol made of the test rows: `metric` is a function of the column means of `values [N, M]`."""

    values: np.ndarray
    of_means: OfMeans | None
    metric: str
    detail: dict[str, Any] = field(default_factory=dict)

    def score(self, name: str, task: Task, seconds: float, **detail: Any) -> Score:
        interval = bootstrap(self.values, self.of_means, groups=task.test_groups)
        notes = {"notes": list(task.notes)} if task.notes else {}
        detail = {"train": len(task.train_y), **detail, **self.detail, **notes}
        return Score.of(name, interval, metric=self.metric, detail=detail, seconds=seconds)


def judge(task: Task, predicted: np.ndarray, positive: np.ndarray | None = None) -> Outcome:
    """Accuracy of predicted codes [N] (`positive` [N]: score of the second of two classes, for AUC), or R² of numbers [N]."""
    if task.regression:
        return _judge_numbers(task.test_y, predicted)
    y, correct = task.test_y, predicted == task.test_y
    seen = np.unique(y)
    size, right = np.bincount(y, minlength=len(task.classes)), np.bincount(y[correct], minlength=len(task.classes))
    detail: dict[str, Any] = {"classes": len(task.classes)}
    rates = right[seen] / size[seen]
    detail["balanced_accuracy"] = float(rates.mean())
    if task.test_groups is None and len(y) > 1:
        drawn = np.random.default_rng(0).binomial(size[seen], rates, (1000, len(seen))) / size[seen]  # classes keep their sizes
        detail["balanced_accuracy_interval"] = np.quantile(drawn.mean(1), widened(0.95, len(y))).tolist()
    detail["imbalanced"] = bool(size[seen].max() > 1.5 * size[seen].min())
    detail["per_class"] = {str(task.classes[c]): float(r) for c, r in zip(seen, rates)}
    if positive is not None and len(seen) == 2:
        area = auc(positive, y == 1)
        detail["auc"], detail["auc_interval"] = area.value, [area.low, area.high]
    return Outcome(correct.astype(np.float64), None, "accuracy", detail)


def _judge_numbers(y: np.ndarray, predicted: np.ndarray) -> Outcome:
    residual, centred = predicted - y, y - y.mean()
    values = np.stack([residual**2, centred, centred**2], 1)
    detail = {"rmse": float(np.sqrt(values[:, 0].mean())), "mae": float(np.abs(residual).mean())}
    return Outcome(values, r_squared, "r2", detail)


def r_squared(means: np.ndarray) -> np.ndarray:
    """R² [R] from the means [R, 3] of squared residual, label and squared label; NaN where the label does not vary."""
    variance = means[:, 2] - means[:, 1] ** 2
    return 1.0 - means[:, 0] / np.where(variance > 0, variance, np.nan)


def auc(scores: Any, positive: Any, *, level: float = 0.95) -> Interval:
    """Area under the ROC curve with the interval of DeLong et al. (1988); ties count half. Both classes must be there."""
    from scipy.stats import rankdata

    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(scores[positive])) / n  # share of negatives under each positive
    under = 1.0 - (ranks[~positive] - rankdata(scores[~positive])) / m
    value = float(above.mean())
    if min(m, n) < 2:
        return Interval(value, 0.0, 1.0, m + n, "none: a single member of one class")
    half = t_quantile(level, min(m, n) - 1) * math.sqrt(above.var(ddof=1) / m + under.var(ddof=1) / n)
    return Interval(value, max(0.0, value - half), min(1.0, value + half), m + n, "DeLong")
