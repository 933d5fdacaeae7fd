"""Texts in a column of a table: which columns are free text, whether a table is texts at all, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import DataError, OptionError, Source, nearest
from .asked import Asked
from .columns import LABEL_NAMES, SPLIT_NAMES, judge, read_column
from .tables import TableSource, check_names, group_codes, target_labels
from .text import TextRuns
from .text_layout import text_layout

TEXT_NAMES = ("text", "document", "content", "body", "sentence", "review", "article", "comment", "abstract", "description")
_LOOKED_AT = 1000  # rows
_LETTERS, _WORDS = 24, 5  # a free text has on average at least so many


def open_table(table: Any, asked: Asked, *, origin: str, class_names: Sequence[str] | None = None, **options: Any) -> Source:
    """A pyarrow Table as texts where they were asked for, or where it holds free text and nothing else to learn from; else a table.

    options: of TableSource."""
    check_names(table, origin)
    asked = asked.among(table.column_names)
    if asked.modality == "text" or (asked.modality is None and _is_texts(table, asked)):
        return text_table(table, asked, origin=origin, class_names=class_names, notes=options.get("notes", ()))
    return TableSource(table, asked, origin=origin, class_names=class_names, **options)


def text_table(table: Any, asked: Asked, *, origin: str, class_names: Sequence[str] | None = None, notes: Sequence[str] = (),
               bad: Mapping[int, str] | None = None) -> TextRuns:
    """A text a row of the column that `layout` names (several joined: 'text=title+body'), else the most likely one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    asked = asked.among(table.column_names)
    for word, what in ((asked.target, "target"), (asked.group, "group")):
        if word is not None and word not in table.column_names:
            raise nearest(word, table.column_names, what=f"column (asked for as {what}) in {origin} named")
    layout, notes = text_layout(asked.layout), list(notes)
    if layout.part:
        raise OptionError(f"{origin} is a table, which has a text a row and no layout={layout.part}: say layout=text=COLUMN.")
    columns = layout.columns or _likeliest(table, asked, origin, notes)
    for name in columns:
        if name not in table.column_names:
            raise nearest(name, table.column_names, what=f"column (asked for as text) in {origin} named")
        if name in (asked.target, asked.group):
            raise OptionError(f"The column '{name}' of {origin} cannot be the text and the target or group at once: name another.")
        if not _holds_strings(table[name].type):
            raise OptionError(f"The column '{name}' of {origin} holds {table[name].type}, not texts: name another in layout=text=COLUMN.")
    texts = [_strings(table[name]) for name in columns]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, pa.scalar("\n", pa.large_string()), null_handling="skip")
    labels = target_labels(table, asked, origin, class_names) if asked.target is not None else None
    groups = None
    if asked.group is not None:
        groups = group_codes(table, asked.group, origin)
    if asked.target is None and (alike := [n for n in table.column_names if n.strip().lower() in LABEL_NAMES and n not in columns]):
        notes.append(f"the column '{alike[0]}' looks like a label and is not used; name it with --target {alike[0]} to evaluate.")
    data, starts, ends, null = _runs(joined)
    return TextRuns(data, starts, ends, origin=origin, pack=layout.pack, least=asked.least, labels=labels, groups=groups,
                    notes=tuple(notes), bad={**{int(i): "no text in this row" for i in np.flatnonzero(null)}, **(bad or {})})


def free_texts(table: Any, asked: Asked) -> list[str]:
    """The columns that hold running text: of at least five words on average, and hardly a text twice."""
    return [n for n in table.column_names if n not in (asked.target, asked.group) and _is_free_text(table[n])]


def open_json_lines(path: Path, asked: Asked) -> Source:
    """A .jsonl file, a record a line: texts or a table, as its columns are. A line that is no record is a bad item of texts."""
    import pyarrow as pa

    records, bad = [], {}
    with open(path, "rb") as file:
        for line in file:
            line = line.removeprefix(b"\xef\xbb\xbf") if not records else line
            if not line.strip():
                continue
            record = _record(line)
            if isinstance(record, str):
                bad[len(records)] = record
            records.append({} if isinstance(record, str) else record)
    if len(bad) == len(records):
        first = f" (the first line: {bad[0]})" if bad else ""
        raise DataError(f"{path} holds no record{first}: a .jsonl file has a JSON object on every line.")
    names = list(dict.fromkeys(name for record in records for name in record))
    table = pa.table({name: _column([record.get(name) for record in records], f"{path}, field '{name}'") for name in names})
    asked = asked.among(names)
    if asked.modality == "text" or (asked.modality is None and _is_texts(table, asked)):
        return text_table(table, asked, origin=str(path), bad=bad)
    if bad:
        raise DataError(f"{path}, row {min(bad)}: {bad[min(bad)]}: a table needs every record; mend or remove that line.")
    return TableSource(table, asked, origin=str(path))


