"""Point clouds: files in folders, lists and archives, and clouds that lie in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, Facts, OptionError, Source, nearest
from .archives import Archive, split_archive
from .arrayfiles import NpzArrays, load_npy
from .asked import Asked
from .canvases import CanvasSource, check_count
from .files import Files
from .fingerprints import fingerprint_of
from .items import to_numpy
from .labels import encode_groups, encode_labels
from .laid_out import LaidOut, check_items
from .points_files import AXES, INPUTS, Cloud, decode_cloud, flaw, lies_across, near, parse_cloud

POINT_SUFFIXES = frozenset({".ply", ".off", ".xyz", ".npy", ".npz"})
SURFACE = 1024  # points that are drawn of a mesh unless someone asks for others
_SAMPLE = 64  # files looked at
_NAMED = 8  # columns that a note names

__all__ = ["POINT_SUFFIXES", "PointsArchive", "PointsArrays", "PointsFiles", "PointsSource", "open_points"]


class PointsSource(CanvasSource):
    """Base: a subclass gives `blob(index)`, the bytes of a file, and calls `settle` when it knows how many there are.

    Items: {"x": float32 [C, P], "size": int64 [2] (valid points, 0), "hash": uint64 of the stored bytes}. facts.shape is (C, most points)
    and facts.lengths (fewest, most) of the files looked at; a mesh has as many points as are asked of it. columns: names of the C
    rows, x, y, z first, then what all files looked at have in common. counts: int64 [n], points of these files.
    """

    modality = "points"
    what, suffixes = "point cloud", POINT_SUFFIXES

    def __init__(self, origin: str):
        super().__init__(origin)
        self.columns, self._points, self.counts = AXES, SURFACE, np.zeros(0, np.int64)

    def settle(self, count: int, *, notes: Iterable[str] = (), least: int = 2) -> None:
        """Looks at evenly spaced files and fills `facts`. Raises DataError where there are fewer than `least` or none can be read."""
        check_count(count, self.origin, least, self.what)
        clouds, reasons = self._look(count)
        if not clouds:
            raise DataError(f"None of {len(reasons)} point clouds looked at in {self.origin} can be read ({self.name(reasons[0][0])}: "
                            f"{reasons[0][1]}): check that these files are points.")
        self.columns = tuple(name for name in clouds[0].names if all(name in cloud.names for cloud in clouds))
        self.counts = np.array([SURFACE if cloud.faces is not None else len(cloud.values) for cloud in clouds])
        fewest, most = int(self.counts.min()), int(self.counts.max())
        self._points = most
        self.facts = Facts("points", count, (len(self.columns), most), lengths=(fewest, most) if fewest < most else None,
                           classes=len(self.classes) if self.classes else None, notes=(*notes, *_said(clouds, self.columns)))

    @property
    def canvas(self) -> tuple[tuple[int, ...], str]:
        return (len(self.columns), self._points), "float32"

    def set_canvas(self, canvas: tuple[int, Sequence[str]]) -> None:
        """(points, names of columns): how many points of every item are kept, and what of each."""
        points, columns = int(canvas[0]), tuple(canvas[1])
        if (points, columns) != (self._points, self.columns):
            self._points, self.columns, self._decoded = points, columns, None

    def decode(self, blob: bytes) -> dict[str, np.ndarray]:
        return decode_cloud(blob, self._points, self.columns)

    def _look(self, count: int) -> tuple[list[Cloud], list[tuple[int, str]]]:
        clouds, reasons = [], []
        for index in np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)).tolist():
            try:
                clouds.append(parse_cloud(self.blob(index)))
            except BadItem as bad:
                reasons.append((index, bad.reason))
        return clouds, reasons


def _said(clouds: list[Cloud], columns: tuple[str, ...]) -> list[str]:
    """Notes on what is converted and what is not read."""
    meshes = sum(cloud.faces is not None for cloud in clouds)
    notes = [f"{meshes} of {len(clouds)} files looked at are meshes: points are drawn on their faces, evenly by area."] if meshes else []
    passed = sorted({name for cloud in clouds for name in (*cloud.passed, *cloud.names) if name not in columns})
    if passed:
        more = f" and {len(passed) - _NAMED} more" if len(passed) > _NAMED else ""
        notes.append(f"The columns {', '.join(passed[:_NAMED])}{more} are not read: they are unknown, or some files lack them.")
    return notes


class PointsFiles(Files, PointsSource):
    """The files of points below a folder, or those of a list of paths; folders side by side are classes."""


class PointsArchive(Archive, PointsSource):
    """The files of points in an archive."""


class PointsArrays(LaidOut):
    """Clouds that lie in memory: [N, P, 3 + features], a list of [P_i, 3 + features], or rows [sum of P, …] with their `ptr`.

    Items and facts as those of `PointsSource`; columns are called x, y, z, f3, f4 … Raises DataError for what is no set of clouds.
    """

    modality = "points"

    def __init__(self, x: np.ndarray | Sequence[np.ndarray], *, y: Any = None, group: Any = None, ptr: np.ndarray | None = None,
                 origin: str = "array", classes: list[str] | None = None, least: int = 2):
        self.origin = origin
        check_items(x, origin, "point clouds", least if ptr is None else 1)
        if ptr is not None:
            x = _cut(np.asarray(x), np.asarray(ptr), origin)
            check_items(x, origin, "point clouds", least)
        self._clouds = [_checked(cloud, f"{origin}, cloud {i}") for i, cloud in enumerate(x)]
        widths = [cloud.shape[1] for cloud in self._clouds]
        if len(set(widths)) > 1:
            odd = next(i for i, width in enumerate(widths) if width != widths[0])
            raise DataError(f"{origin}, cloud {odd} has {widths[odd]} columns where the first has {widths[0]}: give all the same.")
        self.columns = (*AXES, *(f"f{i}" for i in range(3, widths[0])))
        self.counts = np.array([len(cloud) for cloud in self._clouds])
        fewest, most = int(self.counts.min()), int(self.counts.max())
        labels = None if y is None else encode_labels(np.asarray(y), samples=len(widths), classes=classes)
        self.labels, self.classes = (labels.values, labels.classes) if labels else (None, None)
        self.groups = None if group is None else encode_groups(group, samples=len(widths))
        self.facts = Facts("points", len(widths), (widths[0], most), lengths=(fewest, most) if fewest < most else None,
                           classes=len(self.classes) if self.classes else None)
        self._lay(most)

    def set_canvas(self, canvas: tuple[int, Sequence[str]]) -> None:
        """(points, names of columns): how many points of every cloud are kept; the columns must be its own."""
        points, columns = int(canvas[0]), tuple(canvas[1])
        if columns != self.columns:
            raise DataError(f"{self.origin} has the columns {', '.join(self.columns)}, but {', '.join(columns)} were asked for: give the "
                            "same as in training, in their order.")
        if points != self._x.shape[2]:
            self._lay(points)

    def _lay(self, points: int) -> None:
        self._x = np.zeros((len(self._clouds), len(self.columns), points), np.float32)
        self._size = np.zeros((len(self._clouds), 2), np.int64)
        for row, cloud in enumerate(self._clouds):
            if len(cloud) > points:
                cloud = cloud[np.random.default_rng(len(cloud)).permutation(len(cloud))[:points]]
            self._x[row, :, :len(cloud)] = cloud.T
            self._size[row, 0] = len(cloud)

    def name(self, index: int) -> str:
        return f"{self.origin}, cloud {index}"

    def fingerprint(self) -> str:
        return fingerprint_of("points", *self._clouds[:: max(1, len(self._clouds) // 256)], len(self._clouds))


def _checked(cloud: Any, where: str) -> np.ndarray:
    """float32 [P, C] of one cloud in memory."""
    cloud = np.asarray(cloud)
    if cloud.ndim != 2 or cloud.dtype.kind not in "fiu" or cloud.shape[1] < 3:
        raise DataError(f"{where}: an array of {cloud.dtype} of shape {cloud.shape} is no cloud: give numbers [P, 3 + features].")
    if lies_across(cloud):
        raise DataError(f"{where}: an array of shape {cloud.shape} lies across: points are rows [P, 3 + features], so transpose it.")
    if reason := flaw(cloud):
        raise DataError(f"{where}: {reason}; mend it or leave it out.")
    return np.ascontiguousarray(near(cloud), np.float32)


def _cut(rows: np.ndarray, ptr: np.ndarray, origin: str) -> list[np.ndarray]:
    if ptr.ndim != 1 or ptr.dtype.kind not in "iu" or len(ptr) < 2 or ptr[0] != 0 or ptr[-1] != len(rows) or (np.diff(ptr) < 1).any():
        raise DataError(f"{origin}: ptr must rise from 0 to {len(rows)}, the number of rows of points, in N + 1 whole numbers.")
    return np.split(rows, ptr[1:-1])


# ---- opening -----------------------------------------------------------------------------------------------------------------


def open_points(data: Any, asked: Asked, *, origin: str | None = None) -> Source:
    """A source of point clouds for whatever holds them: a path (folder, archive, file), a list of paths, an array or a list of arrays,
    a mapping with points (x, points, xyz, pos or vertices) and perhaps y, group, ptr and classes. asked.target and asked.group name
    other arrays of a mapping or an .npz file. Raises DataError and OptionError."""
    if isinstance(data, (str, os.PathLike)):
        return _open_path(Path(data), asked)
    if isinstance(data, Mapping):
        return _open_named(data, asked, origin or "dict")
    asked.no_columns(origin or "An array of points", "give a dict of arrays x, y and group")
    if isinstance(data, (list, tuple)) and data and all(isinstance(v, (str, os.PathLike)) for v in data):
        return PointsFiles(data, least=asked.least)
    if not (isinstance(data, (list, tuple)) or hasattr(data, "shape")):
        raise OptionError(f"A {type(data).__name__} cannot be opened as point clouds: give a path, an array [N, P, 3], a list of arrays "
                          "[P, 3] or a dict of them.")
    clouds = [to_numpy(v) for v in data] if isinstance(data, (list, tuple)) else to_numpy(data)
    if isinstance(clouds, np.ndarray) and clouds.dtype != object and clouds.ndim != 3:
        raise DataError(f"{origin or 'array'} of shape {clouds.shape} is no set of clouds: those are [N, P, 3 + features].")
    return PointsArrays(clouds, origin=origin or "array", least=asked.least)


def _open_path(path: Path, asked: Asked) -> Source:
    if not path.exists() and "::" in path.name and split_archive(path) is None:
        file, _, part = str(path).partition("::")
        if not file.lower().endswith(".npz"):
            raise OptionError(f"{file} has no parts to choose from: leave '::{part}' out.")
        return _open_named(NpzArrays(Path(file)), asked, str(path), f"_{part}")
    suffix = path.suffix.lower()
    if suffix == ".npz" and path.is_file():
        arrays = NpzArrays(path)
        name = next((n for n in INPUTS if n in arrays), None)
        if name is None or arrays[name].ndim != 2 or "ptr" in arrays:  # else one cloud
            return _open_named(arrays, asked, str(path))
    if suffix == ".npy" and path.is_file() and (array := load_npy(path)).ndim == 3:
        return open_points(array, asked, origin=str(path))
    asked.no_columns(path, "the labels of files are their class folders")
    if split_archive(path) is not None and suffix not in POINT_SUFFIXES:
        return PointsArchive(path, least=asked.least)
    return PointsFiles([path] if path.is_file() else path, least=asked.least)


def _open_named(arrays: Mapping[str, Any], asked: Asked, origin: str, ending: str = "") -> Source:
    """ending: of the names of a part's arrays, _train."""
    inputs = [name + ending for name in INPUTS]
    name = next((n for n in inputs if n in arrays), None)
    if name is None:
        raise OptionError(f"{origin} holds the arrays {', '.join(map(str, arrays)) or 'none'}, but none called {', '.join(inputs)}: name "
                          f"the points {inputs[0]}.")
    given: dict[str, Any] = {}
    for usual, word in (("y", asked.target), ("group", asked.group)):
        if word is not None and word not in arrays:
            raise nearest(word, list(arrays), what=f"array in {origin} named")
        if (named := word or usual + ending) in arrays:
            given[usual] = to_numpy(arrays[named])
    given |= {"ptr": to_numpy(arrays["ptr" + ending])} if "ptr" + ending in arrays else {}
    given |= {"classes": [str(c) for c in np.asarray(arrays["classes"]).reshape(-1)]} if "classes" in arrays else {}
    x = arrays[name]
    x = [to_numpy(v) for v in x] if isinstance(x, (list, tuple)) else to_numpy(x)
    return PointsArrays(x, origin=origin, least=asked.least, **given)
