"""From the bytes of a file of points (.ply, .off, .xyz, .npy, .npz) to a cloud on a canvas, or a BadItem that says why not."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import BadItem
from .arrayfiles import check_unpacked
from .arrays import lies_far
from .decoding import content_hash

AXES = ("x", "y", "z")
OFF = re.compile(rb"(ST)?C?N?4?OFF", re.IGNORECASE)  # its variants have textures, colours and normals behind the places
INPUTS = ("x", "X", "points", "xyz", "pos", "vertices")  # names under which arrays of points go
_FEATURES = ("nx", "ny", "nz", "red", "green", "blue", "intensity")  # what is read of the named columns of a .ply besides the places
_SCALARS = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
            "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8"}


@dataclass(frozen=True)
class Cloud:
    """names: of the columns, x, y, z first. values: float64 [n, columns]. faces: int64 [m, 3], rows of `values`, where it is a mesh.
    passed: names of columns that are there and not read."""

    names: tuple[str, ...]
    values: np.ndarray
    faces: np.ndarray | None = None
    passed: tuple[str, ...] = ()


def parse_cloud(blob: bytes) -> Cloud:
    """The points in a file, by its first bytes: PLY, OFF, .npy and .npz, else lines of numbers. Raises BadItem."""
    if not blob:
        raise BadItem("zero bytes")
    if not any(blob[:4096]) and not any(blob):
        raise BadItem("all bytes are zero")
    parse = (_ply if blob[:3] == b"ply" else _off if OFF.match(blob) else _array if blob[:6] == b"\x93NUMPY"
             else _named if blob[:2] == b"PK" else _lines)
    try:
        cloud = parse(blob)
    except BadItem:
        raise
    except Exception as error:  # damaged files lead decoders to anything
        raise BadItem(f"not readable as points: {' '.join(str(error).split())[:100] or type(error).__name__}") from None
    if reason := flaw(cloud.values):
        raise BadItem(reason)
    if cloud.faces is not None and not (0 <= cloud.faces.min() and cloud.faces.max() < len(cloud.values)):
        raise BadItem(f"a face names point {cloud.faces.max()} of {len(cloud.values)}")
    return cloud


def flaw(values: np.ndarray) -> str:
    """Why these values [n, columns] are no cloud to learn from; '' where they are."""
    if len(values) < 2:
        return f"holds {len(values)} point{'s' * (len(values) != 1)}: a cloud has at least 2"
    finite = np.isfinite(values).all(1)
    if not finite.all():
        return f"{int((~finite).sum())} of {len(values)} points are NaN or infinite, the first in row {int(np.argmin(finite))}"
    if (values[:, :3] == values[0, :3]).all():
        return f"all of its {len(values)} points lie in one place"
    return ""


def lies_across(values: np.ndarray) -> bool:
    """Whether an array [rows, columns] has a column a point, and not a row."""
    return len(values) < 10 and values.shape[1] > 16


def decode_cloud(blob: bytes, points: int, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """{"x": float32 [columns, points], zero past its end, "size": int64 [2] (points, 0), "hash": uint64}. Raises BadItem.

    A mesh gives `points` of its surface, evenly by area; a larger cloud some of its own: both drawn by the hash of its bytes."""
    cloud, mark = parse_cloud(blob), content_hash(blob)
    lost = [name for name in columns if name not in cloud.names]
    if lost:
        raise BadItem(f"has no column '{lost[0]}': it holds {', '.join(cloud.names)}")
    values = cloud.values[:, [cloud.names.index(name) for name in columns]]
    rng = np.random.default_rng(int(mark))
    if cloud.faces is not None:
        values = on_surface(values, cloud.faces, points, rng)
    elif len(values) > points:
        values = values[rng.permutation(len(values))[:points]]
    x = np.zeros((len(columns), points), np.float32)
    x[:, :len(values)] = near(values).T
    return {"x": x, "size": np.array([len(values), 0], np.int64), "hash": mark}


def near(values: np.ndarray) -> np.ndarray:
    """The same points [n, columns] about their centroid where they lie so far from the origin that float32 would round their form away:
    coordinates of maps. A cloud's views begin at its centroid anyway."""
    places = values[:, :3].astype(np.float64)
    reach, extent = np.abs(places).max(), np.ptp(places, axis=0).max()
    if not lies_far(reach - extent, reach):
        return values
    return np.concatenate([places - places.mean(0), values[:, 3:]], 1)


