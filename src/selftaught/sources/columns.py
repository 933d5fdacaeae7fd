"""What the columns of a table are: numbers, truth values, dates or categories, and which say nothing and are left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from ..contracts import Column

MISSING_WORDS = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "?", "NULL", "null", "None", "none", "-", "#N/A", "<NA>")
MOST_LEVELS = 1000  # a column of words with more is left out
LABEL_NAMES = {
    "label", "labels", "target", "targets", "class", "classes", "y", "outcome", "income", "species", "diagnosis", "survived",
    "quality", "category", "churn", "default", "response", "result", "rating", "is_fraud", "fraud", "label_name", "class_name",
}
SPLIT_NAMES = {"split", "fold", "subset", "partition", "set"}
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Inf|INF|infinity|Infinity)$"
_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d\d?:\d\d.*)?$"
_FORMS = ("%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y")
_TIME = r"^\d\d:\d\d(:\d\d(\.\d{1,6})?)?$"
PADDED = r"^[+-]?0\d"  # 02134: a code, not a number
_CAMEL = r"[a-z](Id|ID)$"  # customerId, PassengerId, never "paid"
_ID = re.compile(r"(?i:(^|[\s_.\-])(id|uuid|guid|index|idx|rowid|row|rownum|pk|key)$|^unnamed: 0$)|" + _CAMEL)
_OWNER = re.compile(r"(?i:[\s_.\-](id|uuid|guid)$)|" + _CAMEL)
_PER_DAY = {"s": 86400.0, "ms": 86400e3, "us": 86400e6, "ns": 86400e9}


@dataclass
class Read:
    """A column as read: numbers float64 [N] (NaN = missing), or levels and codes int64 [N] (−1 = missing).

    kind: numeric, boolean, date or categorical. whole: integers in the file. reason: why it is left out, or ''. odd: values that became
    missing because they are not of this kind or not finite. form: as in `Column`.
    """

    name: str
    kind: str
    numbers: np.ndarray | None = None
    codes: np.ndarray | None = None
    levels: list[str] = field(default_factory=list)
    whole: bool = False
    reason: str = ""
    odd: int = 0
    form: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> np.ndarray:
        return np.isnan(self.numbers) if self.codes is None else self.codes < 0

    def column(self) -> Column:
        return Column(self.name, self.kind, tuple(self.levels), int(self.missing.sum()), self.form)


def read_column(name: str, values, *, like: Column | None = None, as_input: bool = False) -> Read:
    """A pyarrow ChunkedArray → Read. Its contents decide; where they leave it open, the kind and form of the training column `like` do.

    as_input: texts that are far too many to be categories are not sorted; such a column comes with its reason and no levels.
    """
    import pyarrow as pa
    import pyarrow.types as t

    if t.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([c.storage for c in values.chunks], type=values.type.storage_type)
    kind_of = values.type
    if _categorical(like) or t.is_string(kind_of) or t.is_large_string(kind_of) or t.is_string_view(kind_of):
        try:
            return _words(name, values.cast(pa.large_string()), like, as_input)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            pass  # lists and bytes, which are no words: told below
    if t.is_null(kind_of):
        return Read(name, "numeric", np.full(len(values), np.nan))
    if t.is_boolean(kind_of):
        return Read(name, "boolean", _floats(values))
    if t.is_date(kind_of) or t.is_timestamp(kind_of):
        return Read(name, "date", _days(values))
    if t.is_time(kind_of) or t.is_duration(kind_of):
        ticks = values.cast(pa.int32()) if t.is_time32(kind_of) else values.cast(pa.int64())
        return Read(name, "numeric", _floats(ticks) / _PER_DAY[kind_of.unit])
    if t.is_integer(kind_of) or t.is_floating(kind_of) or t.is_decimal(kind_of):
        return _finite(Read(name, "numeric", _floats(values), whole=t.is_integer(kind_of)))
    return Read(name, "other", np.full(len(values), np.nan), reason=f"holds {kind_of} values, which a table model cannot read")


def judge(column: Read, rows: int) -> str:
    """Why a column says nothing and is left out, or ''."""
    if column.reason:
        return column.reason
    if column.missing.all():
        return "holds no value"
    if column.codes is None:
        return _judge_numbers(column, rows)
    used = len(column.levels)
    if used == 1 and not column.missing.any():
        return "holds one value only"
    too_many = _too_many(used, rows, int(column.missing.sum()))
    if too_many:
        return too_many
    if _OWNER.search(column.name):
        return "looks like an id of something with several rows; pass it as --group to keep its rows together"
    return ""


def looks_like_label(column: Read, last: bool) -> bool:
    """By its name and few values, or as a last column of few classes."""
    few = column.codes is not None and len(column.levels) <= 30 or column.kind == "boolean"
    if column.name.strip().lower() in LABEL_NAMES:
        return few or _few_integers(column, 50)
    return last and (few or _few_integers(column, 10))


def level_words(column: Read) -> np.ndarray:
    """object [N]: the words of a categorical column, None where missing."""
    return np.array([*column.levels, None], dtype=object)[column.codes]


def _too_many(levels: int, rows: int, missing: int) -> str:
    if levels > 2 and levels == rows - missing:
        return "is another text in every row (an id or free text)"
    return f"holds {levels} different texts in {rows} rows" if levels > MOST_LEVELS or levels > max(20, rows / 2) else ""


def _judge_numbers(column: Read, rows: int) -> str:
    numbers = column.numbers
    low, high = np.fmin.reduce(numbers), np.fmax.reduce(numbers)
    if low == high:
        return "holds one value only"
    if not column.whole:
        return ""
    named = bool(_ID.search(column.name))
    rising = rows >= 10 and not column.missing.any() and bool((np.diff(numbers) > 0).all() or (np.diff(numbers) < 0).all())
    if rising or (named and len(np.unique(numbers[~column.missing])) == int((~column.missing).sum())):
        return "counts the rows or names them (an id)"
    if _OWNER.search(column.name):
        return "looks like an id of something with several rows; pass it as --group to keep its rows together"
    return ""


def _few_integers(column: Read, most: int) -> bool:
    if not column.whole or column.numbers is None:
        return False
    low, high = np.fmin.reduce(column.numbers), np.fmax.reduce(column.numbers)
    return low < high and high - low < 10 * most and len(np.unique(column.numbers[~column.missing])) <= most


def _floats(values) -> np.ndarray:
    """float64 [N], NaN for null."""
    import pyarrow as pa

    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def _days(values) -> np.ndarray:
    """Days since 1970 as float64, NaN for null."""
    import pyarrow as pa

    stamps = values.cast(pa.timestamp("us"), safe=False) if not pa.types.is_timestamp(values.type) else values
    return _floats(stamps.cast(pa.int64())) / _PER_DAY[stamps.type.unit]


def _finite(column: Read) -> Read:
    """Infinite values become missing, with a note that names the first row."""
    infinite = np.abs(column.numbers) > np.finfo(np.float32).max  # also what float32 cannot hold
    if infinite.any():
        column.notes.append(f"column '{column.name}' has {int(infinite.sum())} infinite values, the first in row "
                            f"{int(np.argmax(infinite))} (counted from 0); they are treated as missing")
        column.numbers = np.where(infinite, np.nan, column.numbers)
        column.odd += int(infinite.sum())
    return column


def _words(name: str, values, like: Column | None, as_input: bool) -> Read:
    """A column of words: its distinct values decide what it is, so the work is in levels, not in rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = values.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    if as_input and like is None and len(encoded.dictionary) > 2 * MOST_LEVELS and _is_text(encoded.dictionary[:1000]):
        reason = _too_many(len(encoded.dictionary), len(values), encoded.null_count)
        return Read(name, "text", codes=np.zeros(len(values), dtype=np.int32), reason=reason)
    words = pc.utf8_trim_whitespace(encoded.dictionary)
    words = pc.if_else(pc.is_in(words, value_set=pa.array(MISSING_WORDS, words.type)), pa.scalar(None, words.type), words)
    place = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False).astype(np.int64)
    read = None
    if not _categorical(like):
        read = _as_truth(name, words, place) or _as_times(name, words, place) or _as_numbers(name, words, place, least=0.95) \
            or _as_dates(name, words, place, like.form if like else "") or (like and _as_before(name, words, place, like))
    if read is None:
        read = _as_levels(name, words, place)
        if like and like.kind == "date" and pc.all(pc.match_substring_regex(words, _DATE)).as_py():
            read.reason = f"holds dates whose order of day, month and year cannot be told ('{read.levels[0]}')"
    return read


