"""Tables that lie in memory: numbers, truth values, dates and categories as two arrays, target and groups apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..contracts import Column, DataError, Facts, OptionError, Source, nearest
from .arrays import check_samples, lies_far
from .asked import Asked
from .columns import SPLIT_NAMES, Read, judge, level_words, looks_like_label, read_column
from .fingerprints import fingerprint_of
from .labels import Labels, encode_groups, encode_labels

_NUMBERS = ("numeric", "boolean", "date")
_NOTHING = Asked()
_ENOUGH = 10  # values of which not one was seen in training: the column is written otherwise, not merely new


class TableSource(Source):
    """Rows of a pyarrow Table.

    asked.target: the column that becomes `labels` and leaves the input; NAME:number and NAME:class settle how it is read.
    asked.group: the one that becomes `groups` and leaves it. asked.least: fewer rows are a DataError (1 when they are only to be
    encoded). class_names: of targets that count from 0.
    The contents decide what each column is and which are left out, until `align` has this table read as another one was.
    """

    modality = "table"
    resident = True

    def __init__(self, table, asked: Asked = _NOTHING, *, origin: str = "table", notes: Sequence[str] = (),
                 class_names: Sequence[str] | None = None):
        asked = asked.among(table.column_names)
        target, group = asked.target, asked.group
        self.origin, self._table, self._asked = origin, table, asked
        check_samples(table.num_rows, origin, "rows", asked.least)
        if table.num_columns == 0:
            raise DataError(f"{origin} has no columns: give it at least one besides the target.")
        for word, what in ((target, "target"), (group, "group")):
            if word is not None and word not in table.column_names:
                raise nearest(word, table.column_names, what=f"column (asked for as {what}) in {origin} named")
        notes = list(notes)
        if target is not None:
            labels = target_labels(table, asked, origin, class_names)
            self.labels, self.classes = labels.values, labels.classes
            notes += [labels.note] if labels.note else []
        if group is not None:
            self.groups = group_codes(table, group, origin)
        self._opening_notes = tuple(notes)
        self._fill(self._decide(notes), notes)

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {"numeric": self._numeric[index], "codes": self._codes[index].astype(np.int64)}

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """numeric: float32 [b, Fn], float64 where float32 would round content away, NaN = missing; codes: int64 [b, Fc], −1 = missing."""
        return {"numeric": self._numeric[indices], "codes": self._codes[indices].astype(np.int64)}

    def name(self, index: int) -> str:
        return f"{self.origin}, row {index}"

    def fingerprint(self) -> str:
        return fingerprint_of("table", self._numeric, self._codes, _identities(self.facts.columns))

    def align(self, columns: tuple[Column, ...]) -> TableSource:
        """Reads, in place, exactly the columns of a training table, categories coded in its order; gives itself.

        Unseen categories become −1 and values of another kind missing, with a note. Columns that the training table had not are dropped; a
        DataError names one that is not there, or that is of another kind."""
        own = self.facts.columns
        if _identities(columns) != _identities(own) or [column.form for column in columns] != [column.form for column in own]:
            notes = list(self._opening_notes)
            self._fill(self._follow(columns, notes), notes)
        return self

    def _decide(self, notes: list[str]) -> list[Read]:
        """Reads every column, judges it by its contents and says aloud what is left out."""
        kept, left = [], []
        for name in self._table.column_names:
            if name in (self._asked.target, self._asked.group):
                continue
            column = read_column(name, self._table[name], as_input=True)
            notes += [f"{self.origin}: {note}." for note in column.notes]
            reason = judge(column, self._table.num_rows)
            if not reason and name.strip().lower() in SPLIT_NAMES and column.codes is not None and len(column.levels) <= 10:
                reason = f"looks like a mark of splits; read one of them with {self.origin}::{name}={column.levels[0]}"
            if reason:
                left.append(f"column '{name}' is left out: it {reason}.")
            else:
                kept.append(_slim(column))
        notes += left
        if not kept:
            self._refuse(left)
        if self._asked.target is None:
            notes += [f"column '{c.name}' looks like a label: pass --target {c.name} to keep it out of the input."
                      for c in kept if looks_like_label(c, c is kept[-1] and len(kept) > 1)]
        missing = [(c.name, c.missing) for c in kept if c.missing.any()]
        if missing:
            listed = "; ".join(f"'{n}' {int(m.sum())}, first in row {int(np.argmax(m))}" for n, m in missing[:8])
            notes.append(f"values are missing in {len(missing)} of {len(kept)} columns (rows counted from 0): {listed}"
                         f"{' …' if len(missing) > 8 else ''}.")
        return kept

    def _refuse(self, left: list[str]) -> None:
        if not left:
            raise DataError(f"{self.origin} has no columns besides its target and group: there is nothing to learn from.")
        if self._asked.least >= 2:
            texts = all("text" in reason for reason in left)
            advice = ("a table needs numbers, dates or texts that repeat; free text is no input for it (layout=text=COLUMN reads one as "
                      "texts)" if texts
                      else "give it columns that differ between rows")
            others = " (and so for the others)" if len(left) > 1 else ""
            raise DataError(f"{self.origin} has no usable column: {left[0].rstrip('.')}{others}; {advice}.")

    def _follow(self, columns: tuple[Column, ...], notes: list[str]) -> list[Read]:
        """Reads the training table's columns as it had them."""
        reads, there = [], [n for n in self._table.column_names if n not in (self._asked.target, self._asked.group)]
        for column in columns:
            if column.name in (self._asked.target, self._asked.group):
                raise DataError(f"The encoder was trained with column '{column.name}' as an input, so it cannot be the target "
                                "or group "
                                "here: train again with it named as such.")
            if column.name not in there:
                raise nearest(column.name, there, what=f"column in {self.origin} (the encoder was trained with it) "
                                                       "named", error=DataError)
            read = read_column(column.name, self._table[column.name], like=column)
            if flaw := _differs(read, column.kind):
                raise DataError(f"Column '{column.name}' of {self.origin} {flaw}, but was {column.kind} in training: give it the "
                                "same form.")
            if read.missing.all():
                notes.append(f"{self.origin}: column '{column.name}' holds no value.")
            read.kind, read.form = column.kind, column.form
            notes += [f"{self.origin}: {note}." for note in read.notes]
            if read.codes is not None:
                _recode(read, column, notes, self.origin)
            reads.append(read)
        return reads

    def _fill(self, reads: list[Read], notes: list[str]) -> None:
        rows = self._table.num_rows
        numbers = [r for r in reads if r.kind in _NUMBERS]
        categories = [r for r in reads if r.kind == "categorical"]
        fine = any(_is_far(r.numbers) for r in numbers)
        self._numeric = np.empty((rows, len(numbers)), dtype=np.float64 if fine else np.float32)
        for place, read in enumerate(numbers):
            self._numeric[:, place] = read.numbers
        self._codes = np.empty((rows, len(categories)), dtype=np.int32)
        for place, read in enumerate(categories):
            self._codes[:, place] = read.codes
        columns = tuple(r.column() for r in numbers + categories)
        self.facts = Facts("table", rows, (len(columns),), classes=len(self.classes) if self.classes else None, columns=columns,
                           notes=tuple(notes))