def on_surface(values: np.ndarray, faces: np.ndarray, points: int, rng: np.random.Generator) -> np.ndarray:
    """[points, columns]: places drawn evenly on triangles, other columns between those of their corners."""
    a, b, c = (values[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b[:, :3] - a[:, :3], c[:, :3] - a[:, :3]), axis=1)
    if not area.sum() > 0:
        raise BadItem("its faces have no area")
    face = rng.choice(len(faces), points, p=area / area.sum())
    root, part = np.sqrt(rng.random((points, 1))), rng.random((points, 1))
    return (1 - root) * a[face] + root * (1 - part) * b[face] + root * part * c[face]


# ---- formats ---------------------------------------------------------------------------------------------------------------


def _unnamed(values: np.ndarray) -> Cloud:
    """Columns without names: x, y, z, f3, f4 …"""
    if values.ndim != 2 or values.shape[1] < 3 or values.dtype.kind not in "fiu":
        raise BadItem(f"an array of {values.dtype} of shape {values.shape} is no cloud: points are numbers [P, 3 + features]")
    if lies_across(values):
        raise BadItem(f"an array of shape {values.shape} lies across: points are rows [P, 3 + features], so transpose it")
    names = (*AXES, *(f"f{i}" for i in range(3, values.shape[1])))
    return Cloud(names, values.astype(np.float64))


def _array(blob: bytes) -> Cloud:
    return _unnamed(np.load(io.BytesIO(blob), allow_pickle=False))


def _named(blob: bytes) -> Cloud:
    check_unpacked(blob)
    with np.load(io.BytesIO(blob), allow_pickle=False) as file:
        name = next((n for n in INPUTS if n in file.files), None)
        if name is None:
            raise BadItem(f"holds the arrays {', '.join(file.files) or 'none'}, but none called {', '.join(INPUTS)}")
        return _unnamed(file[name])


def _lines(blob: bytes) -> Cloud:
    """x y z and perhaps more, by spaces or commas; lines that begin with # or // are remarks."""
    try:
        text = blob.decode("utf-8")
    except UnicodeDecodeError:
        raise BadItem("wrong header: neither PLY, OFF, .npy nor .npz, and no lines of numbers") from None
    rows = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines()
            if line.strip() and not line.lstrip().startswith(("#", "//"))]
    if not rows or len({len(row) for row in rows}) != 1:
        odd = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), 0)
        raise BadItem(f"line {odd + 1} of points has {len(rows[odd])} columns where the first has {len(rows[0])}" if rows else "no points")
    return _unnamed(_numbers(rows, len(rows[0])))


def _numbers(rows: list[list], width: int) -> np.ndarray:
    """float64 [n, width] from the first words of rows."""
    short = next((i for i, row in enumerate(rows) if len(row) < width), None)
    if short is not None:
        raise BadItem(f"row {short} has {len(rows[short])} of {width} numbers")
    return np.array([row[:width] for row in rows], dtype=np.float64).reshape(len(rows), width)


def _off(blob: bytes) -> Cloud:
    if b"4" in (variant := OFF.match(blob).group()):
        raise BadItem(f"a file of {variant.decode().upper()}, of points with four coordinates: write it as OFF, with three")
    text = blob[len(variant):].decode("utf-8")  # ModelNet has 'OFF490 518 0' on one line
    words = [line.split("#")[0].split() for line in text.splitlines()]
    words = [row for row in words if row]
    if not words or len(words[0]) < 2 or not all(word.isdigit() for word in words[0][:2]):
        raise BadItem("wrong header: after OFF come the numbers of points and faces")
    points, faces = int(words[0][0]), int(words[0][1])
    if len(words) < 1 + points + faces:
        raise BadItem(f"truncated: {len(words) - 1} of {points + faces} lines of points and faces")
    sides = [[int(word) for word in row[1:1 + int(row[0])]] for row in words[1 + points:1 + points + faces]]
    return Cloud(AXES, _numbers(words[1:1 + points], 3), _triangles(sides))


def _triangles(sides: list[list[int]]) -> np.ndarray | None:
    """int64 [m, 3]: polygons as fans of triangles; None where there are none."""
    found = [(side[0], side[i], side[i + 1]) for side in sides for i in range(1, len(side) - 1)]
    return np.array(found, dtype=np.int64) if found else None