def _categorical(like: Column | None) -> bool:
    return like is not None and like.kind == "categorical"


def _is_text(words) -> bool:
    """Few of these words look like numbers, dates or times."""
    import pyarrow.compute as pc

    looks = pc.match_substring_regex(pc.utf8_trim_whitespace(words), f"{_NUMBER}|{_DATE}|{_TIME}")
    return (pc.sum(looks).as_py() or 0) < len(words) / 2


def _as_levels(name: str, words, place: np.ndarray) -> Read:
    import pyarrow.compute as pc

    ranked = words.dictionary_encode()  # words that were equal but for spaces become one
    levels = ranked.dictionary
    order = pc.array_sort_indices(levels)
    rank = np.full(len(levels) + 1, -1, dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(levels))
    at = ranked.indices.fill_null(len(levels)).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = np.append(rank[at], -1)[place]
    return Read(name, "categorical", codes=codes, levels=levels.take(order).to_pylist())


def _as_numbers(name: str, words, place: np.ndarray, *, least: float) -> Read | None:
    """Words that are numbers, at least such a part of them; the odd others become missing, with a note."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fits = pc.fill_null(pc.match_substring_regex(words, _NUMBER), False)
    in_rows = np.bincount(place, minlength=len(words) + 1)[:-1]
    good, given = (int(in_rows[which.to_numpy(zero_copy_only=False)].sum()) for which in (fits, words.is_valid()))
    padded = pc.any(pc.fill_null(pc.match_substring_regex(words, PADDED), False)).as_py()
    if least and (good == 0 or good < least * given or padded):
        return None
    numbers = _floats(pc.if_else(fits, words, pa.scalar(None, words.type)).cast(pa.float64()))
    read = _mostly("numeric", name, words, numbers, place)
    read.whole = not np.isinf(numbers).any() and bool((numbers[~np.isnan(numbers)] % 1 == 0).all())
    return _finite(read)


def _mostly(kind: str, name: str, words, numbers: np.ndarray, place: np.ndarray, form: str = "") -> Read:
    """Words of which `numbers` float64 [words] is NaN for missing and odd ones; the odd ones become missing, with a note."""
    odd = words.is_valid().to_numpy(zero_copy_only=False) & np.isnan(numbers)
    read = Read(name, kind, np.append(numbers, np.nan)[place], form=form)
    if odd.any():
        in_rows = np.append(odd, False)[place]
        read.odd, first = int(in_rows.sum()), int(np.argmax(in_rows))
        called = {"numeric": "numbers", "boolean": "truth values", "date": "dates"}[kind]
        read.notes.append(f"column '{name}' holds {called} and {read.odd} other values, the first '{words[int(place[first])].as_py()}' in "
                          f"row {first} (counted from 0); these are treated as missing")
    return read


def _as_before(name: str, words, place: np.ndarray, like: Column) -> Read | None:
    """Words of several kinds, of which some or none at all are of the training column's kind; None where all are odd."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if like.kind == "numeric":
        read = _as_numbers(name, words, place, least=0)
    elif like.kind == "boolean":
        small, none = pc.utf8_lower(words), pa.scalar(None, pa.bool_())
        truth = pc.if_else(pc.is_in(small, pa.array(["true", "1"], small.type)), True,
                           pc.if_else(pc.is_in(small, pa.array(["false", "0"], small.type)), False, none))
        read = _mostly("boolean", name, words, _floats(truth), place)
    else:
        form = like.form or "%Y-%m-%d"
        read = _mostly("date", name, words, _days(pc.strptime(words, format=form, unit="s", error_is_null=True)), place, like.form)
    return None if read.odd and read.missing.all() else read