def _identities(columns: Sequence[Column]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(column.name, column.kind, tuple(column.categories)) for column in columns]


def _slim(read: Read) -> Read:
    """Halves the memory once the exact values are no longer needed for anything but the input."""
    if read.codes is not None:
        read.codes = read.codes.astype(np.int32)
    elif not read.whole and not _is_far(read.numbers):
        read.numbers = read.numbers.astype(np.float32)
    return read


def _is_far(numbers: np.ndarray) -> bool:
    return bool(lies_far(np.fmin.reduce(numbers), np.fmax.reduce(numbers)))


def target_labels(table, asked: Asked, origin: str, class_names: Sequence[str] | None = None) -> Labels:
    """The labels that the target's column of a pyarrow Table holds; DataError where they are texts that hardly repeat."""
    target = asked.target
    read, rows = _answers(table, target, "target", origin), table.num_rows
    if read.codes is not None and len(read.levels) > max(20, rows / 2):
        raise DataError(f"The target '{target}' of {origin} holds {len(read.levels)} different texts in {rows} rows: a label needs "
                        "several rows a class, so name another column.")
    return encode_labels(column_values(read), target, samples=rows, classes=class_names, read_as=asked.read_as,
                         remedy=f"name the target '{target}:number'")


def group_codes(table, group: str, origin: str) -> np.ndarray:
    """int64 [N]: the groups that a column of a pyarrow Table names."""
    return encode_groups(column_values(_answers(table, group, "group", origin)), group, samples=table.num_rows)


