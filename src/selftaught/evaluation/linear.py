"""The linear probe: multinomial logistic regression by L-BFGS for classes, ridge regression for numbers.

Features are standardised with train's statistics. The only hyper-parameter, the weight of the L2 penalty against the mean
loss, comes from one fixed grid, chosen on rows held out of train (whole groups where there are groups) by what is reported, accuracy
or R² (`best`); then all of train is fitted again. Held-out rows have weight zero in the loss, so no part of the features is ever copied.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .arrays import Task, check_task
from .metrics import Outcome, judge
from .score import Score
from .splits import fold_ids

GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""L2 weights tried, strongest first, so that each fit starts from the one before; stops when the held-out loss rose twice and
neither step was the better choice."""
UNTUNED = 1e-2
"""Where no row can be held out (one row a class, say)."""
FOLDS = 5
CROSS_BELOW = 2000  # rows: all five folds are held out in turn; above it one is


def linear_probe(train_x: Any, train_y: Any, test_x: Any, test_y: Any, *, groups: Any = None, test_groups: Any = None,
                 iterations: int = 100, seed: int = 0) -> Score:  # fmt: skip
    """Score of a linear classifier (accuracy) or, for float labels, ridge regression (R²) on features `[N, D]`.

    detail: chosen `l2`, `grid` (held-out loss and accuracy of each), balanced accuracy, AUC of two classes, accuracy per class. iterations:
    most L-BFGS iterations a fit. groups [N of train]: held out whole. test_groups: the interval resamples whole groups.
    Raises DataError for bad arrays (`check_task`).
    """
    start = time.perf_counter()
    task = check_task(train_x, train_y, test_x, test_y, groups=groups, test_groups=test_groups)
    outcome = linear_outcome(task, iterations=iterations, seed=seed)
    return outcome.score("linear", task, time.perf_counter() - start)


def linear_outcome(task: Task, *, iterations: int = 100, seed: int = 0) -> Outcome:
    """Predictions of the test rows by the probe, judged. What was chosen is in its detail."""
    classes = None if task.regression else len(task.classes)
    output, detail = fitted_linear(task.train_x, task.train_y, task.test_x, classes=classes, groups=task.groups, iterations=iterations,
                                   seed=seed)
    if not detail["held_out"]:
        task.notes.append(f"no row could be held out, so the penalty is the untuned {UNTUNED}")
    if task.regression:
        outcome = judge(task, output[:, 0].cpu().numpy())
    else:
        positive = (output[:, 1] - output[:, 0]).cpu().numpy() if output.shape[1] == 2 else None
        outcome = judge(task, output.argmax(1).cpu().numpy(), positive)
    outcome.detail = {**detail, **outcome.detail}
    return outcome


