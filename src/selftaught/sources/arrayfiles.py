"""Named arrays (.npz files and dicts) and single ones (.npy): which is the input, which the labels, and what the axes mean."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, OptionError, Source, nearest
from .arrays import IMAGE_LAYOUTS, ImageArrays
from .asked import Asked
from .decoding import BYTE_LIMIT
from .series import SERIES_LAYOUTS, SeriesArrays
from .text_layout import is_text_layout

VIDEO_LAYOUTS = ("NTHW", "NTHWC", "NTCHW", "NCTHW")
VOLUME_LAYOUTS = ("NDHW", "NCDHW", "NDHWC")
_MAP_FROM = 256 << 20  # larger .npy files are mapped, not read
_DAMAGED = (ValueError, OSError, EOFError, MemoryError, NotImplementedError, KeyError, zipfile.BadZipFile, zlib.error)
"""What numpy and zipfile raise of files that are damaged or none."""


def open_array(x: Any, asked: Asked, *, y=None, group=None, ptr=None, origin: str = "array",
               classes: Sequence[str] | None = None, names: Sequence[str] | None = None) -> Source:
    """A source for one array or a list of arrays.

    The modality is the one that was asked for or that the layout belongs to; else two dimensions are a table, four are images,
    three are images where they are small integers or square and series otherwise. y, group: [N] or None. names: of a table's
    columns, which asked.target and asked.group may name.
    """
    kind = asked.modality or modality_of_layout(asked.layout)
    given = {"y": y, "group": group, "origin": origin, "classes": classes, "least": asked.least}
    if isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1 and all(isinstance(v, (np.ndarray, list)) for v in x):
        x = [np.asarray(v) for v in x]
    x, y, group = (native(v) if isinstance(v, np.ndarray) else v for v in (x, y, group))
    if ptr is not None:
        return SeriesArrays(x, ptr=ptr, layout=asked.layout, **given)
    if isinstance(x, (list, tuple)):
        x = _stacked([native(np.asarray(v)) for v in x], kind, origin)
        if isinstance(x, list):
            return SeriesArrays(x, layout=asked.layout, **given)
    if x.ndim < 2:
        raise DataError(f"{origin} of shape {x.shape} has too few dimensions: a table is [N, F], series are [N, C, T], images "
                        "[N, H, W, C].")
    note = ""
    if kind is None and x.ndim == 5:
        return _five(x, asked, y=y, group=group, origin=origin)
    if kind is None:
        kind, note = _guess(x)
    if kind == "table":
        return _table(x, asked, y=y, group=group, origin=origin, classes=classes, names=names)
    asked.no_columns(origin, "give a dict of arrays x, y and group")
    source = (SeriesArrays if kind == "series" else ImageArrays)(x, layout=asked.layout, **given)
    if note:
        source.facts = source.facts.with_(notes=(f"{origin}: {note}", *source.facts.notes))
    return source


def modality_of_layout(layout: str | None) -> str | None:
    """The modality that a layout belongs to; an unknown layout is an OptionError."""
    if layout is None or is_text_layout(layout):
        return layout and "text"
    layouts = {"image": IMAGE_LAYOUTS, "series": SERIES_LAYOUTS, "video": VIDEO_LAYOUTS, "volume": VOLUME_LAYOUTS}
    for modality, known in layouts.items():
        if layout in known:
            return modality
    raise nearest(layout, sum(layouts.values(), ()), what="layout")


def _guess(x: np.ndarray) -> tuple[str, str]:
    """(modality, note)."""
    if x.ndim == 2:
        return "table", ""
    if x.ndim != 3:
        return "image", ""
    small = x.dtype.kind == "b" or (x.dtype.kind == "u" and x.dtype.itemsize <= 2)
    if small or x.shape[1] == x.shape[2]:
        why = f"three dimensions of {x.dtype}" if small else "three dimensions, the last two equal,"
        return "image", f"{why} are read as images [N, H, W]; if they are series, pass layout=NCT or layout=NTC."
    return "series", "three dimensions are read as series [N, C, T]; if they are images, pass layout=NHW."


def _five(x: np.ndarray, asked: Asked, *, y, group, origin: str) -> Source:
    """Clips of three channels in uint8; what else has five dimensions is asked about."""
    if x.dtype != np.uint8 or 3 not in (x.shape[2], x.shape[4]):
        raise DataError(f"{origin} of {x.dtype} of shape {x.shape} has 5 dimensions, which may be those of clips or of volumes: pass "
                        "modality=video or modality=volume.")
    given = {name: values for name, values in (("y", y), ("group", group)) if values is not None}
    return open_grids({"x": x, **given}, replace(asked, modality="video"), origin=origin)


def open_grids(data: Any, asked: Asked, *, origin: str = "array") -> Source:
    """A source for clips or volumes in memory, as asked.modality says."""
    if asked.modality == "video":
        from .video import open_videos

        return open_videos(data, asked, origin=origin)
    from .volumes import open_volumes

    return open_volumes(data, asked, origin=origin)


def native(x: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order; of more than 64 bits, in 64."""
    wide = x.dtype.kind == "f" and x.dtype.itemsize > 8
    return x.astype(np.float64 if wide else x.dtype.newbyteorder("="), copy=False)