def _as_truth(name: str, words, place: np.ndarray) -> Read | None:
    """Words that all are true or false, in whatever letters."""
    import pyarrow as pa
    import pyarrow.compute as pc

    small = pc.utf8_lower(words)
    known = pc.or_kleene(pc.is_in(small, value_set=pa.array(["true", "false"], small.type)), words.is_null())
    if len(words) == words.null_count or not pc.all(known).as_py():
        return None
    return Read(name, "boolean", np.append(_floats(pc.equal(small, pa.scalar("true", small.type))), np.nan)[place])


def _as_times(name: str, words, place: np.ndarray) -> Read | None:
    """Words that all are times of day, in parts of a day."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(words) == words.null_count or not pc.all(pc.match_substring_regex(words, _TIME)).as_py():
        return None
    stamps = pc.binary_join_element_wise(pa.scalar("1970-01-01", words.type), words, pa.scalar(" ", words.type))
    try:
        return Read(name, "numeric", np.append(_days(stamps.cast(pa.timestamp("us"))), np.nan)[place])
    except pa.ArrowInvalid:  # 25:00
        return None


def _as_dates(name: str, words, place: np.ndarray, trained: str) -> Read | None:
    """Words that all are dates in one form (ISO 8601, all with a zone or none, 2024/12/31, 31.12.2024, or 12/31/2024 and 12-31-2024
    where only one order fits all, or else that in which training read them)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    given = len(words) - words.null_count
    if given == 0 or not pc.all(pc.match_substring_regex(words, _DATE)).as_py():
        return None
    for unit, zone in (("us", None), ("us", "UTC"), ("ns", None), ("ns", "UTC")):
        try:
            return Read(name, "date", np.append(_days(words.cast(pa.timestamp(unit, zone))), np.nan)[place])
        except pa.ArrowInvalid:
            continue  # not ISO 8601 of this kind: the other forms are tried
    tried = {form: pc.strptime(words, format=form, unit="s", error_is_null=True) for form in _FORMS}
    whole = [form for form, stamps in tried.items() if len(stamps) - stamps.null_count == given]
    form = trained if trained in whole else whole[0] if len(whole) == 1 else None
    if form is None:
        return None
    read = Read(name, "date", np.append(_days(tried[form]), np.nan)[place], form=form)
    if trained and form != trained:
        read.notes.append(f"column '{name}' holds dates written as {form}, which were {trained} in training")
    return read