def _ply(blob: bytes) -> Cloud:
    end = blob.find(b"end_header")
    start = blob.find(b"\n", end) + 1
    if end < 0 or not start:
        raise BadItem("wrong header: a PLY file without end_header")
    form, elements = _header(blob[:end].decode("latin-1").splitlines()[1:])
    if form not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise BadItem(f"wrong header: PLY of format '{form}'")
    name, count, properties = elements[0] if elements else ("nothing", 0, [])
    if name != "vertex" or any(kind is None for _, kind in properties):
        raise BadItem(f"wrong header: the first element of this PLY is '{name}', not 'vertex' of plain numbers")
    own = [p for p, _ in properties]
    if missing := [axis for axis in AXES if axis not in own]:
        raise BadItem(f"its columns are {', '.join(own) or 'none'}, and none is called {missing[0]}")
    rows = blob[start:].split(b"\n") if form == "ascii" else None
    order = ">" if form == "binary_big_endian" else "<"
    kinds = np.dtype([(p, order + kind) for p, kind in properties])
    have = sum(1 for row in rows[:count] if row.strip()) if rows else (len(blob) - start) // kinds.itemsize
    if have < count:
        raise BadItem(f"truncated: {have} of {count} points")
    if rows:
        values = _numbers([row.split() for row in rows[:count]], len(own))
    else:
        table = np.frombuffer(blob, kinds, count, start)
        values = np.stack([table[p].astype(np.float64) for p in own], 1)
    values = values / np.where([p in ("red", "green", "blue") and kind == "u1" for p, kind in properties], 255.0, 1.0)
    read = (*AXES, *(p for p in _FEATURES if p in own))
    mesh = len(elements) > 1 and elements[1][0] == "face" and elements[1][1]
    polygons = (_ascii_faces if rows else _binary_faces)(rows or blob, elements, count if rows else start + count * kinds.itemsize, order
                                                         ) if mesh else []
    return Cloud(read, values[:, [own.index(p) for p in read]], _triangles(polygons), tuple(p for p in own if p not in read))


def _header(lines: list[str]) -> tuple[str, list[tuple[str, int, list[tuple[str, Any]]]]]:
    """(format, elements) of a PLY: name, count and properties; the type of a list is None, those of count and items in its name."""
    form, elements = "", []
    for line in lines:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format":
            form = words[1]
        elif words[0] == "element":
            elements.append((words[1], int(words[2]), []))
        elif words[0] == "property" and elements and words[1] in (*_SCALARS, "list"):
            as_list = words[1] == "list"
            elements[-1][2].append((f"{_SCALARS[words[2]]} {_SCALARS[words[3]]}", None) if as_list else (words[2], _SCALARS[words[1]]))
        else:
            raise BadItem(f"wrong header: '{line.strip()[:60]}' in a PLY")
    return form, elements


def _ascii_faces(rows: list[bytes], elements: list, first: int, order: str) -> list[list[int]]:
    words = [row.split() for row in rows[first:first + elements[1][1]]]
    if len(words) < elements[1][1] or not all(words):
        raise BadItem(f"truncated: {sum(map(bool, words))} of {elements[1][1]} faces")
    return [[int(word) for word in row[1:1 + int(row[0])]] for row in words]


def _binary_faces(blob: bytes, elements: list, place: int, order: str) -> list[list[int]]:
    _, count, properties = elements[1]
    if properties[0][1] is not None or any(kind is None for _, kind in properties[1:]):
        raise BadItem("wrong header: the faces of this PLY are not one list of points first")
    size, item = (np.dtype(order + kind) for kind in properties[0][0].split())
    rest, found = sum(np.dtype(kind).itemsize for _, kind in properties[1:]), []
    for _ in range(count):
        if place + size.itemsize > len(blob):
            raise BadItem(f"truncated: {len(found)} of {count} faces")
        sides = int(np.frombuffer(blob, size, 1, place)[0])
        place += size.itemsize
        if place + sides * item.itemsize > len(blob):
            raise BadItem(f"truncated: {len(found)} of {count} faces")
        found.append(np.frombuffer(blob, item, sides, place).tolist())
        place += sides * item.itemsize + rest
    return found
