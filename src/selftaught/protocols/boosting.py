"""Gradient boosting on the raw columns: the baseline that a table's encoder has to stand beside."""

from __future__ import annotations

import time

import numpy as np

from ..evaluation import Score
from .finetune import judged


def boost(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, *, classes: list[str] | None,
          test_groups: np.ndarray | None = None, seed: int = 0) -> Score:
    """Score of scikit-learn's histogram gradient boosting at its defaults (with early stopping on a tenth where 200 labels or more).
    test_groups [N]: the interval resamples whole groups."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    began = time.perf_counter()
    options = {"random_state": seed, "early_stopping": len(train_y) >= 200, "min_samples_leaf": min(20, max(1, len(train_y) // 10))}
    detail = {"labels": len(train_y), **options}
    seen = np.unique(train_y)
    if classes and len(seen) == 1:
        predicted = np.full(len(test_y), seen[0])
    else:
        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        predicted = kind(**options).fit(train_x, train_y).predict(test_x)
    return judged("boosting", predicted, test_y, classes=bool(classes), groups=test_groups, detail=detail,
                  seconds=time.perf_counter() - began)
