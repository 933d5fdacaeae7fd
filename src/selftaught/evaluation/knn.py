"""Weighted k-nearest-neighbour classification and regression (Wu et al., 2018): the probe that has nothing to tune."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from ..contracts import OptionError
from .arrays import Task, check_task
from .metrics import Outcome, judge
from .neighbours import checked_k, search
from .score import Score

_CHUNK = 32768  # queries searched at a time: k best of each are held


def knn(train_x: Any, train_y: Any, test_x: Any, test_y: Any, *, k: int = 20, temperature: float = 0.07, weighted: bool = True,
        groups: Any = None, test_groups: Any = None) -> Score:  # fmt: skip
    """Score of k-NN on features `[N, D]`: a vote of the k nearest train rows weighted exp(cosine / temperature).

    Class labels (int, bool, str) give accuracy; float labels give R² of the weighted mean. k and temperature are fixed, never
    tuned on test; k is cut to the size of train with a note. Rows labelled −1 or NaN are left out. test_groups: the interval
    resamples whole groups. detail: k, temperature, balanced accuracy, AUC of two classes, accuracy per class. Raises
    DataError for bad arrays (`check_task`), OptionError for k < 1 or a temperature not above 0.
    """
    start = time.perf_counter()
    task = check_task(train_x, train_y, test_x, test_y, groups=groups, test_groups=test_groups)
    outcome = knn_outcome(task, k=k, temperature=temperature, weighted=weighted)
    return outcome.score("knn", task, time.perf_counter() - start)


@torch.no_grad()
def knn_outcome(task: Task, *, k: int = 20, temperature: float = 0.07, weighted: bool = True) -> Outcome:
    """Predictions of the test rows, judged. The settings used are in its detail."""
    if temperature <= 0:
        raise OptionError(f"temperature={temperature} must be above 0: it divides the similarity (0.07 is usual).")
    used = checked_k(k, len(task.train_y))
    labels = torch.from_numpy(task.train_y).to(task.train_x.device)
    predicted, positive = [], []
    for part in task.test_x.split(_CHUNK):
        score, index = search(part, task.train_x, used)  # [Q, k]
        weight = ((score - score[:, :1]) / temperature).exp() if weighted else torch.ones_like(score)
        weight = weight / weight.sum(1, keepdim=True)
        if task.regression:
            predicted.append((weight.double() * labels[index]).sum(1))
            continue
        best, second = _vote(weight, labels[index], len(task.classes))
        predicted.append(best)
        positive.append(second)
    outcome = judge(task, torch.cat(predicted).cpu().numpy(), _binary(positive, task))
    settings = {"k": used, "temperature": temperature if weighted else None, "weighted": weighted}
    if used < k:
        task.notes.append(f"k = {k} was cut to the {used} rows of train")
    outcome.detail = {**settings, **outcome.detail}
    return outcome


def _vote(weight: torch.Tensor, label: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The winning class and the share of class 1, `[Q]` each; a few queries at a time where classes are many."""
    best, second = [], []
    for w, y in zip(weight.split(max(1, 2**24 // classes)), label.split(max(1, 2**24 // classes))):
        votes = w.new_zeros(len(w), classes).scatter_add_(1, y, w)
        best.append(votes.argmax(1))
        second.append(votes[:, 1])
    return torch.cat(best), torch.cat(second)


def _binary(shares: list[torch.Tensor], task: Task) -> np.ndarray | None:
    return torch.cat(shares).cpu().numpy() if shares and len(task.classes) == 2 else None