def fitted_linear(train_x: Tensor, train_y: np.ndarray, test_x: Tensor, *, classes: int | None, groups: Any = None, iterations: int = 100,
                  seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """(output of the test rows [N, C], what was chosen). train_y: codes of so many `classes`, or numbers (None; [N, 1] then)."""
    mean, scale, weights, bias, detail = _fitted(train_x, train_y, classes, groups, iterations, seed)
    parts = [F.linear(_standardised(p, mean, scale).to(weights.dtype), weights, bias) for p in test_x.split(16384)]
    return torch.cat(parts), detail


def linear_map(x: Tensor, y: np.ndarray, *, classes: int | None, groups: Any = None, iterations: int = 100, seed: int = 0
               ) -> tuple[Tensor, Tensor]:
    """(weights [C, D], bias [C]) of the same probe, for features as they are: x @ weights.T + bias is its output."""
    mean, scale, weights, bias, _ = _fitted(x, y, classes, groups, iterations, seed)
    weights = weights.double() * scale
    return weights.float(), (bias.double() - weights @ mean).float()


def _fitted(x: Tensor, y: np.ndarray, classes: int | None, groups: Any, iterations: int, seed: int
            ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
    """(mean, 1 / std, weights, bias, what was chosen), the weights for standardised features."""
    mean, scale = _statistics(x)
    x = _standardised(x, mean, scale)
    label = None if classes is None else y
    fold = torch.from_numpy(fold_ids(label, FOLDS, n=len(x), groups=groups, seed=seed)).to(x.device)
    targets = torch.from_numpy(y).to(x.device)
    held = [f for f in range(FOLDS if len(x) <= CROSS_BELOW else 1) if bool((fold == f).any())]
    fitted = _ridge(x, targets, fold, held) if classes is None else _logistic(x, targets, classes, fold, held, iterations)
    return mean, scale, *fitted


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1/std of the columns, float32; a column that does not vary is multiplied by 0."""
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    square = total.clone()
    for part in x.split(16384):
        total += part.double().sum(0)
    mean = total / len(x)
    for part in x.split(16384):
        square += (part.double() - mean).pow(2).sum(0)
    std = (square / len(x)).sqrt()
    varies = std > 1e-6 * mean.abs() + 1e-12
    return mean, torch.where(varies, 1.0 / std.clamp_min(1e-30), 0.0)


def _standardised(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return (x.to(dtype) - mean.to(dtype)).mul_(scale.to(dtype))


def _fit(x: Tensor, y: Tensor, weights: Tensor, bias: Tensor, sample: Tensor, l2: float, iterations: int) -> None:
    """Minimises Σ sample · cross-entropy + l2/2 ‖weights‖² in place from where weights `[C, D]` and bias `[C]` stand."""
    weights.requires_grad_(), bias.requires_grad_()
    solver = torch.optim.LBFGS([weights, bias], max_iter=iterations, history_size=10, tolerance_grad=1e-4,
                               tolerance_change=1e-9, line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        each = F.cross_entropy(F.linear(x, weights, bias), y, reduction="none")
        loss = (each * sample).sum() + 0.5 * l2 * weights.pow(2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    weights.requires_grad_(False), bias.requires_grad_(False)


def _logistic(x: Tensor, y: Tensor, classes: int, fold: Tensor, held: list[int], iterations: int
              ) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    starts = {f: (x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)) for f in held}
    count, grid = sum(int((fold == f).sum()) for f in held), []
    for l2 in GRID if held else ():
        loss = hits = 0.0
        for f, (weights, bias) in starts.items():
            out = fold == f
            _fit(x, y, weights, bias, (~out).to(x.dtype) / (~out).sum(), l2, iterations)
            logits = F.linear(x[out], weights, bias)
            loss += float(F.cross_entropy(logits, y[out], reduction="sum"))
            hits += float((logits.argmax(1) == y[out]).sum())
        grid.append({"l2": l2, "log_loss": loss / count, "accuracy": hits / count})
        if len(grid) > 2 and grid[-3]["log_loss"] < grid[-2]["log_loss"] < grid[-1]["log_loss"] and best(grid, count) < len(grid) - 2:
            break  # twice worse: weaker penalties only cost time
    l2 = grid[best(grid, count)]["l2"] if held else UNTUNED
    weights, bias = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    _fit(x, y, weights, bias, torch.full_like(x[:, 0], 1.0 / len(x)), l2, 2 * iterations)
    return weights, bias, {"l2": l2, "held_out": count, "grid": grid}


def best(grid: list[dict[str, float]], count: int) -> int:
    """Which of the penalties tried is best on `count` held-out rows: among those within a standard error of the highest accuracy the one
    of the lowest log-loss. The loss alone is ruled by how sure a probe is of its errors, not by how many it makes, which on groups that
    it never saw differ much."""
    top = max(g["accuracy"] for g in grid)
    level = top - math.sqrt(top * (1.0 - top) / count)
    return min((i for i, g in enumerate(grid) if g["accuracy"] >= level), key=lambda i: grid[i]["log_loss"])


def _ridge(x: Tensor, y: Tensor, fold: Tensor, held: list[int]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Closed form in float64, one eigendecomposition for the whole grid; y is standardised so that the grid fits any unit."""
    centre, unit = y.mean(), y.std(correction=0).clamp_min(1e-30)
    y = (y - centre) / unit
    losses = np.zeros(len(GRID))
    for f in held:
        out = fold == f
        for i, (w, b) in enumerate(_ridge_path(x[~out], y[~out], GRID)):
            losses[i] += float((x[out].double() @ w + b - y[out]).pow(2).sum())
    l2 = GRID[int(losses.argmin())] if held else UNTUNED
    weights, bias = _ridge_path(x, y, (l2,))[0]
    count = sum(int((fold == f).sum()) for f in held)
    grid = [{"l2": g, "r2": 1.0 - float(a) / count} for g, a in zip(GRID, losses)] if held else []
    return (weights * unit)[None], (bias * unit + centre)[None], {"l2": l2, "held_out": count, "grid": grid}


def _ridge_path(x: Tensor, y: Tensor, grid: tuple[float, ...]) -> list[tuple[Tensor, Tensor]]:
    """(weights `[D]`, bias) for every l2: minimises mean (xw + b − y)² + l2 ‖w‖², through the smaller Gram matrix."""
    mean, level = x.mean(0, dtype=torch.float64), y.mean()
    wide = len(x) < x.shape[1]
    if wide:
        centred = x.double() - mean
        gram = centred @ centred.T / len(x)
        right = (y - level) / len(x)
    else:
        gram, right = -torch.outer(mean, mean), -mean * level
        for xs, ys in zip(x.split(4096), y.split(4096)):
            xs = xs.double()
            gram += xs.T @ xs / len(x)
            right += xs.T @ ys / len(x)
    values, vectors = torch.linalg.eigh(gram)
    turned = vectors.T @ right
    solutions = [vectors @ (turned / (values.clamp_min(0.0) + l2)) for l2 in grid]
    weights = [centred.T @ s for s in solutions] if wide else solutions
    return [(w, level - mean @ w) for w in weights]
