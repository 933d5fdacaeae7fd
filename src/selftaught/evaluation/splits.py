"""Which rows go where: splits, folds and labelled subsets that keep classes balanced, groups whole and time in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts import DataError, OptionError
from .arrays import is_regression, to_numpy


def stratified_order(codes: np.ndarray | None, n: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation of n rows of which every beginning has the classes in proportion, after one of each has come.

    Each class is shuffled and laid out evenly over [0, 1), its first member at 0; the rows are then read from left to right.
    """
    codes = np.zeros(n, dtype=np.int64) if codes is None else codes
    shuffled = rng.permutation(n)
    rank, size = np.empty(n, dtype=np.int64), np.bincount(codes)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    rank[by_class] = np.arange(n) - np.repeat(np.cumsum(size) - size, size)
    offset = rng.random(len(size))[codes]
    place = np.where(rank == 0, 0.0, (rank + offset) / size[codes])
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def class_codes(y: Any) -> np.ndarray | None:
    """Class codes of y, or None where there is nothing to stratify by."""
    if y is None or is_regression(to_numpy(y)):
        return None
    return np.unique(to_numpy(y), return_inverse=True)[1]


def group_codes(groups: Any, n: int) -> tuple[np.ndarray, int]:
    ids = to_numpy(groups)
    if len(ids) != n:
        raise DataError(f"There are {n} rows but {len(ids)} groups: give exactly one group a row.")
    unique, codes = np.unique(ids, return_inverse=True)
    return codes, len(unique)


def majority(codes: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]: the commonest class of every group."""
    width = codes.max() + 1
    pair, times = np.unique(group * width + codes, return_counts=True)
    order = np.lexsort((times, pair // width))  # within a group the commonest comes last
    found = np.zeros(count, dtype=np.int64)
    found[pair[order] // width] = pair[order] % width
    return found


def split_indices(n: int, y: Any = None, groups: Any = None, *, fractions: Sequence[float] = (0.8, 0.2), seed: int = 0,
                  time: Any = None) -> list[np.ndarray]:  # fmt: skip
    """Rows of every part, int64 and ascending; the parts cover all n rows.

    y: classes (kept in proportion; each has a row in the first part) or numbers (ignored). groups: a group stays whole.
    time: earlier rows go to earlier parts and equal times stay together (with groups: a group stands at its latest row, and y
    is not used). Sizes are exact without groups and time, else as near as whole units allow. Raises OptionError for fractions
    that do not add up to 1, DataError where a part would be empty.
    """
    cuts = np.cumsum(fractions)
    if len(fractions) < 2 or min(fractions) <= 0 or abs(cuts[-1] - 1.0) > 1e-6:
        raise OptionError(f"fractions={tuple(fractions)} must be at least two positive numbers that add up to 1.")
    rng = np.random.default_rng(seed)
    codes = class_codes(y)
    unit, count = (np.arange(n), n) if groups is None else group_codes(groups, n)
    if time is not None:
        moment = np.unique(to_numpy(time), return_inverse=True)[1]
        latest = np.zeros(count, dtype=np.int64)
        np.maximum.at(latest, unit, moment)
        blocks, unit = np.unique(latest[unit], return_inverse=True)  # units that end at one moment stay together
        order, count = np.arange(len(blocks)), len(blocks)
    else:
        order = stratified_order(codes if groups is None or codes is None else majority(codes, unit, count), count, rng)
    sizes = np.bincount(unit, minlength=count)[order]
    middle = np.cumsum(sizes) - sizes / 2
    part_of = np.empty(count, dtype=np.int64)
    part_of[order] = np.searchsorted(cuts[:-1] * n, middle, side="left")
    parts = [np.flatnonzero(part_of[unit] == p) for p in range(len(fractions))]
    if any(len(p) == 0 for p in parts):
        what = "moments" if time is not None else "groups" if groups is not None else "rows"
        raise DataError(f"{count} {what} cannot be split {tuple(fractions)} without an empty part: give more {what}.")
    return parts


def fold_ids(y: Any, folds: int, *, n: int, groups: Any = None, seed: int = 0) -> np.ndarray:
    """int64 [n]: the fold that holds each row out, classes spread evenly and groups whole.

    −1, never held out, for the only row (or only group) of a class: without it the class could not be learnt.
    """
    rng, codes = np.random.default_rng(seed), class_codes(y)
    if groups is not None:
        group, count = group_codes(groups, n)
        return _deal(None if codes is None else majority(codes, group, count), count, folds, rng)[group]
    return _deal(codes, n, folds, rng)


def _deal(codes: np.ndarray | None, n: int, folds: int, rng: np.random.Generator) -> np.ndarray:
    codes = np.zeros(n, dtype=np.int64) if codes is None else codes
    shuffled = rng.permutation(n)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    fold = np.empty(n, dtype=np.int64)
    fold[by_class] = np.arange(n) % folds  # dealt like cards, class after class
    return np.where(np.bincount(codes)[codes] == 1, -1, fold)
