"""CSV files → Arrow tables: separator, header and encoding by the first lines; ragged rows and odd encodings are sentences."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ..contracts import DataError
from .columns import MISSING_WORDS

_HEAD = 1 << 18  # bytes that the guesses are made from
_SEPARATORS = (",", ";", "\t", "|")


def read_csv(path: Path):
    """(pyarrow.Table, notes) of a CSV or TSV file, also gzip-compressed. Raises DataError with the line of a ragged row."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    head, encoding = _head(path)
    lines = head.splitlines()
    separator = _separator(lines)
    first = next(csv.reader(lines, delimiter=separator))
    bare = all(_is_number(cell) for cell in first)
    names = [f"x{i}" for i in range(len(first))] if bare else [cell.strip() for cell in first]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called '{twice}': rename one, so that it can be told which is meant.")
    odd: list = []
    parse = {"delimiter": separator, "newlines_in_values": '"' in head,
             "invalid_row_handler": lambda row: odd.append(row) or "error"}

    def read(**how):
        options = arrow_csv.ReadOptions(column_names=names, skip_rows=0 if bare else 1, encoding=encoding, block_size=1 << 24,
                                        use_threads=how.pop("threads", True))
        convert = arrow_csv.ConvertOptions(null_values=list(MISSING_WORDS), strings_can_be_null=True, **how)
        return arrow_csv.read_csv(path, options, arrow_csv.ParseOptions(**parse), convert)

    try:
        try:
            table = read()
        except pa.ArrowInvalid:
            if odd:
                raise
            # A column changed its type far down in the file: read words, and let their values decide.
            table = read(column_types={name: pa.string() for name in names})
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _explained(path, error, odd, read, len(names)) from None
    if any(pa.types.is_binary(kind) for kind in table.schema.types):  # what Arrow makes of words that are not UTF-8
        raise _wrong_encoding(path, None)
    return table, [f"{path.name}: no header line; the columns are called x0 to x{len(names) - 1}."] if bare else []


def _head(path: Path) -> tuple[str, str]:
    """The first lines as text and the encoding: by its byte order mark, else UTF-8."""
    import pyarrow as pa

    with pa.input_stream(str(path)) as stream:
        raw = stream.read(_HEAD)
    if not raw.strip():
        raise DataError(f"{path} is empty: there is nothing to read.")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    if encoding == "utf-8" and b"\0" in raw:
        raise DataError(f"{path} holds zero bytes: it is no text table; name it after what it is (.parquet, .npy, .zip).")
    whole = raw if len(raw) < _HEAD else raw[: raw.rfind(b"\n") + 1] or raw
    try:
        return whole.decode("utf-8-sig" if encoding == "utf-8" else encoding), encoding
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, raw[: error.start].count(b"\n") + 1) from None


def _separator(lines: list[str]) -> str:
    """The separator under which most of the first lines have the same number of cells, more than one."""

    def score(separator: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines[:50], delimiter=separator) if row]
        usual = max(set(widths), key=widths.count)
        return (widths.count(usual), usual) if usual > 1 else (0, 0)

    return max(_SEPARATORS, key=score)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _explained(path: Path, error: Exception, odd: list, read, columns: int) -> DataError:
    """The sentence for a file that Arrow cannot read; reads a ragged one again in one thread to find the line."""
    import pyarrow as pa

    if odd:
        odd.clear()
        try:
            read(threads=False)
        except pa.ArrowInvalid:
            pass  # the handler has noted the row
        row = odd[0]
        line = f"line {row.number}" if row.number is not None else "a line"
        return DataError(f"{path}: {line} has {row.actual_columns} values where the header has {columns} ({row.text[:60]!r}): "
                         "mend it, or quote the values that hold the separator.")
    text = str(error)
    if "UTF" in text or "utf" in text or "codec" in text:
        return _wrong_encoding(path, None)
    detail = re.sub(r"\s+", " ", text)[:160]
    return DataError(f"{path} cannot be read as a table ({detail}): check its separator and quotes, or save it as Parquet.")


def _wrong_encoding(path: Path, line: int | None) -> DataError:
    where = f" (line {line})" if line else ""
    return DataError(f"{path}{where} is not UTF-8: convert it, for example with iconv -f latin1 -t utf-8.")