def _answers(table, name: str, what: str, origin: str) -> Read:
    read = read_column(name, table[name])
    if read.reason:
        raise DataError(f"The {what} '{name}' of {origin} {read.reason}: name a column of words or numbers.")
    return read


def column_values(read: Read) -> np.ndarray:
    """What a column says as labels or groups: words (None = missing), int64, or float64 (NaN = missing)."""
    if read.codes is not None:
        return level_words(read)
    if read.kind == "boolean":
        return np.array(["false", "true", None], dtype=object)[np.where(read.missing, 2, read.numbers).astype(np.int64)]
    return read.numbers.astype(np.int64) if read.whole and not read.missing.any() else read.numbers


def _differs(read: Read, kind: str) -> str:
    """Why a column is not of this kind, or ''. A column without values is of every kind; truth values may be written as 0 and 1."""
    if read.reason:
        return read.reason
    if read.missing.all():
        return "holds no finite value" if read.odd else ""
    truth = kind == "boolean" and read.kind == "numeric" and bool(np.isin(read.numbers[~read.missing], (0, 1)).all())
    return "" if truth or read.kind == kind else f"is {read.kind}"


def _recode(read: Read, column: Column, notes: list[str], origin: str) -> None:
    """Codes in the order of the training column's categories; unseen ones become −1, a DataError where all of many are."""
    place = {name: i for i, name in enumerate(column.categories)}
    table = np.array([place.get(level, -1) for level in read.levels] + [-1], dtype=np.int64)
    unseen = [level for level in read.levels if level not in place]
    if unseen:
        rows, given = int((table[read.codes] < 0).sum() - read.missing.sum()), int((~read.missing).sum())
        if rows == given >= _ENOUGH:
            raise DataError(f"Column '{read.name}' of {origin} holds none of the values that training saw ('{unseen[0]}' here, "
                            f"'{column.categories[0]}' there): write it as it was written in training.")
        notes.append(f"column '{read.name}' has {len(unseen)} categories that training had not ('{unseen[0]}'"
                     f"{' …' if len(unseen) > 1 else ''}, {rows} rows): treated as missing.")
    read.codes, read.levels = table[read.codes], list(column.categories)


def from_pandas(frame):
    """A pyarrow Table of a pandas DataFrame; columns that mix types become words."""
    import pyarrow as pa

    columns = {}
    for place, name in enumerate(map(str, frame.columns)):
        if name in columns:  # also where one is called 1 and another '1'
            raise DataError(f"Two columns of the DataFrame are called '{name}': rename one.")
        column = frame.iloc[:, place]
        try:
            columns[name] = pa.Array.from_pandas(column)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            words = [None if missing else str(v) for v, missing in zip(column, column.isna())]
            columns[name] = pa.array(words, pa.large_string())
    return pa.table(columns)


def check_names(table, origin: str) -> None:
    """DataError where two columns have one name."""
    if twice := [name for name, times in Counter(table.column_names).items() if times > 1]:
        raise DataError(f"Two columns of {origin} are called '{twice[0]}': rename one, so that it can be told which is meant.")


def rows_where(table, condition: str, origin: str):
    """The rows whose COLUMN equals VALUE, for a condition 'COLUMN=VALUE'; the column leaves the table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, equals, value = condition.partition("=")
    if not equals:
        raise OptionError(f"{origin}::{condition} is no choice of rows: write {origin}::COLUMN=VALUE.")
    if column not in table.column_names:
        raise nearest(column, table.column_names, what=f"column in {origin} named")
    check_names(table, origin)
    try:
        words = table[column].cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise OptionError(f"The column '{column}' of {origin} holds {table[column].type} values, by which no rows can be chosen: name one "
                          "of words or numbers.") from None
    chosen = table.filter(pc.equal(words, value)).drop_columns([column])
    if not chosen.num_rows:
        known = [str(w) for w in pc.unique(words).to_pylist()[:24]]
        raise nearest(value, known, what=f"row in {origin} with {column} =")
    return chosen