def _stacked(items: list[np.ndarray], kind: str | None, origin: str) -> np.ndarray | list[np.ndarray]:
    """One array where all shapes agree, else the list where its items can be series of several lengths."""
    if not items:
        raise DataError(f"{origin} is empty: give it at least two items.")
    if len({v.shape for v in items}) == 1 and (kind != "series" or items[0].ndim < 2):
        return np.stack(items)
    first = items[0]
    if kind == "image" or (kind != "series" and (first.dtype == np.uint8 or first.ndim > 2)) or first.dtype.kind not in "biuf":
        odd = next((i for i, v in enumerate(items) if v.shape != first.shape), 0)
        raise DataError(f"{origin} mixes sizes: item 0 has shape {first.shape}, item {odd} {items[odd].shape}. Bring images "
                        "to one "
                        "size, or save them as files and give the folder; series of several lengths are [C, T] floats each.")
    return items


def _table(x: np.ndarray, asked: Asked, *, y, group, origin: str, classes, names) -> Source:
    """A table of the columns of [N, F], with labels and groups as columns of their own."""
    import pyarrow as pa

    from .tables import TableSource

    if x.dtype.kind not in "biufUM":
        raise DataError(f"{origin} has dtype {x.dtype}, which is not read as a table: give numbers, or a DataFrame with named "
                        "columns.")
    if x.ndim != 2:
        raise DataError(f"{origin} of shape {x.shape} is no table: a table is [N, F].")
    names = names or [f"x{i}" for i in range(x.shape[1])]
    columns = {str(name): pa.array(np.ascontiguousarray(x[:, i])) for i, name in enumerate(names)}
    asked = asked.among([*columns, "y"])
    for word, values in (("target", y), ("group", group)):
        name = {"target": "y", "group": "group"}[word]
        if values is None or getattr(asked, word) in columns:
            continue
        values = np.asarray(values)
        if values.shape != (len(x),):
            raise DataError(f"The array '{name}' in {origin} has shape {values.shape} for {len(x)} rows: give one value a row.")
        while name in columns:
            name += "_"
        columns[name] = pa.array(values.tolist() if values.dtype == object else values)
        asked = replace(asked, **{word: name})
    return TableSource(pa.table(columns), asked, origin=origin, class_names=classes)