def _column(values: list, where: str) -> Any:
    """The Arrow array of a field."""
    import pyarrow as pa

    try:
        try:
            return pa.array(values)
        except OverflowError:  # whole numbers of more than 64 bits
            return pa.array([None if value is None else float(value) for value in values])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise DataError(f"{where} has values of several kinds or too large ones ({said}): give it one kind.") from None


def _record(line: bytes) -> dict | str:
    """The object on a line, or why it is none."""
    try:
        record = json.loads(line.decode())
        if rb"\ud" in line.lower():  # half of a letter that takes two such escapes cannot be written as UTF-8
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{line[error.start]:02x} at place {error.start}"
    except UnicodeEncodeError as error:
        return f"holds half a letter, \\u{ord(error.object[error.start]):04x}"
    except RecursionError:
        return "not JSON that can be read: nested too deeply"
    except ValueError as error:
        return f"not JSON ({error})"
    return record if isinstance(record, dict) else f"a JSON {type(record).__name__}, not an object"


def _is_texts(table: Any, asked: Asked) -> bool:
    """Whether there is free text, and no other column but ids, constants, marks of splits, and what looks like a label by its name."""
    texts = free_texts(table, asked)
    if not texts:
        return False
    return not any(_is_input(name, table) for name in table.column_names if name not in (asked.target, asked.group, *texts))


def _is_input(name: str, table: Any) -> bool:
    plain = name.strip().lower()
    return plain not in LABEL_NAMES | SPLIT_NAMES and not judge(read_column(name, table[name], as_input=True), table.num_rows)


def _likeliest(table: Any, asked: Asked, origin: str, notes: list[str]) -> tuple[str, ...]:
    """The free-text column with a usual name, else the longest; said aloud where there are several."""
    texts = free_texts(table, asked)
    if not texts:
        texts = [n for n in table.column_names if n not in (asked.target, asked.group) and _holds_strings(table[n].type)
                 and read_column(n, table[n], as_input=True).kind in ("text", "categorical")]  # no dates or truth values in words
        if len(texts) != 1:
            raise OptionError(f"{origin} has no column of running text that can be told from others: name it, layout=text=COLUMN.")
    named = sorted((n for n in texts if n.lower() in TEXT_NAMES), key=lambda n: TEXT_NAMES.index(n.lower()))
    chosen = (named or sorted(texts, key=lambda n: -_letters(table[n])))[0]
    if len(texts) > 1:
        notes.append(f"{origin}: the text is column '{chosen}'; layout=text={'+'.join(texts)} reads {', '.join(texts)} together.")
    return (chosen,)


def _is_free_text(column: Any) -> bool:
    import pyarrow.compute as pc

    if not _holds_strings(column.type):
        return False
    some = column.slice(0, _LOOKED_AT).drop_null()
    words = pc.mean(pc.count_substring(some, " ")).as_py() if len(some) else None
    return words is not None and words + 1 >= _WORDS and _letters(column) >= _LETTERS and len(pc.unique(some)) > len(some) / 2


def _letters(column: Any) -> float:
    import pyarrow.compute as pc

    return pc.mean(pc.binary_length(column.slice(0, _LOOKED_AT))).as_py() or 0.0


def _holds_strings(kind: Any) -> bool:
    import pyarrow.types as t

    return t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)


def _strings(column: Any) -> Any:
    import pyarrow as pa

    whole = column.cast(pa.large_string()).combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _runs(array: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(data uint8, starts, ends int64 [N], null bool [N]) of a LargeString array; nothing is copied or decoded."""
    null = array.is_null().to_numpy(zero_copy_only=False)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset:array.offset + len(array) + 1]
    return np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8), ends[:-1], ends[1:], null
