"""Time series in files: one .npy a series below a folder; what cannot be read is set aside."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..contracts import DataError
from .arrayfiles import load_npy
from .asked import Asked
from .listing import class_folders, hidden, passed_over, scan
from .series import SeriesArrays

_NPY = frozenset({".npy"})
_LOOKED_AT = 16  # files, until one can be read
_FEW = 5  # fewer files that cannot be read than this, or than a tenth, are set aside


def open_series_folder(path: Path, asked: Asked) -> SeriesArrays:
    """One series a .npy file; folders side by side are classes. All lie in memory, so a file that cannot be read leaves the source, with
    a note, where other sources would quarantine it. Raises DataError where there are none or too many such files."""
    listing, others, _ = scan(str(path), _NPY)
    if not len(listing):
        raise DataError(f"{path} holds no .npy files, so there are no series to read: save one array [C, T] a file.")
    labels, classes, note = class_folders(listing)
    series, kept, bad = [], [], []
    for index in range(len(listing)):
        found = _read(path / listing.path(index))
        if isinstance(found, str):
            bad.append(found)
        else:
            series.append(found)
            kept.append(index)
    if len(bad) >= max(_FEW, len(listing) / 10) or not kept:
        raise DataError(f"{len(bad)} of {len(listing)} series in {path} cannot be read: {bad[0].rstrip('.')}. Mend or remove them.")
    source = SeriesArrays(series, y=None if labels is None else np.array(classes)[labels[kept]], layout=asked.layout, origin=str(path),
                          names=[listing.path(index) for index in kept], least=asked.least)
    notes = [*passed_over(others), *([note] if note else [])]
    if bad:
        notes.append(f"{len(bad)} of {len(listing)} files cannot be read and are set aside: {bad[0]}")
    source.facts = source.facts.with_(notes=(*source.facts.notes, *notes))
    return source


def first_array(path: Path) -> np.ndarray | None:
    """What is in the file, or in the next one beside it that can be read; None where there is none."""
    beside = sorted(name for name in os.listdir(path.parent) if name >= path.name and name.lower().endswith(".npy") and not hidden(name))
    arrays = (_read(path.parent / name) for name in beside[:_LOOKED_AT])
    return next((array for array in arrays if isinstance(array, np.ndarray)), None)


def _read(path: Path) -> np.ndarray | str:
    """The array, or why there is none. A pipe is not waited for."""
    if not path.is_file():
        return f"{path} is no file."
    try:
        array = load_npy(path)
    except DataError as error:
        return str(error)
    return array if array.size else f"{path} holds an empty array of shape {array.shape}."
