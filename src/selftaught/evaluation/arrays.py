"""What arrays an evaluation accepts, and the sentence for those it does not. NumPy or torch, any float type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import DataError

Array = np.ndarray | Tensor


def to_numpy(values: Any) -> np.ndarray:
    """Any array, tensor or list as a NumPy array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_features(x: Any, name: str) -> Tensor:
    """`x [N, ...]` as a finite tensor `[N, D]` on its own device (float types stay, the rest becomes float32).

    Raises DataError for an empty array, one without rows and columns, and for values that are not finite.
    """
    if isinstance(x, Tensor):
        tensor = x.detach().cpu() if x.device.type == "mps" else x.detach()  # float64 is needed further on
    elif (array := np.asarray(x)).dtype.kind in "fiub":
        tensor = torch.from_numpy(np.require(array, requirements="CW"))
    else:
        raise DataError(f"{name} holds {array.dtype}, but features are numbers: embed the data first.")
    if tensor.ndim < 2:
        raise DataError(f"{name} has shape {tuple(tensor.shape)}, but features are [N, D]: give one row an item.")
    if tensor.shape[0] == 0 or tensor.flatten(1).shape[1] == 0:
        raise DataError(f"{name} is empty (shape {tuple(tensor.shape)}), so nothing can be measured: give at least one row.")
    tensor = tensor.flatten(1) if tensor.is_floating_point() else tensor.flatten(1).float()
    for start in range(0, len(tensor), 16384):  # in parts: no second array of N × D
        finite = torch.isfinite(tensor[start : start + 16384]).all(1)
        if not finite.all():
            row = start + int((~finite).nonzero()[0])
            raise DataError(f"{name} has NaN or infinite values, first in row {row}: look at the encoder or the item there.")
    return tensor


def check_pair(x: Tensor, y: np.ndarray | None, name: str, *, least: int = 2) -> None:
    """Raises DataError when features and labels differ in length, or there are fewer than `least` rows."""
    if y is not None and len(x) != len(y):
        raise DataError(f"{name} has {len(x)} rows of features but {len(y)} labels: give exactly one label a row.")
    if len(x) < least:
        raise DataError(f"{name} has {len(x)} labelled row{'s' * (len(x) != 1)}, but at least {least} are needed.")


def check_width(a: Tensor, b: Tensor, what: str = "train and test") -> None:
    if a.shape[1] != b.shape[1]:
        raise DataError(f"{what} have features of width {a.shape[1]} and {b.shape[1]}: embed both with the same encoder.")


def is_regression(y: np.ndarray) -> bool:
    """Float labels are numbers to predict; integers, booleans and words are classes."""
    return y.dtype.kind == "f"


def labelled_rows(y: np.ndarray) -> np.ndarray:
    """bool [N]: false for unlabelled rows (−1, as in scikit-learn; NaN where labels are floats)."""
    if y.ndim != 1:
        raise DataError(f"labels have shape {y.shape}, but one label a row [N] is expected.")
    if y.dtype.kind == "f":
        return ~np.isnan(y)
    return y >= 0 if y.dtype.kind == "i" else np.ones(len(y), dtype=bool)


@dataclass
class Task:
    """Checked train and test data: features on train's device, unlabelled rows left out.

    y: float64 when `regression`, else int64 codes of `classes`. groups: ids or None. kept: rows of the caller's arrays that
    were kept, train and test. notes: what a reader of the score should know.
    """

    train_x: Tensor
    train_y: np.ndarray
    test_x: Tensor
    test_y: np.ndarray
    classes: np.ndarray | None
    groups: np.ndarray | None = None
    test_groups: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def regression(self) -> bool:
        return self.classes is None


def _labelled(x: Any, y: Any, groups: Any, name: str, notes: list[str]) -> tuple[Tensor, np.ndarray, np.ndarray | None]:
    x, y = as_features(x, name), to_numpy(y)
    check_pair(x, y, name, least=0)
    keep = labelled_rows(y)
    if groups is not None:
        groups = to_numpy(groups)
        if len(groups) != len(y):
            raise DataError(f"{name} has {len(y)} labels but {len(groups)} groups: give exactly one group a row.")
    if not keep.all():
        notes.append(f"{int((~keep).sum())} of {len(y)} {name} rows are unlabelled and were left out")
        x, y = x[torch.from_numpy(keep).to(x.device)], y[keep]
        groups = None if groups is None else groups[keep]
    check_pair(x, y, name, least=2 if name == "train" else 1)
    return x, y, groups


def check_task(train_x: Any, train_y: Any, test_x: Any, test_y: Any, *, groups: Any = None, test_groups: Any = None) -> Task:
    """Checks what a supervised evaluation is given.

    Raises DataError for lengths or widths that differ, NaN, fewer than two labelled train rows, a single class in train, and
    classes in test that train has never seen.
    """
    notes: list[str] = []
    train_x, train_y, groups = _labelled(train_x, train_y, groups, "train", notes)
    test_x, test_y, test_groups = _labelled(test_x, test_y, test_groups, "test", notes)
    check_width(train_x, test_x)
    if groups is not None and test_groups is not None and (shared := np.intersect1d(groups, test_groups)).size:
        notes.append(f"{len(shared)} groups have rows in train and in test: the score is optimistic")
    test_x = test_x.to(train_x.device)
    if is_regression(train_y) != is_regression(test_y):
        raise DataError(f"train labels are {train_y.dtype} and test labels {test_y.dtype}: give two of a kind.")
    if is_regression(train_y):
        train_y, test_y = train_y.astype(np.float64), test_y.astype(np.float64)
        if not (np.isfinite(train_y).all() and np.isfinite(test_y).all()):
            raise DataError("labels have infinite values: mend them or mark them as NaN (unlabelled).")
        return Task(train_x, train_y, test_x, test_y, None, groups, test_groups, notes)
    classes, codes = np.unique(train_y, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"train has the single class {classes[0]!s}, so nothing can be told apart: give rows of two classes.")
    unseen = np.setdiff1d(test_y, classes)
    if unseen.size:
        raise DataError(f"test has classes that train never shows ({_some(unseen)}): add such rows or leave these out.")
    return Task(train_x, codes.astype(np.int64), test_x, np.searchsorted(classes, test_y), classes, groups, test_groups, notes)


def _some(values: Iterable[Any], most: int = 5) -> str:
    values = [str(v) for v in values]
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")