def open_named(arrays: Mapping[str, Any], asked: Asked, *, part: str | None = None, origin: str = "dict") -> Source:
    """A source for arrays by name: `x`, and where they are there `y`, `group`, `ptr`, `classes`.

    Under a part P (from FILE::P) the names are X_P or x_P, y_P and group_P. asked.target and asked.group name other arrays than
    y and group, or columns x0, x1 … of x.
    """
    x = arrays[_input_name(sorted(map(str, arrays)), part, origin)]
    suffix = f"_{part}" if part else ""
    columns = {f"x{i}" for i in range(x.shape[1])} if isinstance(x, np.ndarray) and x.ndim == 2 else set()

    def beside(word: str | None, usual: str) -> Any:
        for name in ((usual + suffix,) if word is None else (word, word + suffix)):
            if name in arrays:
                return arrays[name]
        if word is None or word in columns:
            return None
        raise nearest(word, list(arrays), what=f"array in {origin} named")

    asked = asked.among([*arrays, *columns])
    y, group = beside(asked.target, "y"), beside(asked.group, "group")
    inner = replace(asked, target=asked.target if y is None else None, group=asked.group if group is None else None)
    source = open_array(x, inner, y=y, group=group, ptr=arrays["ptr"] if "ptr" in arrays and not part else None, origin=origin,
                        classes=[str(c) for c in np.asarray(arrays["classes"]).reshape(-1)] if "classes" in arrays else None)
    if asked.read_as and source.modality != "table":
        raise OptionError(f"{asked.target}:{asked.read_as} is for the columns of tables, and {origin} holds {source.modality} data: give "
                          "numbers to predict as floats, classes as words or whole numbers.")
    return source


def _input_name(names: list[str], part: str | None, origin: str) -> str:
    wanted = [f"X_{part}", f"x_{part}"] if part else ["x", "X"]
    for name in wanted:
        if name in names:
            return name
    parts = [n[2:] for n in names if n[:2] in ("X_", "x_")]
    hint = "name the input x, the labels y and the groups group"
    if parts:
        hint = f"choose a part: {' or '.join(f'{origin}::{p}' for p in parts)}"
    raise OptionError(f"{origin} holds the arrays {', '.join(names) or 'none'}, but none called {wanted[0]}: {hint}.")


class NpzArrays(Mapping):
    """The arrays of an .npz file, read when asked for; a pickled one is a DataError, never unpickled."""

    def __init__(self, path: Path):
        try:
            self._file = np.load(path, allow_pickle=False)
        except _DAMAGED as error:
            raise DataError(f"{path} cannot be read as .npz ({_reason(error, path)}): write it again with numpy.savez.") from None
        if not isinstance(self._file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is no .npz archive but a single array: name it .npy.")
        self._path = path

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._file.files:
            raise KeyError(name)
        try:
            array = self._file[name]
        except _DAMAGED as error:
            raise _unreadable(f"The array '{name}' in {self._path}", str(error)[:100]) from None
        if not isinstance(array, np.ndarray):
            raise _unreadable(f"The array '{name}' in {self._path}", "it does not begin like an array of numpy's")
        return array

    def __iter__(self):
        return iter(self._file.files)

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the array
        return name in self._file.files

    def __len__(self) -> int:
        return len(self._file.files)


def check_unpacked(blob: bytes) -> None:
    """BadItem for an .npz file in memory that unpacks to more bytes than a file may have."""
    with zipfile.ZipFile(io.BytesIO(blob)) as members:
        if (size := sum(info.file_size for info in members.infolist())) > BYTE_LIMIT:
            raise BadItem(f"unpacks to {size / 2**30:.1f} GiB: more than {BYTE_LIMIT >> 30} GiB")


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file; mapped where it is large. Raises DataError where it is pickled or broken."""
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size > _MAP_FROM else None, allow_pickle=False)
    except _DAMAGED as error:
        raise _unreadable(str(path), _reason(error, path)) from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays: name it .npz.")
    return array


def _reason(error: Exception, path: Path) -> str:
    """What numpy says of a file; only that it calls every file pickled that does not begin like one of its own."""
    said = str(error)[:100]
    if "pickle" in said.lower():
        with open(path, "rb") as file:
            if not file.read(6).startswith((b"\x93NUMPY", b"PK")):
                return "it does not begin like a file of numpy's"
    return said


def _unreadable(what: str, reason: str) -> DataError:
    if "pickle" in reason.lower():
        return DataError(f"{what} is pickled (objects, or arrays of several sizes), and nothing is unpickled: save plain "
                         "arrays, series of several lengths as rows x [sum of T, C] with ptr [N + 1].")
    return DataError(f"{what} cannot be read ({reason}): write it again.")
