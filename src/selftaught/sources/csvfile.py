"""CSV files → Arrow tables: separator, header and encoding by the first lines; ragged rows and odd encodings are sentences."""

from __future__ import annotations

import codecs
import csv
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..contracts import DataError
from .columns import MISSING_WORDS, PADDED, read_column

_HEAD = 1 << 18  # bytes that the guesses are made from
_SOME = 1000  # rows
_SEPARATORS = (",", ";", "\t", "|")
_COMMA = r"^(\s*[+-]?\d+),(\d+([eE][+-]?\d+)?\s*)$"  # 3,7: a number as much of Europe writes it, where cells end at semicolons
csv.field_size_limit(max(csv.field_size_limit(), _HEAD))  # Python reads no longer cells than 128 KiB unless told to


def read_csv(path: Path):
    """(pyarrow.Table, notes) of a CSV or TSV file, also gzip-compressed. Raises DataError with the line of a ragged row."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    head, encoding = _head(path)
    lines = list(io.StringIO(head, newline=""))
    blank = next(i for i, line in enumerate(lines) if line.strip())
    lines = lines[blank:]
    separator = _separator(lines)
    first = next(csv.reader(lines, delimiter=separator))
    bare = all(_is_number(re.sub(_COMMA, r"\1.\2", cell) if separator == ";" else cell) for cell in first)
    names = [f"x{i}" for i in range(len(first))] if bare else [cell.strip() for cell in first]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called '{twice}': rename one, so that it can be told which is meant.")
    odd: list = []
    parse = {"delimiter": separator, "newlines_in_values": '"' in head,
             "invalid_row_handler": lambda row: odd.append(row) or "error"}

    def read(threads: bool = True):
        options = arrow_csv.ReadOptions(column_names=names, skip_rows=blank, skip_rows_after_names=0 if bare else 1, encoding=encoding,
                                        block_size=1 << 24, use_threads=threads)
        convert = arrow_csv.ConvertOptions(null_values=list(MISSING_WORDS), strings_can_be_null=True,
                                           column_types={name: pa.string() for name in names})
        return arrow_csv.read_csv(path, options, arrow_csv.ParseOptions(**parse), convert)

    try:
        words = read()
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError, EOFError) as error:
        raise _explained(path, error, odd, read, len(names)) from None
    notes = [f"{path.name}: no header line; the columns are called x0 to x{len(names) - 1}."] if bare else []
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        columns = list(pool.map(_numbers, words.columns))
        if separator == ";":
            pointed = list(pool.map(_with_points, names, columns))
            columns = [column if points is None else points for column, points in zip(columns, pointed)]
            if commas := [name for name, points in zip(names, pointed) if points is not None]:
                notes.append(f"{path.name}: commas are read as decimal points in {len(commas)} columns: {', '.join(commas[:8])}"
                             f"{' …' if len(commas) > 8 else ''}.")
    return pa.table(dict(zip(names, columns))), notes


def _with_points(name: str, column):
    """The column with points in place of decimal commas where it holds words that this makes numbers, else None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring_regex(column, _COMMA)).as_py():
        return None
    points = pc.replace_substring_regex(column, _COMMA, r"\1.\2")
    return _numbers(points) if read_column(name, points, as_input=True).kind == "numeric" else None


def _numbers(words):
    """The column as integers or real numbers where every word is one; else the words, of which `read_column` says what they are, as
    it does for those of any other table. Numbers with zeros before them (02134) are codes and stay words."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        words.slice(0, _SOME).cast(pa.float64())  # most columns of words are told here
        numbers = words.cast(pa.float64())
    except pa.ArrowInvalid:
        return words
    zero = [word for word in ("0", "-0", "+0") if pc.any(pc.starts_with(words, word)).as_py()]
    if zero and pc.any(pc.match_substring_regex(words, PADDED)).as_py():
        return words
    try:
        return words.cast(pa.int64()) if pc.all(pc.equal(numbers, pc.floor(numbers))).as_py() is not False else numbers
    except pa.ArrowInvalid:  # 1e3, 5.0
        return numbers


def _head(path: Path) -> tuple[str, str]:
    """The first lines as text and the encoding: by its byte order mark, else UTF-8."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(path)) as stream:
            raw = stream.read(_HEAD)
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    if encoding == "utf-8" and b"\0" in raw:
        raise DataError(f"{path} holds zero bytes: it is no text table; name it after what it is (.parquet, .npy, .zip).")
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()  # raw may end within a letter
    try:
        text = decoder.decode(raw, final=len(raw) < _HEAD)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, raw[: error.start].count(b"\n") + 1) from None
    if not text.strip():
        raise DataError(f"{path} is empty: there is nothing to read.")
    return text if len(raw) < _HEAD else text[: text.rfind("\n") + 1] or text, encoding


def _separator(lines: list[str]) -> str:
    """The separator under which most of the first lines have the same number of cells, more than one; not the comma where semicolons cut
    no fewer lines alike and leave it within numbers only."""

    def score(separator: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines[:50], delimiter=separator) if row]
        usual = max(set(widths), key=widths.count)
        return (widths.count(usual), usual) if usual > 1 else (0, 0)

    best = max(_SEPARATORS, key=score)
    if best == "," and 0 < score(";")[0] >= score(",")[0]:
        cells = [cell for row in csv.reader(lines[:50], delimiter=";") for cell in row]
        best = ";" if all(re.search(_COMMA, cell) for cell in cells if "," in cell) else ","
    return best


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
    return _unreadable(path, error)


def _unreadable(path: Path, error: Exception) -> DataError:
    detail = re.sub(r"\s+", " ", str(error))[:160]
    return DataError(f"{path} cannot be read as a table ({detail}): check that it is whole, its separator and its quotes, or save it as "
                     "Parquet.")


def _wrong_encoding(path: Path, line: int | None) -> DataError:
    where = f" (line {line})" if line else ""
    return DataError(f"{path}{where} is not UTF-8: convert it, for example with iconv -f latin1 -t utf-8.")
