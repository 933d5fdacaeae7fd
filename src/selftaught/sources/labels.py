"""From a column of answers to labels: classes where they are few or words, numbers where they are measurements; and groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts import DataError


@dataclass(frozen=True)
class Labels:
    """values: int64 [N] (−1 = unlabelled) with `classes`, or float32 [N] (NaN = unlabelled) with classes None. note: or ''."""

    values: np.ndarray
    classes: list[str] | None
    note: str = ""


_TOLD = 20  # classes; where more whole numbers are read as such, it is said


def encode_labels(values: np.ndarray, name: str = "y", *, samples: int, classes: list[str] | None = None, read_as: str | None = None,
                  remedy: str = "give them as floats") -> Labels:
    """Labels from any one-dimensional array.

    Strings, booleans and few distinct integers become classes, sorted; floats become regression targets unless they are few
    whole numbers. Missing is None, NaN or '' (and −1 in integers, unless −1 and 1 are all there is). `classes` names the
    integers 0, 1, … where the file does. read_as: 'number' or 'class' where that was asked for. remedy: how a person has whole numbers
    read as numbers, for the note. Raises DataError where the length does not match, nothing is labelled, or the values cannot be read as
    asked.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != samples:
        raise DataError(f"The labels '{name}' have shape {values.shape} for {samples} items: give one an item, shape "
                        f"({samples},).")
    if read_as == "number":
        labels = _numbers(values, name)
    elif values.dtype.kind == "f":
        labels = _floats(values, name) if read_as is None else _printed(values, name)
    elif values.dtype.kind in "iu":
        labels = _integers(values.astype(np.int64), name, classes, remedy, sure=read_as == "class")
    else:
        labels = _words(values)
    missing = np.isnan(labels.values) if labels.classes is None else labels.values < 0
    if missing.all():
        raise DataError(f"The target '{name}' has no value in any of {samples} rows: name another one.")
    return labels


def encode_groups(values: np.ndarray, name: str = "group", *, samples: int) -> np.ndarray:
    """int64 [N] group ids from integers, strings or dates; a missing one is a group of its own. Raises DataError on length."""
    values = np.asarray(values)
    if values.ndim != 1 or len(values) != samples:
        raise DataError(f"The groups '{name}' have shape {values.shape} for {samples} items: give one an item, shape "
                        f"({samples},).")
    missing = _missing(values)
    if values.dtype.kind in "OUS":
        values = np.where(missing, "", _text(values))
    codes = np.unique(values, return_inverse=True)[1].astype(np.int64)
    codes[missing] = codes.max(initial=0) + 1 + np.arange(int(missing.sum()))
    return codes


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "O":
        return np.array([v is None or str(v) in ("", "<NA>") or v != v for v in values], dtype=bool)  # pandas' NA is neither equal nor not
    return values == values.dtype.type("") if values.dtype.kind in "US" else values != values  # NaN, NaT


def _text(values: np.ndarray) -> np.ndarray:
    """Values as strings; of bytes that are not UTF-8, escapes."""
    return np.char.decode(values, "utf-8", "backslashreplace") if values.dtype.kind == "S" else values.astype(str)


def _words(values: np.ndarray) -> Labels:
    missing = _missing(values)
    words = _text(values)
    classes, codes = np.unique(words[~missing], return_inverse=True)
    out = np.full(len(values), -1, dtype=np.int64)
    out[~missing] = codes
    return Labels(out, [str(c) for c in classes])


def _integers(values: np.ndarray, name: str, classes: list[str] | None, remedy: str, *, sure: bool) -> Labels:
    distinct = np.unique(values)
    known, note = distinct[distinct != -1], ""
    if distinct.tolist() == [-1, 1]:
        known, note = distinct, f"'{name}' holds −1 and 1 only: read as two classes, not as unlabelled."
    if sure:
        _check_repeats(known, values, name)
    elif len(known) > max(_TOLD, min(1000, len(values) // 5)):
        note = f"'{name}' holds {len(known)} different integers: read as numbers, not as classes."
        return Labels(values.astype(np.float32), None, note)
    if classes is not None and len(known) and known[0] >= 0 and known[-1] < len(classes):
        return Labels(values, [str(c) for c in classes], note)
    if not sure and len(known) > _TOLD:
        note = f"{len(known)} distinct whole numbers of '{name}' are read as classes; {remedy} to have them predicted as numbers."
    codes = np.searchsorted(known, values)
    codes[~np.isin(values, known)] = -1
    return Labels(codes.astype(np.int64), [str(k) for k in known], note)


def _floats(values: np.ndarray, name: str) -> Labels:
    finite = np.isfinite(values)
    known = np.unique(values[finite])
    if 0 < len(known) <= 20 and (known == np.round(known)).all():
        codes = np.searchsorted(known, np.where(finite, values, known[0]))
        codes[~finite] = -1
        note = f"'{name}' holds {len(known)} different whole numbers: read as classes."
        return Labels(codes.astype(np.int64), [str(int(k)) for k in known], note)
    return Labels(np.where(finite, values, np.nan).astype(np.float32), None)


def _numbers(values: np.ndarray, name: str) -> Labels:
    if values.dtype.kind not in "fiu":
        first = next(iter(_text(values[~_missing(values)])), "")
        raise DataError(f"The target '{name}' holds words ('{first}'), which cannot be read as numbers: name '{name}:class', or another "
                        "column.")
    numbers = values.astype(np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return Labels(numbers, None)


def _check_repeats(known: np.ndarray, values: np.ndarray, name: str) -> None:
    if len(known) > max(_TOLD, len(values) / 2):
        raise DataError(f"The target '{name}' holds {len(known)} different numbers in {len(values)} rows: a class needs several rows, so "
                        f"name '{name}:number', or another column.")


def _printed(values: np.ndarray, name: str) -> Labels:
    """Floats as classes, each called as it is printed."""
    finite = np.isfinite(values)
    known = np.unique(values[finite])
    _check_repeats(known, values, name)
    codes = np.where(finite, np.searchsorted(known, values), -1)
    short = [str(np.float32(k)) if np.float32(k) == k else str(k) for k in known]
    return Labels(codes.astype(np.int64), [name.removesuffix(".0") for name in short])
