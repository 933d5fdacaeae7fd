"""Encoded files as bytes in a column of Parquet files: compressed bytes in memory where they fit, else in a temporary file."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, OptionError, nearest
from .canvases import CanvasSource
from .fingerprints import fingerprint_of
from .image_source import ImageSource
from .labels import encode_groups, encode_labels

_IN_MEMORY = 512 << 20  # bytes of encoded files that are kept in memory
_LABEL_LIKE = ("label", "labels", "class", "target", "y", "category", "label_name", "fine_label", "coarse_label")


class BytesParquet(CanvasSource):
    """Files of one kind from a .parquet file or a folder of them: the binary column, or Hugging Face's struct {bytes, path}, found
    by itself, by `named` where there are several.

    target, group: names of columns with labels (integers, strings or numbers) and group ids. column: the column of bytes, where
    there are several. Raises DataError where there is none.
    """

    named: tuple[str, ...] = ()

    def __init__(self, path: str | Path, *, target: str | None = None, group: str | None = None, column: str | None = None,
                 least: int = 2, **options: Any):
        super().__init__(os.fspath(path), **options)
        self._paths = parquet_files(path)
        files = [_open(p) for p in self._paths]
        schema = files[0].schema_arrow
        self.column = bytes_column(schema, self.origin, column, what=self.what, named=self.named)
        try:
            self._load(files)
        except OSError as error:
            raise DataError(f"'{path}' cannot be read ({' '.join(str(error).split())[:120]}): fetch it again, or set TMPDIR to a larger "
                            "disk if there was no space left.") from None
        self._state = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self._paths]
        notes = []
        for name in (target, group):
            if name is not None and name not in schema.names:
                raise nearest(name, [n for n in schema.names if n != self.column], what=f"column in {self.origin} called")
        if target is not None:
            labels = encode_labels(_values(files, target), target, samples=len(self._ends), classes=_class_names(schema, target))
            self.labels, self.classes = labels.values, labels.classes
            notes += [labels.note] if labels.note else []
        elif alike := [n for n in schema.names if n.lower() in _LABEL_LIKE]:
            notes.append(f"The column '{alike[0]}' looks like a label and is not used; name it with --target {alike[0]} to evaluate.")
        if group is not None:
            self.groups = encode_groups(_values(files, group), group, samples=len(self._ends))
        self.settle(len(self._ends), notes=notes, least=least)

    def _load(self, files: list[Any]) -> None:
        """Lays all encoded files one behind the other; self._ends: int64 [N]; self._null: bool [N]."""
        sizes = (f.metadata.row_group(g).column(c).total_uncompressed_size for f in files for g in range(f.metadata.num_row_groups)
                 for c in range(f.metadata.num_columns) if f.metadata.row_group(g).column(c).path_in_schema.split(".")[0] == self.column)
        spool: Any = tempfile.TemporaryFile(prefix="selftaught-") if sum(sizes) > _IN_MEMORY else None
        pieces, lengths, nulls = [], [], []
        for file in files:
            for group in range(file.metadata.num_row_groups):
                for chunk in file.read_row_group(group, columns=[self.column], use_threads=False).column(0).chunks:
                    data, length, null = _bytes_of(chunk)
                    lengths.append(length)
                    nulls.append(null)
                    if spool is None:
                        pieces.append(data)
                    else:
                        spool.write(data)
        self._ends = np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)
        self._null = np.concatenate(nulls) if nulls else np.zeros(0, bool)
        self._data, self._file = b"".join(pieces), spool
        if spool is not None:
            spool.flush()

    def blob(self, index: int) -> bytes:
        index = int(index)
        if self._null[index]:
            raise BadItem(f"no {self.what} in this row")
        start, end = int(self._ends[index - 1]) if index else 0, int(self._ends[index])
        if self._file is None:
            return self._data[start:end]
        return os.pread(self._file.fileno(), end - start, start)

    def name(self, index: int) -> str:
        return f"{self.origin}, row {index}"

    def fingerprint(self) -> str:
        return fingerprint_of(self._state, self._ends, self.column)


class ImageParquet(BytesParquet, ImageSource):
    """Images from Parquet. pixel_limit: larger ones are bad items."""

    named = ("image", "img", "images", "picture", "photo")


def parquet_files(path: str | Path) -> list[Path]:
    """The file, or the sorted .parquet files of a folder. Raises DataError where there is none."""
    path = Path(path)
    found = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
    if not found:
        raise DataError(f"There is no Parquet file at '{path}': check the path.")
    return found


def bytes_column(schema: Any, origin: str, wanted: str | None = None, *, what: str = "image", named: tuple[str, ...] = ()) -> str:
    """The column of encoded files: binary, or a struct with a binary field 'bytes'. Raises DataError or OptionError."""
    import pyarrow as pa

    def binary(kind: Any) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    def holds(kind: Any) -> bool:
        return binary(kind) or pa.types.is_struct(kind) and any(f.name == "bytes" and binary(f.type) for f in kind)

    found = [field.name for field in schema if holds(field.type)]
    if wanted is not None:
        if wanted not in found:
            raise nearest(wanted, found, what=f"column of {what}s in {origin} called")
        return wanted
    if not found:
        raise DataError(f"{origin} has no column of {what}s (bytes); its columns are {', '.join(schema.names[:12])}.")
    known = [name for name in found if name.lower() in named]
    if len(found) > 1 and len(known) != 1:
        raise OptionError(f"{origin} has several columns of bytes ({', '.join(found)}): say which holds the {what}s with column=NAME.")
    return (known or found)[0]


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"'{path}' cannot be read as Parquet ({' '.join(str(error).split())[:120]}).") from None


def _bytes_of(column: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """(bytes one behind the other, int64 lengths [n], bool null [n]) of a binary or struct array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    null = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
        null = null | column.is_null().to_numpy(zero_copy_only=False)
    column = pc.fill_null(column.cast(pa.large_binary()), b"")
    _, ends, data = column.buffers()
    ends = np.frombuffer(ends, dtype=np.int64)[column.offset:column.offset + len(column) + 1]
    whole = memoryview(data) if data is not None else memoryview(b"")
    return whole[int(ends[0]):int(ends[-1])], np.diff(ends), null


def _values(files: list[Any], name: str) -> np.ndarray:
    """One column of all files as an array [N]."""
    return np.concatenate([f.read(columns=[name], use_threads=False).column(0).to_numpy() for f in files])


def _class_names(schema: Any, column: str) -> list[str] | None:
    """Names of integer labels, where Hugging Face's `datasets` left them in the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[column]["names"])
    except (KeyError, TypeError, ValueError):
        return None
